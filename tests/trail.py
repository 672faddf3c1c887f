"""One invariant for every test of the sealer: each raw record is in the committed trail once, chained, signed, routed.

Reads the topics as an administrator, under read_committed, once the sealers have stopped and every transaction is
decided. What must hold of a chain is `chain_trail`.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, TopicPartition

from kafkaio.client import client_config
from kafkaio.reader import PartitionReader, Record
from kafkaio.transaction import Ends
from keystore import load_keyring, load_root
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.partitioner import partition_of
from schemas.settings import Settings
from sealtrail.errors import TransientError
from sealtrail.seal import Kind, Reason, decode_seal, decode_sealed_event
from tests.chain_trail import SHARED, ChainTrail, Part, Sealed, chain_in, sealed_of
from tests.conftest import RAW_PARTITIONS

SHARED_PARTITIONS = 4  # of hot, siem and quarantine in the catalogue
READ_S = 30.0  # reading everything takes about a second


class Trailed(Protocol):
    """What has a trail: topics under a prefix, and settings of the roles that reach them."""

    @property
    def topic_prefix(self) -> str:
        """In front of each topic's name."""

    def settings(self, role: str, **flags: object) -> Settings:
        """Of a role, `flags` over them."""


@dataclass(frozen=True, slots=True)
class TrailCounts:
    """What a whole trail holds."""

    raw: int
    seals: int
    kinds: Counter[tuple[Kind, Reason]]
    event_ids: tuple[bytes, ...]  # of EVENT seals, chain by chain

    def of(self, kind: Kind, reason: Reason = Reason.NONE) -> int:
        """How many seals of a kind and reason."""
        return self.kinds[kind, reason]


def read_chain(reader: PartitionReader, deployment: Trailed, partition: int) -> list[Sealed]:
    """The committed records of one archive partition."""
    topic = topic_name(deployment.topic_prefix, "audit.archive")
    return [sealed_of(record) for record in reader.read_all(topic, partition)]


def unsealed(deployment: Trailed, partitions: int = RAW_PARTITIONS) -> int:
    """How many raw offsets no committed seal accounts for."""
    raw, archive = (topic_name(deployment.topic_prefix, name) for name in ("audit.raw", "audit.archive"))
    ends = Ends(deployment.settings("admin")).high([(raw, p) for p in range(partitions)])
    missing = 0
    with PartitionReader(deployment.settings("admin")) as reader:
        for partition in range(partitions):
            last = reader.last_record(archive, partition)
            sealed = 0
            if last is not None and last.value is not None:
                sealed = decode_seal(decode_sealed_event(last.value).seal).next_offset
            missing += ends[raw, partition] - sealed
    return missing


def all_sealed(deployment: Trailed, partitions: int = RAW_PARTITIONS) -> bool:
    """Whether every raw offset is accounted for; a broker that does not say so now may do at the next look."""
    try:
        return unsealed(deployment, partitions) == 0
    except TransientError:
        return False


def check_trail(deployment: Trailed, partitions: int = RAW_PARTITIONS) -> TrailCounts:
    """Assert the invariant and count. Raw records that nobody sealed yet are allowed at the end of a partition only."""
    return GrowingTrail(deployment, partitions).take()


class GrowingTrail:
    """A deployment's trail, read and checked in parts. While it is, no sealer may commit anything."""

    def __init__(self, deployment: Trailed, partitions: int = RAW_PARTITIONS) -> None:
        self._settings = deployment.settings("admin")
        assert self._settings.certificates and self._settings.root_vkey
        keyring = load_keyring(self._settings.certificates, load_root(self._settings.root_vkey))
        own_topics = ("raw", "archive", "sources", "activity", "subject-keys")
        self._own = {name: topic_name(deployment.topic_prefix, f"audit.{name}") for name in own_topics}
        self._shared = {name: topic_name(deployment.topic_prefix, f"audit.{name}") for name in SHARED}
        own = [(topic, partition) for topic in self._own.values() for partition in range(partitions)]
        others = [(topic, partition) for topic in self._shared.values() for partition in range(SHARED_PARTITIONS)]
        self._next = dict.fromkeys([*own, *others], 0)
        self._chains = [ChainTrail(keyring) for _ in range(partitions)]
        self._raw = 0

    def take(self) -> TrailCounts:
        """Assert that what is new goes on from what was there, and count all of it."""
        Ends(self._settings).await_stable(list(self._next))
        found = _read(self._settings, self._next)
        outputs = {name: _by_chain(found, topic, name) for name, topic in self._shared.items()}
        for partition, trail in enumerate(self._chains):
            archive = found[self._own["archive"], partition]
            chain = trail.chain or (sealed_of(archive[0]).seal.chain if archive else "")
            shared = {output: outputs[output].pop(chain, []) for output in self._shared}
            states = (found[self._own[name], partition] for name in ("sources", "activity", "subject-keys"))
            raw = [record.offset for record in found[self._own["raw"], partition]]
            trail.take(Part(archive, shared, *states), raw)
            self._raw += len(raw)
        assert not any(outputs[name] for name in outputs), "an output holds a chain that the archive topic does not"
        ids = tuple(event_id for trail in self._chains for event_id in trail.event_ids)
        assert len(set(ids)) == len(ids), "an event was sealed twice"
        kinds: Counter[tuple[Kind, Reason]] = Counter()
        for trail in self._chains:
            kinds += trail.kinds
        return TrailCounts(self._raw, kinds.total(), kinds, ids)


def _read(settings: Settings, following: dict[tuple[str, int], int]) -> dict[tuple[str, int], list[Record]]:
    """All committed records of these partitions from these offsets on, fetched side by side; the offsets move on."""
    found: dict[tuple[str, int], list[Record]] = {where: [] for where in following}
    consumer = Consumer(
        {
            **client_config(settings),
            "group.id": "check-trail",
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    try:
        consumer.assign([TopicPartition(*where, offset) for where, offset in following.items()])
        unread, deadline = set(following), time.monotonic() + READ_S
        while unread:
            assert time.monotonic() < deadline, f"no end of {sorted(unread)}"
            for message in consumer.consume(1000, 0.2):
                topic, partition, offset, error = message.topic(), message.partition(), message.offset(), message.error()
                assert topic is not None and partition is not None and offset is not None
                if error is None:
                    record = Record(offset, message.timestamp()[1], message.key(), message.value())
                    found[topic, partition].append(record)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    following[topic, partition] = offset
                    unread.discard((topic, partition))
    finally:
        consumer.close()
    return found


def _by_chain(records: dict[tuple[str, int], list[Record]], topic: str, name: str) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for partition in range(SHARED_PARTITIONS):
        for record in records[topic, partition]:
            assert record.value is not None
            found[chain_in(name, record.value)].append(record.value)
    return found


# -- load


def instance_on(partition: int, source: str = "loadgen", partitions: int = RAW_PARTITIONS) -> str:
    """A name of an instance of `source` whose records go to this raw partition."""
    names = (f"i{number}" for number in range(1000))
    return next(n for n in names if partition_of(f"{source}/{n}".encode(), partitions) == partition)


def load_draft(number: int) -> dict[str, object]:
    """A small event; one in seven goes to SIEM too and is signed."""
    return {
        "event_name": "load.tick",
        "tenant": ("acme", "globex", "initech")[number % 3],
        "event_type": "ADMIN" if number % 7 == 0 else "OTHER",
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "object": {"type": "tick", "id": str(number)},
        "actor": {"kind": "SERVICE", "id": "loadgen", "display": None},
    }


@contextmanager
def emitters(deployment: Trailed, partitions: int = RAW_PARTITIONS) -> Iterator[list[AuditProducer]]:
    """One emitter for each raw partition; closed, and so acknowledged in full, at the end."""
    made = [
        AuditProducer(deployment.settings("loadgen"), "loadgen", instance_on(p, partitions=partitions))
        for p in range(partitions)
    ]
    try:
        yield made
    finally:
        for emitter in made:
            emitter.close(60)
