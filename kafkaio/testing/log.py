"""One partition of the simulated broker: its log, transactions on it, and what a read-committed reader sees.

- Offsets are dense: each record and each transaction marker takes one. Nothing is compacted; a trim moves the log start.
- A record of a transaction is undecided until a marker of its producer id arrives here; the first undecided one is the
  last stable offset. Each partition gets its markers at its own time.
- A producer's records are appended once whatever is sent twice: by sequence number, within an epoch. An epoch that is
  lower than one seen before is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from confluent_kafka import KafkaError

from kafkaio.testing.errors import BrokerError

OVERHEAD = 61 + 7  # bytes of a batch of one record above its key and value
Headers = tuple[tuple[str, bytes], ...]


class State(Enum):
    """Of an entry of the log."""

    UNDECIDED = "undecided"
    COMMITTED = "committed"
    ABORTED = "aborted"
    MARKER = "marker"


@dataclass(slots=True)
class Entry:
    """A record or a marker at one offset."""

    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    state: State
    producer: int  # id; -1 for none


@dataclass(slots=True)
class _Producer:
    """What the leader knows of one producer id."""

    epoch: int
    next_sequence: int = 0


class Partition:
    """The leader of one partition."""

    def __init__(self, topic: str, number: int, max_bytes: int) -> None:
        self.topic = topic
        self.number = number
        self.max_bytes = max_bytes
        self.first = 0  # log start
        self.entries: list[Entry] = []
        self._open: dict[int, list[Entry]] = {}  # undecided entries by producer id, in order
        self._producers: dict[int, _Producer] = {}

    @property
    def end(self) -> int:
        """One past the last entry."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """The last stable offset: one past what a read-committed reader can see."""
        return min((entries[0].offset for entries in self._open.values()), default=self.end)

    def undecided(self, producer: int) -> Sequence[Entry]:
        """Records of a producer id that no marker decided yet."""
        return self._open.get(producer, ())

    def append(
        self,
        now_ms: int,
        records: Sequence[tuple[bytes | None, bytes | None, Headers]],
        producer: int = -1,
        epoch: int = 0,
        sequence: int = 0,
    ) -> list[Entry]:
        """The entries of (key, value, headers) appended; of a batch that is there already, none.

        Raises BrokerError: too large, an outdated epoch, a sequence number that leaves a hole.
        """
        if any(len(value or b"") + len(key or b"") + OVERHEAD > self.max_bytes for key, value, _ in records):
            raise BrokerError(KafkaError.MSG_SIZE_TOO_LARGE)
        if producer >= 0:
            known = self._producers.setdefault(producer, _Producer(epoch))
            if epoch < known.epoch:
                raise BrokerError(KafkaError.INVALID_PRODUCER_EPOCH)
            if epoch > known.epoch:
                known.epoch, known.next_sequence = epoch, 0
            if sequence < known.next_sequence:
                return []
            if sequence > known.next_sequence:
                raise BrokerError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            known.next_sequence += len(records)
        state = State.COMMITTED if producer < 0 else State.UNDECIDED
        made = [Entry(self.end + i, now_ms, k, v, headers, state, producer) for i, (k, v, headers) in enumerate(records)]
        self.entries += made
        if producer >= 0:
            self._open.setdefault(producer, []).extend(made)
        return made

    def mark(self, now_ms: int, producer: int, epoch: int, *, commit: bool) -> None:
        """A marker arrives: everything of that producer id is decided, and earlier epochs are outlawed here."""
        for entry in self._open.pop(producer, ()):
            entry.state = State.COMMITTED if commit else State.ABORTED
        self.entries.append(Entry(self.end, now_ms, None, None, (), State.MARKER, producer))
        known = self._producers.setdefault(producer, _Producer(epoch))
        if epoch > known.epoch:
            known.epoch, known.next_sequence = epoch, 0

    def committed(self, offset: int, limit: int | None = None) -> Iterator[Entry]:
        """Committed records from `offset` on, below the last stable offset, `limit` at most."""
        for place in range(max(offset, self.first), self.stable):
            if limit == 0:
                return
            entry = self.entries[place]
            if entry.state is State.COMMITTED:
                yield entry
                limit = None if limit is None else limit - 1

    def trim(self, first: int) -> None:
        """Delete what lies below `first`."""
        self.first = max(self.first, min(first, self.end))
