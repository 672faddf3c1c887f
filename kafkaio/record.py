"""A record of the raw topic, as the pipeline takes it: what Kafka keeps of it, and no client library."""

from __future__ import annotations

from typing import NamedTuple

Headers = tuple[tuple[str, bytes], ...]


class RawRecord(NamedTuple):
    """One record of a partition of the raw topic.

    Attributes:
        value: empty for a tombstone.
        appended_ms: the broker's append time, UTC.
    """

    offset: int
    key: bytes
    value: bytes
    headers: Headers
    appended_ms: int

    def header(self, name: str) -> bytes | None:
        """The header of that name if it is there exactly once; more than one is as good as none."""
        found = [value for key, value in self.headers if key == name]
        return found[0] if len(found) == 1 else None
