"""A `RecordProducer` in memory, for tests and for trying a connector without Kafka.

Keeps the real one's rules: order as produced, a bounded queue that refuses when full, delivery reports from `poll`,
`flush` and `discard` only, nothing delivered while the brokers are away. Contract tests run on both.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from kafkaio.producer import Header, OnDelivery, ProducerLostError
from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record as the broker has it."""

    topic: str
    key: str
    partition: int
    value: bytes
    headers: tuple[Header, ...]


@dataclass(slots=True, eq=False)
class MemoryBroker:
    """What the producers of a test write to, with the faults that it asks for.

    Set `away` to deliver nothing, `failing` to fail each record for good with that reason, `partition` to move; call
    `lose` for a fatal error of every producer made so far.
    """

    capacity: int = 100_000
    away: bool = False
    failing: str | None = None
    partition: int = 0
    records: list[MemoryRecord] = field(default_factory=list)
    producers: list[MemoryProducer] = field(default_factory=list)

    def connect(self, _: Settings, topic: str, key: str, on_delivery: OnDelivery) -> MemoryProducer:
        """A `ProducerFactory`."""
        made = MemoryProducer(self, topic, key, on_delivery)
        self.producers.append(made)
        return made

    def lose(self) -> None:
        """Every producer made so far is dead."""
        for producer in self.producers:
            producer.lost = True


class MemoryProducer:
    """See `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker, topic: str, key: str, on_delivery: OnDelivery) -> None:
        self._broker = broker
        self._topic = topic
        self._key = key
        self._on_delivery = on_delivery
        self._queue: deque[tuple[bytes, tuple[Header, ...]]] = deque()
        self._something = threading.Condition()
        self.lost = False

    def produce(self, value: bytes, headers: Sequence[Header]) -> bool:
        """As `IdempotentProducer.produce`."""
        with self._something:
            if self.lost:
                raise ProducerLostError("lost, as the test asked")
            if len(self._queue) >= self._broker.capacity:
                return False
            self._queue.append((value, tuple(headers)))
            self._something.notify_all()
            return True

    def poll(self, timeout_s: float) -> None:
        """As `IdempotentProducer.poll`."""
        with self._something:
            self._something.wait_for(lambda: self._ready() or self.lost, min(timeout_s, 0.02))
            self._deliver()
            if self.lost:
                raise ProducerLostError("lost, as the test asked")

    def flush(self, timeout_s: float) -> int:
        """As `IdempotentProducer.flush`."""
        with self._something:
            self._something.wait_for(lambda: self._ready() or not self._queue, min(timeout_s, 0.02))
            self._deliver()
            return len(self._queue)

    def discard(self) -> None:
        """As `IdempotentProducer.discard`."""
        with self._something:
            while self._queue:
                self._queue.popleft()
                self._on_delivery(-1, "purged")

    @property
    def queued(self) -> int:
        """How many records wait."""
        with self._something:
            return len(self._queue)

    def _ready(self) -> bool:
        return bool(self._queue) and not self._broker.away

    def _deliver(self) -> None:
        """The caller holds the lock, so that reports come in order."""
        while self._ready() and not self.lost:
            value, headers = self._queue.popleft()
            if self._broker.failing is not None:
                self._on_delivery(-1, self._broker.failing)
                continue
            record = MemoryRecord(self._topic, self._key, self._broker.partition, value, headers)
            self._broker.records.append(record)
            self._on_delivery(record.partition, None)
