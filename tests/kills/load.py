"""Load whose every acknowledged event is known by its id: emitters in this process, at a steady rate."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Self

from producers.audit import AuditProducer
from schemas.settings import Settings
from tests.pipeline import draft as mixture

SOURCE = "loadgen"
INSTANCES = 8  # runs, each on a partition of its own: enough to meet all four
ACCOUNTS = 30  # whose logins fail
CLOSE_S = 120.0  # until Kafka, on a loaded machine, has acknowledged everything


def draft(number: int) -> dict[str, Any]:
    """The tests' mixture of all tenants, by many accounts."""
    return {**mixture(number), "actor": {"kind": "USER", "id": f"u-{number // 12 % ACCOUNTS}", "display": None}}


class Load:
    """A context: emits while it lasts; on leaving it, everything is acknowledged or an error is raised.

    Attributes:
        acknowledged: ids of all events that were handed over, once the context was left without an error.
    """

    def __init__(self, settings: Settings, rate: float) -> None:
        self.acknowledged: list[bytes] = []
        self._producers = [AuditProducer(settings, SOURCE, f"load-{number}") for number in range(INSTANCES)]
        self._pause_s = 1 / rate
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        number, due = 0, time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self.acknowledged.append(self._producers[number % INSTANCES].emit(draft(number)))
                number, due = number + 1, due + self._pause_s
        except BaseException as error:
            self._failure = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        for producer in self._producers:
            producer.close(CLOSE_S)  # raises for what was not acknowledged
        if self._failure is not None:
            raise self._failure
