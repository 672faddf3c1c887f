"""Group membership alone: which partitions of a topic are this process's. Reads nothing, commits nothing.

For a sink whose positions come from its own store: the group only spreads partitions over processes. Two processes may
believe for some seconds that they own the same partition (session time-out); the store must make that harmless.

Cooperative-sticky, classic protocol: a rebalance takes only the partitions that move.
"""

from __future__ import annotations

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from kafkaio.client import classify, client_config, member_config
from kafkaio.reader import silent_logger
from schemas.settings import Settings


class Placement:
    """A subscribed consumer with everything paused. One thread."""

    def __init__(self, settings: Settings, topic: str, group: str) -> None:
        """Joins in the background. Raises ConfigError for settings that cannot work."""
        self._topic = topic
        self._owned: set[int] = set()
        self._trouble = ""
        config = {
            **client_config(settings),
            **member_config(group),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "log.connection.close": False,
            "error_cb": self._note_error,
            "logger": silent_logger("sealtrail.kafka.placement"),
        }
        try:
            self._consumer = Consumer(config)
            self._consumer.subscribe([topic], on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)
        except KafkaException as error:
            raise classify(error, f"joining group {group}") from error

    def poll(self, timeout_s: float) -> frozenset[int]:
        """The partitions that are ours now; waits up to `timeout_s` for a change.

        Call it more often than every MAX_POLL_INTERVAL_MS.
        A broker that is away changes nothing here (`trouble` tells).
        Raises ConfigError when the role may not join the group or read the topic.
        """
        try:
            message = self._consumer.poll(timeout_s)
        except KafkaException as error:
            raise classify(error, f"following the placement of {self._topic}") from error
        cause = message.error() if message is not None else None
        if cause is not None:  # a message without an error was fetched before its partition was paused: others read it
            self._note_error(cause)
            if cause.code() in (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED):
                raise classify(cause, f"following the placement of {self._topic}")
        return frozenset(self._owned)

    def trouble(self) -> str:
        """What librdkafka said of the connection since the last call; empty when nothing."""
        said, self._trouble = self._trouble, ""
        return said

    def close(self) -> None:
        """Leave the group, so that partitions move at once."""
        self._consumer.close()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        mine = [TopicPartition(p.topic, p.partition, OFFSET_END) for p in partitions]
        consumer.incremental_assign(mine)
        consumer.pause(mine)
        self._owned |= {p.partition for p in partitions}

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned -= {p.partition for p in partitions}
        consumer.incremental_unassign(partitions)

    def _note_error(self, error: KafkaError) -> None:
        self._trouble = f"{error.str()} ({error.name()})"
