"""AuditProducer: an application's events, checked, redacted, numbered, authenticated and handed to Kafka.

What holds:
1. An event is checked and redacted before it is numbered: a refused event takes no number, and nothing that the
   contract does not allow leaves the application.
2. Numbering and queueing happen under one lock, so order on the partition is order of numbers: 0, 1, 2 … in a run.
3. Nothing is dropped: a full queue makes the caller wait. What fails for good is counted and logged; its number is
   never given again, so the trail shows the hole.
4. A run stays on one partition. Should its records move, or the producer be lost, a new run begins: new epoch, new
   session key, numbers from 0.
5. A forked child starts a run of its own with its first event, and never touches the parent's connection.

It does not sign events (one signature opens a run), spool to disk, or log payloads. Acknowledgement is Kafka's: on all
in-sync replicas. Ways of an event: `emit` → `_prepare` (pure) → `_hand_over` (under the lock) → delivery report.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, cast

import structlog

from kafkaio.producer import Header, IdempotentProducer, OnDelivery, ProducerLostError
from producers import lifecycle
from producers.drafts import completed
from producers.identity import Identity
from producers.run import OpenRun
from producers.uuid7 import Uuid7
from schemas.catalogue import RAW, topic_name
from schemas.contract import Contract
from schemas.redact import Redactor
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, TransientError
from sealtrail.session import SESSION_KEY_SIZE

POLL_S = 0.25  # how long the background thread waits for delivery reports before it looks at the clock again
CLOSE_S = 30.0  # a broker that restarts is back in 5 to 10 s

_LOG = structlog.get_logger("producers.audit")


class RecordProducer(Protocol):
    """Where records go; see `IdempotentProducer`.

    Order: as produced. Durability: once `on_delivery` says None. Retries: its own, for ever. Threads: any.
    """

    def produce(self, value: bytes, headers: list[Header]) -> bool: ...
    def poll(self, timeout_s: float) -> None: ...
    def flush(self, timeout_s: float) -> int: ...
    def discard(self) -> None: ...


ProducerFactory = Callable[[Settings, str, str, OnDelivery], RecordProducer]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events since this process made (or, after a fork, inherited) the emitter.

    accepted: numbered and queued, the emitter's own included; acknowledged: on all in-sync replicas; failed: never will
    be; refused: against the contract, not numbered.
    """

    accepted: int
    acknowledged: int
    failed: int
    refused: int

    @property
    def waiting(self) -> int:
        """Queued, neither acknowledged nor failed yet."""
        return self.accepted - self.acknowledged - self.failed


class AuditProducer:
    """An `Emitter` for one instance of one source.

    Args:
        settings: of the connector's role: Kafka, keys, certificates, region.
        source, instance: see `Identity`.
        tenants: whose events may be stated; none = every tenant whose hash key the keystore holds.
        clock: nanoseconds since 1970; random: as `os.urandom`.
        producer_factory: given settings, topic, key and the delivery callback.
        pulse_s: seconds of idleness after which `emitter.pulse` is sent; None takes the settings'.

    Raises:
        ConfigError: a setting, key or certificate is missing. Brokers that are away are no error: events queue.
    """

    _thread: threading.Thread | None
    _run: OpenRun | None
    _producer: RecordProducer | None  # of the run
    _retired: list[RecordProducer]  # of earlier runs of this process, whose records may still be under way
    _last_ns: int  # when the last event was queued
    _closing: bool
    _closed: bool  # emitter.close is queued

    def __init__(
        self,
        settings: Settings,
        source: str,
        instance: str,
        tenants: Iterable[str] = (),
        *,
        clock: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
        producer_factory: ProducerFactory = IdempotentProducer.connect,
        pulse_s: float | None = None,
    ) -> None:
        self._settings = settings
        self._identity = Identity(settings, source, instance)
        self._tenants = frozenset(tenants or self._identity.tenants()) | {lifecycle.DEPLOYMENT}
        self._topic = topic_name(settings.topic_prefix, RAW)
        registry = packaged_registry()
        self._contract = Contract(registry, settings.region)
        self._redactor = Redactor(AUDIT_EVENT.text, registry, self._identity.hash_key)
        self._clock = clock
        self._random = random
        self._factory = producer_factory
        self._pulse_ns = int((settings.pulse_s if pulse_s is None else pulse_s) * 1e9)
        self._reset()
        with self._lock:
            self._running()
        _LIVING.add(self)

    # -- what callers use

    def emit(self, draft: Mapping[str, object]) -> bytes:
        """Hand over one event; its id, 16 bytes. Waits while the local queue is full.

        The draft names the fields of `AuditEvent` that it has; event_id, emitter, region and redaction are filled in,
        and occurred_at when missing. Its extension's payload is an Avro body.

        Raises:
            ContractError: refused; names the field. Counted, and recorded as `emitter.refused`.
            TransientError: the emitter was closed meanwhile; the event was not handed over.
        """
        try:
            if str(draft.get("event_name")).startswith("emitter."):
                raise ContractError("event_name", "emitter.* is for the emitter itself to state")
            event = self._prepare(draft)
            with self._lock:
                if self._closing:
                    raise TransientError("emitter is closed; the event was not handed over")
                self._hand_over(event)
        except ContractError as error:
            self._refuse(error)
            raise
        return cast("bytes", event["event_id"])

    def refuse(self, error: ContractError) -> None:
        """Count and record an event that was refused before it came to `emit`, as one that `emit` refused."""
        self._refuse(error)

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whose events it may state, sorted; without `@deployment`."""
        return tuple(sorted(self._tenants - {lifecycle.DEPLOYMENT}))

    @property
    def counts(self) -> Counts:
        """The counters now."""
        with self._delivered:
            return Counts(self._accepted, self._acknowledged, self._failed, self._refused)

    def wait_acknowledged(self, timeout_s: float) -> bool:
        """Wait until every event accepted so far is acknowledged; False when one failed or the time is up."""
        with self._delivered:
            target = self._accepted
            self._delivered.wait_for(lambda: self._acknowledged + self._failed >= target, timeout_s)
            return self._acknowledged >= target and not self._failed

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send `emitter.close`, wait for acknowledgements, end. May be called again after a TransientError.

        Raises:
            TransientError: with the number of events that were not acknowledged; they wait until the process ends.
        """
        deadline = time.monotonic() + timeout_s
        self._closing = True  # before the lock: whoever waits for a full queue lets go of it
        with self._lock:
            if self._run is not None and not self._closed:
                self._hand_over(self._prepare(lifecycle.closed(self._identity.name)), deadline)
                self._closed = True
            producers = [producer for producer in (*self._retired, self._producer) if producer is not None]
        for producer in producers:
            producer.flush(max(0.0, deadline - time.monotonic()))
        with self._delivered:  # the background thread may hold the last reports in its hands
            self._delivered.wait_for(
                lambda: self._acknowledged + self._failed == self._accepted, max(0.0, deadline - time.monotonic())
            )
        counts = self.counts
        if counts.waiting or counts.failed:
            raise TransientError(
                f"{counts.waiting + counts.failed} of {counts.accepted} events not acknowledged by Kafka "
                f"({counts.failed} failed for good, {counts.waiting} waiting after {timeout_s:.0f} s)"
            )
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        _LIVING.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- 1: before numbering

    def _prepare(self, draft: Mapping[str, object]) -> dict[str, object]:
        """A complete, checked, redacted event that lacks only its number. Raises ContractError."""
        event = completed(
            draft,
            event_id=self._uuid7(),
            source=self._identity.source,
            instance=self._identity.instance,
            region=self._settings.region,
            now_us=self._clock() // 1000,
        )
        if event["tenant"] not in self._tenants:
            raise ContractError("tenant", "not one of this emitter's tenants")
        self._contract.check(event)
        return self._redactor(event)

    def _refuse(self, error: ContractError) -> None:
        with self._delivered:
            self._refused += 1
        _LOG.warning("event refused", emitter=self._identity.name, field=error.field, problem=error.problem)
        try:
            with self._lock:
                if not self._closing:
                    self._hand_over(self._prepare(lifecycle.refused(self._identity.name, error.field)))
        except (TransientError, ConfigError) as trouble:  # the caller gets the ContractError; it is counted and logged
            _LOG.error("refusal not recorded", emitter=self._identity.name, problem=str(trouble))

    # -- 2: numbering, under the lock

    def _hand_over(self, event: dict[str, object], deadline: float | None = None) -> None:
        """Number, encode, authenticate, queue. The caller holds the lock."""
        while True:
            run, producer = self._running()
            try:
                self._queue(run, producer, event, deadline)
            except ProducerLostError as error:
                _LOG.error("producer lost", emitter=self._identity.name, problem=str(error))
                self._run = None
                producer.discard()
            else:
                return

    def _queue(self, run: OpenRun, producer: RecordProducer, event: dict[str, object], deadline: float | None) -> None:
        value, headers = run.record(event)
        while not producer.produce(value, headers):
            producer.poll(POLL_S)
            if self._closing and (deadline is None or time.monotonic() > deadline):
                raise TransientError("emitter closes while its queue is full; the event was not handed over")
        run.taken()
        self._last_ns = self._clock()
        with self._delivered:
            self._accepted += 1

    def _running(self) -> tuple[OpenRun, RecordProducer]:
        """The run under way, or a new one with its number 0 queued. The caller holds the lock."""
        if self._run is not None and self._producer is not None and not self._run.moved:
            return self._run, self._producer
        if self._run is not None and self._producer is not None:
            self._retired.append(self._producer)
        run = self._identity.open(self._uuid7(), self._random(SESSION_KEY_SIZE), self._topic, self._clock() / 1e9)
        producer = self._factory(
            self._settings,
            self._topic,
            run.run.key,
            lambda partition, problem: self._on_delivery(run, partition, problem),
        )
        self._queue(run, producer, self._prepare(lifecycle.opened(run.run.key, run.session)), None)
        self._run, self._producer = run, producer
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, args=(self._stop,), name="emitter", daemon=True)
            self._thread.start()
        return run, producer

    # -- 3: after the hand-over

    def _on_delivery(self, run: OpenRun, partition: int, problem: str | None) -> None:
        with self._delivered:
            if problem is None:
                self._acknowledged += 1
            else:
                self._failed += 1
            failed = self._failed
            self._delivered.notify_all()
        if problem is not None:
            if not failed & (failed - 1):  # 1, 2, 4, 8 …: a topic that refuses everything must not fill the log
                _LOG.error(
                    "events not delivered",
                    emitter=self._identity.name,
                    epoch=run.run.epoch.hex(),
                    failed=failed,
                    problem=problem,
                )
        elif run.landed(partition):
            _LOG.error("records moved to another partition", emitter=self._identity.name, was=run.partition, now=partition)

    def _beat(self, stop: threading.Event) -> None:
        """The background thread, until `stop`."""
        while not stop.is_set():
            try:
                self._tick()
            except Exception as error:  # the thread outlives a bad moment: what it left undone shows as missing pulses
                _LOG.error("emitter's background thread", problem=f"{type(error).__name__}: {error}")
                stop.wait(1.0)

    def _tick(self) -> None:
        """Serve delivery reports, and send a pulse when idle. Called over and over by the background thread."""
        for producer in self._retired:
            producer.poll(0)
        if self._producer is None:
            return
        self._producer.poll(POLL_S)
        if self._clock() - self._last_ns < self._pulse_ns or not self._lock.acquire(blocking=False):
            return  # busy: whoever holds the lock is the sign of life
        try:
            if not self._closing:
                self._hand_over(self._prepare(lifecycle.pulse(self._identity.name)))
        finally:
            self._lock.release()

    # -- 5: start, and start again in a forked child

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._delivered = threading.Condition()
        self._stop = threading.Event()
        self._uuid7 = Uuid7(self._clock, self._random)
        self._thread = None
        self._run = self._producer = None
        self._retired = []
        self._last_ns = 0
        self._closing = self._closed = False
        self._accepted = self._acknowledged = self._failed = self._refused = 0


_LIVING: weakref.WeakSet[AuditProducer] = weakref.WeakSet()
_ORPHANS: list[object] = []  # the parent's clients: destroying one in the child would wait for threads that do not exist


def _at_exit() -> None:
    """Whoever forgot to close does not lose events in silence."""
    for emitter in [e for e in _LIVING if not e._closing]:
        try:
            emitter.close()
        except TransientError as error:
            _LOG.error("emitter not closed in order", problem=str(error))


def _after_fork() -> None:
    for emitter in list(_LIVING):
        closing = emitter._closing
        _ORPHANS.append((emitter._producer, emitter._retired, emitter._thread))
        emitter._reset()
        emitter._closing = closing


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
