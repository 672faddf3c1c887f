"""AuditProducer: an application's events, checked, redacted, numbered, authenticated and handed to Kafka.

What holds:
1. `emit` checks, redacts and encodes in the caller's thread, and hands bytes over: a refused event takes no number, what
   the contract does not allow leaves no application, and what the caller changes afterwards changes nothing.
2. One thread numbers and sends (`producers.sender`): order on the partition is order of `emit`: 0, 1, 2 … in a run.
3. Nothing is dropped: without room a caller waits, or is refused, as the settings say. What Kafka refuses is sent again
   under its number until Kafka has it.
4. Two levels of certainty, to wait for: `await_spool`: it survives this process and a loss of power. `await_broker`: it is
   on all of Kafka's in-sync replicas.
5. A run stays on one partition. Should its records move, a new run begins: new epoch, new session key, numbers from 0.
6. A forked child starts a run of its own with its first event, and never touches the parent's connection.

It does not sign events (one signature opens a run) or log payloads.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self, cast

import structlog

from kafkaio.producer import IdempotentProducer, OnDelivery
from producers import lifecycle
from producers.backlog import Backlog, MemoryBacklog
from producers.drafts import completed
from producers.handover import Counts, Handover
from producers.identity import Identity
from producers.run import OpenRun, Prepared
from producers.sender import RecordProducer, Sender, Ways
from producers.spooling import open_spool
from producers.uuid7 import Uuid7
from schemas.admission import Admission
from schemas.catalogue import RAW, topic_name
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, SealtrailError
from sealtrail.session import SESSION_KEY_SIZE

AGAIN_S = 1.0  # at exit, where a close failed before
CLOSE_S = 30.0  # a broker that restarts is back in 5 to 10 s
_LOG = structlog.get_logger("producers.audit")

ProducerFactory = Callable[[Settings, str, str, OnDelivery], RecordProducer]


@dataclass(frozen=True, slots=True)
class Admitted:
    """An event that the contract admits, redacted and encoded; its id, 16 bytes."""

    event_id: bytes
    prepared: Prepared


class AuditProducer:
    """An `Emitter` for one instance of one source. Any thread may call.

    Args:
        settings: of the connector's role: Kafka, keys, certificates, region.
        source, instance: see `Identity`.
        tenants: whose events may be stated; none = every tenant whose hash key the keystore holds.
        clock: nanoseconds since 1970; random: as `os.urandom`.
        producer_factory: given settings, topic, key and the delivery callback.
        pulse_s: seconds of idleness after which `emitter.pulse` is sent; None takes the settings'.
        handover: makes the queue to the sender; None takes the settings' `when_full`.
        backlog: makes what the sender keeps records in until Kafka has them; None takes the settings' `spool`, or memory.

    Raises:
        ConfigError: a setting, key or certificate is missing. Brokers that are away are no error: events wait.
        EvidenceError: a spool holds what was acknowledged and cannot be read; names file and offset.
    """

    _sender: Sender | None

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
        handover: Callable[[], Handover] | None = None,
        backlog: Callable[[], Backlog] | None = None,
    ) -> None:
        self._settings = settings
        self._identity = Identity(settings, source, instance)
        self._tenants = frozenset(tenants or self._identity.tenants()) | {lifecycle.DEPLOYMENT}
        self._topic = topic_name(settings.topic_prefix, RAW)
        self._clock = clock
        self._admit = Admission(packaged_registry(), settings.region, self._identity.hash_key, self._tokenizes)
        self._random = random
        self._factory = producer_factory
        self._pulse_ns = int((settings.pulse_s if pulse_s is None else pulse_s) * 1e9)
        self._make_handover = handover or (lambda: Handover(wait=settings.when_full == "wait"))
        spool = MemoryBacklog if settings.spool is None else partial(open_spool, settings, self._identity)
        self._make_backlog: Callable[[], Backlog] = backlog or spool
        self._reset()
        self._start()
        _LIVING.add(self)

    # -- what callers use

    def emit(self, draft: Mapping[str, object]) -> bytes:
        """Hand over one event; its id, 16 bytes. Waits, or is refused, while there is no room.

        The draft names the fields of `AuditEvent` that it has; event_id, emitter, region and redaction are filled in,
        and occurred_at when missing. Its extension is {schema, value} of a registered record, or {schema, payload}, encoded.

        Raises:
            ContractError: refused; names the field. Counted, and recorded as `emitter.refused`.
            TransientError: closed, or no room; the event was not handed over.
        """
        try:
            event_id, prepared = self._stated(draft)
        except ContractError as error:
            self.refuse(error)
            raise
        self._put(prepared)
        return event_id

    def admit(self, draft: Mapping[str, object]) -> Admitted:
        """The first half of `emit`: checked, redacted and encoded, handed over to nobody yet.

        Raises ContractError: refused; neither counted nor recorded, see `refuse`.
        """
        return Admitted(*self._stated(draft))

    def hand_over(self, admitted: Sequence[Admitted]) -> None:
        """The second half of `emit`: all of them in this order, nothing in between; or none. Raises TransientError: none."""
        self._put(*(one.prepared for one in admitted))

    @property
    def tenants(self) -> tuple[str, ...]:
        """Whose events it may state, sorted; without `@deployment`."""
        return tuple(sorted(self._tenants - {lifecycle.DEPLOYMENT}))

    @property
    def counts(self) -> Counts:
        """The counters now."""
        return self._handover.counts

    def await_spool(self, timeout_s: float) -> bool:
        """Wait until every event handed over so far is in the spool, fsynced: it will arrive, whatever dies.

        False when the time is up. Raises ConfigError: there is no spool.
        """
        if self._settings.spool is None:
            raise ConfigError("setting spool is missing: without a spool nothing survives this process but what Kafka has")
        return self._handover.await_spool(timeout_s)

    def await_broker(self, timeout_s: float) -> bool:
        """Wait until every event handed over so far is on all in-sync replicas of Kafka.

        False when the time is up, or at once while Kafka refuses what waits (`counts.problem`).
        """
        return self._handover.await_broker(timeout_s)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send `emitter.close`, wait for acknowledgements, end. May be called again after a TransientError.

        Raises:
            TransientError: with the number of events that were not acknowledged; they wait until the process ends. With a
                spool it is enough that they are in it: the next process sends them.
        """
        self._handover.close()
        if self._sender is not None:
            self._sender.close(timeout_s)
        _LIVING.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # -- in the caller's thread

    def _stated(self, draft: Mapping[str, object]) -> tuple[bytes, Prepared]:
        """`_prepare` of what the application states. Raises ContractError."""
        name = draft.get("event_name")
        if isinstance(name, str) and name.startswith("emitter."):
            raise ContractError("event_name", "emitter.* is for the emitter itself to state")
        return self._prepare(draft)

    def _prepare(self, draft: Mapping[str, object], *, own: bool = False) -> tuple[bytes, Prepared]:
        """Its id, and a complete, checked, redacted, encoded event that lacks only its number. Raises ContractError."""
        event = completed(
            draft,
            event_id=self._uuid7(),
            source=self._identity.source,
            instance=self._identity.instance,
            region=self._settings.region,
            now_us=self._clock() // 1000,
        )
        tenant = event.get("tenant")
        if not isinstance(tenant, str) or tenant not in self._tenants:
            raise ContractError("tenant", "not one of this emitter's tenants")
        before, after, holes = self._admit(event)
        traceparent = event.get("traceparent")
        header = traceparent.encode() if isinstance(traceparent, str) else None
        return cast("bytes", event["event_id"]), Prepared(before, after, holes, header, own)

    def _tokenizes(self, tenant: str) -> bool:
        return self._identity.tokenizes(tenant, self._clock() / 1e9)

    def refuse(self, error: ContractError) -> None:
        """Count and record an event that was refused: by `emit`, or before it came to it."""
        self._handover.refused()
        _LOG.warning("event refused", emitter=self._identity.name, field=error.field, problem=error.problem)
        try:
            if not self._handover.closing:
                self._put(self._own(lifecycle.refused(self._identity.name, error.field)))
        except SealtrailError as trouble:  # the caller gets the ContractError; it is counted and logged
            _LOG.error("refusal not recorded", emitter=self._identity.name, problem=str(trouble))

    def _put(self, *events: Prepared) -> None:
        if self._sender is None and not self._handover.closing:
            self._start()
        self._handover.put(*events)

    def _own(self, statement: Mapping[str, object]) -> Prepared:
        return self._prepare(statement, own=True)[1]

    # -- for the sender

    def _start(self) -> None:
        """A sender, if there is none: at the beginning, and in a forked child at its first event. Raises ConfigError."""
        with self._starting:
            if self._sender is None:
                name = self._identity.name
                ways = Ways(
                    open_run=self._open_run,
                    pulse=lambda: self._own(lifecycle.pulse(name)),
                    close=lambda: self._own(lifecycle.closed(name)),
                    connect=lambda report: self._factory(self._settings, self._topic, name, report),
                    clock=self._clock,
                    pulse_ns=self._pulse_ns,
                )
                backlog = self._make_backlog()
                try:
                    sender = Sender(name, ways, self._handover, backlog)
                    sender.start()
                except BaseException:  # its place is free for the next try
                    backlog.close()
                    raise
                self._sender = sender

    def _open_run(self) -> tuple[OpenRun, Prepared]:
        run = self._identity.open(self._uuid7(), self._random(SESSION_KEY_SIZE), self._topic, self._clock() / 1e9)
        return run, self._own(lifecycle.opened(self._identity.name, run.session))

    # -- start, and start again in a forked child

    def _reset(self) -> None:
        self._starting = threading.Lock()
        self._handover = self._make_handover()
        self._uuid7 = Uuid7(self._clock, self._random)
        self._sender = None


_LIVING: weakref.WeakSet[AuditProducer] = weakref.WeakSet()
_ORPHANS: list[object] = []  # the parent's clients: destroying one in the child would wait for threads that do not exist


def _at_exit() -> None:
    """Whoever forgot to close does not lose events in silence."""
    for emitter in list(_LIVING):  # those whose close failed once included
        try:
            emitter.close(AGAIN_S if emitter._handover.closing else CLOSE_S)
        except SealtrailError as error:
            _LOG.error("emitter not closed in order", problem=str(error))


def _after_fork() -> None:
    for emitter in list(_LIVING):
        closing = emitter._handover.closing
        _ORPHANS.append(emitter._sender)
        emitter._reset()
        emitter._handover.closing = closing


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
