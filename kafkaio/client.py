"""What every Kafka client of Sealtrail has in common: how it reaches the brokers, and what its errors mean.

Clients add their own settings to `client_config`; none of them repeats addresses or certificates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException

from schemas.settings import Settings
from sealtrail.errors import ConfigError, SealtrailError, TransientError

ConfigValue = str | int | float | bool

RECONNECT_MS = 2_000  # at most between two tries of a connection; the library's own 10 s are a third of a recovery
FETCH_AGAIN_MS = 20  # a queue that was full is looked at again; the library's own 1,000 ms are longer than 8 MiB last
SESSION_TIMEOUT_MS = 10_000  # a dead member's partitions move after this
MAX_POLL_INTERVAL_MS = 300_000  # above the longest step between two polls: chains recover, a store times out for 35 s
STRETCH_BYTES = 262_144  # of one partition at once: while one chain has a batch waiting, the others are not read
ANSWER_BYTES = 52_428_800  # of a broker at once: a stretch of 200 partitions; a broker gives 55 MiB at most
RETRY_AFTER_S = 1.0  # a broker that restarts is back in 5 to 10 s; clients also back off by themselves

# What no retry mends: the deployment's rights, names or certificates are wrong.
CONFIGURATION_CODES = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.SECURITY_DISABLED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
        KafkaError._NOENT,
        KafkaError._SSL,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)


def client_config(settings: Settings) -> dict[str, ConfigValue]:
    """The part of a librdkafka configuration that says where the brokers are and who we are: TLS with our certificate.

    Raises ConfigError that names the setting when one is missing or names no file.
    """
    settings.require("kafka_bootstrap", "kafka_ca", "kafka_certificate", "kafka_key")
    return {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": f"sealtrail-{settings.role}",
        "reconnect.backoff.max.ms": RECONNECT_MS,
        "security.protocol": "ssl",
        "ssl.ca.location": _file("kafka_ca", settings.kafka_ca),
        "ssl.certificate.location": _file("kafka_certificate", settings.kafka_certificate),
        "ssl.key.location": _file("kafka_key", settings.kafka_key),
    }


def consumer_config(settings: Settings, *, queue_kib: int, wait_ms: int) -> dict[str, ConfigValue]:
    """`client_config`, and how every consumer reads: committed records alone, positions kept by us.

    Args:
        queue_kib: how much it may have fetched ahead, of all partitions together; the last fetch may go beyond.
        wait_ms: how long a broker holds a fetch that finds nothing new.

    Raises ConfigError as `client_config` does.
    """
    return {
        **client_config(settings),
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "fetch.wait.max.ms": wait_ms,
        "fetch.queue.backoff.ms": FETCH_AGAIN_MS,
        "queued.max.messages.kbytes": queue_kib,
        "log.connection.close": False,
    }


def member_config(group: str) -> dict[str, ConfigValue]:
    """What a member of `group` has besides: a rebalance takes only the partitions that move (classic protocol).

    A broker's answer has room for a stretch of each partition. After a full queue librdkafka asks for all partitions anew, in
    the same order every time; by its own default an answer is no larger than that queue, and who finds no room waits until the
    others have nothing more: a third of 64 chains stood still for 11 s of a flood (docs/scaling.md).
    """
    return {
        "group.id": group,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
        "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
        "max.partition.fetch.bytes": STRETCH_BYTES,
        "fetch.max.bytes": ANSWER_BYTES,
    }


def _file(name: str, path: Path | None) -> str:
    if path is None or not path.is_file():
        raise ConfigError(f"setting {name}: no file at {path}")
    return str(path)


def classify(error: KafkaError | KafkaException, doing: str) -> SealtrailError:
    """The error of our family that `error` is, saying what was being done; the caller raises it.

    ConfigError for what no retry mends (rights, unknown topics, certificates that cannot be read), else TransientError.
    A broker that refuses our certificate looks like one that is away: librdkafka says _TRANSPORT for both.
    """
    cause = error.args[0] if isinstance(error, KafkaException) else error
    if not isinstance(cause, KafkaError):
        return TransientError(f"{doing}: {cause}", RETRY_AFTER_S)
    message = f"{doing}: {cause.str()} ({cause.name()})"
    if cause.code() in CONFIGURATION_CODES:
        return ConfigError(message)
    return TransientError(message, RETRY_AFTER_S)


def redacted(config: Mapping[str, ConfigValue]) -> dict[str, ConfigValue]:
    """`config` without what must not be logged: no value whose name speaks of a password or key material."""
    return {name: value for name, value in config.items() if not name.endswith(("password", ".pem"))}
