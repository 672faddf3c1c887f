"""One act on Kafka each, as a role: returns None when the broker allowed it, else the name of its refusal."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the library names no exports
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from kafkaio.client import ConfigValue, client_config
from schemas.settings import Settings

ACT_S = 30.0


def _config(settings: Settings, **more: ConfigValue) -> dict[str, ConfigValue]:
    given = {name.replace("_", "."): value for name, value in more.items()}
    return {**client_config(settings), "log_level": 0, **given}


def _name(error: KafkaError | KafkaException) -> str:
    cause = error.args[0] if isinstance(error, KafkaException) else error
    return str(cause.name())


def write(settings: Settings, topics: list[str]) -> Mapping[str, str | None]:
    """Produce one record to each topic; the refusal by topic."""
    outcome: dict[str, str | None] = {}
    producer = Producer(_config(settings, message_timeout_ms=int(ACT_S * 1000)))
    for topic in topics:

        def delivered(error: KafkaError | None, _message: object, topic: str = topic) -> None:
            outcome[topic] = _name(error) if error else None

        producer.produce(topic, value=b"v", key=b"k", on_delivery=delivered)
    producer.flush(ACT_S + 5)
    return outcome


def read(settings: Settings, topics: list[str]) -> Mapping[str, str | None]:
    """Fetch partition 0 of each topic from its start, outside any group's assignment; the refusal by topic."""
    consumer = Consumer(
        _config(
            settings,
            group_id="nobody",
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="earliest",
        )
    )
    outcome: dict[str, str | None] = {}
    try:
        for topic in topics:
            described = consumer.list_topics(topic, timeout=ACT_S).topics[topic]
            if described.error is not None:  # a fetch from a topic that may not be seen gets no answer at all
                outcome[topic] = _name(described.error)
        consumer.assign([TopicPartition(topic, 0, 0) for topic in topics if topic not in outcome])
        deadline = time.monotonic() + ACT_S
        while len(outcome) < len(topics) and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error, name = message.error(), message.topic()
            if name is not None:
                allowed = error is None or error.code() == KafkaError._PARTITION_EOF
                outcome[name] = None if error is None or allowed else _name(error)
    finally:
        consumer.close()
    return outcome


def join(settings: Settings, group: str, topic: str) -> str | None:
    """Join a consumer group."""
    consumer = Consumer(_config(settings, group_id=group, auto_offset_reset="earliest", enable_partition_eof=True))
    try:
        consumer.subscribe([topic])
        deadline = time.monotonic() + ACT_S
        while time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if consumer.assignment():
                return None
            error = message.error() if message is not None else None
            if error is not None:
                return _name(error)
        return "no answer"
    finally:
        consumer.close()


def begin(settings: Settings, transactional_id: str) -> str | None:
    """Claim a transactional id."""
    producer = Producer(_config(settings, transactional_id=transactional_id))
    try:
        producer.init_transactions(ACT_S)
    except KafkaException as error:
        return _name(error)
    return None


def delete_records(settings: Settings, topic: str) -> str | None:
    """Delete what lies before offset 0 of partition 0: nothing, but it needs the right."""
    client = AdminClient(_config(settings))
    future = client.delete_records([TopicPartition(topic, 0, 0)], request_timeout=ACT_S)
    return _outcome(next(iter(future.values())))


def create_topic(settings: Settings, topic: str) -> str | None:
    """Make a topic."""
    client = AdminClient(_config(settings))
    return _outcome(client.create_topics([NewTopic(topic, 1, 1)], request_timeout=ACT_S)[topic])


def delete_topic(settings: Settings, topic: str) -> str | None:
    """Delete a topic."""
    client = AdminClient(_config(settings))
    return _outcome(client.delete_topics([topic], request_timeout=ACT_S)[topic])


def grant(settings: Settings, role: str, topic: str) -> str | None:
    """Grant `role` a right on `topic`."""
    binding = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        f"User:{role}",
        "*",
        AclOperation.WRITE,
        AclPermissionType.ALLOW,
    )
    client = AdminClient(_config(settings))
    return _outcome(next(iter(client.create_acls([binding], request_timeout=ACT_S).values())))


def _outcome(future: object) -> str | None:
    try:
        future.result()  # type: ignore[attr-defined]  # concurrent.futures.Future, untyped in the library
    except KafkaException as error:
        return _name(error)
    return None
