"""Edits of a segment's list of seals: one damage, one finding, at the position where it is.

A seal that was put in is INSERTED at its own number if that is one of the segment's, being a repetition, of which the bytes
do not always tell which one was there first; else at the number of the place where it stands. One that was put in another's
place, or changed, is ALTERED at that place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

from sealtrail.seal import Kind, LogClass, Reason, Route, Seal, encode_seal, leaf_hash
from tests.tamper.targets import NAMES, ChainFound, Damage, Draw, Target
from tests.test_tamper import at, reseal, with_seals

FIELDS = (
    "scope", "content_digest", "prev", "source_offset", "source_count", "sealed_at_us", "retain_until_ms", "kind", "reason",
    "log_class", "routes", "signed", "seq", "chain",
)  # fmt: skip
LINKING = ("prev", "seq", "chain")  # a seal changed in these shows it by itself, whoever signed it


def altered(rng: Random, t: Target) -> Damage:
    """One field of one seal: only the last seal of a segment has no successor that names its leaf hash."""
    index, name = rng.randrange(t.count), rng.choice(FIELDS)
    value = _other(rng, t, t.entries[index].seal, name)
    by_signature = index == t.count - 1 and name not in LINKING
    found = t.found("BAD-SIGNATURE" if by_signature else "ALTERED", t.first + index)
    return Damage(f"{name} of seq {t.first + index}", t.edited(at(index, reseal(**{name: value}))), (found,))


def broken(rng: Random, t: Target) -> Damage:
    """Bytes that are no seal in one's place."""
    index = rng.randrange(t.count)
    data = t.entries[index].data
    cut = rng.randrange(1, len(data))
    now = rng.choice((b"", data[:cut], data[cut:], data + rng.randbytes(cut), rng.randbytes(cut)))
    return Damage(
        f"no seal at seq {t.first + index}", t.edited(at(index, lambda _: now)), (t.found("ALTERED", t.first + index),)
    )


def dropped(rng: Random, t: Target) -> Damage:
    """A stretch of seals gone: cut from the end, the archive's word says so; else the numbers do."""
    size = rng.randint(1, t.count) if rng.random() < 0.3 else rng.randint(1, min(3, t.count))
    start = rng.randint(0, t.count - size)
    return _without(t, set(range(start, start + size)))


def dropped_apart(rng: Random, t: Target) -> Damage:
    """Any seals gone."""
    return _without(t, set(rng.sample(range(t.count), rng.randint(1, t.count))))


def truncated(rng: Random, t: Target) -> Damage:
    """Seals cut from a segment's end."""
    return _without(t, set(range(rng.randrange(t.count), t.count)))


def swapped(rng: Random, t: Target) -> Damage | None:
    """Two seals in each other's place: all between them are in the wrong order relative to one of them."""
    if t.count < 2:
        return None
    a, b = sorted(rng.sample(range(t.count), 2))
    order = list(range(t.count))
    order[a], order[b] = b, a
    return _reordered(t, order)


def moved(rng: Random, t: Target) -> Damage | None:
    """One seal taken out and put in at another place."""
    if t.count < 2:
        return None
    a, b = rng.sample(range(t.count), 2)
    order = [n for n in range(t.count) if n != a]
    return _reordered(t, [*order[:b], a, *order[b:]])


def shuffled(rng: Random, t: Target) -> Damage | None:
    """A stretch in any other order."""
    if t.count < 2:
        return None
    size = rng.randint(2, t.count)
    start = rng.randint(0, t.count - size)
    part = list(range(start, start + size))
    rng.shuffle(part)
    order = [*range(start), *part, *range(start + size, t.count)]
    return _reordered(t, order) if order != sorted(order) else None


def repeated(rng: Random, t: Target) -> Damage:
    """Seals stored once more, in their segment, before themselves or after."""
    size = _size(rng, t.count)
    start = rng.randint(0, t.count - size)
    to = rng.choice([*range(start + 1), *range(start + size, t.count + 1)])
    made = [entry.data for entry in t.entries[start : start + size]]
    return _inserted(t, to, made, [t.first + start + n for n in range(size)], f"{size} from seq {t.first + start} again")


def forged(rng: Random, t: Target) -> Damage:
    """A seal that says another's number, before or after it."""
    index = rng.randrange(t.count)
    data = reseal(scope=rng.randbytes(16))(t.entries[index].data)
    return _inserted(t, index + rng.randrange(2), [data], [t.first + index], f"a forged seq {t.first + index}")


def rubbish(rng: Random, t: Target) -> Damage:
    """Bytes that are no seal among the seals."""
    return _strange(rng, t, [rng.randbytes(rng.randrange(200)) for _ in range(_size(rng, 3))], "rubbish")


def foreign(rng: Random, t: Target) -> Damage:
    """Seals of another chain among the seals."""
    return _strange(rng, t, *_taken(rng, t.elsewhere(rng)))


def carried(rng: Random, t: Target) -> Damage:
    """Seals of another segment of the chain among the seals."""
    return _strange(rng, t, *_taken(rng, _other_segment(rng, t)))


def appended(rng: Random, t: Target) -> Damage:
    """Unsigned seals that go on from the last one, links and all: what whoever holds no key can make."""
    seal, prev, made = t.entries[-1].seal, t.entries[-1].leaf, []
    for number in range(rng.randint(1, 5)):
        made.append(encode_seal(replace(seal, seq=t.end + number, prev=prev, signed=False, scope=rng.randbytes(16))))
        prev = leaf_hash(made[-1])
    found = t.found("INSERTED", t.end, len(made))
    return Damage(f"{len(made)} seals after seq {t.end - 1}", t.edited(with_seals(lambda seals: [*seals, *made])), (found,))


def spliced(rng: Random, t: Target) -> Damage:
    """Seals of another chain in these seals' places."""
    return _in_place(rng, t, t.elsewhere(rng))


def spliced_within(rng: Random, t: Target) -> Damage:
    """Seals of another segment of the chain in these seals' places."""
    return _in_place(rng, t, _other_segment(rng, t))


def exchanged(rng: Random, t: Target) -> Damage:
    """Two seals of two segments in each other's place."""
    other = _other_segment(rng, t)
    a, b = rng.randrange(t.count), rng.randrange(other.count)
    archive = t.edited(at(a, lambda _: other.entries[b].data))
    archive = Target(archive, t.built, t.chain, other.index).edited(at(b, lambda _: t.entries[a].data))
    seqs = t.first + a, other.first + b
    return Damage(f"seqs {seqs[0]} and {seqs[1]} exchanged", archive, tuple(t.found("ALTERED", seq) for seq in seqs))


DRAWS: tuple[Draw, ...] = (
    altered, broken, dropped, dropped_apart, truncated, swapped, moved, shuffled, repeated, forged, rubbish, foreign, carried,
    appended, spliced, spliced_within, exchanged,
)  # fmt: skip


def _other(rng: Random, t: Target, seal: Seal, name: str) -> object:
    """Another value for a field of a seal."""
    now = getattr(seal, name)
    if isinstance(now, bool):
        return not now
    if isinstance(now, bytes):
        return rng.randbytes(len(now))
    if name == "seq":
        near = [n for n in (*range(t.first, t.end), now - 1, now + 1, t.end, rng.randrange(2**62)) if n >= 0 and n != now]
        return rng.choice(near)
    values: dict[str, Sequence[object]] = {
        "kind": list(Kind),
        "reason": list(Reason),
        "log_class": list(LogClass),
        "routes": [Route(n) for n in range(16)],
        "chain": NAMES,
    }
    return rng.choice([v for v in values.get(name, ()) if v != now] or [now + 1, now + rng.randrange(1, 10**9)])


def _other_segment(rng: Random, t: Target) -> Target:
    return t.sibling(rng.choice([n for n in range(t.segments) if n != t.index]))


def _without(t: Target, gone: set[int]) -> Damage:
    found: list[ChainFound] = []
    starts = sorted(n for n in gone if n - 1 not in gone)
    for start in starts:
        stop = next(n for n in range(start, t.count + 1) if n not in gone)
        found.append(t.found("TRUNCATED" if stop == t.count else "MISSING", t.first + start, stop - start))
    kept = with_seals(lambda seals: [data for n, data in enumerate(seals) if n not in gone])
    return Damage(f"seals {sorted(gone)} of segment {t.index} dropped", t.edited(kept), tuple(found))


def _reordered(t: Target, order: list[int]) -> Damage:
    """Each shortest stretch that holds its own numbers, in another order, is one finding."""
    ends = [0, *(n + 1 for n in range(t.count) if max(order[: n + 1]) == n)]
    found = tuple(t.found("REORDERED", t.first + a, b - a) for a, b in pairwise(ends) if b - a > 1)
    return Damage(f"segment {t.index} in order {order}", t.edited(with_seals(lambda seals: [seals[n] for n in order])), found)


def _size(rng: Random, most: int) -> int:
    """How many, one as a rule."""
    return min(most, rng.choice((1, 1, 1, 1, 2, 3)))


def _taken(rng: Random, other: Target) -> tuple[list[bytes], str]:
    size = _size(rng, other.count)
    start = rng.randint(0, other.count - size)
    return [
        entry.data for entry in other.entries[start : start + size]
    ], f"{size} from seq {other.first + start} of {other.chain}"


def _strange(rng: Random, t: Target, made: list[bytes], what: str) -> Damage:
    """Seals put in that have no number here: at the place where they stand."""
    to = rng.randint(0, t.count)
    return _inserted(t, to, made, [t.first + to] * len(made), what)


def _inserted(t: Target, to: int, made: list[bytes], seqs: list[int], what: str) -> Damage:
    """One finding a seal; at the end one in all, for there the archive's word is that none may follow."""
    edit = with_seals(lambda seals: [*seals[:to], *made, *seals[to:]])
    found = tuple(t.found("INSERTED", seq) for seq in seqs)
    if seqs[0] == t.end:
        found = (t.found("INSERTED", t.end, len(made)),)
    return Damage(f"{what} at index {to} of segment {t.index}", t.edited(edit), found)


def _in_place(rng: Random, t: Target, other: Target) -> Damage:
    size = rng.randint(1, min(5, t.count, other.count))
    a, b = rng.randint(0, t.count - size), rng.randint(0, other.count - size)
    taken = [entry.data for entry in other.entries[b : b + size]]
    edit = with_seals(lambda seals: [*seals[:a], *taken, *seals[a + size :]])
    what = f"seqs from {other.first + b} of {other.chain} in place of {size} from {t.first + a}"
    return Damage(what, t.edited(edit), tuple(t.found("ALTERED", t.first + a + n) for n in range(size)))
