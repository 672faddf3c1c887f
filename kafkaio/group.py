"""The consumer of the raw topic: the group places partitions, their positions come from the chains' heads.

- Cooperative-sticky, classic protocol: a rebalance takes only the partitions that move.
- A partition that arrives is paused, at no position, until its owner has fenced it, read the head and
  calls `start`. Nothing of it is delivered before.
- Callbacks run inside `poll` on the caller's thread, so no transaction is open while they run.
- `auto.offset.reset=error`: a position that the log does not hold is reported, never jumped over.
- A record whose headers the client library cannot show is delivered without any: no record may stop the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import methodcaller
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from kafkaio.client import classify, consumer_config, member_config
from kafkaio.library import LIBRDKAFKA, Library
from kafkaio.reader import silent_logger
from kafkaio.record import Headers, RawRecord
from schemas.settings import Settings

QUEUE_KIB = 8_192  # fetched ahead, a process: 0.4 s of a flood (docs/performance.md)
FETCH_WAIT_MS = 50
SLICE = 250  # messages read at once
_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
_NO_RIGHT = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)

# The library returns a result *and* leaves the UnicodeDecodeError of a name set. A call written in Python may not notice,
# and the error then comes up wherever the interpreter looks next; a call from C is checked and raises here.
_ask_headers = methodcaller("headers")
_record: Callable[[type[RawRecord], tuple[int, bytes, bytes, Headers, int]], RawRecord] = tuple.__new__


Read = Callable[[list[Any]], tuple[dict[int, list[RawRecord]], list[Any]]]


@dataclass(frozen=True, slots=True)
class Polled:
    """What one poll brought: records in offset order by partition, and partitions whose position is gone."""

    records: dict[int, list[RawRecord]]
    out_of_range: frozenset[int]
    group: object  # group metadata as of this poll, for the transaction that commits these messages


class RawConsumer:
    """Group membership and fetching for one raw topic. One thread.

    Args:
        group: the full group name.
        assigned, revoked: called with partitions inside `poll`; revoked also when they were lost.
        read: as `read_records`.
    """

    def __init__(
        self,
        settings: Settings,
        topic: str,
        group: str,
        assigned: Callable[[list[int]], None],
        revoked: Callable[[list[int]], None],
        library: Library = LIBRDKAFKA,
        read: Read | None = None,
    ) -> None:
        self._topic = topic
        self._read = read or read_records
        self._library = library
        self._assigned = assigned
        self._revoked = revoked
        self.last_error = ""
        config: dict[str, Any] = {
            **consumer_config(settings, queue_kib=QUEUE_KIB, wait_ms=FETCH_WAIT_MS),
            **member_config(group),
            "error_cb": self._note_error,
            "logger": silent_logger("sealtrail.kafka.group"),
        }
        try:
            self._consumer = library.consumer(config)
            self._consumer.subscribe([topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        except KafkaException as error:
            raise classify(error, "joining the sealers' group") from error

    def poll(self, max_records: int, timeout_s: float, *, gather: bool = True) -> Polled:
        """Up to `max_records` records of all started partitions; runs rebalance callbacks.

        Args:
            timeout_s: how long to wait for the last of them; or, not to gather, for the first.

        Raises ConfigError for missing rights; a broker that is away gives an empty result and `last_error`.
        """
        records: dict[int, list[RawRecord]] = {}
        others: list[Any] = []
        try:
            for found in self._slices(max_records, timeout_s, gather=gather):
                read, more = self._read(found)
                for partition, those in read.items():
                    records.setdefault(partition, []).extend(those)
                others += more
        except KafkaException as error:
            raise classify(error, f"reading {self._topic}") from error
        if records:
            self.last_error = ""
        gone: set[int] = set()
        for message in others:
            cause = message.error()
            if cause.code() in _OUT_OF_RANGE:
                gone.add(message.partition())
            elif cause.code() in _NO_RIGHT:
                raise classify(cause, f"reading {self._topic}")
            else:
                self._note_error(cause)
        return Polled(records, frozenset(gone), self._consumer.consumer_group_metadata())

    def _slices(self, max_records: int, timeout_s: float, *, gather: bool) -> Iterator[list[Any]]:
        """Messages, few enough at once that what they are made of is still at hand when they are read and forgotten."""
        end = self._library.monotonic() + timeout_s
        size, left = min(SLICE if gather else 1, max_records), max_records
        while left > 0:
            # Each has a place when it has no error.
            found: list[Any] = self._consumer.consume(size, max(0.0, end - self._library.monotonic()))
            yield found
            left -= len(found)
            if len(found) < size:
                return
            size = min(SLICE, left)
            if not gather:
                end = 0.0

    def start(self, partition: int, offset: int) -> None:
        """Deliver a partition from `offset` on; what was fetched of it before is forgotten."""
        where = TopicPartition(self._topic, partition, offset)
        try:
            self._consumer.pause([where])
            try:
                self._consumer.seek(where)
            except KafkaException as error:
                if not _fetching_ended(error):
                    raise
                self._consumer.incremental_unassign([where])  # here alone: the membership is not touched
                self._consumer.incremental_assign([where])
            self._consumer.resume([where])
        except KafkaException as error:
            raise classify(error, f"positioning {self._topic}/{partition} at {offset}") from error

    def stop(self, partition: int) -> None:
        """Deliver nothing of a partition until `start`; the membership stays."""
        try:
            self._consumer.pause([TopicPartition(self._topic, partition)])
        except KafkaException as error:
            raise classify(error, f"pausing {self._topic}/{partition}") from error

    def committed(self, partition: int) -> int | None:
        """The group's committed position, or None."""
        try:
            found = self._consumer.committed([TopicPartition(self._topic, partition)], timeout=10.0)
        except KafkaException as error:
            raise classify(error, f"reading the committed position of {self._topic}/{partition}") from error
        if found[0].error is not None:
            raise classify(found[0].error, f"reading the committed position of {self._topic}/{partition}")
        return found[0].offset if found[0].offset >= 0 else None

    def close(self) -> None:
        """Leave the group, so that partitions move at once."""
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        waiting = [TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions]
        consumer.incremental_assign(waiting)
        consumer.pause(waiting)
        self._assigned([p.partition for p in partitions])

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._revoked([p.partition for p in partitions])
        consumer.incremental_unassign(partitions)

    def _note_error(self, error: KafkaError) -> None:
        self.last_error = f"{error.str()} ({error.name()})"


def read_records(messages: list[Any]) -> tuple[dict[int, list[RawRecord]], list[Any]]:
    """Messages as records by partition, in their order; and those that have an error."""
    records: dict[int, list[RawRecord]] = {}
    others: list[Any] = []
    for message in messages:
        if message.error() is not None:
            others.append(message)
            continue
        # Without the call in Python that a named tuple's own constructor is.
        record = _record(
            RawRecord,
            (message.offset(), message.key() or b"", message.value() or b"", _headers(message), message.timestamp()[1]),
        )
        partition = message.partition()
        try:
            records[partition].append(record)
        except KeyError:
            records[partition] = [record]
    return records, others


def _fetching_ended(error: KafkaException) -> bool:
    """A partition whose position was gone is not fetched any more, and does not take a new one: it must be given anew."""
    cause = error.args[0]
    return isinstance(cause, KafkaError) and cause.code() == KafkaError._STATE


def _headers(message: Message) -> Headers:
    """None of a record of which one has a name that is not UTF-8: the library raises SystemError, and cannot show the rest.

    Such a record has no session and no MAC then, so it is refused like any other that is not authentic.
    """
    try:
        found: Any = _ask_headers(message) or ()  # the library's hint allows a dict; a consumer's is a list of pairs
    except (SystemError, UnicodeDecodeError):
        return ()
    for _, value in found:
        if value is None:
            return tuple((name, value or b"") for name, value in found)
    return tuple(found)
