"""History rewritten: seals changed and the chain computed anew through them, by holders of ever more keys.

Who holds none is found at each place where an untouched or signed seal follows; who holds a sealer's and the archive's key
only by a checkpoint that somebody kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

from sealtrail.seal import ZERO_DIGEST, Seal
from sealtrail.segment import encode_segment
from sinks.archive.checking import Entry
from tests.archives import Archive, archive_segments, rechained, resealed
from tests.tamper.targets import ChainFound, Damage, Draw, Target
from tests.test_tamper import flat


def unsigned_rewritten(rng: Random, t: Target) -> Damage | None:
    """Every unsigned seal of a stretch: the seal after each run of them, signed or outside, names the leaf that was."""
    a, b = _stretch(rng, t)
    entries = flat(t.built, t.chain)
    forged = {e.seal.seq for e in entries[a:b] if not e.seal.signed}
    if not forged:
        return None

    def sign(entry: Entry, now: Seal) -> Entry:
        return _forged(rng, entry, now) if now.seq in forged else entry

    found = tuple(t.found("ALTERED", seq) for seq in sorted(forged) if seq + 1 not in forged)
    return Damage(f"unsigned seals of {a} to {b - 1} rewritten", _stored(t, _rewritten(t, a, sign)), found)


def all_relinked(rng: Random, t: Target) -> Damage:
    """Every seal from one on to the end of a segment, old signatures kept: none fits."""
    a, b = _to_a_segments_end(rng, t)
    forged = _rewritten(t, a, lambda entry, now: _forged(rng, entry, now) if now.seq < b else entry)
    found = tuple(t.found("BAD-SIGNATURE", e.seal.seq) for e in flat(t.built, t.chain)[a:b] if e.seal.signed)
    return Damage(f"all seals of {a} to {b - 1} rewritten", _stored(t, forged), found)


def sworn_by_a_forger(rng: Random, t: Target) -> Damage:
    """And all of the chain's objects made anew with an archive's key that nobody certified."""
    a = rng.randrange(t.first, t.end)
    forged = _rewritten(t, a, lambda entry, now: _forged(rng, entry, now))
    seals = tuple(t.found("BAD-SIGNATURE", e.seal.seq) for e in flat(t.built, t.chain)[a:] if e.seal.signed)
    notes: list[ChainFound] = []
    for entries in t.built.chains[t.chain]:
        notes += 2 * [t.found("BAD-SIGNATURE", entries[0].seal.seq, len(entries))]
    return Damage(f"rewritten from seq {a} and sworn to by a forger", _archived(t, forged, "forger"), (*seals, *notes))


def sworn_by_the_keys_themselves(rng: Random, t: Target) -> Damage:
    """Sealer and archive rewrite what they sealed: every signature is right, and the tree is another."""
    a = rng.randrange(t.first, t.end)
    forged = _rewritten(t, a, lambda entry, now: resealed(entry, replace(now, scope=rng.randbytes(16))))
    return Damage(f"rewritten from seq {a} by sealer and archive", _archived(t, forged, "archive"), (), fork=a)


DRAWS: tuple[Draw, ...] = (unsigned_rewritten, all_relinked, sworn_by_a_forger, sworn_by_the_keys_themselves)

Sign = Callable[[Entry, Seal], Entry]


def _forged(rng: Random, entry: Entry, now: Seal) -> Entry:
    """Another seal under the signature that was, if there was one."""
    return replace(resealed(entry, replace(now, scope=rng.randbytes(16))), signature=entry.signature)


def _stretch(rng: Random, t: Target) -> tuple[int, int]:
    """Some seqs, beginning in this segment; now and then to the end of the chain."""
    a = rng.randrange(t.first, t.end)
    return a, t.length if rng.random() < 0.3 else rng.randint(a + 1, t.length)


def _to_a_segments_end(rng: Random, t: Target) -> tuple[int, int]:
    return rng.randrange(t.first, t.end), t.sibling(rng.randrange(t.index, t.segments)).end


def _rewritten(t: Target, a: int, sign: Sign) -> list[list[Entry]]:
    """The chain's segments, computed anew from one seal on."""
    entries = flat(t.built, t.chain)
    made = entries[:a] + rechained(entries[a:], entries[a - 1].leaf if a else ZERO_DIGEST, sign)
    return [made[s[0].seal.seq : s[-1].seal.seq + 1] for s in t.built.chains[t.chain]]


def _stored(t: Target, segments: Sequence[Sequence[Entry]]) -> Archive:
    """Other seals in the segments, and all else as it was."""
    archive = t.archive
    for index, entries in enumerate(segments):
        target = t.sibling(index)
        if list(entries) != list(target.entries):
            data = encode_segment(replace(target.segment, seals=tuple(e.data for e in entries)))
            archive = archive.replaced(target.key, data)
    return archive


def _archived(t: Target, segments: Sequence[Sequence[Entry]], archive_key: str) -> Archive:
    """The chain archived anew."""
    made, copy = Archive(), t.archive.copy()
    archive_segments(made, segments, archive_key=archive_key)
    copy.objects |= made.objects
    return copy
