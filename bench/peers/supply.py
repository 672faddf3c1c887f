"""The input: real raw records on the benchmark's own broker, and what must become of each.

Events are GitHub webhooks' (the generator's payloads through the connector's mapping), stated by `AuditProducer`: completed,
checked, redacted, numbered, with session and MAC. One run of one instance a partition, so each partition has one key. One
event in `SIGNED_EVERY` is one that the class policy has signed. `DRAFTS` different drafts are stated over and over.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, cycle, islice
from typing import Any, cast

from bench.peers.checking import Expected
from bench.peers.work import classify
from infra.artifacts import github_payloads
from infra.report import Reporter
from kafkaio.reader import PartitionReader
from keystore import Keystore, load_keyring, load_root
from producers.audit import AuditProducer
from producers.generate import generated_payloads, shapes_of
from producers.github.mapping import GITHUB, draft_of
from schemas.catalogue import RAW, topic_name
from schemas.fields import Redact, field_tree
from schemas.partitioner import partition_of
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.emitters import OPEN_EVENT
from sealtrail.errors import ConfigError
from sealtrail.session import RUN_SESSION, mac_key, unwrap_session_key, verify_session

DRAFTS = 10_000
PEOPLE = 200
SIGNED_EVERY = 20
SOURCE, TENANTS = "github", ("acme", "globex", "initech", "octo")
AWAIT_S = 120.0  # for the broker to take the last of it
Draft = dict[str, object]


@dataclass(frozen=True, slots=True)
class Supply:
    """What is on the raw topic.

    Attributes:
        expected: of each raw record, by partition and offset.
        mac_keys: of each run, by its epoch; both in hex.
        mean_bytes: of a record's value; signed: the share that the policy has signed.
    """

    expected: tuple[tuple[Expected, ...], ...]
    mac_keys: dict[str, str]
    mean_bytes: float
    signed: float

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(map(len, self.expected))


def fill(settings: Settings, events: int, partitions: int, tokens: float = 0.0) -> None:
    """State `events` events, evenly over the partitions.

    Args:
        settings: the source's.
        tokens: the share of the events that have a value for tokens to stand for.
    """
    names = [_instance(partition, partitions) for partition in range(partitions)]
    with ExitStack() as stack:
        emitters = [stack.enter_context(AuditProducer(settings, SOURCE, name, TENANTS)) for name in names]
        for emitter, draft in zip(cycle(emitters), islice(cycle(_drafts(tokens)), events), strict=False):
            emitter.emit(draft)
        for emitter in emitters:
            if not emitter.await_broker(AWAIT_S):
                raise ConfigError("the broker did not take the input in time")


def read(admin: Settings, sealer: Settings, partitions: int) -> Supply:
    """Read the raw topic back: what each record is, what must become of it, and the keys of its runs."""
    policy, open_run = Policy.load(sealer.policy), _opener(sealer)
    mac_keys: dict[str, str] = {}
    expected = []
    sizes = signed = 0
    with PartitionReader(admin) as reader:
        for partition in range(partitions):
            rows: list[Expected] = []
            for record in reader.read_all(topic_name(admin.topic_prefix, RAW), partition):
                if record.offset != len(rows):
                    raise ConfigError(f"the raw topic has no record at {partition}@{len(rows)}")
                value = record.value or b""
                event = AUDIT_EVENT.decode_lenient(value)
                if event["event_name"] == OPEN_EVENT:
                    mac_keys[event["emitter"]["epoch"].hex()] = open_run(event, record.timestamp_ms / 1000).hex()
                decision = policy.decide(event)
                rows.append(Expected(hashlib.sha256(value).digest(), decision.log_class, decision.sign, decision.routes | 1))
                sizes += len(value)
                signed += decision.sign
            expected.append(tuple(rows))
    records = sum(map(len, expected))
    return Supply(tuple(expected), mac_keys, sizes / records, signed / records)


def _opener(sealer: Settings) -> Callable[[Mapping[str, Any], float], bytes]:
    """What gives the MAC key of a run, from its opening event and the time of its record."""
    if sealer.root_vkey is None or sealer.certificates is None:
        raise ConfigError("the sealer's settings name no root_vkey or certificates")
    keyring = load_keyring(sealer.certificates, load_root(sealer.root_vkey))
    keystore = Keystore.open(sealer.keys)
    openers = {opener.key_id: opener for opener in map(keystore.opener, keystore.generations("pipeline"))}

    def opened(event: Mapping[str, Any], time_s: float) -> bytes:
        session = verify_session(RUN_SESSION.header + event["extension"]["payload"], keyring, time_s)
        return mac_key(unwrap_session_key(session, openers[session.pipeline_key].open))

    return opened


def tokenised_field() -> str | None:
    """The event's first text field that is tokenised, or None while the schema has none."""
    for name, node in field_tree(AUDIT_EVENT.text).fields:
        if node.kind == "string" and node.marks is not None and node.marks.redact is Redact.TOKENIZE:
            return name
    return None


def _drafts(tokens: float) -> list[Draft]:
    """Drafts of which every `SIGNED_EVERY`th is signed by the policy."""
    shapes = shapes_of(json.loads(github_payloads(Reporter(quiet=True)).read_text()))
    signed, others = _apart(shapes)
    made: list[Draft] = []
    for number in range(DRAFTS):
        pool = signed if number % SIGNED_EVERY == 0 else others
        made.append(pool[number % len(pool)])
    random.Random(1).shuffle(made)  # so that every partition has its share of the signed
    field = tokenised_field()
    if field is not None:
        with_value = random.Random(2).sample(range(DRAFTS), int(tokens * DRAFTS))
        for number in with_value:
            made[number] = {**made[number], field: f"person{number % PEOPLE}@example.org"}
    return made


def _apart(shapes: Sequence[Any]) -> tuple[list[Draft], list[Draft]]:
    signed: list[Draft] = []
    others: list[Draft] = []
    for tenant, hook, payload in generated_payloads(shapes, 1, DRAFTS, TENANTS):
        draft = dict(draft_of(hook, payload, tenant).draft)
        extension = cast("dict[str, bytes]", draft["extension"])
        draft["extension"] = {"schema": GITHUB.sha256, "value": GITHUB.decode_body(extension["payload"])}
        _, sign, _ = classify({"result": "", "authorization": None, **draft})
        (signed if sign else others).append(draft)
    return signed, others


def _instance(partition: int, partitions: int) -> str:
    """An instance's name whose records belong on this partition."""
    names = (f"w{number}" for number in count())
    return next(name for name in names if partition_of(f"{SOURCE}/{name}".encode(), partitions) == partition)
