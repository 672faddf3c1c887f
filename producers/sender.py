"""The sender: the one thread that numbers, authenticates, keeps and produces an emitter's records.

    take → number, authenticate → append to the backlog → commit → produce → released when Kafka acknowledged

1. Order on the partition is order of numbers is order of `emit`: one thread, one path, whether the brokers are there or
   not.
2. What was numbered is sent, under its number, with the same bytes, until Kafka has it. A producer that was lost or
   refused is replaced, and everything from the first record without an acknowledgement on is produced again; what had
   arrived after all is known by its number. So a number that was given is a hole for as long as Kafka refuses it, no longer.
3. A run stays on one partition; when its records move, a new run begins.
4. It never waits for Kafka while something is handed over: away brokers keep no event from the spool.
5. What comes while a batch is on its way is produced once that has landed. The client library sends no second one before
   either; but had it one that is due, its thread would ask for the first one's answer again and again, without a pause: a
   whole processor for as long as a broker takes to answer.

It knows nothing of an event but its bytes; what it states of itself comes prepared.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import structlog

from kafkaio.producer import LINGER_MS, Header, OnDelivery, ProducerLostError
from producers.backlog import Backlog
from producers.handover import Counts, Handover
from producers.record import RawRecord
from producers.run import OpenRun, Prepared
from sealtrail.errors import ConfigError, EvidenceError, TransientError

BATCH = 500  # events taken at once: some 10 ms of work
POLL_S = 0.25  # how long an idle sender waits for an event before it looks at the clock again
SHORTEST_S, LONGEST_S = 0.002, 0.05  # between two looks for delivery reports: doubled while none come
WAITED_FOR_S = 0.01  # the longest while records wait for them
COMPLAIN_S = 30.0  # between two log lines of one kind of trouble
GATHER_S = 0.75 * LINGER_MS / 1000  # for records to join a batch, after its first; then it may leave at any moment
AGAIN_S = 1.0  # before what Kafka refused is produced again

_LOG = structlog.get_logger("producers.sender")


class RecordProducer(Protocol):
    """Where records go; see `IdempotentProducer`.

    Order: as produced, and so the reports. Durability: once `on_delivery` says None. Retries: its own, for ever. Threads: any.
    """

    def produce(self, value: bytes, headers: Sequence[Header]) -> bool: ...
    def poll(self, timeout_s: float) -> None: ...
    def flush(self, timeout_s: float) -> int: ...
    def discard(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Ways:
    """What the sender asks of its emitter.

    Attributes:
        open_run: a new run, and the event that opens it. Raises ConfigError.
        pulse, close: what it states of itself.
        connect: a producer that reports to the callback.
        clock: nanoseconds since 1970.
        pulse_ns: of idleness, after which it says that it is alive.
    """

    open_run: Callable[[], tuple[OpenRun, Prepared]]
    pulse: Callable[[], Prepared]
    close: Callable[[], Prepared]
    connect: Callable[[OnDelivery], RecordProducer]
    clock: Callable[[], int]
    pulse_ns: int


class Sender:
    """Made and opened by the application's thread, then a thread of its own (`start`).

    Args:
        name: source/instance, for the log.
        backlog: may hold records of earlier runs; they go first.
    """

    def __init__(self, name: str, ways: Ways, handover: Handover, backlog: Backlog) -> None:
        self._name = name
        self._ways = ways
        self._handover = handover
        self._backlog = backlog
        self._run: OpenRun | None = None
        self._taken: list[Prepared] = []  # not numbered yet
        self._numbered: list[RawRecord] = []  # not in the backlog yet
        # Positions in the backlog: landed <= sent <= kept. What an earlier process left lies before `earlier`.
        self._landed = self._sent = self._kept = backlog.released
        self._earlier = backlog.end
        self._flight: deque[int] = deque()  # positions produced and not reported on, in order
        # (run, own) of every record from position max(landed, earlier) on, those that are only numbered included
        self._fates: deque[tuple[OpenRun, bool]] = deque()
        self._unkept = self._unkept_handed = 0  # numbered and not kept yet; of them the application's
        self._acknowledged = self._handed = 0  # since they were last counted; of them the application's
        self._producer: RecordProducer | None = None
        self._refusal: str | None = None  # why the producer is to be replaced
        self._refusals = 0
        self._generation = 0  # of the producer
        self._flown_at = 0.0  # monotonic; when the first of those in flight was produced
        self._again_at = self._keep_at = 0.0  # not before: the next producer, the next try of the backlog
        self._complained = float("-inf")
        self._wait_s = SHORTEST_S
        self._last_ns = 0
        self._said_close = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"sender {name}", daemon=True)

    # -- the application's thread

    def start(self) -> None:
        """Open a run and go on in a thread. Raises ConfigError: a key or certificate is missing."""
        self._connect()
        try:
            self._begin()
        except ConfigError:
            if self._producer is not None:
                self._producer.discard()
            raise
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """State the end of the run and wait for acknowledgements; may be called again.

        Nothing happens if it was closed before.

        Raises:
            TransientError: with the number of events that were not acknowledged. What is in a spool is safe there, and
                no reason to raise.
        """
        if self._stop.is_set():
            return
        began = time.monotonic()
        self._handover.close()
        done = self._handover.wait_until(lambda counts: self._said_close and not counts.waiting, timeout_s)
        left = max(0.2, timeout_s - (time.monotonic() - began))
        counts = self._handover.counts
        if not done and not (self._backlog.lasting and self._handover.wait_until(self._all_spooled, left)):
            reason = f": {counts.problem}" if counts.problem else ""
            raise TransientError(
                f"{counts.waiting} of {counts.accepted} events not acknowledged by Kafka within {timeout_s:.0f} s{reason}"
            )
        if not done:
            _LOG.warning("emitter closed; the spool keeps what Kafka has not", emitter=self._name, waiting=counts.waiting)
        self._stop.set()
        self._thread.join()
        self._backlog.close()

    def _all_spooled(self, counts: Counts) -> bool:
        return self._said_close and counts.spooled == counts.accepted

    # -- the thread

    def _beat(self) -> None:
        while not self._stop.is_set():
            try:
                self._step()
            except Exception as error:  # the thread outlives a bad moment: what is taken over stays so
                _LOG.error("sender", emitter=self._name, problem=f"{type(error).__name__}: {error}")
                self._stop.wait(AGAIN_S)
        if self._producer is not None:
            self._producer.discard()

    def _step(self) -> None:
        """Move everything as far as it goes now."""
        if self._numbered:
            self._stop.wait(LONGEST_S)  # the backlog took nothing, a moment ago
        else:
            self._taken = self._taken or self._handover.take(BATCH, self._patience()) or self._statements()
            if self._taken:
                self._number()
        self._keep()
        self._produce()
        self._serve()

    def _patience(self) -> float:
        """How long to wait for an event: less while there is something else to do."""
        return self._wait_s if self._fates or self._landed < self._earlier or self._handover.closing else POLL_S

    def _begin(self) -> OpenRun:
        run, opening = self._ways.open_run()
        self._handover.own()
        self._number_in(run, [opening])
        self._run, self._last_ns = run, self._ways.clock()
        return run

    def _number_in(self, run: OpenRun, events: list[Prepared]) -> None:
        self._numbered += [run.record(event) for event in events]
        fates = ((run, False), (run, True))  # shared: a long backlog has many
        self._fates.extend([fates[event.own] for event in events])
        self._unkept += len(events)
        self._unkept_handed += sum(not event.own for event in events)

    def _number(self) -> None:
        """Give numbers to what was taken over."""
        run = self._run
        if run is None or run.moved:
            try:
                run = self._begin()
            except ConfigError as error:  # a certificate that ended, say; events wait until there is a new one
                _LOG.error("no new run", emitter=self._name, problem=str(error))
                self._stop.wait(AGAIN_S)
                return
        self._number_in(run, self._taken)
        self._taken = []
        self._last_ns = self._ways.clock()

    def _statements(self) -> list[Prepared]:
        """What it states of itself when nothing else is there: that it is alive, or that it ends."""
        if self._handover.closing:
            if self._said_close:
                return []
            late = self._handover.take(BATCH, 0)  # handed over between the last look and the end; nothing is from now on
            if late:
                return late
            close = self._ways.close()
            self._handover.own()
            self._said_close = True
            return [close]
        if self._ways.clock() - self._last_ns < self._ways.pulse_ns:
            return []
        pulse = self._ways.pulse()
        self._handover.own()
        return [pulse]

    def _keep(self) -> None:
        """Into the backlog, and as durable as that makes it. From here on it may be produced."""
        if time.monotonic() < self._keep_at:
            return
        try:
            if self._numbered:
                self._backlog.append(self._numbered)
                self._numbered = []
            kept = self._kept if self._kept == self._backlog.end else self._backlog.commit()
        except (TransientError, ConfigError) as error:  # full, or the disk failed: what was taken over waits, and callers too
            self._keep_at = time.monotonic() + LONGEST_S
            self._complain(str(error))
            return
        if self._backlog.lasting and self._unkept:  # nothing numbered is left out of it: `_numbered` is empty here
            self._handover.spooled(self._unkept, self._unkept_handed)
        self._unkept = self._unkept_handed = 0
        self._kept = kept

    def _complain(self, problem: str) -> None:
        if time.monotonic() - self._complained >= COMPLAIN_S:
            self._complained = time.monotonic()
            _LOG.error("events wait", emitter=self._name, problem=problem)

    # -- to Kafka

    def _connect(self) -> None:
        self._generation += 1
        self._producer = self._ways.connect(partial(self._report, self._generation))
        self._refusal = None
        self._flight.clear()
        self._sent = self._landed

    def _produce(self) -> None:
        if self._producer is None:
            if time.monotonic() < self._again_at:
                return
            self._connect()
        assert self._producer is not None
        if self._flight:
            if time.monotonic() - self._flown_at > GATHER_S:
                return
        else:
            self._flown_at = time.monotonic()
        produce, fly = self._producer.produce, self._flight.append
        try:
            while self._sent < self._kept:
                records = self._backlog.read(self._sent, BATCH)
                for position, record in records:
                    if not produce(record.value, record.headers):
                        return
                    fly(position)
                    self._sent = position + 1
                if not records:
                    self._sent = self._kept  # what is left was given up
        except EvidenceError as error:  # of the backlog; another producer would not mend it
            self._handover.troubled(str(error))
            self._complain(str(error))
        except (ProducerLostError, ConfigError, TransientError) as error:
            self._refusal = str(error)
            if not isinstance(error, ProducerLostError):
                self._handover.troubled(str(error))

    def _report(self, generation: int, partition: int, problem: str | None) -> None:
        """A delivery report; they come in the order of `produce`. After the first refusal none counts: all is sent again."""
        if self._refusal is not None or generation != self._generation:
            return
        if problem is not None:
            self._refusal = problem
            self._handover.troubled(problem)
            return
        self._landed = self._flight.popleft() + 1
        if self._landed <= self._earlier:
            return  # an earlier process counted it
        run, own = self._fates.popleft()
        self._acknowledged += 1
        self._handed += not own
        if partition != run.partition and run.landed(partition):
            _LOG.error("records moved to another partition", emitter=self._name, was=run.partition, now=partition)

    def _serve(self) -> None:
        """Take delivery reports; release what was acknowledged; replace a producer that was refused or lost."""
        if self._producer is None:
            return
        first = self._landed
        try:
            self._producer.poll(0)
        except ProducerLostError as error:
            self._refusal = self._refusal or str(error)
        if self._landed > first:
            self._wait_s, self._refusals = SHORTEST_S, 0
            self._backlog.release(self._landed)
            self._handover.acknowledged(self._acknowledged, self._handed)
            self._acknowledged = self._handed = 0
        else:
            self._wait_s = min(LONGEST_S if self._sent == self._kept else WAITED_FOR_S, self._wait_s * 2)
        if self._refusal is not None:
            self._replace(self._producer, self._refusal)

    def _replace(self, producer: RecordProducer, refusal: str) -> None:
        self._refusals += 1
        if not self._refusals & (self._refusals - 1):  # 1, 2, 4, 8 …: a topic that refuses everything must not fill the log
            _LOG.error("not delivered; produced again", emitter=self._name, times=self._refusals, problem=refusal)
        producer.discard()  # its reports count no more
        self._producer = None
        self._again_at = time.monotonic() + (AGAIN_S if self._refusals > 1 else 0.0)
