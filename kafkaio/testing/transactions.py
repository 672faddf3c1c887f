"""The transaction coordinator of the simulated broker: ids, epochs, the fence, decisions, markers.

    EMPTY ── add ──► ONGOING ── end ──► DECIDED ── last marker ──► COMPLETE ── add ──► ONGOING

- `begin_epoch` (InitProducerId) gives a new epoch, which outlaws every earlier one; an ongoing transaction is aborted
  first, and the caller asks again until its markers are written.
- A decision is final once it is made here; each partition learns of it by a marker, at its own time.
- An ongoing transaction that is older than its time-out is aborted, and its producer outlawed.
- As librdkafka knows it: no KIP-890. The epoch stays from transaction to transaction, so an EndTxn that comes late ends
  whatever transaction of its epoch is ongoing by then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from confluent_kafka import KafkaError

from kafkaio.testing.errors import BrokerError
from kafkaio.testing.log import Entry, Partition

Where = tuple[str, int]


class Status(Enum):
    """Of a transactional id; see the module."""

    EMPTY = "empty"
    ONGOING = "ongoing"
    DECIDED = "decided"
    COMPLETE = "complete"


@dataclass(slots=True)
class Transaction:
    """A transactional id, and its current or last transaction."""

    identifier: str
    producer: int
    epoch: int = 0
    status: Status = Status.EMPTY
    commit: bool = False
    timeout_s: float = 60.0
    started: float = 0.0
    partitions: dict[Where, None] = field(default_factory=dict)  # in the order in which they joined
    offsets: dict[str, dict[Where, int]] = field(default_factory=dict)  # by group
    unmarked: set[Where | str] = field(default_factory=set)  # partitions, and groups, without their marker


@dataclass(frozen=True, slots=True)
class Commit:
    """A transaction that was decided to be committed: its records by partition, and the positions by group."""

    identifier: str
    epoch: int
    records: Mapping[Where, tuple[Entry, ...]]
    offsets: Mapping[str, Mapping[Where, int]]


class Coordinator:
    """All transactional ids.

    Args:
        partition: the log of a place.
        now, now_ms: seconds of the simulation, and the brokers' clock in UTC milliseconds.
        send_marker: delivers a marker to a partition, or to a group by its name, at its time, and then calls what it was
            given; or never, and calls it all the same: see `cluster`.
        positions: takes a group's committed positions.
    """

    def __init__(
        self,
        partition: Callable[[str, int], Partition],
        now: Callable[[], float],
        now_ms: Callable[[], int],
        send_marker: Callable[[Transaction, Where | str, Callable[[bool], None]], None],
        positions: Callable[[str, Mapping[Where, int]], None],
    ) -> None:
        self._partition = partition
        self._now = now
        self._now_ms = now_ms
        self._send_marker = send_marker
        self._positions = positions
        self._known: dict[str, Transaction] = {}
        self.fences = 0  # epochs given
        self.refused = 0  # requests of whom a later epoch outlawed
        self.early = False  # whether the fence answers once the outcome is decided, with markers still on their way
        self.commits: list[Commit] = []

    def begin_epoch(self, identifier: str, timeout_s: float) -> tuple[int, int]:
        """Producer id and epoch. Raises BrokerError CONCURRENT_TRANSACTIONS while an earlier one is not decided."""
        known = self._known.get(identifier)
        if known is None:
            known = self._known[identifier] = Transaction(identifier, 1000 + len(self._known), -1)
        if known.status is Status.ONGOING:
            known.epoch += 1
            self._decide(known, commit=False)
        if known.status is Status.DECIDED and not self.early:
            raise BrokerError(KafkaError.CONCURRENT_TRANSACTIONS)
        known.epoch += 1
        known.timeout_s = timeout_s
        if known.status is Status.COMPLETE:
            known.status = Status.EMPTY
        self.fences += 1
        return known.producer, known.epoch

    def add(self, identifier: str, epoch: int, place: Where | None) -> None:
        """A partition, or a group's positions (None), joins the transaction; begins one if none is ongoing.

        Raises BrokerError: outlawed; CONCURRENT_TRANSACTIONS while markers of the last one are on their way.
        """
        known = self._checked(identifier, epoch)
        if known.status is Status.DECIDED:
            raise BrokerError(KafkaError.CONCURRENT_TRANSACTIONS)
        if known.status is not Status.ONGOING:
            known.status, known.started = Status.ONGOING, self._now()
            known.partitions, known.offsets = {}, {}
        if place is not None:
            known.partitions[place] = None

    def verify(self, identifier: str, epoch: int, place: Where) -> None:
        """The leader asks before it appends (since Kafka 3.6): raises BrokerError if the transaction is not ongoing."""
        known = self._checked(identifier, epoch)
        if known.status is not Status.ONGOING or place not in known.partitions:
            raise BrokerError(KafkaError.INVALID_TXN_STATE)

    def offsets(self, identifier: str, epoch: int, group: str, positions: Mapping[Where, int]) -> None:
        """Positions to be committed with the transaction. Raises BrokerError."""
        known = self._checked(identifier, epoch)
        if known.status is not Status.ONGOING:
            raise BrokerError(KafkaError.INVALID_TXN_STATE)
        known.offsets.setdefault(group, {}).update(positions)

    def undecided(self, group: str, place: Where) -> bool:
        """Whether a transaction with a position of that partition has not reached the group yet."""
        return any(
            place in t.offsets.get(group, ()) and (t.status is Status.ONGOING or group in t.unmarked)
            for t in self._known.values()
        )

    def end(self, identifier: str, epoch: int, *, commit: bool) -> None:
        """EndTxn; twice is as good as once. Raises BrokerError."""
        known = self._checked(identifier, epoch)
        if known.status is Status.ONGOING:
            self._decide(known, commit=commit)
        elif known.status is Status.DECIDED and known.commit == commit:
            raise BrokerError(KafkaError.CONCURRENT_TRANSACTIONS)
        elif known.status is not Status.COMPLETE or known.commit != commit:
            raise BrokerError(KafkaError.INVALID_TXN_STATE)

    def expire(self) -> None:
        """Abort what is ongoing for longer than its time-out."""
        for known in self._known.values():
            if known.status is Status.ONGOING and self._now() - known.started > known.timeout_s:
                known.epoch += 1
                self._decide(known, commit=False)

    def _checked(self, identifier: str, epoch: int) -> Transaction:
        known = self._known.get(identifier)
        if known is None:
            raise BrokerError(KafkaError.INVALID_PRODUCER_ID_MAPPING)
        if known.epoch != epoch:
            self.refused += 1
            raise BrokerError(KafkaError.INVALID_PRODUCER_EPOCH)
        return known

    def _decide(self, known: Transaction, *, commit: bool) -> None:
        # From here the outcome stands, whatever anybody has been told.
        known.status, known.commit = Status.DECIDED, commit
        if commit:
            records = {w: tuple(self._partition(*w).undecided(known.producer)) for w in known.partitions}
            self.commits.append(Commit(known.identifier, known.epoch, records, known.offsets))
        known.unmarked = {*known.partitions, *known.offsets}
        if not known.unmarked:
            known.status = Status.COMPLETE
        epoch = known.epoch
        places: list[Where | str] = [*known.partitions, *known.offsets]
        for place in places:
            self._send_marker(known, place, partial(self._marked, known, place, epoch))

    def _marked(self, known: Transaction, place: Where | str, epoch: int, written: bool) -> None:
        if isinstance(place, str):
            if known.commit:
                self._positions(place, known.offsets[place])
        elif written:
            self._partition(*place).mark(self._now_ms(), known.producer, epoch, commit=known.commit)
        known.unmarked.discard(place)
        if not known.unmarked:
            known.status = Status.COMPLETE if known.epoch == epoch else Status.EMPTY
