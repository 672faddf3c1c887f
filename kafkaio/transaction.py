"""One chain's transactional producer: the fence, and the steps of a commit (design §6).

- One producer a chain, `transactional.id` = `<deployment>/<raw topic>/<partition>`. The fence is
  `init_transactions()`: it aborts and outlaws every earlier owner of that id at once.
- The outcome of a commit is never guessed. librdkafka does not speak KIP-890: a delayed EndTxn or
  Produce can land in the producer's next transaction. So after any step that raised, timed out or
  took longer than `socket.timeout.ms`, the producer is thrown away; its owner starts again at the
  fence and reads the truth from the head.
- Records go to the partition that the caller names, in the caller's order.

Not here: what is written, and where a chain stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from threading import Lock
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec  # not exported by name: the package has no __all__

from kafkaio.client import classify, client_config
from kafkaio.library import LIBRDKAFKA, Library
from kafkaio.reader import silent_logger
from schemas.settings import Settings
from sealtrail.errors import EvidenceError, SealtrailError, TransientError

TRANSACTION_TIMEOUT_MS = 12_000  # an open transaction blocks every reader; above socket.timeout.ms
SOCKET_TIMEOUT_MS = 5_000  # a step that takes longer is in doubt
INIT_S = 30.0  # fencing waits for an earlier owner's transaction to be aborted
STEP_S = 10.0  # bound of one commit step; below the transaction's time-out
GRACE_S = 2.0  # beyond a step's own time-out; then it hangs
COMMIT_S = 3 * STEP_S + GRACE_S  # of all steps; then one of them hangs
FLUSH_S = 0.5  # between two looks for a refusal
# Records wait for the flush that follows the last of them. librdkafka's idempotent producer has one request of a partition on
# its way, if it holds more than five records; while another batch is due, its thread asks again and again, without a pause,
# for the answer: a twelfth of the sealer's processor time with its defaults. So one batch a partition, where they fit.
LINGER_MS = 1_000
BATCH_BYTES = 2_500_000  # below what each topic of a transaction takes, however badly it compresses
REFUSABLE = 65_536  # bytes; a smaller record is not refused for its size, so it needs no delivery report
STABLE_S = 30.0  # above TRANSACTION_TIMEOUT_MS and the broker's scan for timed-out transactions
REQUEST_S, DESCRIBE_S = 10.0, 3.0  # then GRACE_S for a client that keeps its own time-out
CLOCK_SKEW_MS = 60_000  # sealer and broker may differ by so much; a lock set too late cannot be shortened

_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]


class FencedError(TransientError):
    """Another owner has taken the chain, or the group has moved the partition: nothing was committed."""


class HangingError(TransientError):
    """A transaction stays open on these (topic, partition) for longer than any of ours may."""

    def __init__(self, partitions: Sequence[tuple[str, int]]) -> None:
        topic, partition = partitions[0]
        super().__init__(f"{topic}/{partition}: an open transaction hides its end")
        self.partitions = tuple(partitions)


class ClockError(SealtrailError):
    """The sealer's clock and the broker's differ too much for `sealed_at` to be believed."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Values for one partition of one topic, in order.

    Attributes:
        keys: as many, of a compacted topic; empty: none has one.
    """

    topic: str
    partition: int
    values: Sequence[bytes]
    keys: Sequence[bytes] = ()

    def records(self) -> Iterator[tuple[bytes | None, bytes]]:
        """Keys and values."""
        return zip(self.keys or repeat(None, len(self.values)), self.values, strict=True)


@dataclass(frozen=True, slots=True)
class Progress:
    """The raw position that a transaction commits, and the group metadata of when its batch was consumed."""

    topic: str
    partition: int
    next_offset: int
    group: object


class ChainProducer:
    """The transactional producer of one chain: begins to fence when it is made, and may be used once `fenced` says so.

    Its owner has one thread. After any error it must be discarded. Raises from the constructor ConfigError.
    """

    def __init__(self, settings: Settings, transactional_id: str, library: Library = LIBRDKAFKA) -> None:
        self._id = transactional_id
        self._library = library
        self._began = 0.0  # monotonic
        self._discarded = False
        self._worker = library.worker(f"transaction {transactional_id}")
        config: dict[str, Any] = {
            **client_config(settings),
            "transactional.id": transactional_id,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "socket.timeout.ms": SOCKET_TIMEOUT_MS,
            "message.timeout.ms": TRANSACTION_TIMEOUT_MS,  # nothing may outlive its transaction
            "message.max.bytes": 4 << 20,  # above the topics' 3 MiB, so that the broker decides
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "compression.type": "lz4",
            "log.connection.close": False,
            "logger": silent_logger("sealtrail.kafka.transaction"),
        }
        try:
            self._producer = library.producer(config)
        except KafkaException as error:
            raise classify(error, f"fencing {transactional_id}") from error
        self._began = library.monotonic()
        self._worker.start(self._fence)

    def _fence(self) -> None:
        """In the worker's thread: it waits for what an earlier owner left open to be aborted."""
        try:
            self._producer.init_transactions(INIT_S)
        except KafkaException as error:
            raise classify(error, f"fencing {self._id}") from error

    def fenced(self, wait_s: float = 0.0) -> bool:
        """Whether no earlier owner can commit any more; waits for it, at most `wait_s`.

        Raises TransientError or ConfigError: another try needs another producer.
        """
        return self._ended("a fence", wait_s, INIT_S + GRACE_S)

    def begin(self, placements: Iterable[Placement], progress: Progress, sealed_at_ms: int) -> None:
        """Begin a transaction that writes all placements and the progress; it goes on beside the caller until `ended`.

        Args:
            sealed_at_ms: the time that the transaction's seals state, compared with the broker's.

        Raises as `ended`.
        """
        self._began = self._library.monotonic()
        appended = _Appended()
        with self._explained():
            # 1. Begin. A crash from here to 5 leaves a transaction that the next fence aborts.
            self._producer.begin_transaction()
            # 2. Hand over every record, in order, to the partition named.
            for placement in placements:
                self._write(placement, appended)
        self._worker.start(lambda: self._complete(appended, progress, sealed_at_ms))

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether the transaction that was begun is committed; waits for it, at most `wait_s`.

        Raises:
            FencedError: this owner is not the owner any more; nothing was committed.
            TransientError: nothing may be concluded; discard, fence and read the head.
            ClockError: the broker's append time differs by more than a minute; nothing was committed.
            EvidenceError: a record is larger than its topic allows; nothing was committed.
        """
        return self._ended("a transaction", wait_s, COMMIT_S)

    def _ended(self, what: str, wait_s: float, limit_s: float) -> bool:
        """Whether what the worker does has ended; waits for it, at most `wait_s`. Raises what it raised, or that it hangs."""
        if self._worker.ended(wait_s):
            return True
        if self._library.monotonic() - self._began > limit_s:
            # A step that hangs: librdkafka does not always keep its own time-outs. `send_offsets_to_transaction` was seen to
            # hang for minutes after a broker had been killed and come back. Its thread is given up, and with it the producer.
            raise TransientError(f"{self._id}: {what} did not end after {limit_s:.0f} s")
        return False

    def commit(self, placements: Iterable[Placement], progress: Progress, sealed_at_ms: int) -> None:
        """`begin`, and wait until it has ended. Raises as `ended`."""
        self.begin(placements, progress, sealed_at_ms)
        while not self.ended(COMMIT_S):
            pass

    def _complete(self, appended: _Appended, progress: Progress, sealed_at_ms: int) -> None:
        """What a transaction waits for; in the worker's thread."""
        with self._explained():
            # 3. Wait for the broker's acknowledgement of all records, and with it its clock.
            if self._unacknowledged(appended) and not appended.refused:
                raise TransientError(f"{self._id}: records unacknowledged after {STEP_S:.0f} s")
            if self._discarded:  # then some may have been purged; if it is discarded from here on, none was
                raise TransientError(f"{self._id}: discarded before it was committed")
            self._check_clock(appended, sealed_at_ms)
            # 4. The raw position joins the transaction; the broker checks that we are still in the group. Where a record
            #    was refused, this says why. A crash before 5 is decided still leaves nothing: the next fence aborts.
            position = TopicPartition(progress.topic, progress.partition, progress.next_offset)
            self._producer.send_offsets_to_transaction([position], progress.group, STEP_S)
            # 5. Commit. Once the coordinator has written it, a crash changes nothing: the head says so. Whether it has, a
            #    caller that got no answer does not know, and does not guess: `ended` raises, and the head is read again.
            self._producer.commit_transaction(STEP_S)
        if self._library.monotonic() - self._began > SOCKET_TIMEOUT_MS / 1000:
            raise TransientError(f"{self._id}: a commit took longer than socket.timeout.ms; starting anew at the fence")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """The client library's errors as ours."""
        try:
            yield
        except KafkaException as error:
            raise _failure(error, self._id) from error
        except SystemError as error:
            # The library raises a fatal error (we are fenced) inside `flush`, and calls on_delivery with it still set; now
            # and then it loses it on the way, and only says that there was one.
            if isinstance(error.__cause__, KafkaException):
                raise _failure(error.__cause__, self._id) from error
            raise TransientError(f"{self._id}: the client library failed and lost the reason") from error

    def abort_on(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Abort a transaction of nothing on these partitions; with it ends whatever an earlier owner left open there.

        The fence should have ended it. A broker that was killed and comes back can state that it has aborted a
        transaction without having written every marker (seen with Kafka 4.3.1, one node, 2,000 partitions): readers then
        wait for ever. A later marker of the same producer id, which only this chain's owner can cause, sets them free.
        Discard the producer afterwards.

        Raises:
            TransientError: it may or may not have been written; try again from the fence.
        """
        try:
            self._producer.begin_transaction()
            for topic, partition in partitions:
                self._producer.produce(topic, b"", b"aborted", partition)
            self._producer.flush(STEP_S)
            # Waited for not longer than its own time-out, see `_ended`.
            self._worker.start(lambda: self._producer.abort_transaction(STEP_S))
            if not self._worker.ended(STEP_S + GRACE_S):
                raise TransientError(f"{self._id}: a step did not end after {STEP_S + GRACE_S:.0f} s")
        except (KafkaException, BufferError, SystemError) as error:
            raise TransientError(f"{self._id}: aborting what was left open: {error}") from error

    def discard(self) -> None:
        """Forget the producer and what it had queued. An open transaction is left to the next fence."""
        self._discarded = True
        self._worker.close()
        self._producer.purge()
        with suppress(KafkaException, SystemError):  # whatever it still reports, its owner starts again at the fence
            self._producer.poll(0)

    def _write(self, placement: Placement, appended: _Appended) -> None:
        """Two calls a record are a large part of what a record costs: so nothing here is done for each that need not be."""
        produce, topic, partition = self._producer.produce, placement.topic, placement.partition
        left = len(placement.values)
        for key, value in placement.records():
            left -= 1
            try:
                if left and len(value) < REFUSABLE:
                    produce(topic, value, key, partition)
                else:
                    produce(topic, value, key, partition, on_delivery=appended)
            except BufferError:
                self._write_late(placement, left, appended)

    def _write_late(self, placement: Placement, left: int, appended: _Appended) -> None:
        """The record that so many follow, for which there was no room."""
        value, key = placement.values[-1 - left], placement.keys[-1 - left] if placement.keys else None
        while True:
            self._producer.poll(0.05)
            with suppress(BufferError):
                self._producer.produce(placement.topic, value, key, placement.partition, on_delivery=appended)
                return

    def _unacknowledged(self, appended: _Appended) -> int:
        """Wait for the broker's answer to every record; how many have none. Ends early once one is known to be refused."""
        deadline = self._library.monotonic() + STEP_S
        while True:
            left = self._producer.flush(min(FLUSH_S, STEP_S))
            if not left or appended.refused or self._library.monotonic() >= deadline:
                return left

    def _check_clock(self, appended: _Appended, sealed_at_ms: int) -> None:
        """Records that were refused have no time; the steps that follow say why they were."""
        difference = max((time_ms - sealed_at_ms for time_ms in appended.times_ms), key=abs, default=0)
        if abs(difference) > CLOCK_SKEW_MS:
            raise ClockError(f"{self._id}: broker's clock differs from this sealer's by {difference / 1000:.0f} s; at most 60")


class _Appended:
    """The broker's append times of one transaction: of the last record of each placement, and of large ones.

    Callable as a delivery report. It refers to no producer: reports that nobody serves any more would keep it alive.
    """

    def __init__(self) -> None:
        self.times_ms: list[int] = []
        self.refused = False

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.times_ms.append(message.timestamp()[1])
        else:
            self.refused = True


def _failure(error: KafkaException, identifier: str) -> SealtrailError:
    """What a failed commit step means. Only three codes are told apart; all others are in doubt."""
    cause = error.args[0]
    code = cause.code() if isinstance(cause, KafkaError) else None
    if code in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD):
        return EvidenceError(f"{identifier}: the broker refuses a record's size")
    fenced = (
        KafkaError._FENCED,
        KafkaError._FATAL,  # what a step says once the library has noted in the background that we are fenced
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.FENCED_INSTANCE_ID,
    )
    if code in fenced:
        return FencedError(f"{identifier}: no longer the owner ({cause.name()})")
    return classify(error, f"committing {identifier}")


class Ends:
    """Ends of partitions: the high watermark, the last stable offset and the log start, from the broker. Any thread."""

    def __init__(self, settings: Settings, library: Library = LIBRDKAFKA) -> None:
        self._library = library
        self._config: dict[str, Any] = {**client_config(settings), "logger": silent_logger("sealtrail.kafka.ends")}
        self._admin = library.admin(self._config)
        self._guard = Lock()
        self._describe_s = DESCRIBE_S  # for the next answer; longer after none came

    def high(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """One past the last record, committed or not."""
        return self._ask(partitions, _LATEST, IsolationLevel.READ_UNCOMMITTED)

    def stable(self, partitions: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """One past the last record that a read-committed reader can see."""
        return self._ask(partitions, _LATEST, IsolationLevel.READ_COMMITTED)

    def start(self, topic: str, partition: int) -> int:
        """The log start."""
        return self._ask([(topic, partition)], _EARLIEST, IsolationLevel.READ_COMMITTED)[topic, partition]

    def undecided(self, ends: Mapping[tuple[str, int], int]) -> list[tuple[str, int]]:
        """The partitions of which something below these high watermarks is not decided."""
        stable = self.stable(list(ends))
        return [where for where, end in ends.items() if stable[where] < end]

    def await_stable(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Return when everything written to these partitions before the call is decided.

        Raises HangingError when a transaction stays open for longer than any of ours may.
        """
        ends = self.high(partitions)
        deadline = self._library.monotonic() + STABLE_S
        while behind := self.undecided(ends):
            if self._library.monotonic() > deadline:
                raise HangingError(behind)
            self._library.sleep(0.1)

    def topic_uuid(self, topic: str) -> bytes:
        """The topic's UUID, 16 bytes: a topic deleted and made anew has another."""
        # A client waits for the controller that it knows of; if that broker is dead, until its metadata expires. So not for
        # long, at first: other chains wait with this one, and the next client knows a controller that lives.
        within_s, self._describe_s = self._describe_s, min(2 * self._describe_s, REQUEST_S)
        with self._asking(f"describing {topic}", within_s) as admin:
            futures = admin.describe_topics(TopicCollection([topic]), request_timeout=within_s)
            identifier = futures[topic].result(within_s + GRACE_S).topic_id
        self._describe_s = DESCRIBE_S
        most = int(identifier.get_most_significant_bits()) & (1 << 64) - 1
        least = int(identifier.get_least_significant_bits()) & (1 << 64) - 1
        return bytes(most.to_bytes(8, "big") + least.to_bytes(8, "big"))

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has; at least 1."""
        try:
            found = self._admin.list_topics(topic, timeout=REQUEST_S).topics[topic]
        except KafkaException as error:
            raise classify(error, f"describing {topic}") from error
        if found.error is not None:
            raise classify(found.error, f"describing {topic}")
        if not found.partitions:
            raise TransientError(f"describing {topic}: no partitions yet")
        return len(found.partitions)

    def _ask(
        self, partitions: Sequence[tuple[str, int]], spec: OffsetSpec, isolation: IsolationLevel
    ) -> dict[tuple[str, int], int]:
        # After a broker's restart a client asks with the old leader's epoch until its metadata expires, minutes later
        # (FENCED_LEADER_EPOCH).
        request = {TopicPartition(topic, partition): spec for topic, partition in partitions}
        names = ", ".join(f"{topic}/{partition}" for topic, partition in partitions)
        with self._asking(f"asking for offsets of {names}", REQUEST_S) as admin:
            admin.poll(0)  # serves what it logs; nothing else would
            futures = admin.list_offsets(request, isolation_level=isolation, request_timeout=REQUEST_S)
            return {
                (where.topic, where.partition): future.result(REQUEST_S + GRACE_S).offset for where, future in futures.items()
            }

    @contextmanager
    def _asking(self, doing: str, within_s: float) -> Iterator[AdminClient]:
        """The client that is asked; after an error the next question is a new one's.

        It is held until it has answered, whatever another thread makes of it meanwhile: with a client go its questions, and
        nobody is told.
        """
        admin = self._admin
        try:
            yield admin
        except (KafkaException, TimeoutError) as error:
            with self._guard:
                if self._admin is admin:
                    self._admin = self._library.admin(self._config)
            if isinstance(error, KafkaException):
                raise classify(error, doing) from error
            raise TransientError(f"{doing}: no answer within {within_s + GRACE_S:.0f} s") from error
