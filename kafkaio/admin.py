"""Topics and ACLs from the topic catalogue. Run by an administrator; running it again changes nothing.

- A topic that exists with another partition count is refused: chains are bound to partitions, so this is never mended
  silently. Other settings of an existing topic are brought to what the catalogue says.
- Rights are only added. What was granted outside the catalogue is reported by `strange_acls`, not removed.

Not here: who may do what, which is `schemas/catalogue.toml`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the library names no exports
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from kafkaio.client import classify, client_config
from schemas.catalogue import Catalogue, Topic, topic_name, transactional_prefix
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError

SILENT = 0  # librdkafka prints each failed connection to stderr; here failures are returned, so that is noise
REQUEST_S = 30.0  # making a topic takes 0.1 s; a broker that just started may take some seconds
READY_S = 60.0  # metadata of new topics must have reached the broker before anyone uses them


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What `provision` found or made: full topic names, how many of them are new, and the number of ACLs."""

    topics: tuple[str, ...]
    created: int
    acls: int


def admin_client(settings: Settings) -> AdminClient:
    """An administrator's client. Does not connect yet. Raises ConfigError for settings that cannot work."""
    try:
        return AdminClient({**client_config(settings), "log_level": SILENT})
    except KafkaException as error:
        raise ConfigError(f"Kafka client of role {settings.role}: {classify(error, 'set-up')}") from error


def reachable(settings: Settings, *, timeout_s: float = 5.0) -> str | None:
    """None when the brokers answer this role, else why not, in one line."""
    try:
        admin_client(settings).list_topics(timeout=timeout_s)
    except KafkaException as error:
        return str(classify(error, "asking for metadata"))
    return None


def topic_config(topic: Topic, catalogue: Catalogue) -> dict[str, str]:
    """The broker's settings of one topic."""
    settings = {
        "cleanup.policy": topic.cleanup_policy,
        "retention.ms": str(topic.retention_ms),
        "max.message.bytes": str(topic.max_message_bytes),
        "message.timestamp.type": topic.timestamp_type,
        "min.insync.replicas": str(catalogue.min_insync_replicas),
    }
    if topic.segment_ms is not None:
        settings["segment.ms"] = str(topic.segment_ms)
    return settings


def acl_bindings(settings: Settings, catalogue: Catalogue) -> tuple[AclBinding, ...]:
    """Every right that the catalogue grants, for this topic_prefix and deployment. READ and WRITE imply DESCRIBE."""

    def allow(kind: ResourceType, name: str, role: str, operation: AclOperation, *, prefix: bool = False) -> AclBinding:
        pattern = ResourcePatternType.PREFIXED if prefix else ResourcePatternType.LITERAL
        return AclBinding(kind, name, pattern, f"User:{role}", "*", operation, AclPermissionType.ALLOW)

    bindings = []
    for topic in catalogue.topics:
        name = topic_name(settings.topic_prefix, topic.name)
        bindings += [allow(ResourceType.TOPIC, name, role, AclOperation.WRITE) for role in topic.writers]
        bindings += [allow(ResourceType.TOPIC, name, role, AclOperation.READ) for role in topic.readers]
    for role, groups in catalogue.groups.items():
        for group in groups:
            bindings.append(allow(ResourceType.GROUP, topic_name(settings.topic_prefix, group), role, AclOperation.READ))
    identifiers = transactional_prefix(settings.deployment)
    for role in catalogue.transactional_roles:
        bindings.append(allow(ResourceType.TRANSACTIONAL_ID, identifiers, role, AclOperation.WRITE, prefix=True))
    return tuple(bindings)


def provision(settings: Settings, catalogue: Catalogue, *, raw_partitions: int | None = None) -> Provisioned:
    """Make the catalogue's topics and ACLs for this topic_prefix and deployment; harmless when repeated.

    Returns when every topic and right holds. Raises ConfigError when a topic exists with another partition count or the
    role may not do this, TransientError when the broker does not answer.
    """
    client = admin_client(settings)
    count = raw_partitions or catalogue.raw_partitions
    wanted = {topic_name(settings.topic_prefix, topic.name): topic for topic in catalogue.topics}
    found = _partition_counts(client)
    _refuse_other_counts(wanted, found, count)
    missing = [name for name in wanted if name not in found]
    _create(client, wanted, missing, catalogue, count)
    _configure(client, wanted, [name for name in wanted if name in found], catalogue)
    bindings = acl_bindings(settings, catalogue)
    for binding, future in client.create_acls(list(bindings), request_timeout=REQUEST_S).items():
        _result(future, f"granting {binding.principal} a right on {binding.name}")
    _await(lambda: _absent_topics(client, wanted, count), "topics")
    _await(lambda: _absent_rights(client, bindings), "rights")
    return Provisioned(topics=tuple(wanted), created=len(missing), acls=len(bindings))


def strange_acls(settings: Settings, catalogue: Catalogue) -> tuple[str, ...]:
    """Rights on this deployment's topics, groups and transactional ids that the catalogue does not grant, as text."""
    found = _rights(admin_client(settings))
    granted = {_text(binding) for binding in acl_bindings(settings, catalogue)}
    names = {binding.name for binding in acl_bindings(settings, catalogue)}
    return tuple(sorted(_text(binding) for binding in found if binding.name in names and _text(binding) not in granted))


def _text(binding: AclBinding) -> str:
    kind, pattern = ResourceType(binding.restype), ResourcePatternType(binding.resource_pattern_type)
    permission, operation = AclPermissionType(binding.permission_type), AclOperation(binding.operation)
    return f"{binding.principal} {permission.name} {operation.name} {kind.name} {pattern.name} {binding.name}"


def _partition_counts(client: AdminClient) -> dict[str, int]:
    try:
        metadata = client.list_topics(timeout=REQUEST_S)
    except KafkaException as error:
        raise classify(error, "listing topics") from error
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _refuse_other_counts(wanted: dict[str, Topic], found: dict[str, int], raw_partitions: int) -> None:
    for name, topic in wanted.items():
        expected = topic.partition_count(raw_partitions)
        if name in found and found[name] != expected:
            raise ConfigError(
                f"topic {name}: has {found[name]} partitions, expected {expected}; a partition count never changes: "
                "use another topic_prefix, or state raw_partitions as they are"
            )


def _create(
    client: AdminClient, wanted: dict[str, Topic], missing: list[str], catalogue: Catalogue, raw_partitions: int
) -> None:
    new = [
        NewTopic(
            name,
            num_partitions=wanted[name].partition_count(raw_partitions),
            replication_factor=catalogue.replication_factor,
            config=topic_config(wanted[name], catalogue),
        )
        for name in missing
    ]
    if not new:
        return
    for name, future in client.create_topics(new, operation_timeout=REQUEST_S, request_timeout=REQUEST_S).items():
        _result(future, f"making topic {name}", allow=KafkaError.TOPIC_ALREADY_EXISTS)


def _configure(client: AdminClient, wanted: dict[str, Topic], existing: Iterable[str], catalogue: Catalogue) -> None:
    resources = []
    for name in existing:
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        for key, value in topic_config(wanted[name], catalogue).items():
            resource.add_incremental_config(ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET))
        resources.append(resource)
    if not resources:
        return
    for resource, future in client.incremental_alter_configs(resources, request_timeout=REQUEST_S).items():
        _result(future, f"setting topic {resource.name}")


def _result(future: object, doing: str, *, allow: int | None = None) -> None:
    try:
        future.result()  # type: ignore[attr-defined]  # concurrent.futures.Future, untyped in the library
    except KafkaException as error:
        cause = error.args[0]
        if allow is not None and isinstance(cause, KafkaError) and cause.code() == allow:
            return  # another administrator made it meanwhile; _await checks what it is
        raise classify(error, doing) from error


def _rights(client: AdminClient) -> list[AclBinding]:
    kind, pattern, operation = ResourceType.ANY, ResourcePatternType.ANY, AclOperation.ANY
    everything = AclBindingFilter(kind, None, pattern, None, None, operation, AclPermissionType.ANY)  # type: ignore[arg-type]  # None means any
    try:
        return list(client.describe_acls(everything, request_timeout=REQUEST_S).result())
    except KafkaException as error:
        raise classify(error, "listing rights") from error


def _absent_topics(client: AdminClient, wanted: dict[str, Topic], raw_partitions: int) -> list[str]:
    found = _partition_counts(client)
    _refuse_other_counts(wanted, found, raw_partitions)
    return [name for name in wanted if name not in found]


def _absent_rights(client: AdminClient, bindings: Iterable[AclBinding]) -> list[str]:
    found = {_text(binding) for binding in _rights(client)}
    return [_text(binding) for binding in bindings if _text(binding) not in found]


def _await(absent: Callable[[], list[str]], what: str) -> None:
    """Return when nothing is absent: the controller has answered, but brokers learn of it a moment later."""
    deadline = time.monotonic() + READY_S
    while missing := absent():
        if time.monotonic() > deadline:
            raise TransientError(f"{what} were made but do not show after {READY_S:.0f} s: {', '.join(missing)}", 5)
        time.sleep(0.05)
