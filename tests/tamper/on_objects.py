"""Edits of the store's objects: segments, contents and certificates taken away, exchanged, hidden or added.

An object that is not the segment of its name is one finding, over as many records as the next one's name leaves room for.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from sealtrail.layout import DAY_MS, segment_key
from sealtrail.segment import Reference
from tests.archives import NOT_AFTER_S, Archive
from tests.tamper.targets import ChainFound, Damage, Draw, Target, certificate_key_of
from tests.test_tamper import flat, forged_certificate

IDLE_KEYS = (
    "sealer-2", "sealer-expired", "sealer-elsewhere", "archive-2", "archive-expired", "archive-elsewhere", "auditor",
)  # fmt: skip


def removed(rng: Random, t: Target) -> Damage | None:
    """Segments that others follow: those that do follow show it."""
    gone = set(rng.sample(range(t.segments - 1), rng.randint(1, min(3, t.segments - 1))))
    found = []
    for index in sorted(gone):
        if index - 1 not in gone:
            stop = next(n for n in range(index, t.segments) if n not in gone)
            first = t.sibling(index).first
            found.append(t.found("MISSING", first, t.sibling(stop).first - first))
    archive = t.archive.without(*(t.sibling(index).key for index in gone))
    return Damage(f"segments {sorted(gone)} removed", archive, tuple(found))


def rolled_back(rng: Random, t: Target) -> Damage:
    """The chain as it once was, with or without the contents of what came after."""
    later = [t.sibling(index) for index in range(t.index, t.segments)]
    gone = [segment.key for segment in later]
    if rng.random() < 0.5:
        gone += [reference.name for segment in later for reference in segment.segment.contents]
    return Damage(f"rolled back to seq {t.first}", t.archive.without(*gone), (), end=t.first)


def not_the_segment(rng: Random, t: Target) -> Damage:
    """Bytes added or cut; another segment's, older or newer, or another chain's; none."""
    data = t.archive.data(t.key)
    cut = rng.randrange(1, len(data))
    sibling = t.sibling((t.index + rng.randrange(1, t.segments)) % t.segments)
    other = rng.choice([sibling, t.elsewhere(rng)])
    what, made = rng.choice(
        (
            ("bytes appended", data + rng.randbytes(rng.randrange(1, 100))),
            ("a zero appended", data + b"\0"),
            ("cut short", data[:cut]),
            ("its beginning cut off", data[cut:]),
            ("empty", b""),
            ("a second record", data + data[data.index(b"null\x00") + 5 + 16 :]),
            (f"segment {other.index} of {other.chain}", other.archive.data(other.key)),
        )
    )
    return Damage(f"segment {t.index}: {what}", t.replaced(made), (t.unreadable,), end=t.unreadable_end)


def exchanged(rng: Random, t: Target) -> Damage:
    """Two segments under each other's name."""
    other = t.sibling((t.index + rng.randrange(1, t.segments)) % t.segments)
    data = t.archive.data(t.key), t.archive.data(other.key)
    archive = t.replaced(data[1]).replaced(other.key, data[0])
    end = t.unreadable_end or other.unreadable_end
    return Damage(f"segments {t.index} and {other.index} exchanged", archive, (t.unreadable, other.unreadable), end=end)


def copied_between(rng: Random, t: Target) -> Damage | None:
    """A segment under a name that lies within another: not of that name, and a fork of what is there."""
    if t.count < 2:
        return None
    seq = rng.randrange(t.first + 1, t.end)
    other = rng.choice([t, t.sibling(rng.randrange(t.segments)), t.elsewhere(rng)])
    archive = _put(t.archive, segment_key(t.chain, seq), t.built.archive.data(other.key))
    room = 1 if t.is_last else t.end - seq
    found = t.found("ALTERED", seq, room), t.found("FORKED", seq, t.end - seq)
    return Damage(f"segment {other.index} of {other.chain} as seq {seq}", archive, found, copied=True)


def copied_beyond(rng: Random, t: Target) -> Damage:
    """A segment under a name after the chain's end."""
    seq = t.length + rng.choice((0, 1, rng.randrange(1000)))
    archive = _put(t.archive, segment_key(t.chain, seq), t.archive.data(t.key))
    hole = (t.found("MISSING", t.length, seq - t.length),) if seq > t.length else ()
    return Damage(f"segment {t.index} as seq {seq}", archive, (*hole, t.found("ALTERED", seq)))


def misnamed(rng: Random, t: Target) -> Damage:
    """Something below segments/ that has no segment's name."""
    key = t.key + rng.choice((".bak", "/x", "2"))
    return Damage(f"an object {key}", _put(t.archive, key, t.archive.data(t.key)), (("", "INSERTED", None, 1),))


def hidden(rng: Random, t: Target) -> Damage:
    """Segments under delete markers."""
    indices = sorted(rng.sample(range(t.segments), rng.randint(1, 3)))
    archive = t.archive
    for index in indices:
        archive = _put(archive, t.sibling(index).key, None)
    found = tuple(t.found("HIDDEN", t.sibling(index).first) for index in indices)
    return Damage(f"segments {indices} under delete markers", archive, found)


def only_the_marker(rng: Random, t: Target) -> Damage:
    """A segment under a delete marker, and its version gone as well: no store with locks would."""
    archive = _put(t.archive.without(t.key), t.key, None)
    hole = () if t.is_last else (t.found("MISSING", t.first, t.count),)
    end = t.first if t.is_last else None
    return Damage(f"a delete marker alone for segment {t.index}", archive, (t.found("HIDDEN", t.first), *hole), end=end)


def overwritten(rng: Random, t: Target) -> Damage:
    """Newer versions on top of a segment: what was first put there is what counts."""
    archive = t.archive
    for _ in range(rng.randint(1, 3)):
        data = rng.choice((t.archive.data(t.key), rng.randbytes(99), t.sibling(rng.randrange(t.segments)).archive.data(t.key)))
        archive = _put(archive, t.key, data, NOT_AFTER_S * 2000)
    return Damage(f"newer versions of segment {t.index}", archive, (t.found("HIDDEN", t.first),))


def unlocked(rng: Random, t: Target) -> Damage:
    """A segment whose lock is shorter, can be bypassed, or is none."""
    archive = t.archive.copy()
    version = archive.objects[t.key][-1]
    until = max(e.seal.retain_until_ms for e in t.entries)
    mode, ms = rng.choice((("", 0), ("GOVERNANCE", version.lock.until_ms), ("COMPLIANCE", until - rng.randint(1, 9 * DAY_MS))))
    archive.objects[t.key] = [replace(version, lock=replace(version.lock, mode=mode, until_ms=ms))]
    return Damage(f"lock of segment {t.index}: {mode} until {ms}", archive, (t.found("WRONG-LOCK", t.first),))


def contents(rng: Random, t: Target) -> Damage:
    """A contents object gone, or other bytes: one finding at the first seal of its class, over all of them."""
    reference = rng.choice(t.segment.contents)
    data, found = t.archive.data(reference.name), _seqs(t, reference)
    other = rng.choice([t.sibling(rng.randrange(t.segments)), t.elsewhere(rng)]).segment.contents[0].name
    cut = rng.randrange(len(data))
    flip = data[:cut] + bytes([data[cut] ^ 1 << rng.randrange(8)]) + data[cut + 1 :]
    made = rng.choice((None, data + rng.randbytes(9), data[:cut], b"", flip, t.built.archive.data(other)))
    if made == data:
        return contents(rng, t)
    archive = t.archive.without(reference.name) if made is None else t.archive.replaced(reference.name, made)
    kind = "MISSING" if made is None else "ALTERED"
    return Damage(f"{kind} {reference.name}", archive, (t.found(kind, found[0], reference.rows),))


def unreferenced(rng: Random, t: Target) -> Damage:
    """A reference left out: not what was sworn to, and its seals have no contents."""
    reference = rng.choice(t.segment.contents)
    archive = t.edited(lambda s: replace(s, contents=tuple(r for r in s.contents if r != reference)))
    found = (t.whole, *(t.found("MISSING", seq) for seq in _seqs(t, reference)))
    return Damage(f"no reference to {reference.name}", archive, found)


def certificate(rng: Random, t: Target) -> Damage:
    """A certificate that nothing here was signed with, defaced, under another's name, forged or hidden."""
    key, other = (certificate_key_of(name) for name in rng.sample(IDLE_KEYS, 2))
    data, kind = t.built.archive.data(key), "UNKNOWN-KEY"
    match rng.randrange(4):
        case 0:
            archive = t.archive.replaced(key, data + rng.randbytes(rng.randrange(1, 9)))
        case 1:
            archive = t.archive.replaced(other, data)
        case 2:
            archive = _put(t.archive, f"keys/{rng.randbytes(32).hex()}.cert", rng.choice((data, forged_certificate(), b"\xff")))
        case _:
            archive, kind = _put(t.archive, rng.choice((key, certificate_key_of("sealer"))), None), "HIDDEN"
    return Damage(f"a certificate: {kind}", archive, (("", kind, None, 1),))


def lost_certificate(rng: Random, t: Target) -> Damage:
    """The certificate of the key that signed everything: removed, or bytes appended."""
    name = rng.choice(("sealer", "archive"))
    key, defaced = certificate_key_of(name), rng.random() < 0.5
    archive = t.archive.replaced(key, t.archive.data(key) + b"x") if defaced else t.archive.without(key)
    found: list[ChainFound] = [("", "UNKNOWN-KEY", None, 1)] if defaced else []
    for chain, segments in t.built.chains.items():
        if name == "sealer":
            found += [(chain, "UNKNOWN-KEY", e.seal.seq, 1) for e in flat(t.built, chain) if e.seal.signed]
        else:
            found += 2 * [(chain, "BAD-SIGNATURE", entries[0].seal.seq, len(entries)) for entries in segments]
    return Damage(f"certificate of {name} lost", archive, tuple(found))


DRAWS: tuple[Draw, ...] = (
    removed, rolled_back, not_the_segment, exchanged, copied_between, copied_beyond, misnamed, hidden, only_the_marker,
    overwritten, unlocked, contents, unreferenced, certificate, lost_certificate,
)  # fmt: skip


def _put(archive: Archive, key: str, data: bytes | None, until_ms: int = 0) -> Archive:
    copy = archive.copy()
    copy.put(key, data, until_ms)
    return copy


def _seqs(t: Target, reference: Reference) -> list[int]:
    """Seqs of the seals whose contents lie in that object: all of its class."""
    log_class = reference.name.split("/")[1]
    seqs = [e.seal.seq for e in t.entries if e.seal.log_class.lower() == log_class]
    assert len(seqs) == reference.rows
    return seqs
