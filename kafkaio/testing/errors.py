"""What the simulated broker answers when it refuses."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException


class BrokerError(Exception):
    """A request is refused with one of Kafka's codes; the client decides what to make of it."""

    def __init__(self, code: int) -> None:
        super().__init__(KafkaError(code).name())
        self.code = code


def raised(code: int, reason: str = "", *, fatal: bool = False) -> KafkaException:
    """As confluent_kafka raises it."""
    return KafkaException(KafkaError(code, reason or KafkaError(code).str(), fatal))
