"""librdkafka's consumer, on the simulated broker: assigned partitions, or a group's.

Rebalance callbacks run inside `consume`. A position that the log does not hold is reported once, and the partition is not
fetched any more until it is given anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from kafkaio.testing.errors import BrokerError, raised
from kafkaio.testing.group import Generation, Group, Member
from kafkaio.testing.link import Link
from kafkaio.testing.log import Partition
from kafkaio.testing.transactions import Where

Callback = Callable[[Any, list[TopicPartition]], None]
_SLICE = 16  # records of one partition that come at once


@dataclass(slots=True)
class _Fetched:
    """An assigned partition. A position of None: not fetched any more."""

    log: Partition
    position: int | None
    paused: bool = False
    told_end: int = -1


class SimulatedConsumer:
    """The part of `confluent_kafka.Consumer` that kafkaio uses. Read committed; `auto.offset.reset=error`."""

    def __init__(self, link: Link, config: dict[str, Any]) -> None:
        self._link = link
        self._client: str = config.get("client.id", "client")
        self._group_name: str = config["group.id"]
        self._session_s = config.get("session.timeout.ms", 45_000) / 1000
        self._tells_end: bool = config.get("enable.partition.eof", False)
        self._fetched: dict[Where, _Fetched] = {}
        self._topic = ""
        self._group: Group | None = None
        self._member: Member | None = None
        self._callbacks: dict[str, Callback] = {}

    # -- assigned partitions

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """These, and no others."""
        self._fetched.clear()
        self.incremental_assign(partitions)

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """These as well."""
        for p in partitions:
            self._fetched[p.topic, p.partition] = _Fetched(self._log(p.topic, p.partition), self._position(p))

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Not these."""
        for p in partitions:
            self._fetched.pop((p.topic, p.partition), None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver nothing of them."""
        for p in partitions:
            if (p.topic, p.partition) in self._fetched:
                self._fetched[p.topic, p.partition].paused = True

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """Deliver them again."""
        for p in partitions:
            if (p.topic, p.partition) in self._fetched:
                self._fetched[p.topic, p.partition].paused = False

    def seek(self, where: TopicPartition) -> None:
        """Go to a position."""
        found = self._fetched.get((where.topic, where.partition))
        if found is None or found.position is None:
            raise raised(KafkaError._STATE if found else KafkaError._UNKNOWN_PARTITION)
        found.position, found.told_end = self._position(where), -1

    def consume(self, limit: int, timeout: float) -> list[Message]:
        """Up to `limit` messages; waits up to `timeout` for the first. Runs the group's callbacks."""
        self._link.world.at("poll")
        self._hear()
        try:
            fetched, delay = self._link.send("fetch", lambda: True)
        except BrokerError as error:
            raise KafkaException(KafkaError(error.code)) from error
        found = self._take(limit) if delay is not None else []
        if fetched and delay is None and self._group is not None:
            found = [m for m in self._take(limit) if m.error()]  # the records are lost on the way, and not fetched again
        if not found and timeout > 0:
            self._link.world.wait(timeout)
            found = [] if delay is None else self._take(limit)
        return found

    def get_watermark_offsets(self, where: TopicPartition, timeout: float) -> tuple[int, int]:
        """Log start and last stable offset."""
        return self._link.answer("bounds", lambda: self._bounds(where), timeout)

    def list_topics(self, topic: str, timeout: float) -> Any:
        """Metadata of one topic."""
        return self._link.answer("metadata", lambda: metadata(self._link, topic), timeout)

    # -- the group

    def subscribe(self, topics: Sequence[str], on_assign: Callback, on_revoke: Callback, on_lost: Callback) -> None:
        """Join the group; the partitions come with a later poll."""
        (self._topic,) = topics
        self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost}
        self._group = self._link.cluster.group(self._group_name, self._topic)
        self._member = self._group.join(self._client, self._link.world.runs, self._session_s)

    def consumer_group_metadata(self) -> Generation:
        """As of now."""
        member = self._member
        name, generation = (member.name, member.generation) if member is not None else ("", -1)
        return Generation(self._group_name, name, generation)

    def committed(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        """The group's positions; one that a transaction is about to change is waited for."""
        cluster = self._link.cluster

        def ask() -> list[TopicPartition]:
            group = cluster.groups[self._group_name]
            if any(cluster.coordinator.undecided(self._group_name, (p.topic, p.partition)) for p in places):
                raise BrokerError(KafkaError.UNSTABLE_OFFSET_COMMIT)
            return [TopicPartition(p.topic, p.partition, group.positions.get(p.partition, -1001)) for p in places]

        return self._link.answer("committed", ask, timeout)

    def close(self) -> None:
        """Leave the group."""
        if self._group is not None and self._member is not None:
            if self._member.owned:
                self._callbacks["revoke"](self, self._places(self._member.owned))
            self._group.leave(self._member)
            self._group = None
        self._fetched.clear()

    def _hear(self) -> None:
        """What the group has to say since the last poll."""
        group, member = self._group, self._member
        if group is None or member is None:
            return
        if not group.knows(member):
            if member.owned:
                self._callbacks["lost"](self, self._places(member.owned))
            self._member = group.join(self._client, self._link.world.runs, self._session_s)
            return
        if member.told is not None:
            lost, given = member.owned - member.told, member.told - member.owned
            if lost:
                self._callbacks["revoke"](self, self._places(lost))
            if given:
                self._callbacks["assign"](self, self._places(given))
            group.heard(member)

    # -- fetching

    def _take(self, limit: int) -> list[Message]:
        found: list[Message] = []
        for place, fetched in self._fetched.items():
            if not fetched.paused and fetched.position is not None and len(found) < limit:
                found += self._of(place, fetched, fetched.position, limit - len(found))
        return found

    def _of(self, place: Where, fetched: _Fetched, position: int, limit: int) -> list[Message]:
        log, (topic, number) = fetched.log, place
        if not log.first <= position <= log.end:
            fetched.position = None
            problem = KafkaError(KafkaError._AUTO_OFFSET_RESET, "offset out of range")
            return [Message(topic=topic, partition=number, offset=position, error=problem)]
        found = []
        for entry in log.committed(position, min(limit, _SLICE)):
            fetched.position = entry.offset + 1
            stamp = (2, entry.time_ms)
            headers: Any = list(entry.headers)
            found.append(
                Message(
                    topic=topic, partition=number, offset=entry.offset, key=entry.key, value=entry.value, headers=headers,
                    timestamp=stamp,
                )
            )  # fmt: skip
        if len(found) < min(limit, _SLICE):
            fetched.position = max(fetched.position or 0, log.stable)
            if self._tells_end and fetched.told_end != log.stable:
                fetched.told_end = log.stable
                ended = KafkaError(KafkaError._PARTITION_EOF)
                found.append(Message(topic=topic, partition=number, offset=log.stable, error=ended))
        return found

    def _position(self, where: TopicPartition) -> int:
        if where.offset >= 0:
            return where.offset
        return self._log(where.topic, where.partition).stable  # OFFSET_END

    def _log(self, topic: str, number: int) -> Partition:
        try:
            return self._link.cluster.partition(topic, number)
        except BrokerError as error:
            raise KafkaException(KafkaError(error.code)) from error

    def _bounds(self, where: TopicPartition) -> tuple[int, int]:
        try:
            log = self._link.cluster.partition(where.topic, where.partition)
        except BrokerError:
            raise raised(KafkaError._UNKNOWN_PARTITION) from None  # librdkafka finds it in its metadata
        return log.first, log.stable

    def _places(self, partitions: set[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, number) for number in sorted(partitions)]


def metadata(link: Link, topic: str) -> Any:
    """As `list_topics` answers for one topic."""
    found = link.cluster.topics.get(topic)
    error = None if found else KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
    described = SimpleNamespace(error=error, partitions={p.number: p for p in found or ()})
    return SimpleNamespace(topics={topic: described})
