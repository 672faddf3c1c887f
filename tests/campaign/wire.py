"""As much of Kafka's protocol as a relay must understand: what a request is, whose transaction it is in, and its error.

A frame is a length (4 bytes) and a body. A request's body: key of the API, its version, a correlation id, the client's name,
then, from some version on, tagged fields, as the responses of these versions have them. The names of transactions stand first
in all requests that have one.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum


class Api(IntEnum):
    """The requests of which a fault may take hold."""

    PRODUCE = 0
    FETCH = 1
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS = 24
    ADD_OFFSETS = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


FLEXIBLE_FROM = {  # the version from which lengths are varints and fields are tagged
    Api.PRODUCE: 9,
    Api.INIT_PRODUCER_ID: 2,
    Api.ADD_PARTITIONS: 3,
    Api.ADD_OFFSETS: 3,
    Api.END_TXN: 3,
    Api.TXN_OFFSET_COMMIT: 3,
}
_BEGIN = struct.Struct(">hhi")
_OWNER = struct.Struct(">qh")


@dataclass(frozen=True, slots=True)
class Producer:
    """Who speaks for a transactional id: ids that are fenced have a lower epoch."""

    number: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Request:
    """transactional_id: None where there is none. commits and producer: of an EndTxn."""

    api: int
    version: int
    correlation: int
    transactional_id: str | None = None
    commits: bool = False
    producer: Producer | None = None

    @property
    def flexible(self) -> bool:
        """Whether its version, and its response's, has tagged fields. Known for transactional requests alone."""
        return self.version >= FLEXIBLE_FROM[Api(self.api)]


def request_of(body: bytes) -> Request:
    """What a request's body says. Raises struct.error or IndexError for what is no request."""
    api, version, correlation = _BEGIN.unpack_from(body)
    if api not in FLEXIBLE_FROM:
        return Request(api, version, correlation)
    plain = Request(api, version, correlation)
    reader = _Reader(body, _BEGIN.size)
    reader.text(compact=False)  # the client's name has two bytes of length in every version
    if plain.flexible:
        reader.tags()
    name = reader.text(compact=plain.flexible)
    if api != Api.END_TXN:
        return Request(api, version, correlation, name)
    producer = Producer(*reader.take(_OWNER))
    return Request(api, version, correlation, name, bool(body[reader.at]), producer)


def correlation_of(body: bytes) -> int:
    """Of a response."""
    return int(struct.unpack_from(">i", body)[0])


def with_correlation(body: bytes, correlation: int) -> bytes:
    """The same request under another correlation id."""
    return body[:4] + struct.pack(">i", correlation) + body[8:]


def error_of(request: Request, body: bytes) -> int:
    """The first error in the response to a transactional request; 0 for none."""
    reader = _Reader(body, 4)
    if request.flexible:
        reader.tags()
    if request.api != Api.PRODUCE:
        reader.at += 4  # for how long the client is to be quiet
    if request.api in (Api.INIT_PRODUCER_ID, Api.ADD_OFFSETS, Api.END_TXN):
        return int(reader.take(struct.Struct(">h"))[0])
    if not reader.count(compact=request.flexible):
        return 0
    reader.text(compact=request.flexible)
    if not reader.count(compact=request.flexible):
        return 0
    return int(reader.take(struct.Struct(">ih"))[1])


def producer_of(request: Request, body: bytes) -> Producer:
    """Who an InitProducerId without error made the owner."""
    reader = _Reader(body, 4)
    if request.flexible:
        reader.tags()
    reader.at += 6
    return Producer(*reader.take(_OWNER))


class _Reader:
    """A place in a body, and what is read from there on."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self.at = at

    def take(self, form: struct.Struct) -> tuple[int, ...]:
        values = form.unpack_from(self._body, self.at)
        self.at += form.size
        return values

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._body[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def tags(self) -> None:
        for _ in range(self.varint()):
            self.varint()
            size = self.varint()
            self.at += size

    def text(self, *, compact: bool) -> str | None:
        """None for null."""
        size = self.varint() - 1 if compact else self.take(struct.Struct(">h"))[0]
        if size < 0:
            return None
        self.at += size
        return self._body[self.at - size : self.at].decode()

    def count(self, *, compact: bool) -> int:
        return self.varint() - 1 if compact else self.take(struct.Struct(">i"))[0]
