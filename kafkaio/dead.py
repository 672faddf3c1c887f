"""Dead letters: records that could not be delivered, kept with the reason for whoever mends it.

`put` returns when the brokers have the letter on every in-sync replica, so what caused it may be committed after it. A
letter may be there twice after a crash; (topic, partition, offset) tells.

Not here: who decides that a record is dead (`sinks.delivery`, the detector).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

from kafkaio.producer import IdempotentProducer, ProducerLostError
from schemas.catalogue import topic_name
from schemas.settings import Settings
from sealtrail.avro import Codec
from sealtrail.errors import TransientError

TOPIC = "audit.dead-letters"
MAX_BYTES = 4_194_304  # the topic's limit in the catalogue
WAIT_S = 30.0  # for the brokers' acknowledgement

DEAD_LETTER = Codec((resources.files("schemas") / "dead_letter.avsc").read_text("utf-8"))


@dataclass(frozen=True, slots=True)
class Letter:
    """One record that was given up; see `schemas/dead_letter.avsc`."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    record: bytes
    status: int | None = None
    chain: str | None = None
    seq: int | None = None
    event_id: bytes | None = None


class DeadLetters:
    """Writes to the topic of dead letters under the role of `settings`. One thread. Connects at the first letter."""

    def __init__(self, settings: Settings, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._settings = settings
        self._now_us = now_us
        self._producer: IdempotentProducer | None = None
        self._failures: list[str] = []

    def put(self, letter: Letter) -> None:
        """Write one letter and wait until it is acknowledged.

        Raises:
            TransientError: it was not; put it again.
            ConfigError: the role may not write there.
        """
        value = DEAD_LETTER.encode(
            {
                "by": self._settings.role,
                "reason": letter.reason,
                "detail": letter.detail,
                "status": letter.status,
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "chain": letter.chain,
                "seq": letter.seq,
                "event_id": letter.event_id,
                "at": self._now_us(),
                "record": letter.record,
            }
        )
        producer = self._connected()
        self._failures.clear()
        try:
            taken = producer.produce(value, ())
        except ProducerLostError:
            self._drop()
            raise
        if not taken or producer.flush(WAIT_S) or self._failures:
            reason = self._failures[0] if self._failures else "no answer"
            self._drop()  # what is still queued would be written beside its repetition
            raise TransientError(f"dead letter of {letter.topic}/{letter.partition}@{letter.offset}: {reason}", 1.0)

    def close(self) -> None:
        """End the connection; nothing waits in it."""
        self._drop()

    def _connected(self) -> IdempotentProducer:
        if self._producer is None:
            topic = topic_name(self._settings.topic_prefix, TOPIC)
            self._producer = IdempotentProducer(
                self._settings, topic, self._settings.role, self._reported, **{"message.max.bytes": MAX_BYTES, "linger.ms": 0}
            )
        return self._producer

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.discard()
            self._producer = None

    def _reported(self, _: int, failure: str | None) -> None:
        if failure is not None:
            self._failures.append(failure)
