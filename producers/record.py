"""A record as the raw topic gets it: what a run makes, a backlog keeps, and Kafka is given."""

from __future__ import annotations

from typing import NamedTuple

Header = tuple[str, bytes]


class RawRecord(NamedTuple):
    """Value and headers; the key is its emitter's."""

    value: bytes
    headers: tuple[Header, ...] = ()
