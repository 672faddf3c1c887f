"""The client library that kafkaio speaks through, and the time it lives in: librdkafka, and the machine's.

All that a sealer does outside its own memory goes through one `Library`, so that its loop runs unchanged on a simulated
broker in simulated time (`kafkaio.testing`).

Not here: what the clients are asked to do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from threading import Thread
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

    def within(self, limit_s: float, name: str, step: Callable[[], object]) -> bool:
        """Run a step, for `limit_s` at most; whether it ended. Raises what the step raises."""


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

    def within(self, limit_s: float, name: str, step: Callable[[], object]) -> bool:
        """As `Library`: a step that hangs is given up with its thread, which is called `name`."""
        raised: list[BaseException] = []

        def work() -> None:
            try:
                step()
            except BaseException as error:  # handed to the caller's thread
                raised.append(error)

        thread = Thread(target=work, name=name, daemon=True)
        thread.start()
        for _ in range(math.ceil(limit_s / SLICE_S)):
            thread.join(SLICE_S)
            if not thread.is_alive():
                break
        else:
            return False
        if raised:
            raise raised.pop()  # left in the list it would keep itself, and with its frames the producer, alive
        return True


LIBRDKAFKA = Librdkafka()
