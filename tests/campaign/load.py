"""A steady load whose every event is known by its id, and how far each chain's committed seals have come.

Each partition has one emitter, and a raw topic holds nothing but records: so what an emitter knows to be acknowledged is the
raw position that is.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from kafkaio.client import client_config
from kafkaio.reader import silent_logger
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from sealtrail.errors import TransientError
from sealtrail.seal import decode_seal, decode_sealed_event
from tests.kills.load import SOURCE
from tests.kills.load import draft as without_login
from tests.trail import Trailed, instance_on

SETTLE_S = 120.0  # until brokers that come back have acknowledged everything
CLOSE_S = 5.0
PULSE_S = 3600.0  # none: see `sealers.QUIET_S`


def draft(number: int) -> dict[str, Any]:
    """The tests' mixture, by accounts that have a login: it becomes a token under a key of theirs."""
    made = without_login(number)
    return {**made, "actor": {**made["actor"], "login": f"{made['actor']['id']}@{made['tenant']}.example"}}


class Load:
    """A context: emits while it lasts and is not paused. `given`: ids of all events that were handed over."""

    def __init__(self, deployment: Trailed, partitions: int, rate: float) -> None:
        settings = deployment.settings("loadgen", pulse_s=PULSE_S)
        self._emitters = [AuditProducer(settings, SOURCE, instance_on(p, SOURCE, partitions)) for p in range(partitions)]
        self._pause_s = 1 / rate
        self._go, self._idle, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self.given: set[bytes] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._go.set()
        self._thread.join(SETTLE_S)
        for emitter in self._emitters:
            with suppress(TransientError):  # what was emitted since the last check is nobody's concern
                emitter.close(CLOSE_S)

    def resume(self) -> None:
        """Emit."""
        self._idle.clear()
        self._go.set()

    def pause(self) -> list[int]:
        """Emit nothing until `resume`; the raw positions once all is acknowledged. Raises what went wrong."""
        self._go.clear()
        if not self._idle.wait(SETTLE_S):
            raise TransientError("the load does not pause")
        if self._failure is not None:
            raise self._failure
        deadline = time.monotonic() + SETTLE_S
        if not all(emitter.await_broker(max(0.1, deadline - time.monotonic())) for emitter in self._emitters):
            raise TransientError(f"what was emitted is not acknowledged after {SETTLE_S:.0f} s")
        return self.acknowledged()

    def acknowledged(self) -> list[int]:
        """The raw position of each partition up to which all is acknowledged."""
        return [emitter.counts.acknowledged for emitter in self._emitters]

    def _work(self) -> None:
        number, due = 0, time.monotonic()
        try:
            while not self._stop.is_set():
                if not self._go.is_set():
                    self._idle.set()
                    self._go.wait()
                    due = time.monotonic()
                    continue
                self.given.add(self._emitters[number % len(self._emitters)].emit(draft(number)))
                number, due = number + 1, due + self._pause_s
                self._stop.wait(max(0.0, due - time.monotonic()))
        except BaseException as error:
            self._failure = error
            self._idle.set()


class Positions:
    """A context: follows the archive topic as a sink would, read committed. `sealed`: by chain, the next raw offset."""

    def __init__(self, deployment: Trailed, partitions: int) -> None:
        self.sealed = [0] * partitions
        settings = deployment.settings("admin")
        topic = topic_name(deployment.topic_prefix, "audit.archive")
        self._consumer = Consumer(
            {
                **client_config(settings),
                "group.id": "campaign-positions",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 50,
                "logger": silent_logger("campaign.positions"),
            }
        )
        self._consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="positions", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def beyond(self, raw: list[int]) -> bool:
        """Whether every chain is past its position in `raw`."""
        return all(sealed > offset for sealed, offset in zip(self.sealed, raw, strict=True))

    def reached(self, raw: list[int]) -> bool:
        """Whether every chain has come to its position in `raw`."""
        return all(sealed >= offset for sealed, offset in zip(self.sealed, raw, strict=True))

    def _follow(self) -> None:
        while not self._stop.is_set():
            try:
                messages = self._consumer.consume(500, 0.1)
            except KafkaException:
                continue  # brokers are away: that is what is measured
            last: dict[int, bytes] = {}
            for message in messages:
                partition, value = message.partition(), message.value()
                if message.error() is None and partition is not None and value is not None:
                    last[partition] = value
            for partition, value in last.items():
                self.sealed[partition] = decode_seal(decode_sealed_event(value).seal).next_offset
