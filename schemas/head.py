"""The head of an event's bytes: whose it is and which, read without decoding the rest.

Every event schema begins with event_id (fixed 16), event_name (string), tenant (string) and emitter {source string,
instance string, epoch fixed 16, seq long}; the registry refuses one that does not. So a few hundred bytes tell who speaks,
before anything is spent on what may be a megabyte of rubbish. What the decoder accepts is accepted here: its strictness comes
later, for the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

from sealtrail.avro import HEADER_SIZE
from sealtrail.errors import EvidenceError

MAX_NAME = 1024  # bytes of a string in the head; the contract allows far less


@dataclass(frozen=True, slots=True)
class Head:
    """What an event says of itself first."""

    event_id: bytes
    event_name: str
    tenant: str
    source: str
    instance: str
    epoch: bytes
    seq: int


def read_head(data: bytes) -> Head:
    """The head of a single-object encoded event.

    Raises:
        EvidenceError: it ends too early, or is not the encoding of a head.
    """
    event_id, at = _fixed(data, HEADER_SIZE)
    event_name, at = _string(data, at)
    tenant, at = _string(data, at)
    source, at = _string(data, at)
    instance, at = _string(data, at)
    epoch, at = _fixed(data, at)
    seq, _ = _number(data, at)
    return Head(event_id, event_name, tenant, source, instance, epoch, seq)


def _fixed(data: bytes, at: int) -> tuple[bytes, int]:
    end = at + 16
    if end > len(data):
        raise EvidenceError("it ends within its head")
    return data[at:end], end


def _string(data: bytes, at: int) -> tuple[str, int]:
    size, at = _number(data, at)
    end = at + size
    if not 0 <= size <= MAX_NAME or end > len(data):
        raise EvidenceError("a string of its head has an impossible length")
    try:
        return data[at:end].decode("utf-8"), end
    except UnicodeDecodeError as error:
        raise EvidenceError("a string of its head is not UTF-8") from error


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Avro's zigzag varint of 64 bits."""
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            if value >> 64:
                break
            return value >> 1 ^ -(value & 1), at
    raise EvidenceError("a number of its head has no end, or more than 64 bits")
