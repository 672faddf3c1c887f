"""Between the application's threads, which hand events over, and the one thread that sends them.

A bounded queue in the order of the calls, and a count of how far its events have come: taken over, in the spool,
acknowledged by Kafka. Whoever must know waits here. Nothing is dropped: with no room, a caller waits or is refused, as it
was made to.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from producers.run import Prepared
from sealtrail.errors import TransientError

QUEUE_EVENTS = 10_000  # some 5 MiB, 0.2 s of work for the sender
QUEUE_BYTES = 16 << 20
GATHER_S = 0.010  # from an event's coming to its being taken, unless somebody waits; Kafka's own batches gather for 20 ms
BATCH_BYTES = 1 << 20  # taken at once, or one event more: what a backlog is asked to hold or refuse as a whole


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events since this process made (or, after a fork, inherited) the emitter.

    Attributes:
        accepted: taken over, the emitter's own included.
        spooled: durable in the spool; 0 without one.
        acknowledged: on all of Kafka's in-sync replicas.
        refused: against the contract; neither numbered nor sent.
        problem: why Kafka refuses what waits, for as long as it does; it is tried again.
    """

    accepted: int = 0
    spooled: int = 0
    acknowledged: int = 0
    refused: int = 0
    problem: str | None = None

    @property
    def waiting(self) -> int:
        """Taken over and not acknowledged yet."""
        return self.accepted - self.acknowledged


class Handover:
    """Any thread may call; `take`, `own` and `came` are the sender's.

    Args:
        wait: whether `put` waits while there is no room; else it raises.
    """

    def __init__(self, *, wait: bool = True, events: int = QUEUE_EVENTS, size: int = QUEUE_BYTES) -> None:
        self._wait = wait
        self._most, self._most_bytes = events, size
        self._queue: deque[Prepared] = deque()
        self._bytes = 0
        self._lock = threading.RLock()  # a signal's handler may emit or close while its thread is in here
        self._news = threading.Condition(self._lock)  # the sender waits on it
        self._moved = threading.Condition(self._lock)  # everybody else
        self._idle = False  # whether the sender waits
        self._accepted = self._spooled = self._acknowledged = self._refused = 0
        # of the application's events alone: the emitter's own come in between, and nobody waits for them
        self._handed = self._handed_spooled = self._handed_acknowledged = 0
        self._problem: str | None = None
        self._awaited = 0  # how many wait for what was handed over
        self.closing = False

    @property
    def counts(self) -> Counts:
        """The counters now."""
        with self._moved:
            return Counts(self._accepted, self._spooled, self._acknowledged, self._refused, self._problem)

    def put(self, *events: Prepared) -> None:
        """Hand over, all or none, in order of the calls. Raises TransientError: closing, or no room.

        Room is asked for once: several may go beyond it by their own size, which the caller bounds.
        """
        with self._lock:
            if self.closing or len(self._queue) >= self._most or self._bytes >= self._most_bytes:
                self._wait_for_room()
            for event in events:
                size = len(event.after)
                self._queue.append(event)
                self._bytes += size  # no call within: a signal's handler, which may hand over too, runs at calls
                self._accepted += 1
                if not event.own:
                    self._handed += 1
            if self._idle:
                self._idle = False
                self._news.notify()

    def _wait_for_room(self) -> None:
        while not self.closing and (len(self._queue) >= self._most or self._bytes >= self._most_bytes):
            if not self._wait:
                raise TransientError("no room for the event; it was not handed over")
            self._news.notify()  # the sender gathers no longer
            self._moved.wait()
        if self.closing:
            raise TransientError("emitter is closed; the event was not handed over")

    def refused(self) -> None:
        """Count an event that the contract refused."""
        with self._moved:
            self._refused += 1

    def close(self) -> None:
        """Take nothing more; whoever waits for room is told so."""
        with self._moved:
            self.closing = True
            self._moved.notify_all()
            self._news.notify()

    def wait_until(self, reached: Callable[[Counts], bool], timeout_s: float) -> bool:
        """Whether it came to be that `reached`, within the time."""
        with self._moved:
            return self._moved.wait_for(lambda: reached(self.counts), timeout_s)

    def await_spool(self, timeout_s: float) -> bool:
        """Wait until all that was handed over so far is durable in the spool."""
        with self._moved:
            target = self._handed
            with self._hurrying():
                return self._moved.wait_for(lambda: self._handed_spooled >= target, timeout_s)

    def await_broker(self, timeout_s: float) -> bool:
        """Wait until all that was handed over so far is acknowledged; False at once while Kafka refuses it."""
        with self._moved:
            target = self._handed
            with self._hurrying():
                self._moved.wait_for(lambda: self._handed_acknowledged >= target or self._problem is not None, timeout_s)
            return self._handed_acknowledged >= target

    @contextmanager
    def _hurrying(self) -> Iterator[None]:
        """While somebody waits, nothing is gathered. The caller holds the lock."""
        self._awaited += 1
        self._news.notify()
        try:
            yield
        finally:
            self._awaited -= 1

    # -- the sender's

    def take(self, most: int, wait_s: float) -> list[Prepared]:
        """Up to `most` events, and no more of them than BATCH_BYTES and one; waits for the first."""
        with self._news:
            if not self._queue and wait_s > 0:
                self._idle = True
                self._news.wait(wait_s)
                self._idle = False
            if wait_s > 0 and 0 < len(self._queue) < most and not self._awaited and not self.closing:
                self._news.wait(GATHER_S)  # a thread that is woken for each event costs more than the event
            taken: list[Prepared] = []
            size = 0
            while self._queue and len(taken) < most and size < BATCH_BYTES:
                event = self._queue.popleft()
                size += len(event.after)
                taken.append(event)
            if taken:
                self._bytes -= size
                self._moved.notify_all()
            return taken

    def own(self) -> None:
        """Count an event that the emitter states of itself."""
        with self._moved:
            self._accepted += 1

    def spooled(self, events: int, handed: int) -> None:
        """So many more are durable, of them so many of the application's."""
        with self._moved:
            self._spooled += events
            self._handed_spooled += handed
            self._moved.notify_all()

    def acknowledged(self, events: int, handed: int) -> None:
        """So many more are acknowledged, of them so many of the application's."""
        with self._moved:
            self._acknowledged += events
            self._handed_acknowledged += handed
            self._problem = None
            self._moved.notify_all()

    def troubled(self, problem: str) -> None:
        """Kafka refuses what waits."""
        with self._moved:
            self._problem = problem
            self._moved.notify_all()
