"""The topic catalogue as values: topics, limits, rights. Read from `catalogue.toml`; unknown keys are refused.

`kafkaio.admin` makes topics and ACLs from it; nothing else decides who may write or read what.

Rule kept here: an output's limit stands above the worst case of its input (`ENVELOPE_BYTES` more), because a record
that does not fit would abort the sealer's transaction for ever.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from sealtrail.errors import ConfigError

# What sealing or quarantining adds to a record at most: the seal (below 65,535 bytes), salt, policy, schema, event id
# and signature (below 300), key and headers of the raw record in quarantine (32 KiB), HPKE, Avro and batch framing
# (1 KiB).
ENVELOPE_BYTES = 65_535 + 300 + 32_768 + 1_024

CLEANUP = ("delete", "compact")
TIMESTAMPS = ("LogAppendTime", "CreateTime")
RAW = "audit.raw"


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. Sizes are bytes.

    `partitions` None means as many as raw has; `retention_ms` -1 means for ever; `segment_ms` None means the broker's default.
    """

    name: str
    purpose: str
    partitions: int | None
    cleanup_policy: str
    retention_ms: int
    max_message_bytes: int
    timestamp_type: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    fed_by: str | None = None
    segment_ms: int | None = None

    def partition_count(self, raw_partitions: int) -> int:
        """How many partitions this topic has in a deployment whose raw topic has `raw_partitions`."""
        return raw_partitions if self.partitions is None else self.partitions


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All topics, and the rights on groups and transactional ids."""

    topics: tuple[Topic, ...]
    groups: Mapping[str, tuple[str, ...]]
    transactional_roles: tuple[str, ...]
    raw_partitions: int
    replication_factor: int
    min_insync_replicas: int

    def topic(self, name: str) -> Topic:
        """The topic with this name. Raises ConfigError when there is none."""
        for topic in self.topics:
            if topic.name == name:
                return topic
        raise ConfigError(f"no topic {name} in the catalogue")

    def roles(self) -> tuple[str, ...]:
        """Every role that has some right here, sorted."""
        named = {role for topic in self.topics for role in (*topic.writers, *topic.readers)}
        return tuple(sorted(named | set(self.groups) | set(self.transactional_roles)))


def topic_name(prefix: str, name: str) -> str:
    """The name that a topic or group has in the deployment with this topic_prefix."""
    return prefix + name


def transactional_prefix(deployment: str) -> str:
    """What every transactional id of this deployment begins with."""
    return f"{deployment}/"


def load(path: Path | None = None) -> Catalogue:
    """The catalogue at `path`, or the one that ships. Raises ConfigError that names the topic and the key."""
    text = path.read_text() if path else files("schemas").joinpath("catalogue.toml").read_text()
    return parse(text)


def parse(text: str) -> Catalogue:
    """The catalogue that `text` (TOML) states. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"topic catalogue is not TOML: {error}") from None
    _keys("topic catalogue", document, {"version", "settings", "topic", "groups", "transactions"})
    if document["version"] != 1:
        raise ConfigError(f"topic catalogue: version {document['version']}, expected 1")
    settings = document["settings"]
    _keys("topic catalogue [settings]", settings, {"replication_factor", "min_insync_replicas", "raw_partitions"})
    _keys("topic catalogue [transactions]", document["transactions"], {"roles"})
    catalogue = Catalogue(
        topics=tuple(_topic(table) for table in document["topic"]),
        groups={role: _names(f"groups.{role}", names) for role, names in document["groups"].items()},
        transactional_roles=_names("transactions.roles", document["transactions"]["roles"]),
        raw_partitions=_count("settings.raw_partitions", settings["raw_partitions"]),
        replication_factor=_count("settings.replication_factor", settings["replication_factor"]),
        min_insync_replicas=_count("settings.min_insync_replicas", settings["min_insync_replicas"]),
    )
    _check(catalogue)
    return catalogue


def _topic(table: Mapping[str, Any]) -> Topic:
    where = f"topic {table.get('name', '?')}"
    required = {"name", "purpose", "partitions", "cleanup_policy", "retention_ms", "max_message_bytes"}
    _keys(where, table, required | {"timestamp_type", "writers", "readers"}, optional={"fed_by", "segment_ms"})
    if table["cleanup_policy"] not in CLEANUP:
        raise ConfigError(f"{where}: cleanup_policy is none of {', '.join(CLEANUP)}")
    if table["timestamp_type"] not in TIMESTAMPS:
        raise ConfigError(f"{where}: timestamp_type is none of {', '.join(TIMESTAMPS)}")
    retention = table["retention_ms"]
    if not isinstance(retention, int) or (retention != -1 and retention < 1):
        raise ConfigError(f"{where}: retention_ms must be -1 or a positive number of milliseconds")
    raw = table["partitions"] == "raw"
    return Topic(
        name=str(table["name"]),
        purpose=str(table["purpose"]),
        partitions=None if raw else _count(f"{where}: partitions", table["partitions"]),
        cleanup_policy=table["cleanup_policy"],
        retention_ms=retention,
        max_message_bytes=_count(f"{where}: max_message_bytes", table["max_message_bytes"]),
        timestamp_type=table["timestamp_type"],
        writers=_names(f"{where}: writers", table["writers"]),
        readers=_names(f"{where}: readers", table["readers"]),
        fed_by=table.get("fed_by"),
        segment_ms=_count(f"{where}: segment_ms", table["segment_ms"]) if "segment_ms" in table else None,
    )


def _keys(where: str, table: Mapping[str, Any], required: set[str], *, optional: set[str] | None = None) -> None:
    unknown = set(table) - required - (optional or set())
    if unknown:
        raise ConfigError(f"{where}: unknown key {', '.join(sorted(unknown))}")
    missing = required - set(table)
    if missing:
        raise ConfigError(f"{where}: missing key {', '.join(sorted(missing))}")


def _count(where: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{where}: expected a positive whole number")
    return value


def _names(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ConfigError(f"{where}: expected a list of names")
    return tuple(value)


def _check(catalogue: Catalogue) -> None:
    names = [topic.name for topic in catalogue.topics]
    if len(set(names)) != len(names):
        raise ConfigError("topic catalogue: a topic is named twice")
    if catalogue.topic(RAW).partitions is not None:
        raise ConfigError(f'topic {RAW}: partitions must be "raw"')
    if catalogue.min_insync_replicas > catalogue.replication_factor:
        raise ConfigError("topic catalogue: min_insync_replicas is above replication_factor")
    for topic in catalogue.topics:
        if topic.fed_by is None:
            continue
        needed = catalogue.topic(topic.fed_by).max_message_bytes + ENVELOPE_BYTES
        if topic.max_message_bytes <= needed:
            raise ConfigError(f"topic {topic.name}: max_message_bytes must be above {needed}, the worst of its input")
