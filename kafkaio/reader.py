"""Reading one partition of a transactional topic from a position that the caller knows: committed data records, in order.

- Read committed: aborted records are never given; an open transaction ends what can be read (the last stable offset).
- Positions are the caller's. No group offset is read or written, and a position that the log does not hold is an error
  (`auto.offset.reset=error`), never a jump.
- The last *offset* of a partition is a transaction marker, not a record: `last_record` steps back over markers and
  aborted batches.
- A call that must reach the log's end gives up with a TransientError when the broker gives nothing for `PATIENCE_S`.

Not here: what a record means (`find` is given a key function), group membership (`kafkaio.placement`), decoding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from kafkaio.client import classify, consumer_config
from kafkaio.library import LIBRDKAFKA, Library
from schemas.catalogue import topic_name
from schemas.settings import Settings
from sealtrail.errors import ConfigError, SealtrailError, TransientError

CHUNK_RECORDS = 64  # taken from librdkafka at once: bounds memory when records are near their limit of 3 MiB
FETCH_WAIT_MS = 100  # a fetch at the log's end holds the connection this long; a new position waits for it
LOOK_WAIT_MS = 10  # of a reader that looks something up and goes
QUEUE_KIB = 8_192  # records fetched ahead, a reader; above two of the largest
REQUEST_S = 10.0  # asking for offsets takes 5 ms; a broker that restarts is back in 5 to 10 s
PATIENCE_S = 20.0  # nothing for so long while records are due: the broker is away
FIRST_STEP_BACK = 4  # a marker or two behind the last record is the usual case; doubled while nothing is found

_OUT_OF_RANGE = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


class OffsetGoneError(TransientError):
    """The log does not hold the position: trimmed meanwhile, or cut. Find the position anew; that decides which."""


@dataclass(frozen=True, slots=True)
class Record:
    """One committed data record. A value of None is a tombstone."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """First offset that is still there, and the last stable offset: one past what read committed can see."""

    first: int
    stable: int


class PartitionReader:
    """A Kafka consumer that is assigned one partition at a time. One thread; not shared.

    Every method may raise TransientError (broker away) and ConfigError (rights, unknown topic). Nothing is retried here
    beyond what librdkafka does; any method may be called again after an error.
    """

    def __init__(self, settings: Settings, library: Library = LIBRDKAFKA, *, wait_ms: int = FETCH_WAIT_MS) -> None:
        """Connects in the background. The group's name is the role's own: librdkafka looks its coordinator up, no more.

        Args:
            wait_ms: how long a broker holds a fetch at the log's end; to learn that it is the end takes so long.
        """
        self._library = library
        self._last_error = ""
        config = {
            **consumer_config(settings, queue_kib=QUEUE_KIB, wait_ms=wait_ms),
            "group.id": topic_name(settings.topic_prefix, settings.role),
            "enable.partition.eof": True,
            "error_cb": self._note_error,
            "logger": silent_logger("sealtrail.kafka.reader"),
        }
        try:
            self._consumer = library.consumer(config)
        except KafkaException as error:
            raise classify(error, "making a reader") from error
        self._where = ""
        self._end = -1  # offset of the last end of partition that was reported since `start`

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Harmless when repeated."""
        self._consumer.close()

    def bounds(self, topic: str, partition: int) -> Bounds:
        """What can be read of a partition now, asked of the broker."""
        doing = f"asking for the bounds of {topic}/{partition}"
        try:
            found = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=REQUEST_S)
        except KafkaException as error:
            cause = error.args[0]
            if isinstance(cause, KafkaError) and cause.code() == KafkaError._UNKNOWN_PARTITION:
                raise self._unknown(topic, partition, doing) from error
            raise classify(error, doing) from error
        if found is None:
            raise TransientError(f"{doing}: no answer within {REQUEST_S:.0f} s")
        return Bounds(*found)  # under read committed the broker answers with the last stable offset

    def start(self, topic: str, partition: int, offset: int) -> None:
        """Read on from `offset` of this partition; what was fetched before is forgotten."""
        self._where = f"{topic}/{partition}"
        self._end = -1
        try:
            self._consumer.assign([TopicPartition(topic, partition, offset)])
        except KafkaException as error:
            raise classify(error, f"reading {self._where} from {offset}") from error

    def read(self, max_records: int, max_bytes: int, timeout_s: float) -> list[Record]:
        """Up to `max_records` committed records in order; waits at most `timeout_s` for the first.

        Stops early once their values reach `max_bytes`, so a call holds at most that and CHUNK_RECORDS records more.
        Empty: nothing new, or the broker is away (`last_error` tells). Raises OffsetGoneError.
        """
        records: list[Record] = []
        size = 0
        while len(records) < max_records and size < max_bytes:
            wanted = min(CHUNK_RECORDS, max_records - len(records))
            try:
                messages = self._consume(wanted, 0.0 if records else timeout_s)
            except KafkaException as error:
                raise classify(error, f"reading {self._where}") from error
            for message in messages:
                record = self._record(message)
                if record is not None:
                    records.append(record)
                    size += len(record.value or b"")
            if len(messages) < wanted:
                break
        return records

    def _consume(self, wanted: int, wait_s: float) -> list[Message]:
        """What is there. The library waits until it has all that are asked for; so only the first is waited for."""
        if not wait_s:
            return self._consumer.consume(wanted, 0.0)
        found = self._consumer.consume(1, wait_s)
        if found and wanted > 1:
            found += self._consumer.consume(wanted - 1, 0.0)
        return found

    @property
    def last_error(self) -> str:
        """What librdkafka last said of the connection since records came; empty when all is well."""
        return self._last_error

    def first_record(self, topic: str, partition: int, offset: int, end: int) -> Record | None:
        """The first data record in [offset, end), or None. `end` must not be above the last stable offset."""
        if offset >= end:
            return None
        for record in self.between(topic, partition, offset, end, max_records=1):
            return record
        return None

    def last_record(self, topic: str, partition: int) -> Record | None:
        """The last committed data record, or None if the partition holds none.

        Steps back over transaction markers and aborted batches, twice as far each time.
        """
        bounds = self.bounds(topic, partition)
        end, step = bounds.stable, FIRST_STEP_BACK
        while end > bounds.first:
            start = max(bounds.first, end - step)
            last = None
            for record in self.between(topic, partition, start, end):
                last = record
            if last is not None:
                return last
            end, step = start, step * 2
        return None

    def read_all(self, topic: str, partition: int) -> Iterator[Record]:
        """Every committed record from the first to the last stable offset as it stands at the call."""
        bounds = self.bounds(topic, partition)
        yield from self.between(topic, partition, bounds.first, bounds.stable)

    def find(self, topic: str, partition: int, target: int, key: Callable[[Record], int]) -> int:
        """An offset from which the first data record is the first one whose key is at least `target`.

        Args:
            key: gives a number that rises with the offset, e.g. the seq in a sealed event; what it raises comes through.

        About log2(n) small fetches. The last stable offset when every key is below `target`.
        """
        bounds = self.bounds(topic, partition)
        low, high = bounds.first, bounds.stable
        while low < high:
            middle = (low + high) // 2
            record = self.first_record(topic, partition, middle, high)
            if record is None or key(record) >= target:
                high = middle
            else:
                low = record.offset + 1
        return low

    def _unknown(self, topic: str, partition: int, doing: str) -> SealtrailError:
        """What "unknown partition" means: librdkafka also says so of every partition while no broker answers."""
        try:
            found = self._consumer.list_topics(topic, timeout=REQUEST_S).topics[topic]
        except KafkaException as error:
            return classify(error, doing)
        if found.error is not None:
            return classify(found.error, doing)
        if partition not in found.partitions:
            return ConfigError(f"{doing}: the topic has {len(found.partitions)} partitions")
        return TransientError(f"{doing}: no leader")

    def between(
        self, topic: str, partition: int, start: int, end: int, *, max_records: int = CHUNK_RECORDS
    ) -> Iterator[Record]:
        """Data records in [start, end), with `end` at most the last stable offset; then nothing more is fetched.

        No other call while it is read.
        """
        if start >= end:
            return
        self.start(topic, partition, start)
        try:
            yield from self._up_to(end, max_records)
        finally:
            with suppress(KafkaException):  # what reads next says it again
                self._consumer.assign([])

    def _up_to(self, end: int, max_records: int) -> Iterator[Record]:
        quiet_since = self._library.monotonic()
        while self._end < end:
            records = self.read(max_records, 1, 0.2)
            for record in records:
                if record.offset >= end:
                    return
                yield record
                if record.offset == end - 1:
                    return
            if records:
                quiet_since = self._library.monotonic()
            elif self._library.monotonic() - quiet_since > PATIENCE_S:
                reason = f" ({self._last_error})" if self._last_error else ""
                raise TransientError(f"reading {self._where}: nothing for {PATIENCE_S:.0f} s{reason}")

    def _record(self, message: Message) -> Record | None:
        error = message.error()
        offset = message.offset()
        if error is None:
            self._last_error = ""
            if offset is None:  # cannot be for a record without error
                raise TransientError(f"reading {self._where}: a record without an offset")
            return Record(offset, message.timestamp()[1], message.key(), message.value())
        if error.code() == KafkaError._PARTITION_EOF:
            self._last_error = ""
            self._end = offset if offset is not None else -1
            return None
        if error.code() in _OUT_OF_RANGE:
            raise OffsetGoneError(f"reading {self._where}: the log does not hold offset {offset}")
        raise classify(error, f"reading {self._where}")

    def _note_error(self, error: KafkaError) -> None:
        self._last_error = f"{error.str()} ({error.name()})"


def silent_logger(name: str) -> logging.Logger:
    """librdkafka writes each failed connection to stderr; here failures are returned or kept, so that is noise."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
