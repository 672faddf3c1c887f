"""The producer of raw records: idempotent, in order, never dropping because time has passed.

- One topic, one key: librdkafka's `murmur2_random` puts all of an emitter's records on one partition.
- acks=all and idempotence: what is acknowledged is on every in-sync replica, once, in order.
- No record times out: while the brokers are away, records wait in the local queue; when the queue is full `produce`
  says so and takes nothing. What then happens is the caller's decision.
- What fails for good (rights, size, a fatal error of the idempotent producer) reaches the delivery report.

It does not number, encode or authenticate; it does not retry what failed for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from kafkaio.client import classify, client_config
from schemas.settings import Settings
from sealtrail.errors import TransientError

Header = tuple[str, bytes]

LINGER_MS = 20  # lets a batch gather (330,000 records/s at 50 ms); stays below what a person notices
QUEUE_RECORDS = 100_000
QUEUE_KIB = 65_536  # at most 64 MiB of a connector's memory waits for the brokers
REPEAT_S = 30.0  # between two log lines of one kind of trouble
MAX_RECORD_BYTES = 2_097_152  # the raw topic's limit in the catalogue; an event is at most 1 MiB

_LOG = structlog.get_logger("kafkaio.producer")


class ProducerLostError(TransientError):
    """The producer can send nothing more (a fatal error of idempotence); a new one can."""


# Called once per record that `produce` took: the partition it is on, and None or why it failed for good.
OnDelivery = Callable[[int, str | None], None]


class IdempotentProducer:
    """A librdkafka producer for one topic and key. Safe to share between threads; never touched after a fork.

    `on_delivery` is called from `poll`, `flush` and `discard`, in the thread that called them, in order of `produce`.
    """

    def __init__(
        self, settings: Settings, topic: str, key: str, on_delivery: OnDelivery, **overrides: str | int | bool
    ) -> None:
        """Connects in the background; brokers that are away are not an error here. Raises ConfigError."""
        self._topic = topic
        self._key = key.encode()
        self._on_delivery = on_delivery
        self._shown: dict[str | None, float] = {}
        self._lost = ""  # why nothing can be sent any more
        config = {
            **client_config(settings),
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": LINGER_MS,
            "partitioner": "murmur2_random",
            "message.timeout.ms": 0,  # infinite: a record that timed out would be a gap
            "message.max.bytes": MAX_RECORD_BYTES,
            "queue.buffering.max.messages": QUEUE_RECORDS,
            "queue.buffering.max.kbytes": QUEUE_KIB,
            "log.connection.close": False,  # brokers close idle connections; that is no news
            "log_level": 2,  # librdkafka's own lines on stderr: what matters comes through error_cb
            "on_delivery": self._report,
            "error_cb": self._on_error,
            **overrides,
        }
        try:
            self._producer = Producer(config)
        except KafkaException as error:
            raise classify(error, "making a producer") from error

    @classmethod
    def connect(cls, settings: Settings, topic: str, key: str, on_delivery: OnDelivery) -> Self:
        """The default factory."""
        return cls(settings, topic, key, on_delivery)

    def produce(self, value: bytes, headers: Sequence[Header]) -> bool:
        """Queue one record. False: the local queue is full and nothing was taken.

        Raises:
            ProducerLostError: no record can be sent by this producer any more.
        """
        try:
            self._producer.produce(self._topic, value, self._key, headers=list(headers))
        except BufferError:
            return False
        except KafkaException as error:
            cause = error.args[0]
            if isinstance(cause, KafkaError) and cause.code() == KafkaError._FATAL:
                raise ProducerLostError(f"producer for {self._topic} lost: {cause.str()}") from error
            raise classify(error, f"producing to {self._topic}") from error
        return True

    def poll(self, timeout_s: float) -> None:
        """Serve delivery reports, waiting at most `timeout_s` for the first.

        Raises:
            ProducerLostError: no record can be sent by this producer any more.
        """
        self._serve(lambda: self._producer.poll(timeout_s))
        if self._lost:
            raise ProducerLostError(f"producer for {self._topic} lost: {self._lost}")

    def flush(self, timeout_s: float) -> int:
        """Wait until every record is delivered or failed; how many are not, after `timeout_s`."""
        self._serve(lambda: self._producer.flush(timeout_s))
        return len(self._producer)

    def discard(self) -> None:
        """Fail whatever still waits, and report it. For a producer that was lost."""
        self._producer.purge()
        self.flush(1.0)

    def _serve(self, call: Callable[[], object]) -> None:
        """The library raises a fatal error once, from whatever call comes first; `produce` says it again, and lasting.

        Records that wait are not reported then. So `poll` says it too: whoever waits for reports would wait for ever.
        """
        try:
            call()
        except (KafkaException, SystemError) as error:  # the latter when it has lost the reason
            self._lost = str(error)
            _LOG.error("kafka", topic=self._topic, problem=str(error), fatal=True)

    def _report(self, error: KafkaError | None, message: Message) -> None:
        partition = message.partition()
        self._on_delivery(-1 if partition is None else partition, None if error is None else f"{error.str()} ({error.name()})")

    def _on_error(self, error: KafkaError) -> None:
        """Log librdkafka's own troubles (brokers away, …), each kind once in a while: it retries without end."""
        now = time.monotonic()
        if now - self._shown.get(error.name(), -REPEAT_S) >= REPEAT_S:
            self._shown[error.name()] = now
            _LOG.warning("kafka", topic=self._topic, code=error.name(), problem=error.str(), fatal=error.fatal())
