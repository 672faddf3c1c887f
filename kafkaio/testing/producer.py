"""librdkafka's transactional producer, on the simulated broker.

Keeps what the real one keeps: records wait until `flush`; an error of a record is told by its delivery report and again by
the next step; once outlawed, every step fails; after a step without an answer no transaction can begin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from kafkaio.testing.errors import BrokerError, raised
from kafkaio.testing.group import Generation
from kafkaio.testing.link import Fate, Link
from kafkaio.testing.log import Entry
from kafkaio.testing.transactions import Where

Report = Callable[[KafkaError | None, Message], None]
_OUTLAWED = (KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED)


class _State(Enum):
    NEW = "new"
    READY = "ready"
    BEGUN = "begun"
    ENDING = "ending"


@dataclass(slots=True)
class _Waiting:
    """Records for one partition, in one request once it is sent."""

    place: Where
    records: list[tuple[bytes | None, bytes, Report | None]] = field(default_factory=list)
    sent: bool = False
    answered_at: float | None = None
    entries: list[Entry] = field(default_factory=list)


class SimulatedProducer:
    """The part of `confluent_kafka.Producer` that transactions use."""

    def __init__(self, link: Link, config: dict[str, Any]) -> None:
        self._link = link
        self._identifier: str = config["transactional.id"]
        self._timeout_s = config.get("transaction.timeout.ms", 60_000) / 1000
        self._max_bytes: int = config.get("message.max.bytes", 1_000_000)
        self._producer, self._epoch = -1, -1
        self._state = _State.NEW
        self._fatal: KafkaError | None = None
        self._failed: KafkaError | None = None  # what only an abort mends
        self._waiting: list[_Waiting] = []
        self._sequences: dict[Where, int] = {}

    def init_transactions(self, timeout: float) -> None:
        """The fence."""
        coordinator = self._link.cluster.coordinator
        self._producer, self._epoch = self._step(
            "fence", lambda: coordinator.begin_epoch(self._identifier, self._timeout_s), timeout
        )
        self._state = _State.READY

    def begin_transaction(self) -> None:
        """Local."""
        self._check(_State.READY)
        self._state = _State.BEGUN

    def produce(
        self, topic: str, value: bytes, key: bytes | None = None, partition: int = -1, on_delivery: Report | None = None
    ) -> None:
        """Queue a record."""
        self._check(_State.BEGUN)
        if len(value) > self._max_bytes:
            self._failed = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
            raise raised(KafkaError.MSG_SIZE_TOO_LARGE)
        place = (topic, partition)
        batch = next((w for w in self._waiting if w.place == place and not w.sent), None)
        if batch is None:
            batch = _Waiting(place)
            self._waiting.append(batch)
        batch.records.append((key, value, on_delivery))

    def flush(self, timeout: float) -> int:
        """Send what is queued, wait for the answers; how many records have none."""
        deadline = self._link.cluster.now + timeout
        for batch in [w for w in self._waiting if not w.sent]:
            self._send(batch)
        self._report()
        while self._waiting and self._link.cluster.now < deadline:
            answers = [w.answered_at for w in self._waiting if w.answered_at is not None]
            until = min([deadline, *answers])
            self._link.world.wait(max(until - self._link.cluster.now, 0.001))
            self._report()
        self._link.world.at("flushed")
        if self._fatal is not None and self._link.world.fate("flush").fate is Fate.LOST:  # as the real one does at times
            raise SystemError("flush returned a result with an exception set") from KafkaException(self._fatal)
        return sum(len(w.records) for w in self._waiting)

    def poll(self, timeout: float) -> int:
        """Serve what has come."""
        self._report()
        return 0

    def purge(self) -> None:
        """Forget what is queued; what was sent is on its way. The transaction that it was for can only be aborted."""
        if self._waiting:
            self._failed = self._failed or KafkaError(KafkaError._PURGE_QUEUE)
        self._waiting.clear()

    def send_offsets_to_transaction(self, positions: Sequence[TopicPartition], group: Generation, timeout: float) -> None:
        """The positions join the transaction; the group checks membership and generation."""
        self._check(_State.BEGUN)
        cluster = self._link.cluster
        wanted = {(p.topic, p.partition): p.offset for p in positions}
        self._step("join offsets", lambda: cluster.coordinator.add(self._identifier, self._epoch, None), timeout)

        def commit() -> None:
            cluster.groups[group.group].check(group)
            cluster.coordinator.offsets(self._identifier, self._epoch, group.group, wanted)

        self._step("send offsets", commit, timeout)

    def commit_transaction(self, timeout: float) -> None:
        """Once the coordinator has decided, it is so."""
        self._end("commit", timeout, commit=True)

    def abort_transaction(self, timeout: float) -> None:
        """As commit."""
        self.purge()
        self._failed = None
        self._end("abort", timeout, commit=False)

    def _end(self, what: str, timeout: float, *, commit: bool) -> None:
        self._check(_State.BEGUN)
        self._state = _State.ENDING
        coordinator = self._link.cluster.coordinator

        def end() -> None:
            try:
                coordinator.end(self._identifier, self._epoch, commit=commit)
            except BrokerError as error:
                if error.code != KafkaError.CONCURRENT_TRANSACTIONS:  # decided already: this came twice
                    raise

        self._step(what, end, timeout)
        self._state = _State.READY

    def _send(self, batch: _Waiting) -> None:
        batch.sent = True
        cluster, place = self._link.cluster, batch.place
        sequence = self._sequences.get(place, 0)
        self._sequences[place] = sequence + len(batch.records)
        records = [(key, value, ()) for key, value, _ in batch.records]
        identifier, producer, epoch = self._identifier, self._producer, self._epoch

        def append() -> list[Entry]:
            cluster.coordinator.verify(identifier, epoch, place)
            return cluster.partition(*place).append(cluster.now_ms(), records, producer, epoch, sequence)

        try:
            self._check(_State.BEGUN)
            self._link.ask("add partition", lambda: cluster.coordinator.add(identifier, epoch, place), 5.0)
            entries, delay = self._link.send(f"produce {place[0]}", append)
        except (BrokerError, KafkaException) as error:
            self._refused(error, batch)
        else:
            batch.entries = entries or []
            batch.answered_at = None if delay is None else cluster.now + delay

    def _refused(self, error: BrokerError | KafkaException, batch: _Waiting) -> None:
        code = error.code if isinstance(error, BrokerError) else error.args[0].code()
        self._note(code)
        if batch not in self._waiting:  # purged meanwhile
            return
        self._waiting.remove(batch)
        for _, value, report in batch.records:
            if report is not None:
                report(KafkaError(code), Message(topic=batch.place[0], partition=batch.place[1], value=value))

    def _report(self) -> None:
        for batch in [w for w in self._waiting if w.answered_at is not None and w.answered_at <= self._link.cluster.now]:
            self._waiting.remove(batch)
            times = [entry.time_ms for entry in batch.entries] or [self._link.cluster.now_ms()] * len(batch.records)
            for (_, value, report), time_ms in zip(batch.records, times, strict=True):
                if report is not None:
                    topic, partition = batch.place
                    report(None, Message(topic=topic, partition=partition, value=value, timestamp=(2, time_ms)))

    def _step(self, what: str, act: Callable[[], Any], timeout: float) -> Any:
        if self._fatal is not None:
            raise KafkaException(self._fatal)
        try:
            return self._link.ask(what, act, timeout)
        except BrokerError as error:
            self._note(error.code)
            raise KafkaException(self._fatal or KafkaError(error.code)) from error

    def _note(self, code: int) -> None:
        if code in _OUTLAWED:
            self._fatal = KafkaError(KafkaError._FENCED, None, True)
        else:
            self._failed = self._failed or KafkaError(code)

    def _check(self, state: _State) -> None:
        if self._fatal is not None:
            raise KafkaException(KafkaError(KafkaError._FATAL, self._fatal.str(), True))
        if self._failed is not None:
            raise KafkaException(self._failed)
        if self._state is not state:
            raise raised(KafkaError._STATE, f"{self._state.value}, not {state.value}")
