"""The input: real raw records on the benchmark's own broker, and what must become of each.

Events are GitHub webhooks' (the generator's payloads through the connector's mapping), stated by `AuditProducer`: completed,
checked, redacted, numbered, with session and MAC. One run of one instance a partition, so each partition has one key. One
event in `SIGNED_EVERY` is one that the class policy has signed. `DRAFTS` different drafts are stated over and over. Logins,
which are tokenised, stand only in as many as are asked for.
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

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bench.peers.checking import TOKENISED, Expected, without_tokens
from bench.peers.work import classify
from infra.artifacts import github_payloads
from infra.report import Reporter
from kafkaio.reader import PartitionReader
from keystore import Keystore, load_keyring, load_root
from producers.audit import AuditProducer
from producers.generate import generated_payloads, shapes_of
from producers.github.mapping import GITHUB, draft_of
from schemas.catalogue import RAW, topic_name
from schemas.partitioner import partition_of
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.emitters import OPEN_EVENT
from sealtrail.errors import ConfigError
from sealtrail.seal import Route
from sealtrail.session import RUN_SESSION, mac_key, unwrap_session_key, verify_session
from sealtrail.token import FieldCipher

DRAFTS = 10_000
SIGNED_EVERY = 20
SOURCE, TENANTS = "github", ("acme", "globex", "initech", "octo")
AWAIT_S = 120.0  # for the broker to take the last of it
Draft = dict[str, object]


@dataclass(frozen=True, slots=True)
class Supply:
    """What is on the raw topic.

    Attributes:
        expected: of each raw record, by partition and offset.
        mac_keys, token_keys: of each run, by its epoch; in hex.
        mean_bytes: of a record's value; signed: the share that the policy has signed; tokenised: that has a login.
    """

    expected: tuple[tuple[Expected, ...], ...]
    mac_keys: dict[str, str]
    token_keys: dict[str, str]
    mean_bytes: float
    signed: float
    tokenised: float

    @property
    def records(self) -> int:
        """How many records there are."""
        return sum(map(len, self.expected))


def fill(settings: Settings, events: int, partitions: int, tokens: float = 0.0) -> None:
    """State `events` events, evenly over the partitions.

    Args:
        settings: the source's.
        tokens: the share of the events whose people have logins, for which tokens will stand.
    """
    names = [instance_on(partition, partitions) for partition in range(partitions)]
    with ExitStack() as stack:
        emitters = [stack.enter_context(AuditProducer(settings, SOURCE, name, TENANTS)) for name in names]
        for emitter, draft in zip(cycle(emitters), islice(cycle(drafts(tokens)), events), strict=False):
            emitter.emit(draft)
        for emitter in emitters:
            if not emitter.await_broker(AWAIT_S):
                raise ConfigError("the broker did not take the input in time")


def read(admin: Settings, sealer: Settings, partitions: int) -> Supply:
    """Read the raw topic back: what each record is, what must become of it, and the keys of its runs."""
    policy, open_run = Policy.load(sealer.policy), _opener(sealer)
    sessions: dict[bytes, bytes] = {}
    expected = []
    sizes = signed = tokenised = 0
    with PartitionReader(admin) as reader:
        for partition in range(partitions):
            rows: list[Expected] = []
            for record in reader.read_all(topic_name(admin.topic_prefix, RAW), partition):
                if record.offset != len(rows):
                    raise ConfigError(f"the raw topic has no record at {partition}@{len(rows)}")
                value = record.value or b""
                event = AUDIT_EVENT.decode_lenient(value)
                epoch = event["emitter"]["epoch"]
                if event["event_name"] == OPEN_EVENT:
                    sessions[epoch] = open_run(event, record.timestamp_ms / 1000)
                row = expected_of(event, value, sessions[epoch], policy)
                rows.append(row)
                sizes += len(value)
                signed += row.sign
                tokenised += bool(row.texts)
            expected.append(tuple(rows))
    records = sum(map(len, expected))
    return Supply(
        tuple(expected),
        {epoch.hex(): mac_key(key).hex() for epoch, key in sessions.items()},
        {epoch.hex(): token_key(key).hex() for epoch, key in sessions.items()},
        sizes / records,
        signed / records,
        tokenised / records,
    )


def expected_of(event: dict[str, Any], value: bytes, session_key: bytes, policy: Policy) -> Expected:
    """What must become of a raw record's event."""
    decision, cipher = policy.decide(event), FieldCipher(session_key)
    number, event_id = event["emitter"]["seq"], event["event_id"]
    texts = tuple(
        (found.subject, cipher.decrypt(number, event_id, found.path, found.text)) for found in TOKENISED.values(event)
    )
    rest = AUDIT_EVENT.encode(without_tokens(event)) if texts else value
    return Expected(
        hashlib.sha256(rest).digest(),
        decision.log_class,
        decision.sign,
        decision.routes | Route.ARCHIVE,
        event["tenant"],
        texts,
    )


def token_key(session_key: bytes) -> bytes:
    """The key of a run's encrypted fields, as `FieldCipher` derives it."""
    return HKDF(SHA256(), 32, salt=None, info=b"token").derive(session_key)


def _opener(sealer: Settings) -> Callable[[Mapping[str, Any], float], bytes]:
    """What gives the session key of a run, from its opening event and the time of its record."""
    if sealer.root_vkey is None or sealer.certificates is None:
        raise ConfigError("the sealer's settings name no root_vkey or certificates")
    keyring = load_keyring(sealer.certificates, load_root(sealer.root_vkey))
    keystore = Keystore.open(sealer.keys)
    openers = {opener.key_id: opener for opener in map(keystore.opener, keystore.generations("pipeline"))}

    def opened(event: Mapping[str, Any], time_s: float) -> bytes:
        session = verify_session(RUN_SESSION.header + event["extension"]["payload"], keyring, time_s)
        return unwrap_session_key(session, openers[session.pipeline_key].open)

    return opened


def drafts(tokens: float, count: int = DRAFTS) -> list[Draft]:
    """Drafts of which every `SIGNED_EVERY`th is signed by the policy."""
    shapes = shapes_of(json.loads(github_payloads(Reporter(quiet=True)).read_text()))
    signed, others = _apart(shapes, count)
    made: list[Draft] = []
    for number in range(count):
        pool = signed if number % SIGNED_EVERY == 0 else others
        made.append(pool[number % len(pool)])
    random.Random(1).shuffle(made)  # so that every partition has its share of the signed
    people = [number for number, draft in enumerate(made) if _without_logins(draft) != draft]
    chosen = set(random.Random(2).sample(people, min(round(tokens * count), len(people))))
    return [draft if number in chosen else _without_logins(draft) for number, draft in enumerate(made)]


def _without_logins(draft: Draft) -> Draft:
    people = {name: {**cast("Draft", draft[name]), "login": None} for name in ("actor", "subject") if draft.get(name)}
    return {**draft, **people}


def _apart(shapes: Sequence[Any], count: int) -> tuple[list[Draft], list[Draft]]:
    signed: list[Draft] = []
    others: list[Draft] = []
    for tenant, hook, payload in generated_payloads(shapes, 1, count, TENANTS):
        draft = dict(draft_of(hook, payload, tenant).draft)
        extension = cast("dict[str, bytes]", draft["extension"])
        draft["extension"] = {"schema": GITHUB.sha256, "value": GITHUB.decode_body(extension["payload"])}
        _, sign, _ = classify({"result": "", "authorization": None, **draft})
        (signed if sign else others).append(draft)
    return signed, others


def instance_on(partition: int, partitions: int) -> str:
    """An instance's name whose records belong on this partition."""
    names = (f"w{number}" for number in count())
    return next(name for name in names if partition_of(f"{SOURCE}/{name}".encode(), partitions) == partition)
