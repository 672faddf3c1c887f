"""One invariant for every test of the sealer: each raw record is in the committed trail once, chained, signed, routed.

Reads the topics as an administrator, under read_committed, once the sealers have stopped and every transaction is
decided. Written against the evidence format alone; the emitters' states are compared with plain sets of numbers.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kafkaio.client import client_config
from kafkaio.reader import PartitionReader, Record
from kafkaio.transaction import Ends
from keystore import load_keyring, load_root
from processors.activity import ACTIVITY
from processors.quarantine import QUARANTINED
from processors.sequence import MAX_HOLES, decode_state
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.partitioner import partition_of
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.certificate import Role
from sealtrail.keyring import Keyring
from sealtrail.seal import (
    SEAL_NOTE,
    ZERO_DIGEST,
    Kind,
    Reason,
    Route,
    Seal,
    SealedEvent,
    decode_seal,
    decode_sealed_event,
    leaf_hash,
    seal_message,
)
from tests.conftest import RAW_PARTITIONS, Deployment

SHARED_PARTITIONS = 4  # of hot, siem and quarantine in the catalogue
READ_S = 30.0  # reading everything takes about a second
REFUSED = (Kind.REJECTED, Kind.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Sealed:
    """One committed record of the archive topic."""

    offset: int
    value: bytes
    seal: Seal
    event: SealedEvent


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


def read_chain(reader: PartitionReader, deployment: Deployment, partition: int) -> list[Sealed]:
    """The committed records of one archive partition."""
    topic = topic_name(deployment.topic_prefix, "audit.archive")
    return [_sealed(record) for record in reader.read_all(topic, partition)]


def unsealed(deployment: Deployment, partitions: int = RAW_PARTITIONS) -> int:
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


def check_trail(deployment: Deployment, partitions: int = RAW_PARTITIONS) -> TrailCounts:
    """Assert the invariant and count. Raw records that nobody sealed yet are allowed at the end of a partition only."""
    settings = deployment.settings("admin")
    assert settings.certificates and settings.root_vkey
    keyring = load_keyring(settings.certificates, load_root(settings.root_vkey))
    names = {name: topic_name(deployment.topic_prefix, f"audit.{name}") for name in ("raw", "archive", "sources", "activity")}
    shared = {name: topic_name(deployment.topic_prefix, f"audit.{name}") for name in ("hot", "siem", "quarantine")}
    own = [(topic, partition) for topic in names.values() for partition in range(partitions)]
    others = [(topic, partition) for topic in shared.values() for partition in range(SHARED_PARTITIONS)]
    Ends(settings).await_stable([*own, *others])
    kinds: Counter[tuple[Kind, Reason]] = Counter()
    ids: list[bytes] = []
    raw_count = seals = 0
    found = _read(settings, [*own, *others])
    outputs = {name: _by_chain(found, topic, name) for name, topic in shared.items()}
    for partition in range(partitions):
        chain = [_sealed(record) for record in found[names["archive"], partition]]
        raw = [record.offset for record in found[names["raw"], partition]]
        check_links(chain, keyring)
        check_coverage(chain, raw)
        _check_outputs(chain, outputs)
        _check_sources(chain, found[names["sources"], partition])
        _check_activity(chain, found[names["activity"], partition])
        kinds.update((sealed.seal.kind, sealed.seal.reason) for sealed in chain)
        ids += [sealed.event.content.event_id for sealed in chain if sealed.seal.kind is Kind.EVENT]
        raw_count += len(raw)
        seals += len(chain)
    assert not any(outputs[name] for name in outputs), "an output holds a chain that the archive topic does not"
    assert len(set(ids)) == len(ids), "an event was sealed twice"
    return TrailCounts(raw_count, seals, kinds, tuple(ids))


def _read(settings: Settings, partitions: list[tuple[str, int]]) -> dict[tuple[str, int], list[Record]]:
    """All committed records of these partitions, fetched side by side."""
    found: dict[tuple[str, int], list[Record]] = {where: [] for where in partitions}
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
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in partitions])
        unread, deadline = set(partitions), time.monotonic() + READ_S
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
                    unread.discard((topic, partition))
    finally:
        consumer.close()
    return found


def _sealed(record: Record) -> Sealed:
    assert record.value is not None, "a tombstone in the archive topic"
    event = decode_sealed_event(record.value)
    return Sealed(record.offset, record.value, decode_seal(event.seal), event)


def _by_chain(records: dict[tuple[str, int], list[Record]], topic: str, name: str) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = defaultdict(list)
    for partition in range(SHARED_PARTITIONS):
        for record in records[topic, partition]:
            assert record.value is not None
            if name == "quarantine":
                found[QUARANTINED.decode(record.value)["chain"]].append(record.value)
            else:
                found[decode_seal(decode_sealed_event(record.value).seal).chain].append(record.value)
    return found


def check_links(chain: list[Sealed], keyring: Keyring) -> None:
    """Numbers, links, digests, times; a valid signature wherever one is due, at each transaction's end above all."""
    prev, sealed_at = ZERO_DIGEST, 0
    for number, sealed in enumerate(chain):
        seal = sealed.seal
        assert (seal.seq, seal.prev) == (number, prev), f"fork or hole at seq {number}"
        assert seal.chain == chain[0].seal.chain
        assert (seal.kind is Kind.GENESIS) == (number == 0)
        assert seal.content_digest == sealed.event.content.digest()
        assert seal.sealed_at_us >= sealed_at
        prev, sealed_at = leaf_hash(sealed.event.seal), seal.sealed_at_us
        signature = sealed.event.signature
        assert seal.signed == (signature is not None)
        # A transaction's marker takes the offset after its last record.
        if number + 1 == len(chain) or chain[number + 1].offset != sealed.offset + 1:
            assert signature is not None, f"seq {number} ends a transaction unsigned"
        if signature is not None:
            certificate = keyring.find(signature.key_id, Role.SEALER)
            assert certificate is not None
            Ed25519PublicKey.from_public_bytes(certificate.public).verify(signature.value, seal_message(prev))


def check_coverage(chain: list[Sealed], raw: list[int]) -> None:
    """Every raw offset up to the head in exactly one seal, and a seal of one record only where there is one."""
    expected = 0
    data = set(raw)
    for sealed in chain:
        seal = sealed.seal
        assert seal.source_offset == expected, f"seq {seal.seq} begins at {seal.source_offset}, not {expected}"
        expected += seal.source_count
        if seal.kind is Kind.GAP:
            assert seal.source_count > 0
            assert data.isdisjoint(range(seal.source_offset, expected)), f"GAP at seq {seal.seq} hides a record"
        elif seal.kind in (Kind.GENESIS, Kind.HEARTBEAT):
            assert seal.source_count == 0
        else:
            assert seal.source_count == 1
    assert not raw or expected <= raw[-1] + 1


def _check_outputs(chain: list[Sealed], outputs: dict[str, dict[str, list[bytes]]]) -> None:
    """Hot and SIEM hold what the seals' routes say, in order; quarantine one record for each refused."""
    name = chain[0].seal.chain if chain else ""
    for output, route in (("hot", Route.HOT), ("siem", Route.SIEM)):
        assert outputs[output].pop(name, []) == [s.value for s in chain if s.seal.routes & route], f"{output} differs"
    assert all(s.seal.routes & Route.ARCHIVE for s in chain)
    refused = [s.seal for s in chain if s.seal.kind in REFUSED]
    assert all(bool(s.seal.routes & Route.QUARANTINE) == (s.seal.kind in REFUSED) for s in chain)
    quarantined = [QUARANTINED.decode(value) for value in outputs["quarantine"].pop(name, [])]
    assert [(q["source_offset"], q["reason"]) for q in quarantined] == [(s.source_offset, s.reason.label) for s in refused]


def _check_sources(chain: list[Sealed], records: list[Record]) -> None:
    """The last state of every run says exactly the numbers that are sealed."""
    numbers: dict[bytes, set[int]] = defaultdict(set)
    for sealed in chain:
        content = sealed.event.content.content
        if sealed.seal.kind is Kind.EVENT:
            emitter = AUDIT_EVENT.decode(content)["emitter"]
            run = f"{emitter['source']}/{emitter['instance']}/{emitter['epoch'].hex()}"
            number = emitter["seq"]
        elif sealed.seal.kind is Kind.REJECTED and sealed.seal.reason is not Reason.SEQUENCE_WILD:
            note = SEAL_NOTE.decode(content)
            if note["emitter"] is None:
                continue
            run, number = f"{note['emitter']}/{note['epoch'].hex()}", note["number"]
        else:
            continue
        sealed_numbers = numbers[f"{sealed.seal.chain}\n{run}".encode()]
        assert number not in sealed_numbers, "a number is sealed twice"
        sealed_numbers.add(number)
    states = {record.key: decode_state(record.value) for record in records if record.key and record.value}
    assert states.keys() == numbers.keys()
    for key, seen in numbers.items():
        missing = {n for first, last in states[key].holes for n in range(first, last + 1)}
        assert states[key].high_water == max(seen)
        assert missing == set(range(max(seen))) - seen
        assert len(states[key].holes) <= MAX_HOLES


def _check_activity(chain: list[Sealed], records: list[Record]) -> None:
    """The activity accounts for every seal once, by transaction, and its counts are those of the contents."""
    told = [ACTIVITY.decode(record.value) for record in records if record.value]
    events: Counter[str] = Counter()
    actors: Counter[tuple[str, str, str, str]] = Counter()
    for sealed in chain:
        if sealed.seal.kind is Kind.EVENT:
            event = AUDIT_EVENT.decode(sealed.event.content.content)
            events[f"{event['emitter']['source']}/{event['emitter']['instance']}/{event['emitter']['epoch'].hex()}"] += 1
            actors[event["tenant"], event["actor"]["id"], event["event_name"], event["result"]] += 1
    seq = 0
    for transaction in [t for t in told if t["part"] == 0]:
        assert transaction["first_seq"] == seq and transaction["chain"] == chain[0].seal.chain
        seq += transaction["count"]
        assert transaction["sealed_at"] == chain[seq - 1].seal.sealed_at_us
        assert chain[seq - 1].event.signature is not None
    assert seq == len(chain), "a seal that no activity accounts for"
    counted: Counter[str] = Counter()
    acted: Counter[tuple[str, str, str, str]] = Counter()
    for part in told:
        for row in part["emitters"]:
            counted[f"{row['source']}/{row['instance']}/{row['epoch'].hex()}"] += row["events"]
        for row in part["actors"]:
            acted[row["tenant"], row["actor"], row["event_name"], row["result"]] += row["events"]
    assert +counted == events and acted == actors


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
def emitters(deployment: Deployment, partitions: int = RAW_PARTITIONS) -> Iterator[list[AuditProducer]]:
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
