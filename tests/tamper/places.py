"""What each byte of a segment object belongs to, read from the format's description: no decoder of ours is asked.

The walk knows the schema `segment.avsc` by heart: an Avro container file, codec null, one record, each array in one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """Parts of a segment that a flipped bit damages in different ways."""

    FRAME = "frame"  # the file's header and sync markers, the record's first fields, counts
    LENGTH = "length"  # of a seal
    SEAL = "seal"
    SIGNATURE_SEQ = "signature's seq"
    SIGNATURE_KEY = "signature's key"
    SIGNATURE = "signature"
    REFERENCES = "references"
    CHECKPOINT = "checkpoint"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class Place:
    """A part, and the seq that it speaks of where it speaks of one."""

    part: Part
    seq: int | None = None

    def __str__(self) -> str:
        return self.part if self.seq is None else f"{self.part} of seq {self.seq}"


class Walk:
    """Goes through an object's bytes and notes what they are; whatever is not marked is FRAME."""

    def __init__(self, data: bytes) -> None:
        self.at = 0
        self.places = [Place(Part.FRAME)] * len(data)
        self._data = data

    def long(self) -> int:
        """A zigzag varint."""
        value = shift = 0
        while True:
            byte = self._data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value >> 1 ^ -(value & 1)

    def skip(self, size: int) -> None:
        """A fixed of that size."""
        self.at += size

    def mark(self, start: int, place: Place) -> None:
        """What was passed since `start` is of that place."""
        self.places[start : self.at] = [place] * (self.at - start)


def places_of(data: bytes) -> list[Place]:
    """The place of each byte."""
    walk = Walk(data)
    walk.skip(4)
    for _ in _items(walk):  # the file's metadata
        walk.skip(walk.long())
        walk.skip(walk.long())
    walk.skip(16)
    assert walk.long() == 1
    walk.long()  # the block's size
    walk.long()  # version
    walk.skip(walk.long())  # chain
    first = walk.long()
    for _ in _items(walk):
        walk.skip(32)  # frontier
    for index in _items(walk):
        start, size = walk.at, walk.long()
        walk.mark(start, Place(Part.LENGTH, first + index))
        start = walk.at
        walk.skip(size)
        walk.mark(start, Place(Part.SEAL, first + index))
    for _ in _items(walk):
        start = walk.at
        seq = walk.long()
        walk.mark(start, Place(Part.SIGNATURE_SEQ, seq))
        for part, size in ((Part.SIGNATURE_KEY, 32), (Part.SIGNATURE, 64)):
            start = walk.at
            walk.skip(size)
            walk.mark(start, Place(part, seq))
    start = walk.at
    for _ in _items(walk):
        walk.skip(walk.long())  # name
        walk.skip(walk.long())  # version
        walk.skip(32)
        walk.long()  # size
        walk.long()  # rows
    walk.mark(start, Place(Part.REFERENCES))
    for part in (Part.CHECKPOINT, Part.STATEMENT):
        start = walk.at
        walk.skip(walk.long())
        walk.mark(start, Place(part))
    walk.skip(16)
    assert walk.at == len(data)
    return walk.places


def _items(walk: Walk) -> Iterator[int]:
    """The indices of an array, or of a map's entries; then passes the zero that ends it."""
    count = walk.long()
    yield from range(count)
    if count:
        assert walk.long() == 0
