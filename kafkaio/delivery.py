"""The consumer of a sealed topic, for a sink: what it delivered it commits, so everything comes at least once.

- Cooperative-sticky, classic protocol: a rebalance takes only the partitions that move.
- read_committed: what an aborted transaction wrote is never seen.
- A group that never committed starts at the beginning. A position that the log no longer holds is reported by number and
  the partition goes on at the oldest record: what has expired unread is counted, never jumped over in silence.
- A commit for a partition that has moved on meanwhile is refused by the broker, and harmless: its new owner repeats.

Not here: decoding, and what a sink does with a record (`sinks.delivery`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kafkaio.client import classify, consumer_config, member_config
from kafkaio.reader import silent_logger
from schemas.settings import Settings
from sealtrail.errors import ConfigError

QUEUE_KIB = 16_384  # fetched ahead, a process
FETCH_WAIT_MS = 50
ASK_S = 10.0  # one question to the brokers
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
_NO_RIGHT = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_MOVED_ON = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,
    KafkaError._NO_OFFSET,
    KafkaError._STATE,
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """One record; an empty value for a tombstone."""

    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


class DeliveryConsumer:
    """Group membership, fetching and commits for one sealed topic. One thread; callbacks run inside `poll` and `close`.

    Args:
        group: the full group name.
        revoked: called with partitions that are about to go, while they can still be committed.
        expired: called with (partition, from, to): those offsets were deleted before the group read them.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        group: str,
        *,
        revoked: Callable[[list[int]], None],
        expired: Callable[[int, int, int], None],
    ) -> None:
        self._topic = topic
        self._revoked = revoked
        self._expired = expired
        self._astray: set[int] = set()  # partitions without a position
        self.last_error = ""
        config: dict[str, Any] = {
            **consumer_config(settings, queue_kib=QUEUE_KIB, wait_ms=FETCH_WAIT_MS),
            **member_config(group),
            "error_cb": self._note_error,
            "logger": silent_logger("sealtrail.kafka.delivery"),
        }
        try:
            self._consumer = Consumer(config)
            self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        except KafkaException as error:
            raise classify(error, f"joining group {group}") from error

    def poll(self, max_records: int, timeout_s: float) -> list[Delivered]:
        """Up to `max_records` records of all partitions that are not paused.

        A broker that is away gives none, and `last_error`. Raises ConfigError for missing rights.
        """
        for partition in sorted(self._astray):
            self._find_position(partition)
        try:
            found = self._consumer.consume(max_records, timeout_s)
        except KafkaException as error:
            raise classify(error, f"reading {self._topic}") from error
        records = []
        for message in found:
            cause = message.error()
            if cause is None:
                self.last_error = ""
                records.append(_delivered(message))
            elif cause.code() in _OUT_OF_RANGE:
                lost = message.partition()
                if lost is not None:
                    self._astray.add(lost)
            elif cause.code() in _NO_RIGHT:
                raise classify(cause, f"reading {self._topic}")
            else:
                self._note_error(cause)
        return records

    def commit(self, positions: Mapping[int, int]) -> bool:
        """Store, per partition, the offset of the next record to deliver. Whether the broker took them.

        Not taken: a partition has moved on, or the broker does not answer (`last_error`); then it is repeated some time.
        Raises ConfigError for missing rights.
        """
        offsets = [TopicPartition(self._topic, partition, offset) for partition, offset in positions.items()]
        if not offsets:
            return True
        try:
            taken = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            cause = error.args[0]
            if isinstance(cause, KafkaError) and cause.code() in _MOVED_ON:
                return False
            return self._refused(classify(error, f"committing {self._topic}"))
        for place in taken or []:
            if place.error is not None and place.error.code() not in _MOVED_ON:
                return self._refused(classify(place.error, f"committing {self._topic}"))
        return all(place.error is None for place in taken or [])

    def pause(self, partition: int) -> None:
        """Deliver nothing of a partition until `resume`; the membership stays, and so does what was fetched."""
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def resume(self, partition: int) -> None:
        """Deliver again, from where the partition was paused."""
        self._consumer.resume([TopicPartition(self._topic, partition)])

    def close(self) -> None:
        """Leave the group, so that partitions move at once; `revoked` is called first."""
        self._consumer.close()

    def _find_position(self, partition: int) -> None:
        """Give a partition a place to read from: the oldest record, after saying what is missing before it."""
        where = TopicPartition(self._topic, partition)
        try:
            committed = self._consumer.committed([where], timeout=ASK_S)[0]
            oldest, end = self._consumer.get_watermark_offsets(where, timeout=ASK_S)
            if committed.error is not None:
                raise KafkaException(committed.error)
            start = committed.offset if oldest <= committed.offset <= end else oldest
            self._consumer.incremental_unassign([where])  # a partition whose fetching ended takes no new position
            self._consumer.incremental_assign([TopicPartition(self._topic, partition, start)])
        except KafkaException as error:
            self._refused(classify(error, f"positioning {self._topic}/{partition}"))
            return
        self._astray.discard(partition)
        if 0 <= committed.offset < oldest:
            self._expired(partition, committed.offset, oldest)

    def _refused(self, error: Exception) -> bool:
        if isinstance(error, ConfigError):
            raise error
        self.last_error = str(error)
        return False

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign(partitions)
        consumer.resume(partitions)  # one that we paused, gave up and got back

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = [p.partition for p in partitions]
        self._revoked(gone)
        self._astray -= set(gone)
        consumer.incremental_unassign(partitions)

    def _note_error(self, error: KafkaError) -> None:
        self.last_error = f"{error.str()} ({error.name()})"


def _delivered(message: Message) -> Delivered:
    partition, offset, value = message.partition(), message.offset(), message.value()
    if partition is None or offset is None:  # cannot be for a message without error
        raise AssertionError("message without a place")
    return Delivered(partition, offset, message.timestamp()[1], value.encode() if isinstance(value, str) else value or b"")
