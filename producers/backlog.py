"""What was numbered and is not acknowledged by Kafka yet, in order of numbers.

A record has a position: 0, 1, 2 … since the backlog was first made. The sender appends, commits, reads what it has not
produced yet, and releases what Kafka has. Should a producer be lost, it reads again from the first position that was
not released: the same bytes under the same numbers, so that a repeat is known for one.

`MemoryBacklog` is the one of an emitter without a spool; `producers.spool.Spool` is the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from producers.record import RawRecord
from sealtrail.errors import TransientError

MEMORY_RECORDS = 100_000
MEMORY_BYTES = 64 << 20  # of a connector's memory, while the brokers are away


class BacklogFullError(TransientError):
    """No room: nothing was taken."""


class Backlog(Protocol):
    """Order: as appended. Durability: what `commit` covers is given again until it is released; `lasting` says by whom. One
    thread calls."""

    @property
    def lasting(self) -> bool:
        """Whether what is committed outlives the process."""
        ...

    @property
    def released(self) -> int:
        """Everything before this position is acknowledged by Kafka."""
        ...

    @property
    def end(self) -> int:
        """One past the last record taken."""
        ...

    def append(self, records: Sequence[RawRecord]) -> None:
        """Take all of them or none. Raises TransientError when there is no room."""
        ...

    def commit(self) -> int:
        """Make what was taken as durable as it gets; the position up to which it is, and may be read. Raises TransientError."""
        ...

    def read(self, position: int, max_records: int) -> Sequence[tuple[int, RawRecord]]:
        """Committed records from `position` on, with their positions, which rise and may leave some out; none at the end."""
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
        self.released = 0

    @property
    def lasting(self) -> bool:
        """Never."""
        return False

    @property
    def end(self) -> int:
        """See `Backlog`."""
        return self._base + len(self._records)

    def append(self, records: Sequence[RawRecord]) -> None:
        """See `Backlog`. An empty backlog takes any one list."""
        size = sum(len(record.value) for record in records)
        waiting = self.end - self.released
        if waiting and (waiting + len(records) > self._most or self._bytes + size > self._most_bytes):
            raise BacklogFullError(f"{waiting} records wait for Kafka in memory, the most that may")
        self._records.extend(records)
        self._bytes += size

    def commit(self) -> int:
        """See `Backlog`."""
        return self.end

    def read(self, position: int, max_records: int) -> Sequence[tuple[int, RawRecord]]:
        """See `Backlog`."""
        start = position - self._base
        found = self._records[start : start + max_records]
        return [(position + index, record) for index, record in enumerate(found) if record is not None]

    def release(self, position: int) -> None:
        """See `Backlog`."""
        for index in range(self.released - self._base, position - self._base):
            record = self._records[index]
            assert record is not None, "released twice"
            self._bytes -= len(record.value)
            self._records[index] = None
        self.released = max(self.released, position)
        if self.released - self._base > len(self._records) // 2:  # so that cutting off costs a step per record, all told
            del self._records[: self.released - self._base]
            self._base = self.released

    def close(self) -> None:
        """See `Backlog`."""
