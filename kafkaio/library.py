"""The client library that kafkaio speaks through, and the time it lives in: librdkafka, and the machine's.

All that a sealer does outside its own memory goes through one `Library`, so that its loop runs unchanged on a simulated
broker in simulated time (`kafkaio.testing`).

Not here: what the clients are asked to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

SLICE_S = 0.5  # a process that was suspended loses one slice of a step's time, not all


class Stop(Protocol):
    """Whether a process is to end; `threading.Event` is one."""

    def is_set(self) -> bool:
        """Whether it is."""

    def wait(self, timeout: float, /) -> bool:
        """Wait up to `timeout` seconds for it; whether it is."""


class Worker(Protocol):
    """Runs steps beside its owner, one at a time, and tells how each ended."""

    def start(self, step: Callable[[], object]) -> None:
        """Begin a step; the one before has ended."""

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether the step has ended; waits for it, at most `wait_s`. Raises what it raised, once."""

    def close(self) -> None:
        """No more steps; one that runs goes on, and what becomes of it is not told."""


class Library(Protocol):
    """Makes Kafka's clients from librdkafka's configuration, and tells the time that their time-outs count in.

    Clients raise as confluent_kafka's do. Threads: those of the clients made.
    """

    def producer(self, config: dict[str, Any]) -> Producer:
        """A producer. May raise KafkaException."""

    def consumer(self, config: dict[str, Any]) -> Consumer:
        """A consumer. May raise KafkaException."""

    def admin(self, config: dict[str, Any]) -> AdminClient:
        """An admin client. May raise KafkaException."""

    def monotonic(self) -> float:
        """Seconds of a clock that is never set."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def worker(self, name: str) -> Worker:
        """A worker. Its owner calls from one thread."""


class _Thread:
    """A worker: one thread, from the first step on. A step that hangs is given up with the thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._steps: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._outcome = _Outcome()
        self._begun = False

    def start(self, step: Callable[[], object]) -> None:
        self._outcome.ended.clear()
        self._outcome.failed = False
        if not self._begun:
            self._begun = True
            # It knows the queue and the outcome, not this object: a worker that nobody owns any more can go.
            Thread(target=_work, args=(self._steps, self._outcome), name=self._name, daemon=True).start()
        self._steps.put(step)

    def ended(self, wait_s: float = 0.0) -> bool:
        outcome, left = self._outcome, wait_s
        while not outcome.ended.wait(min(left, SLICE_S)):
            left -= SLICE_S
            if left <= 0:
                return False
        if outcome.failed:
            raised, outcome.raised = outcome.raised, None  # kept, it would keep itself, and with its frames the producer, alive
            try:
                raise raised or AssertionError("a step that failed is asked for again")
            finally:
                del raised  # or its own frame keeps it, and with it the producer, alive
        return True

    def close(self) -> None:
        self._outcome = _Outcome()  # of a step that runs, nobody asks; what it raises would keep itself alive here
        self._steps.put(None)

    def __del__(self) -> None:
        self._steps.put(None)


class _Outcome:
    """How a worker's step ended."""

    def __init__(self) -> None:
        self.ended = Event()
        self.failed = False
        self.raised: BaseException | None = None


def _work(steps: SimpleQueue[Callable[[], object] | None], outcome: _Outcome) -> None:
    while (step := steps.get()) is not None:
        try:
            step()
        except BaseException as error:  # handed to the owner's thread
            outcome.raised, outcome.failed = error, True
        step = None  # what it refers to must not live until the next one comes
        outcome.ended.set()


class Librdkafka:
    """The real one. May be shared by all threads."""

    def producer(self, config: dict[str, Any]) -> Producer:
        """As `Library`."""
        return Producer(config)

    def consumer(self, config: dict[str, Any]) -> Consumer:
        """As `Library`."""
        return Consumer(config)

    def admin(self, config: dict[str, Any]) -> AdminClient:
        """As `Library`."""
        return AdminClient(config)

    def monotonic(self) -> float:
        """As `Library`."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """As `Library`."""
        time.sleep(seconds)

    def worker(self, name: str) -> Worker:
        """As `Library`: a daemon thread."""
        return _Thread(name)


LIBRDKAFKA = Librdkafka()
