"""The archive sink from its settings: every part that `sink`, `partition` and `publish` are given.

    open_sink(settings).run(stop)
    publish_documents(settings)

The sink needs the role's Kafka certificate, S3 credentials, `keys` with the key `archive`, `root_vkey` and `certificates`.
The publisher needs S3 credentials of its own, `root_vkey` and `certificates`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from kafkaio.placement import Placement
from kafkaio.reader import PartitionReader
from keystore import Certificates, Keystore, load_root
from schemas.catalogue import topic_name
from schemas.policy import Policy
from schemas.policy_files import PolicyFiles
from schemas.registry import Registry, packaged_registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError
from sealtrail.layout import END
from sinks.archive.checking import TenantReader
from sinks.archive.documents import Documents
from sinks.archive.keys import KeyDesk
from sinks.archive.partition import PartitionArchiver, Store, Tools
from sinks.archive.publish import Document, Published, certificates, ends, glossary, policies, publish, schemas_
from sinks.archive.sink import ArchiveSink
from sinks.archive.store import ArchiveStore
from sinks.archive.writer import Limits

TOPIC = "audit.archive"
GROUP = "sink-archive"

WrapStore = Callable[[ArchiveStore], Store]


def limits_of(settings: Settings) -> Limits:
    """When to cut, from the settings."""
    return Limits(
        seals=settings.segment_seals,
        content_bytes=settings.segment_bytes,
        record_time_us=int(settings.segment_seconds * 1_000_000),
        idle_time_us=int(settings.segment_idle_seconds * 1_000_000),
    )


def tenant_reader(registry: Registry) -> TenantReader:
    """Reads the tenant of every event schema in the registry."""
    return TenantReader({digest: codec.header for digest, codec in registry.events.items()})


def certificates_of(settings: Settings) -> Certificates:
    """The folder of certificates, each verified against the root. Raises ConfigError."""
    settings.require("root_vkey", "certificates")
    return Certificates(_path(settings.certificates), load_root(_path(settings.root_vkey)))


def make_tools(
    settings: Settings,
    store: Store,
    *,
    clock: Callable[[], float] = time.time,
    random: Callable[[int], bytes] = os.urandom,
) -> Tools:
    """What the partitions of one process share. Raises ConfigError."""
    origin = f"{settings.authority}/{settings.deployment}/"
    keys = KeyDesk(certificates_of(settings), Keystore.open(settings.keys), origin, clock)
    keys.signer()  # there must be one from the start
    return Tools(
        store=store,
        documents=Documents(store),
        keys=keys,
        tenant_of=tenant_reader(packaged_registry()),
        policies=PolicyFiles(settings.policy),
        limits=limits_of(settings),
        origin=origin,
        clock=clock,
        random=random,
    )


def open_sink(
    settings: Settings,
    *,
    wrap_store: WrapStore | None = None,
    clock: Callable[[], float] = time.time,
    random: Callable[[int], bytes] = os.urandom,
) -> ArchiveSink:
    """The sink, not yet connected. Raises ConfigError for settings that cannot work.

    Args:
        wrap_store: stands between the sink and its store; for tests of what happens when calls fail.
    """
    bucket = ArchiveStore(settings)
    tools = make_tools(settings, wrap_store(bucket) if wrap_store else bucket, clock=clock, random=random)
    topic = topic_name(settings.topic_prefix, TOPIC)
    group = topic_name(settings.topic_prefix, GROUP)
    return ArchiveSink(
        check_store=bucket.check_bucket,
        join=lambda: Placement(settings, topic, group),
        open_lane=lambda partition: PartitionArchiver(topic, partition, PartitionReader(settings), tools),
        accept_weak_store=settings.accept_weak_store,
    )


def publish_documents(settings: Settings, *, clock: Callable[[], float] = time.time) -> Published:
    """Put into the archive what a stranger needs to read it; what is there already stays. Raises as `publish`."""
    settings.require("root_vkey", "certificates")
    policy = Policy.load(settings.policy)
    documents: list[Document] = [
        *keys_of(settings),
        *schemas_(_packaged_schemas()),
        *policies(policy.texts, policy.combined),
        glossary((resources.files("schemas") / "glossary.md").read_bytes()),
    ]
    store = ArchiveStore(settings)
    store.check_bucket()
    return publish(store, documents, policy.longest_ms, int(clock() * 1000))


def publish_keys(settings: Settings, *, clock: Callable[[], float] = time.time) -> Published:
    """Put the certificates and the ends of keys into the archive; what is there already stays. Raises as `publish`."""
    store = ArchiveStore(settings)
    store.check_bucket()
    return publish(store, keys_of(settings), Policy.load(settings.policy).longest_ms, int(clock() * 1000))


def keys_of(settings: Settings) -> list[Document]:
    """What the folder of certificates holds. Raises ConfigError naming what cannot be used."""
    settings.require("root_vkey", "certificates")
    folder, root = _path(settings.certificates), load_root(_path(settings.root_vkey))
    certified = certificates(sorted(folder.glob("*.cert")), root)
    return [*certified, *ends(sorted(folder.glob(f"*{END}")), certified, root)]


def publish_policy(settings: Settings, policy: Policy, *, clock: Callable[[], float] = time.time) -> Published:
    """Put a policy's texts into the archive, before it is in force; what is there already stays. Raises as `publish`."""
    store = ArchiveStore(settings)
    store.check_bucket()
    return publish(store, policies(policy.texts, policy.combined), policy.longest_ms, int(clock() * 1000))


def _packaged_schemas() -> list[str]:
    """The text of every schema that ships: the evidence format's, the event's, the extensions'."""
    folders = [
        resources.files("sealtrail") / "avsc",
        resources.files("schemas"),
        resources.files("schemas") / "extensions",
    ]
    files = [file for folder in folders for file in folder.iterdir() if file.name.endswith(".avsc")]
    return [file.read_bytes().decode("utf-8") for file in sorted(files, key=lambda file: file.name)]


def _path(path: Path | None) -> Path:
    if path is None:  # `require` has refused it already
        raise ConfigError("a path is missing")
    return path
