"""Which part of a chain is verified: all of it, what was sealed in a time, or what came after a trusted checkpoint.

A part is whole segments. It begins with a segment's own frontier, which its checkpoint vouches for; what lies before is not
looked at, and the report says so. Reads no more than log2(n) segments to find the first one of a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sealtrail.checkpoint import parse_checkpoint
from sealtrail.errors import EvidenceError
from sealtrail.layout import parse_segment_key
from sealtrail.seal import Seal, decode_seal
from sealtrail.segment import decode_segment
from sealtrail.source import Source, StoredObject

Listed = tuple[StoredObject, int | None]
"""A segment, and the first seq of the one that follows it in the listing."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Times of sealing in microseconds since 1970, from_us <= t < to_us; None: no bound.

    Attributes:
        after_checkpoint: of chains with a trusted checkpoint, only from the segment on that holds the last seal it covers.
    """

    from_us: int | None = None
    to_us: int | None = None
    after_checkpoint: bool = False

    @property
    def whole(self) -> bool:
        """Everything."""
        return self == Extent()


@dataclass(frozen=True, slots=True)
class Part:
    """Segments of one chain to verify. `reaches_end`: the chain's last segment is among them."""

    segments: tuple[Listed, ...]
    from_start: bool
    reaches_end: bool


def part_of(source: Source, segments: Sequence[Listed], extent: Extent, trusted: bytes | None) -> Part:
    """What an extent is of one chain.

    Where a segment that must be read to find out is damaged or not there, more is verified rather than less.
    """
    return _part(segments, *_bounds(source, segments, extent, trusted))


def part_with_neighbours(source: Source, segments: Sequence[Listed], extent: Extent) -> Part:
    """What an extent is of one chain, and the segment before and the one after, where there are: they show its bounds."""
    start, end = _bounds(source, segments, extent, None)
    return _part(segments, max(0, start - 1), min(len(segments), end + 1))


def _part(segments: Sequence[Listed], start: int, end: int) -> Part:
    return Part(tuple(segments[start:end]), start == 0, end == len(segments))


def _bounds(source: Source, segments: Sequence[Listed], extent: Extent, trusted: bytes | None) -> tuple[int, int]:
    start, end = 0, len(segments)
    if extent.after_checkpoint and trusted is not None:
        start = max(start, _holder(segments, trusted))
    if extent.from_us is not None:
        start = max(start, _first(source, segments, extent.from_us))
    if extent.to_us is not None:
        end = max(start, _end(source, segments, start, extent.to_us))
    return start, end


def _holder(segments: Sequence[Listed], trusted: bytes) -> int:
    """The segment with the last seal that a checkpoint covers; whether it is genuine is for the chain's check to say."""
    try:
        size = parse_checkpoint(trusted)[0].size
    except EvidenceError:
        return 0
    return max((n for n, (stored, _) in enumerate(segments) if parse_segment_key(stored.key)[1] < size), default=0)


def _first(source: Source, segments: Sequence[Listed], from_us: int) -> int:
    """The first segment whose last seal was sealed at or after a time; the last one if there is none."""
    low, high = 0, len(segments)
    while low < high:
        middle = (low + high) // 2
        last = seal_at(source, segments[middle][0], -1)
        if last is not None and last.sealed_at_us < from_us:
            low = middle + 1
        else:
            high = middle
    return min(low, len(segments) - 1)


def _end(source: Source, segments: Sequence[Listed], start: int, to_us: int) -> int:
    """One past the last segment whose first seal was sealed before a time."""
    low, high = start, len(segments)
    while low < high:
        middle = (low + high) // 2
        first = seal_at(source, segments[middle][0], 0)
        if first is not None and first.sealed_at_us >= to_us:
            high = middle
        else:
            low = middle + 1
    return low


def seal_at(source: Source, stored: StoredObject, index: int) -> Seal | None:
    """One seal of a segment, or None if it cannot be read. Raises UndecidedError when the store does not answer."""
    try:
        return decode_seal(decode_segment(source.read(stored.key, stored.version)).seals[index])
    except (EvidenceError, IndexError):
        return None
