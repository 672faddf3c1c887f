"""The simulated brokers: topics, coordinators, groups, simulated time, and what is on its way.

Nothing happens but in `advance`, in the order of its time; what is due at once, in the order in which it was sent. The same
calls give the same history.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from confluent_kafka import KafkaError

from kafkaio.testing.errors import BrokerError
from kafkaio.testing.group import Group
from kafkaio.testing.log import Partition
from kafkaio.testing.transactions import Coordinator, Transaction, Where

TICK_S = 0.5  # groups and transactions are looked at so often
MARKER_S = 0.005


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What a topic is made with."""

    partitions: int
    max_message_bytes: int = 3 << 20


class Cluster:
    """Brokers in one process, without threads.

    Args:
        topics: by full name.
        start_ms: the brokers' clock at the beginning, UTC milliseconds.
    """

    def __init__(self, topics: Mapping[str, TopicSpec], start_ms: int) -> None:
        self.now = 0.0
        self._start_ms = start_ms
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._next_tick = TICK_S
        self.topics = {
            name: [Partition(name, number, spec.max_message_bytes) for number in range(spec.partitions)]
            for name, spec in topics.items()
        }
        self.groups: dict[str, Group] = {}
        self.coordinator = Coordinator(self.partition, lambda: self.now, self.now_ms, self._send_marker, self._positions)
        self.marker_s: Callable[[Where | str, bool], float | None] = lambda place, commit: MARKER_S
        """How long a marker takes to a place, given what it says; None: it is never written, and nobody is told (ADR 10)."""

    def now_ms(self) -> int:
        """The brokers' clock."""
        return self._start_ms + int(self.now * 1000)

    def partition(self, topic: str, number: int) -> Partition:
        """Raises BrokerError for what there is not."""
        found = self.topics.get(topic)
        if found is None or not 0 <= number < len(found):
            raise BrokerError(KafkaError.UNKNOWN_TOPIC_OR_PART)
        return found[number]

    def topic_uuid(self, topic: str) -> bytes:
        """16 bytes, the same in every simulation."""
        return hashlib.sha256(topic.encode()).digest()[:16]

    def group(self, name: str, topic: str) -> Group:
        """The group of that name, made if there is none."""
        if name not in self.groups:
            self.groups[name] = Group(name, len(self.topics[topic]), lambda: self.now)
        return self.groups[name]

    def append(self, topic: str, number: int, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> int:
        """As a producer without transactions does; the record's offset."""
        (made,) = self.partition(topic, number).append(self.now_ms(), [(key, value, tuple(headers.items()))])
        return made.offset

    def later(self, delay_s: float, act: Callable[[], None]) -> None:
        """Something is on its way for so long."""
        heappush(self._due, (self.now + delay_s, next(self._numbers), act))

    def advance(self, seconds: float) -> None:
        """Let time pass, and what is due in it happen."""
        until = self.now + seconds
        while True:
            due = self._due[0][0] if self._due else until
            if min(due, self._next_tick) > until:
                break
            if self._next_tick <= due:
                self.now = max(self.now, self._next_tick)
                self._next_tick += TICK_S
                self._tick()
            elif self._due:
                self.now = max(self.now, due)
                heappop(self._due)[2]()
            else:
                break
        self.now = until

    def _tick(self) -> None:
        self.coordinator.expire()
        for group in self.groups.values():
            group.tick()

    def _send_marker(self, transaction: Transaction, place: Where | str, arrived: Callable[[bool], None]) -> None:
        delay = self.marker_s(place, transaction.commit)
        self.later(delay or 0.0, lambda: arrived(delay is not None))

    def _positions(self, group: str, positions: Mapping[Where, int]) -> None:
        self.groups[group].take(positions)
