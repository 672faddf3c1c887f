"""What was numbered and is not acknowledged by Kafka yet, in order of numbers.

A record has a position: 0, 1, 2 … since the backlog was made. The sender appends, commits, reads what it has not
produced yet, and releases what Kafka has. Should a producer be lost, it reads again from the first position that was
not released: the same bytes under the same numbers, so that a repeat is known for one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from producers.run import RawRecord
from sealtrail.errors import TransientError

MEMORY_RECORDS = 100_000
MEMORY_BYTES = 64 << 20  # of a connector's memory, while the brokers are away


class BacklogFullError(TransientError):
    """No room: nothing was taken."""


class Backlog(Protocol):
    """Order: as appended. Durability: what `commit` covers survives what the implementation names. Threads: one."""

    @property
    def first(self) -> int:
        """The position of the first record that was not released."""
        ...

    @property
    def end(self) -> int:
        """One past the last record."""
        ...

    def append(self, records: Sequence[RawRecord]) -> None:
        """Take all of them or none. Raises BacklogFullError."""
        ...

    @property
    def durable(self) -> bool:
        """Whether what is committed outlives the process."""
        ...

    def commit(self) -> None:
        """Make what was appended as durable as it gets. Raises TransientError."""
        ...

    def read(self, position: int, most: int) -> Sequence[RawRecord]:
        """Up to `most` records from `position` on; none at the end."""
        ...

    def release(self, position: int) -> None:
        """Everything before `position` is acknowledged by Kafka."""
        ...

    def close(self) -> None:
        """Let go of it; what was not released stays as durable as it is."""
        ...


class MemoryBacklog:
    """A `Backlog` in this process's memory: what is not acknowledged dies with the process."""

    def __init__(self, records: int = MEMORY_RECORDS, size: int = MEMORY_BYTES) -> None:
        self._records: list[RawRecord | None] = []  # from position `_base` on; released ones are None until cut off
        self._base = 0
        self._most, self._most_bytes = records, size
        self._bytes = 0
        self.first = 0

    @property
    def end(self) -> int:
        """See `Backlog`."""
        return self._base + len(self._records)

    def append(self, records: Sequence[RawRecord]) -> None:
        """See `Backlog`. An empty backlog takes any one list."""
        size = sum(len(record.value) for record in records)
        waiting = self.end - self.first
        if waiting and (waiting + len(records) > self._most or self._bytes + size > self._most_bytes):
            raise BacklogFullError(f"{waiting} records wait for Kafka in memory, the most that may")
        self._records.extend(records)
        self._bytes += size

    @property
    def durable(self) -> bool:
        """Never."""
        return False

    def commit(self) -> None:
        """See `Backlog`."""

    def read(self, position: int, most: int) -> Sequence[RawRecord]:
        """See `Backlog`."""
        start = position - self._base
        return [record for record in self._records[start : start + most] if record is not None]

    def release(self, position: int) -> None:
        """See `Backlog`."""
        for index in range(self.first - self._base, position - self._base):
            record = self._records[index]
            assert record is not None, "released twice"
            self._bytes -= len(record.value)
            self._records[index] = None
        self.first = max(self.first, position)
        if self.first - self._base > len(self._records) // 2:  # so that cutting off costs a step per record, all told
            del self._records[: self.first - self._base]
            self._base = self.first

    def close(self) -> None:
        """See `Backlog`."""
