"""The pure main path: every raw offset in exactly one seal, whatever the bytes; refused records kept, the next one sealed."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from auditor.topics import VALUES
from infra import keys
from infra.places import Places
from kafkaio.delivery import Delivered
from keystore import Keystore
from processors.assembly import pipeline_of
from processors.authenticate import Authenticate
from processors.chain import ChainHead
from processors.decode import Decode
from processors.native import load
from processors.pipeline import ChainState, Pipeline
from processors.quarantine import QUARANTINED, RECORD, quarantine_info
from processors.quick import Quick
from processors.records import Batch, Headers, Outputs, RawRecord
from processors.sequence import MAX_HOLES, Runs, RunState, decode_state, state_key
from producers.identity import Identity
from producers.lifecycle import opened
from producers.run import OpenRun
from schemas.contract import Contract
from schemas.head import read_head
from schemas.partitioner import partition_of
from schemas.policy import Policy, retain_until
from schemas.redact import RedactionCheck, Redactor, hash_value
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from schemas.settings import Settings
from schemas.tokenized import Tokenized
from sealtrail.avro import HEADER_SIZE, Codec, without_logical_types
from sealtrail.emitters import OPEN_EVENT
from sealtrail.errors import ContractError, EvidenceError, TransientError
from sealtrail.keyring import Keyring
from sealtrail.seal import (
    DEPLOYMENT_TENANT,
    SEAL_NOTE,
    Kind,
    LogClass,
    Reason,
    Route,
    Seal,
    SealedEvent,
    decode_seal,
    decode_sealed_event,
    leaf_hash,
    seal_message,
)
from sealtrail.session import RUN_SESSION, Run, audience_of, hpke_open, open_run, record_mac
from sealtrail.token import parse_wrapped_key, token_key_id
from sinks.archive.assembly import tenant_reader
from sinks.delivery import Item
from sinks.search.document import document_of
from tests.archives import counted
from tests.strategies import GITHUB, _Encoder, _named, encodings, events, minimal_event

NOW_S = 1_795_000_000
NOW_US = NOW_S * 1_000_000
TOPIC = "audit.raw"
AUDIENCE = audience_of("audit.example", "local", TOPIC)
CHAIN = "audit.example/local/audit.raw.0011aabb.0/0"
MARKER = b"Zebulon-Quixote-Marker"
HASHED = hash_value(bytes(32), "someone")
MESSAGE = {"stage": "DELIVERED", "type": "direct", "recipient_group": None, "recipient_count": 3}
TOKENIZED = Tokenized(packaged_registry())
BASE = (Path("schemas/policy/base.toml")).read_text()
OTHER_RULES = """
[[rules]]
name = "other"
class = "security"
sign = true
routes = ["archive", "siem"]
[rules.detection]
changed = { "changes.path|startswith" = ["/r", "/v"] }
retried = { "retry.attempt|gte" = 2 }
delivered = { "message.stage" = ["DELIVERED", "SENT"], "object.type" = ["message", "x"] }
condition = "changed or retried or delivered"
"""
OTHER_POLICY = Policy(BASE.replace("[[rules]]", f"{OTHER_RULES}\n[[rules]]", 1), {})
REDACTOR = Redactor(AUDIT_EVENT.text, packaged_registry(), lambda tenant: bytes(32))
Event = dict[str, Any]
SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]  # fixtures are read only; signing takes its time


# -- a sealer and its sources, without servers


@dataclass(frozen=True)
class World:
    """Keys of the local stack's making, and the pipeline that the sealer would run with them."""

    places: Places
    pipeline: Pipeline
    sealer_public: bytes

    def settings(self, role: str, *, native: bool | None = None) -> Settings:
        return Settings.load(
            native=native,
            role=role,
            keys=f"file:{self.places.keys / role}",
            root_vkey=self.places.root / "root.vkey",
            certificates=self.places.keys / "certs",
        )

    def speaker(self, source: str = "github", instance: str = "one", epoch: int = 1, topic: str = TOPIC) -> Speaker:
        identity = Identity(self.settings(source), source, instance)
        return Speaker(identity.open(uuid7(epoch), bytes([epoch]) * 32, topic, NOW_S))

    def source_key(self, source: str) -> Ed25519PrivateKey:
        path = self.places.keys / source / f"source-{source}.key"
        return Ed25519PrivateKey.from_private_bytes(path.read_bytes())

    def pipeline_public(self) -> bytes:
        return (
            X25519PrivateKey.from_private_bytes((self.places.keys / "sealer" / "pipeline.key").read_bytes())
            .public_key()
            .public_bytes_raw()
        )

    def revealed(self, outputs: Outputs, event: Event) -> Event:
        """As the holder of the tenant's tenant-subject key reads a sealed event, by the keys in these outputs."""
        opener = Keystore.open(f"file:{self.places.keys / 'reader'}").opener(f"tenant-subject-{event['tenant']}")
        held = [parse_wrapped_key(key, value).open(opener.open) for key, value in outputs.subject_keys]
        by_id = {key.key_id: key for key in held}
        return TOKENIZED(event, lambda _, token, __: by_id[token_key_id(token)].open(token))

    def open_quarantined(self, data: bytes) -> dict[str, Any]:
        """As the holder of the quarantine key reads it: the envelope's fields, and key, value, headers."""
        envelope = QUARANTINED.decode(data)
        private = X25519PrivateKey.from_private_bytes((self.places.root / "quarantine.key").read_bytes())
        info = quarantine_info(envelope["chain"], envelope["source_offset"])
        record = RECORD.decode_body(hpke_open(private, envelope["encapsulated"], info))
        headers = tuple((h["name"], h["value"]) for h in record["headers"])
        return {**envelope, "key": record["key"], "value": record["value"], "headers": headers}


class Speaker:
    """One run of one source, whose records a test may bend."""

    def __init__(self, run: OpenRun) -> None:
        self.run = run

    def event(self, number: int, **fields: Any) -> Event:
        run = self.run.run
        emitter = {"source": run.source, "instance": run.instance, "epoch": run.epoch, "seq": number}
        actor = {"kind": "SERVICE", "id": HASHED, "display": None, "login": None}
        if number == 0:
            session = {"schema": RUN_SESSION.sha256, "payload": self.run.session[HEADER_SIZE:]}
            fields = {"event_name": OPEN_EVENT, "tenant": DEPLOYMENT_TENANT, "extension": session, **fields}
        return minimal_event(**{"event_id": uuid7(number + 1000), "emitter": emitter, "actor": actor, **fields})

    def encrypted(self, number: int, event: Event) -> Event:
        """With every value that is to be tokenised as this run sends it."""
        holes, encrypt = itertools.count(), self.run._cipher.encrypt
        return TOKENIZED(event, lambda p, t, _: encrypt(number, next(holes), event["event_id"], p, t.encode()).decode())

    def headers(self, number: int, value: bytes) -> Headers:
        mac = record_mac(self.run._mac_key, self.run._topic, number, value)
        return (("st-session", self.run.session), ("st-mac", mac), ("content-type", b"application/avro"))

    def record(self, number: int, value: bytes | None = None, headers: Headers | None = None, **fields: Any) -> RawRecord:
        """An authentic record of this number, or of these bytes; at no offset yet."""
        value = AUDIT_EVENT.encode(self.event(number, **fields)) if value is None else value
        return RawRecord(
            -1, self.run.run.key.encode(), value, self.headers(number, value) if headers is None else headers, NOW_S * 1000
        )


def uuid7(number: int) -> bytes:
    return bytes.fromhex("019aaaaaaaaa7000") + (1 << 63 | number).to_bytes(8, "big")


def made_world(folder: Path, *, native: bool) -> World:
    """With keys in this folder; with the native kernel, if it was built, or without."""
    places = Places(folder)
    keys.ensure(places, datetime.fromtimestamp(NOW_S, UTC))
    bare = World(places, None, b"")  # type: ignore[arg-type]  # completed in the next line
    settings = bare.settings("sealer", native=native)
    return World(
        places, pipeline_of(settings, clock=lambda: float(NOW_S)), Keystore.open(settings.keys).signer("sealer").public
    )


@pytest.fixture(scope="module", params=["native", "python"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """With the native kernel, and without."""
    native = request.param == "native"
    if native and load() is None:
        pytest.skip("NO C COMPILER: not tested with the native kernel, see python -m processors.native.build")
    return made_world(tmp_path_factory.mktemp("keys"), native=native)


@pytest.fixture
def source(world: World) -> Speaker:
    return world.speaker()


def at(records: list[RawRecord], first: int = 0) -> tuple[RawRecord, ...]:
    """The records at consecutive offsets."""
    return tuple(record._replace(offset=first + index) for index, record in enumerate(records))


def fresh() -> ChainState:
    return ChainState(ChainHead(CHAIN))


def sealed_of(outputs: Outputs) -> list[tuple[Seal, SealedEvent]]:
    found = [decode_sealed_event(value) for value in outputs.archive]
    return [(decode_seal(event.seal), event) for event in found]


class StepByStep(Quick):
    """Knows no good case."""

    def locate(self, value: bytes) -> None:
        return None


def step_by_step(pipeline: Pipeline) -> Pipeline:
    """The oracle: every record decoded, checked and classified."""
    return replace(pipeline, quick=StepByStep(packaged_registry(), pipeline.region, pipeline.policy))


def without_kernel(pipeline: Pipeline) -> Pipeline:
    """The good case in Python."""
    return replace(pipeline, quick=Quick(packaged_registry(), pipeline.region, pipeline.policy))


def sealed_alike(pipeline: Pipeline, batches: Sequence[Sequence[RawRecord]], policy: Policy) -> Outputs:
    """The last outputs; of this pipeline, without its kernel, and step by step, all batches alike to the byte."""
    forms = [
        (replace(form, policy=policy, random=counted("quick")), fresh())
        for form in (pipeline, without_kernel(pipeline), step_by_step(pipeline))
    ]
    for batch in batches:
        done = [form.seal_batch(state, Batch(batch), NOW_US) for form, state in forms]
        (state, outputs), *others = done
        for other, theirs in others:
            assert state == other and list(state.runs) == list(other.runs)
            assert without_ciphertexts(outputs) == without_ciphertexts(theirs)
        forms = [(form, after) for (form, _), (after, _) in zip(forms, done, strict=True)]
    return outputs


def seal_all(world: World, records: list[RawRecord], state: ChainState | None = None) -> tuple[ChainState, Outputs]:
    """One batch, with what holds of every batch checked."""
    before = state or fresh()
    first = before.head.next_offset
    after, outputs = world.pipeline.seal_batch(before, Batch(at(records, first)), NOW_US)
    check_batch(world, before, after, outputs, first + len(records))
    return after, outputs


def check_batch(world: World, before: ChainState, after: ChainState, outputs: Outputs, end: int) -> None:
    """Offsets covered once, links, signatures, routes, counts, quarantine."""
    sealed = sealed_of(outputs)
    head = before.head
    for seal, event in sealed:
        assert (seal.seq, seal.prev, seal.source_offset) == (head.seq, head.prev, head.next_offset)
        assert seal.content_digest == event.content.digest()
        assert seal.signed == (event.signature is not None)
        leaf = leaf_hash(event.seal)
        if event.signature is not None:
            Ed25519PublicKey.from_public_bytes(world.sealer_public).verify(event.signature.value, seal_message(leaf))
        assert seal.sealed_at_us >= head.sealed_at_us
        head = ChainHead(CHAIN, seal.seq + 1, leaf, seal.next_offset, seal.sealed_at_us)
    assert head == after.head and head.next_offset == end
    assert sealed[-1][0].signed, "the last seal of a batch is unsigned"
    for output, route in ((outputs.archive, Route.ARCHIVE), (outputs.hot, Route.HOT), (outputs.siem, Route.SIEM)):
        assert [decode_seal(decode_sealed_event(v).seal).seq for v in output] == [s.seq for s, _ in sealed if s.routes & route]
    refused = [seal for seal, _ in sealed if seal.kind in (Kind.REJECTED, Kind.DUPLICATE)]
    assert [world.open_quarantined(v)["source_offset"] for v in outputs.quarantine] == [s.source_offset for s in refused]
    assert sum(outputs.counts.values()) == len(sealed)
    assert all(outputs.counts[s.kind, s.reason] for s, _ in sealed)
    assert dict(outputs.sources).keys() == {key for key, run in after.runs.items() if before.runs.get(key) != run}
    assert all(decode_state(value) == after.runs[key] for key, value in outputs.sources)
    for topic in ("archive", "hot", "siem", "quarantine", "activity"):
        for value in getattr(outputs, topic):
            VALUES[f"audit.{topic}"].decode(value)
    for _, value in outputs.sources:
        VALUES["audit.sources"].decode(value)


def kinds(outputs: Outputs) -> list[tuple[Kind, Reason]]:
    return [(seal.kind, seal.reason) for seal, _ in sealed_of(outputs)]


EVENT = (Kind.EVENT, Reason.NONE)
DUPLICATE = (Kind.DUPLICATE, Reason.NONE)


# -- older versions of the event

AS_RELEASED_FIRST = list(packaged_registry().by_header.values())[-1]


def test_an_event_of_an_older_version_is_sealed_as_received_and_read_as_the_current_one(world: World, source: Speaker) -> None:
    """A connector that was not updated yet: its schema lacks the newest fields, and its fingerprint is another."""
    document = json.loads(AUDIT_EVENT.text)
    document["fields"] = [field for field in document["fields"] if field["name"] not in ("audience", "automation")]
    older = Codec(json.dumps(document))
    known = packaged_registry()
    extensions = [codec for digest, codec in known.extensions.items() if digest not in known.unclassified]
    registry = Registry([AUDIT_EVENT, older], extensions, [RUN_SESSION])
    pipeline = replace(
        world.pipeline,
        decode=Decode(registry),
        contract=Contract(registry, "eu-central"),
        redaction=RedactionCheck(registry),
    )
    value = older.encode(
        source.event(1, message={"stage": "SENT", "type": "text", "recipient_group": None, "recipient_count": 3})
    )
    batch = Batch(at([source.record(0), source.record(1, value)]))
    _, outputs = pipeline.seal_batch(fresh(), batch, NOW_US)
    (_, _), (seal, sealed) = sealed_of(outputs)
    assert (seal.kind, sealed.content.content_schema, sealed.content.content) == (Kind.EVENT, older.sha256, value)
    written_with = registry.by_digest[sealed.content.content_schema]
    event = written_with.decode(sealed.content.content)
    assert "audience" not in event
    now = registry.as_current(event, written_with)
    assert now == {**event, "audience": None, "automation": None}
    document_of(Item(Delivered(0, 0, 0, outputs.archive[1]), sealed, seal, now))
    assert registry.as_current(now, AUDIT_EVENT) is now
    assert tenant_reader(registry)(seal, sealed.content) == "acme"


# -- bad records


def variant(old: str, new: str) -> Codec:
    """The event's schema with one piece of text replaced: writes what the real one cannot."""
    assert old in AUDIT_EVENT.text
    return Codec(AUDIT_EVENT.text.replace(old, new))


def written_as(codec: Codec, event: Event) -> bytes:
    """An event encoded by another schema, under the real one's fingerprint."""
    return AUDIT_EVENT.header + codec.encode_body(event)


def forged(world: World, source: Speaker, **changes: Any) -> Headers:
    """Headers of number 1 with a session made by hand: a run, a pipeline key, a source key that are not the right ones."""
    run = source.run.run
    value = AUDIT_EVENT.encode(source.event(1))
    private = changes.get("private", world.source_key("github"))
    session = open_run(
        changes.get("run", run),
        changes.get("audience", AUDIENCE),
        bytes([1]) * 32,
        changes.get("pipeline", world.pipeline_public()),
        private.public_key().public_bytes_raw(),
        private.sign,
    )
    if "flip" in changes:
        bent = bytearray(session)
        bent[changes["flip"]] ^= 1
        session = bytes(bent)
    return (("st-session", session), *source.headers(1, value)[1:])


def without(headers: Headers, name: str) -> Headers:
    return tuple(h for h in headers if h[0] != name)


def bad_records(world: World, source: Speaker) -> dict[str, tuple[RawRecord, Reason]]:
    """Number 1 of the run, each bent in one way, by what is wrong with it."""
    good = source.record(1)
    value, headers = good.value, good.headers
    session, mac = headers[0], headers[1]
    wider = variant('"PARTIAL", "UNKNOWN"]', '"PARTIAL", "UNKNOWN", "NEVER"]')
    long_tenant = variant('{"name": "tenant", "type": "string"', '{"name": "tenant", "type": "long"')
    long_attempt = variant('{"name": "attempt", "type": "int"', '{"name": "attempt", "type": "long"')
    retry = {"original_event_id": None, "attempt": 1 << 40, "idempotency_key": "k"}
    hollow = AUDIT_EVENT.header + uuid7(1)
    payload = GITHUB.encode_body(github_value())
    other_source = world.speaker("chat")
    other_topic = world.speaker(topic="t9.audit.raw")
    second = source.record(1, detail=None, event_name="github.other")

    def raw(data: bytes, authentic: bool = True) -> RawRecord:
        return source.record(1, data, source.headers(1, data) if authentic else ())

    def extended(schema: bytes, data: bytes) -> RawRecord:
        return source.record(1, extension={"schema": schema, "payload": data})

    def contract(**fields: Any) -> tuple[RawRecord, Reason]:
        return source.record(1, **fields), Reason.CONTRACT

    def not_authentic(*given: tuple[str, bytes]) -> tuple[RawRecord, Reason]:
        return good._replace(headers=given), Reason.NOT_AUTHENTIC

    flips = {"signature": -1, "statement": HEADER_SIZE + 6, "fingerprint": 4}
    return {
        "truncated": (raw(value[:-5]), Reason.UNDECODABLE),
        "header-alone": (raw(AUDIT_EVENT.header), Reason.UNDECODABLE),
        "half-a-header": (raw(AUDIT_EVENT.header[:6]), Reason.UNDECODABLE),
        "unknown-fingerprint": (raw(value[:2] + bytes(8) + value[10:]), Reason.UNKNOWN_SCHEMA),
        "registry-framing": (raw(b"\0\0\0\0\x07" + value[10:]), Reason.UNDECODABLE),
        "enum-out-of-range": (raw(written_as(wider, source.event(1, result="NEVER"))), Reason.UNDECODABLE),
        "number-where-text-is-due": (raw(written_as(long_tenant, source.event(1, tenant=-7))), Reason.UNDECODABLE),
        "number-wider-than-its-type": (raw(written_as(long_attempt, source.event(1, retry=retry))), Reason.UNDECODABLE),
        "empty": (raw(b""), Reason.UNDECODABLE),
        "empty-without-headers": (raw(b"", authentic=False), Reason.UNDECODABLE),
        "one-and-a-half-mib": (raw(value + bytes(3 << 19)), Reason.TOO_LARGE),
        "one-byte-over-one-mib": (raw(value + bytes((1 << 20) + 1 - len(value))), Reason.TOO_LARGE),
        "random-bytes": (raw(random.Random(1).randbytes(500)), Reason.UNDECODABLE),
        "random-body": (raw(AUDIT_EVENT.header + random.Random(2).randbytes(500)), Reason.UNDECODABLE),
        "trailing-byte": (raw(value + b"\0"), Reason.UNDECODABLE),
        "two-events": (raw(value + value), Reason.UNDECODABLE),
        "text-length-of-a-tebibyte": (raw(hollow + long(1 << 40) + b"x"), Reason.UNDECODABLE),
        "negative-text-length": (raw(hollow + long(-5) + b"x" * 50), Reason.UNDECODABLE),
        "text-not-utf8": (raw(value.replace(b"github.push", b"github.\xff\xfe\xfd\xfc")), Reason.UNDECODABLE),
        "trailing-bytes-in-the-extension": (extended(GITHUB.sha256, payload + MARKER), Reason.UNDECODABLE),
        "truncated-extension": (extended(GITHUB.sha256, payload[:-1]), Reason.UNDECODABLE),
        "no-headers": not_authentic(),
        "session-missing": not_authentic(*without(headers, "st-session")),
        "session-twice": not_authentic(*headers, session),
        "session-empty": not_authentic(("st-session", b""), *headers[1:]),
        "mac-missing": not_authentic(*without(headers, "st-mac")),
        "mac-twice": not_authentic(*headers, mac),
        "mac-empty": not_authentic(session, ("st-mac", b"")),
        "mac-flipped": not_authentic(session, ("st-mac", bytes([mac[1][0] ^ 1]) + mac[1][1:])),
        "mac-of-another-record": not_authentic(session, second.headers[1]),
        "mac-of-another-number": not_authentic(*source.headers(2, value)),
        "mac-for-another-topic": not_authentic(*other_topic.headers(1, value)),
        "session-of-another-run": not_authentic(*world.speaker(epoch=2).headers(1, value)),
        "session-of-another-source": not_authentic(*other_source.headers(1, value)),
        "session-signed-by-another-source": not_authentic(*forged(world, source, private=world.source_key("chat"))),
        "session-by-nobody-certified": not_authentic(*forged(world, source, private=Ed25519PrivateKey.generate())),
        "session-wrapped-to-another-key": not_authentic(
            *forged(world, source, pipeline=X25519PrivateKey.generate().public_key().public_bytes_raw())
        ),
        "session-for-another-instance": not_authentic(*forged(world, source, run=replace(source.run.run, instance="two"))),
        **{f"session-{what}-flipped": not_authentic(*forged(world, source, flip=n)) for what, n in flips.items()},
        "certificate-expired": (good._replace(appended_ms=(NOW_S + 800 * 86_400) * 1000), Reason.NOT_AUTHENTIC),
        "opening-after-the-first": (source.record(1, **opening(source.run.session)), Reason.CONTRACT),
        "session-for-another-audience": not_authentic(*forged(world, source, audience="audit.example/staging/audit.raw")),
        "session-header-too-long": not_authentic(("st-session", session[1] + bytes(2048)), mac),
        "key-of-another-emitter": (good._replace(key=b"github/two"), Reason.NOT_AUTHENTIC),
        "tenant-that-the-source-may-not-state": (source.record(1, tenant="umbrella"), Reason.NOT_ENTITLED),
        "event-name-that-the-source-may-not-state": (source.record(1, event_name="chat.sent"), Reason.NOT_ENTITLED),
        "deployment-tenant-for-an-act": (source.record(1, tenant="@deployment"), Reason.NOT_ENTITLED),
        "another-region": (source.record(1, region="us-east"), Reason.WRONG_REGION),
        "pattern": contract(object={"type": "not a word", "id": "1"}),
        "event-id-not-uuid7": contract(event_id=bytes(16)),
        "time-before-clocks-were-set": contract(occurred_at=0),
        "huge-text-within-one-mib": contract(reason="*" * 900_000),
        "unredacted-personal-value": contract(actor={"kind": "USER", "id": MARKER.decode(), "display": None}),
        "unmasked-text": contract(reason=MARKER.decode()),
        "not-omitted": contract(detail=MARKER.decode()),
        "unregistered-extension": (extended(bytes(32), payload), Reason.CONTRACT),
        "unmasked-text-in-the-extension": (
            extended(GITHUB.sha256, GITHUB.encode_body(github_value(ref=MARKER.decode()))), Reason.CONTRACT,
        ),
    }  # fmt: skip


def opening(session: bytes) -> Event:
    drafted = opened("github/one", session)
    return {"event_name": "emitter.open", "tenant": "@deployment", "extension": drafted["extension"]}


def github_value(**fields: Any) -> Event:
    names = [field["name"] for field in json.loads(GITHUB.text)["fields"]]
    return {**dict.fromkeys(names), "hook": "push", "malformed": False, "settings": [], **fields}


def long(value: int) -> bytes:
    """Avro's shortest zigzag varint."""
    zigzag = (value << 1) ^ (value >> 63)
    out = bytearray()
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


NUMBERED = {Reason.NOT_ENTITLED, Reason.WRONG_REGION, Reason.CONTRACT}  # authentic: its number counts as seen
AUTHENTIC = {  # refused for what follows the head, which is the source's own word
    "truncated",
    "enum-out-of-range",
    "number-wider-than-its-type",
    "trailing-byte",
    "two-events",
    "trailing-bytes-in-the-extension",
    "truncated-extension",
}
NAMES = [
    "truncated",
    "header-alone",
    "half-a-header",
    "unknown-fingerprint",
    "registry-framing",
    "enum-out-of-range",
    "number-where-text-is-due",
    "number-wider-than-its-type",
    "empty",
    "empty-without-headers",
    "one-and-a-half-mib",
    "one-byte-over-one-mib",
    "random-bytes",
    "random-body",
    "trailing-byte",
    "two-events",
    "text-length-of-a-tebibyte",
    "negative-text-length",
    "text-not-utf8",
    "trailing-bytes-in-the-extension",
    "truncated-extension",
    "no-headers",
    "session-missing",
    "session-twice",
    "session-empty",
    "mac-missing",
    "mac-twice",
    "mac-empty",
    "mac-flipped",
    "mac-of-another-record",
    "mac-of-another-number",
    "mac-for-another-topic",
    "session-of-another-run",
    "session-of-another-source",
    "session-signed-by-another-source",
    "session-by-nobody-certified",
    "session-wrapped-to-another-key",
    "session-for-another-instance",
    "session-signature-flipped",
    "session-statement-flipped",
    "session-fingerprint-flipped",
    "certificate-expired",
    "opening-after-the-first",
    "session-for-another-audience",
    "session-header-too-long",
    "key-of-another-emitter",
    "tenant-that-the-source-may-not-state",
    "event-name-that-the-source-may-not-state",
    "deployment-tenant-for-an-act",
    "another-region",
    "pattern",
    "event-id-not-uuid7",
    "time-before-clocks-were-set",
    "huge-text-within-one-mib",
    "unredacted-personal-value",
    "unmasked-text",
    "not-omitted",
    "unregistered-extension",
    "unmasked-text-in-the-extension",
]


def test_the_table_of_bad_records_is_whole(world: World, source: Speaker) -> None:
    assert list(bad_records(world, source)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_record_is_refused_kept_counted_and_sealed_and_the_next_one_is_sealed(
    world: World, source: Speaker, name: str
) -> None:
    bad, reason = bad_records(world, source)[name]
    state, outputs = seal_all(world, [source.record(0), bad, source.record(2)])
    assert kinds(outputs) == [EVENT, (Kind.REJECTED, reason), EVENT]
    assert outputs.counts[Kind.REJECTED, reason] == 1
    seal, sealed = sealed_of(outputs)[1]
    assert (seal.log_class, seal.routes) == (LogClass.NONE, Route.ARCHIVE | Route.QUARANTINE)
    kept = world.open_quarantined(outputs.quarantine[0])
    assert (kept["key"], kept["value"], kept["headers"]) == (bad.key, bad.value, bad.headers)
    assert (kept["chain"], kept["source_offset"], kept["reason"]) == (CHAIN, 1, reason.label)
    note = SEAL_NOTE.decode(sealed.content.content)
    assert note["received_digest"] == hashlib.sha256(bad.value).digest()
    assert note["received_size"] == len(bad.value)
    assert MARKER not in sealed.content.content and HASHED.encode() not in sealed.content.content
    known = reason in NUMBERED or name in AUTHENTIC
    assert (note["number"], note["emitter"]) == ((1, "github/one") if known else (None, None))
    run = state.runs[state_key(CHAIN, source.run.run)]
    assert run.holes == (() if known else ((1, 1),))


def test_number_0_of_a_run_must_be_its_opening_with_the_session_of_its_header(world: World, source: Speaker) -> None:
    plain = source.record(0, event_name="github.push", tenant="acme", extension=None)
    other = world.speaker(epoch=3)
    foreign = other.record(0, **opening(source.run.session))
    _, outputs = seal_all(world, [plain, foreign])
    assert kinds(outputs) == [(Kind.REJECTED, Reason.CONTRACT), (Kind.REJECTED, Reason.NOT_AUTHENTIC)]


def test_a_record_replayed_onto_another_partition_is_not_authentic(world: World, source: Speaker) -> None:
    records = at([source.record(0), source.record(1)])
    home = partition_of(source.run.run.key.encode(), 4)
    for partition in range(4):
        head = ChainHead(f"{CHAIN.rpartition('/')[0]}/{partition}")
        _, outputs = world.pipeline.seal_batch(ChainState(head), Batch(records, partitions=4), NOW_US)
        wanted = EVENT if partition == home else (Kind.REJECTED, Reason.NOT_AUTHENTIC)
        assert kinds(outputs) == [wanted, wanted]


@pytest.mark.parametrize("size", [(2 << 20) + 1, 8 << 20])
def test_a_record_beyond_what_quarantine_takes_is_kept_in_part_and_its_whole_digest(
    world: World, source: Speaker, size: int
) -> None:
    bad = source.record(1, b"\xc3\x01" + bytes(size))
    _, outputs = seal_all(world, [source.record(0), bad, source.record(2)])
    assert kinds(outputs) == [EVENT, (Kind.REJECTED, Reason.TOO_LARGE), EVENT]
    assert len(outputs.quarantine[0]) < 100_000
    kept = world.open_quarantined(outputs.quarantine[0])
    assert (kept["truncated"], kept["value"], kept["headers"]) == (True, bad.value[:65_536], ())
    note = SEAL_NOTE.decode(sealed_of(outputs)[1][1].content.content)
    assert (note["received_size"], note["received_digest"]) == (len(bad.value), hashlib.sha256(bad.value).digest())


def test_a_source_that_is_certified_later_is_accepted_at_once(world: World, source: Speaker) -> None:
    """What was refused a moment before, under this header or another, holds up nobody."""
    real = world.pipeline.authenticate
    now = [Keyring(())]
    pipeline = replace(world.pipeline, authenticate=Authenticate(lambda: now[0], real._openers, AUDIENCE, TOPIC, lambda: 0.0))
    state, outputs = pipeline.seal_batch(fresh(), Batch(at([source.record(0)])), NOW_US)
    assert kinds(outputs) == [(Kind.REJECTED, Reason.NOT_AUTHENTIC)]
    now[0] = real._load()
    _, outputs = pipeline.seal_batch(state, Batch(at([source.record(1)], 1)), NOW_US)
    assert kinds(outputs)[-1] == EVENT


def test_a_refused_record_resent_is_a_duplicate_if_its_number_was_known(world: World, source: Speaker) -> None:
    bad = source.record(1, region="us-east")
    _, outputs = seal_all(world, [source.record(0), bad, bad])
    assert kinds(outputs) == [EVENT, (Kind.REJECTED, Reason.WRONG_REGION), DUPLICATE]


def test_a_numbers_holes_are_bounded(world: World, source: Speaker) -> None:
    numbers = [0, *range(2, 2 + 2 * MAX_HOLES, 2), 500, 501]
    state, outputs = seal_all(world, [source.record(n) for n in numbers])
    wild = (Kind.REJECTED, Reason.SEQUENCE_WILD)
    assert kinds(outputs) == [*[EVENT] * (MAX_HOLES + 1), wild, wild]
    note = SEAL_NOTE.decode(sealed_of(outputs)[-1][1].content.content)
    assert (note["emitter"], note["number"]) == ("github/one", 501)
    state, outputs = seal_all(world, [source.record(1), source.record(2 * MAX_HOLES + 2)], state)
    assert kinds(outputs) == [EVENT, EVENT]  # a hole was filled, so another may open


class Exploding:
    """A step that fails in a way nobody foresaw, for one tenant's records or for all."""

    def __init__(self, inner: Callable[..., Any] | None = None, tenant: str | None = None) -> None:
        self._inner = inner
        self._tenant = tenant

    def __call__(self, *given: Any) -> Any:
        if self._tenant is None or (isinstance(given[0], dict) and given[0]["tenant"] == self._tenant):
            raise RuntimeError(MARKER.decode())
        assert self._inner is not None
        return self._inner(*given)

    check = decide = __call__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("step", ["decode", "authenticate", "redaction"])
def test_a_step_that_raises_refuses_that_record_alone(world: World, source: Speaker, step: str) -> None:
    steps: dict[str, Any] = {step: Exploding(getattr(world.pipeline, step))}
    broken = replace(world.pipeline, **steps)
    state, outputs = broken.seal_batch(fresh(), Batch(at([source.record(0)])), NOW_US)
    check_batch(world, fresh(), state, outputs, 1)
    assert kinds(outputs) == [(Kind.REJECTED, Reason.UNPROCESSABLE)]
    content = sealed_of(outputs)[0][1].content.content
    assert SEAL_NOTE.decode(content)["detail"] == "RuntimeError" and MARKER not in content
    assert world.open_quarantined(outputs.quarantine[0])["value"] == source.record(0).value


def test_what_must_wait_is_not_refused(world: World, source: Speaker) -> None:
    """A run opened to a pipeline key that is certified and not here yet: nothing of the batch is sealed, nothing lost."""
    real = world.pipeline.authenticate
    waiting = Authenticate(real._load, {}, AUDIENCE, TOPIC)
    with pytest.raises(TransientError, match="not in this keystore yet"):
        replace(world.pipeline, authenticate=waiting).seal_batch(fresh(), Batch(at([source.record(0)])), NOW_US)


def test_what_goes_wrong_quickly_is_done_step_by_step(world: World, source: Speaker) -> None:
    class Failing(Quick):
        def decision(self, found: Any, value: bytes) -> Any:
            raise RuntimeError(MARKER.decode())

    failing = Failing(packaged_registry(), world.pipeline.region, world.pipeline.policy, world.pipeline.quick.kernel)
    records = [source.record(0), source.record(1), source.record(2)]
    state, outputs = replace(world.pipeline, quick=failing).seal_batch(fresh(), Batch(at(records)), NOW_US)
    check_batch(world, fresh(), state, outputs, 3)
    assert kinds(outputs) == [EVENT, EVENT, EVENT]


def test_a_check_that_raises_for_one_record_leaves_the_others(world: World, source: Speaker) -> None:
    broken = replace(step_by_step(world.pipeline), redaction=Exploding(world.pipeline.redaction, "globex"))  # type: ignore[arg-type]  # a stand-in
    records = [source.record(0), source.record(1, tenant="globex"), source.record(2)]
    state, outputs = broken.seal_batch(fresh(), Batch(at(records)), NOW_US)
    check_batch(world, fresh(), state, outputs, 3)
    assert kinds(outputs) == [EVENT, (Kind.REJECTED, Reason.UNPROCESSABLE), EVENT]
    assert state.runs[state_key(CHAIN, source.run.run)].holes == ()


def test_a_record_whose_outputs_cannot_be_written_is_refused_on_demand(world: World, source: Speaker) -> None:
    batch = Batch(at([source.record(0)]))
    state, outputs = world.pipeline.seal_batch(fresh(), batch, NOW_US, unprocessable=True)
    check_batch(world, fresh(), state, outputs, 1)
    assert kinds(outputs) == [(Kind.REJECTED, Reason.UNPROCESSABLE)]


def test_a_session_refused_for_its_time_is_taken_once_its_certificate_is_in_force(world: World, source: Speaker) -> None:
    early = source.record(0)._replace(appended_ms=(NOW_S - 3 * 86_400) * 1000)
    _, outputs = seal_all(world, [early, source.record(1)])
    assert kinds(outputs) == [(Kind.REJECTED, Reason.NOT_AUTHENTIC), EVENT]


def test_a_flood_of_one_forged_session_costs_one_signature_check(world: World, source: Speaker) -> None:
    headers = forged(world, source, flip=-1)
    asked: list[int] = []

    class Counting(Authenticate):
        def _verify(self, header: bytes, time_s: float) -> Any:
            asked.append(1)
            return super()._verify(header, time_s)

    real = world.pipeline.authenticate
    step = Counting(real._load, real._openers, AUDIENCE, TOPIC)
    records = at([source.record(1, headers=headers)] * 50)
    _, outputs = replace(world.pipeline, authenticate=step).seal_batch(fresh(), Batch(records), NOW_US)
    assert outputs.counts[Kind.REJECTED, Reason.NOT_AUTHENTIC] == 50
    assert len(asked) == 1


# -- encodings


PLANTED = bytes(b | 0x80 for b in b"SESAME7f") + b"\x01"  # a varint of nine bytes that nobody reads: a false block size


class Planting(_Encoder):
    """Every array as one block of negative count with planted bytes for its size; every true as 7; lengths over-long."""

    def __init__(self, codec: Codec) -> None:
        schema = without_logical_types(json.loads(codec.text))
        super().__init__(None, dict(_named(schema)))  # type: ignore[arg-type]  # nothing is drawn
        self._schema = schema

    def __call__(self, value: Event) -> bytes:
        return self.encode(self._schema, value)

    def encode(self, schema: Any, value: Any) -> bytes:
        return b"\x07" if (schema, value) == ("boolean", True) else super().encode(schema, value)

    def _blocks(self, items: Any, values: list[Any]) -> bytes:
        if not values:
            return long(0)
        return long(-len(values)) + PLANTED + b"".join(self.encode(items, item) for item in values) + long(0)

    def _long(self, value: int) -> bytes:
        short = long(value)
        return short if len(short) > 6 else short[:-1] + bytes([short[-1] | 0x80, 0x80, 0x00])


def rich_event(source: Speaker) -> Event:
    change = {"op": "REPLACE", "path": "/visibility", "before": '"public"', "after": '"private"'}
    setting = {"name": "contents", "before": "read", "after": "write"}
    payload = github_value(malformed=True, ref_forced=True, settings=[setting, setting])
    return source.event(
        1,
        changes=[change, change],
        delivery={
            **dict.fromkeys(["retry_policy", "acknowledgement", "failure", "failed_hop", "payload_digest", "encrypted"]),
            "validated": True,
            "signed": False,
            "attempts": [],
        },
        extension={"schema": GITHUB.sha256, "payload": Planting(GITHUB)(payload)},
    )


def test_what_the_decoder_does_not_show_survives_nowhere_in_the_content(world: World, source: Speaker) -> None:
    event = rich_event(source)
    value = AUDIT_EVENT.header + Planting(AUDIT_EVENT)(event)
    assert value.count(PLANTED) == 2 and value.count(b"\x07") >= 2  # one in the event, one in its extension
    _, outputs = seal_all(world, [source.record(0), source.record(1, value)])
    assert kinds(outputs) == [EVENT, EVENT]
    content = sealed_of(outputs)[1][1].content.content
    shown = AUDIT_EVENT.decode(content)  # strictly
    inner = GITHUB.decode_body(shown["extension"]["payload"])
    assert (inner["malformed"], inner["ref_forced"], len(inner["settings"])) == (True, True, 2)
    assert (shown["delivery"]["validated"], shown["changes"]) == (True, event["changes"])
    for output in (outputs.archive, outputs.hot, outputs.siem):
        assert not any(PLANTED[:-1] in data for data in output)
    assert not outputs.quarantine


@given(data=st.data())
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
def test_any_encoding_of_an_event_is_sealed_as_the_canonical_one(world: World, source: Speaker, data: st.DataObject) -> None:
    drawn = data.draw(events())
    event = {**drawn, "emitter": source.event(1)["emitter"], "region": "eu-central", "tenant": "acme"}
    plain = {**REDACTOR(event), "event_name": "github.push"}
    event = dict(source.encrypted(1, plain))
    if event["extension"] is not None:
        inner = GITHUB.decode_body(event["extension"]["payload"])
        event["extension"] = {"schema": GITHUB.sha256, "payload": data.draw(encodings(GITHUB, inner))}
    value = AUDIT_EVENT.header + data.draw(encodings(AUDIT_EVENT, event))
    _, outputs = seal_all(world, [source.record(1, value)])
    assert kinds(outputs) == [EVENT]
    content = sealed_of(outputs)[0][1].content.content
    sealed = AUDIT_EVENT.decode(content)
    assert AUDIT_EVENT.encode(sealed) == content
    assert world.revealed(outputs, sealed) == plain


@given(value=st.binary(max_size=300), cut=st.integers(0, 400))
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_no_bytes_whatever_stop_the_next_record(world: World, source: Speaker, value: bytes, cut: int) -> None:
    good = source.record(0).value
    mangled = [value, AUDIT_EVENT.header + value, good[:cut] + value + good[cut + len(value) :]]
    records = [source.record(0, data) for data in mangled]
    _, outputs = seal_all(world, [*records, source.record(9)])
    assert kinds(outputs)[-1] == EVENT
    assert all(seal.kind in (Kind.REJECTED, Kind.EVENT, Kind.DUPLICATE) for seal, _ in sealed_of(outputs))


# -- good records


def test_an_event_is_sealed_as_received_with_its_class_retention_and_schema(world: World, source: Speaker) -> None:
    record = source.record(1, event_type="ADMIN", tenant="globex")
    _, outputs = seal_all(world, [record, source.record(2)])
    (admin, sealed), (plain, _) = sealed_of(outputs)
    decision = Policy.load().decide(AUDIT_EVENT.decode(record.value))
    assert sealed.content.content == record.value
    assert sealed.content.content_schema == hashlib.sha256(AUDIT_EVENT.text.encode()).digest()
    assert (sealed.content.event_id, sealed.content.policy) == (uuid7(1001), decision.policy)
    assert (admin.log_class, admin.signed, admin.routes) == (
        LogClass.ADMIN, True, Route.ARCHIVE | Route.HOT | Route.SIEM,
    )  # fmt: skip
    assert admin.retain_until_ms == retain_until(NOW_US, decision.retain_ms)
    assert (plain.log_class, plain.routes) == (LogClass.OPERATIONAL, Route.ARCHIVE | Route.HOT)
    assert len(outputs.siem) == 1 and len(outputs.hot) == 2


def test_an_opening_and_a_close_are_events_and_the_close_is_remembered(world: World, source: Speaker) -> None:
    start = source.record(0, **opening(source.run.session), actor={"kind": "SYSTEM", "id": "", "display": None})
    close = source.record(1, event_name="emitter.close", tenant="@deployment")
    state, outputs = seal_all(world, [start, close])
    assert kinds(outputs) == [EVENT, EVENT]
    assert state.runs[state_key(CHAIN, source.run.run)] == RunState(source.run.run.epoch, 1, (), closed=True)


def test_a_resend_is_a_duplicate_by_its_number_alone_and_a_filled_hole_is_an_event(world: World, source: Speaker) -> None:
    numbers = [0, 3, 3, 1, 1, 2, 0]
    records = [source.record(n) for n in numbers]
    records.append(source.record(3, event_name="github.another"))  # another event under a number that was used
    state, outputs = seal_all(world, records)
    assert kinds(outputs) == [EVENT, EVENT, DUPLICATE, EVENT, DUPLICATE, EVENT, DUPLICATE, DUPLICATE]
    assert state.runs[state_key(CHAIN, source.run.run)].holes == ()
    note = SEAL_NOTE.decode(sealed_of(outputs)[-1][1].content.content)
    assert (note["emitter"], note["epoch"], note["number"]) == ("github/one", source.run.run.epoch, 3)
    assert note["event_id"] == uuid7(1003)
    assert note["received_digest"] == hashlib.sha256(records[-1].value).digest()
    assert world.open_quarantined(outputs.quarantine[-1])["value"] == records[-1].value
    assert world.open_quarantined(outputs.quarantine[-1])["reason"] == "none"


def test_a_resend_is_known_in_a_later_batch_and_to_the_next_owner(world: World, source: Speaker) -> None:
    state, outputs = seal_all(world, [source.record(0), source.record(1)])
    _, again = seal_all(world, [source.record(1)], state)
    restored = ChainState(state.head, Runs({key: decode_state(value) for key, value in outputs.sources}))
    _, elsewhere = seal_all(world, [source.record(1)], restored)
    assert kinds(again) == kinds(elsewhere) == [DUPLICATE]


def test_each_run_counts_for_itself(world: World) -> None:
    speakers = [world.speaker(), world.speaker(epoch=2), world.speaker(instance="two"), world.speaker("loadgen")]
    _, outputs = seal_all(world, [s.record(0) for s in speakers])
    assert kinds(outputs) == [EVENT] * 4


# -- gaps, heartbeats, genesis


def test_vanished_offsets_become_gaps_expired_below_the_log_start_and_not_data_above(world: World, source: Speaker) -> None:
    records = (*at([source.record(0)], 10), *at([source.record(1)], 15))
    state, outputs = world.pipeline.seal_batch(fresh(), Batch(records, log_start=6), NOW_US)
    check_batch(world, fresh(), state, outputs, 16)
    found = [(s.kind, s.reason, s.source_offset, s.source_count) for s, _ in sealed_of(outputs)]
    assert found == [
        (Kind.GAP, Reason.EXPIRED, 0, 6),
        (Kind.GAP, Reason.NOT_DATA, 6, 4),
        (*EVENT, 10, 1),
        (Kind.GAP, Reason.NOT_DATA, 11, 4),
        (*EVENT, 15, 1),
    ]


def test_a_log_start_above_the_head_without_records_is_one_gap(world: World) -> None:
    state, outputs = world.pipeline.seal_batch(fresh(), Batch((), log_start=5), NOW_US)
    check_batch(world, fresh(), state, outputs, 5)
    assert kinds(outputs) == [(Kind.GAP, Reason.EXPIRED)]


@pytest.mark.parametrize("kind", [Kind.GENESIS, Kind.HEARTBEAT])
def test_genesis_and_heartbeat_account_for_no_offset_and_are_signed(world: World, kind: Kind) -> None:
    before = fresh() if kind is Kind.GENESIS else ChainState(ChainHead(CHAIN, 7, bytes([7]) * 32, 40, NOW_US))
    pipeline = world.pipeline
    after, outputs = (
        pipeline.genesis(before, NOW_US, bytes(range(16)), 6) if kind is Kind.GENESIS else pipeline.heartbeat(before, NOW_US)
    )
    check_batch(world, before, after, outputs, before.head.next_offset)
    ((seal, event),) = sealed_of(outputs)
    assert (seal.kind, seal.source_count, seal.signed, seal.routes) == (kind, 0, True, Route.ARCHIVE)
    note = {name: value for name, value in SEAL_NOTE.decode(event.content.content).items() if value is not None}
    assert note == ({"topic_uuid": bytes(range(16)), "partitions": 6} if kind is Kind.GENESIS else {})
    assert not outputs.hot and not outputs.siem and not outputs.quarantine and not outputs.sources


def test_sealed_at_never_decreases_though_the_clock_does(world: World, source: Speaker) -> None:
    state, _ = seal_all(world, [source.record(0)])
    after, _ = world.pipeline.seal_batch(state, Batch(at([source.record(1)], 1)), NOW_US - 10**9)
    assert after.head.sealed_at_us == NOW_US


# -- any batch, any split


KIND_OF_RECORD = st.sampled_from(["good", "skip", "fill", "resend", *NAMES[:3], "mac-flipped", "another-region", "pattern"])


def any_records(world: World, source: Speaker, choices: list[tuple[str, int]]) -> list[RawRecord]:
    """Records by choice: new numbers, skipped ones, holes filled, resends, and bad ones, which keep their number."""
    bad = {name: record for name, (record, _) in bad_records(world, source).items()}
    made, following, skipped = list[RawRecord](), 0, list[int]()
    for choice, pick in choices:
        if choice in ("good", "skip") or (choice == "fill" and not skipped) or (choice == "resend" and not following):
            if choice == "skip":
                skipped.append(following)
                following += 1
            made.append(source.record(following))
            following += 1
        elif choice == "fill":
            made.append(source.record(skipped.pop(pick % len(skipped))))
        elif choice == "resend":
            made.append(source.record(pick % following))
        else:
            made.append(bad[choice])
    return made


@given(
    choices=st.lists(st.tuples(KIND_OF_RECORD, st.integers(0, 99)), min_size=1, max_size=25),
    holes=st.sets(st.integers(0, 40), max_size=6),
    cuts=st.sets(st.integers(1, 24), max_size=6),
)
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
def test_however_records_fall_into_batches_each_offset_is_sealed_once_and_with_the_same_outcome(
    world: World, source: Speaker, choices: list[tuple[str, int]], holes: set[int], cuts: set[int]
) -> None:
    offsets = itertools.islice((n for n in itertools.count() if n not in holes), len(choices))
    made = any_records(world, source, choices)
    records = tuple(r._replace(offset=offset) for r, offset in zip(made, offsets, strict=True))

    def outcomes(batches: Iterator[tuple[RawRecord, ...]]) -> tuple[list[tuple[Kind, Reason, int, int]], ChainState]:
        state, found = world.pipeline.genesis(fresh(), NOW_US, bytes(16), 1)[0], list[tuple[Kind, Reason, int, int]]()
        for number, batch in enumerate(batches):
            after, outputs = world.pipeline.seal_batch(state, Batch(batch), NOW_US + number)
            check_batch(world, state, after, outputs, batch[-1].offset + 1)
            found += [(s.kind, s.reason, s.source_offset, s.source_count) for s, _ in sealed_of(outputs)]
            state = after
        return found, state

    edges = [0, *sorted(c for c in cuts if c < len(records)), len(records)]
    split, after = outcomes(records[a:b] for a, b in itertools.pairwise(edges))
    whole, reference = outcomes(iter([records]))
    assert split == whole
    assert after.runs == reference.runs
    assert sum(count for *_, count in whole) == records[-1].offset + 1


@given(choices=st.lists(st.tuples(KIND_OF_RECORD, st.integers(0, 99)), min_size=1, max_size=25), drawn=st.data())
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
def test_what_is_sealed_quickly_is_sealed_step_by_step_alike_to_the_byte(
    world: World, source: Speaker, choices: list[tuple[str, int]], drawn: st.DataObject
) -> None:
    """Over good and bad records, events of every shape, encodings of every kind, and two policies."""
    records = any_records(world, source, choices)
    number = max((n for n in (head_number(r) for r in records) if n is not None), default=0) + 1
    for event in drawn.draw(st.lists(events(), max_size=4)):
        event = {**event, "region": "eu-central", "tenant": drawn.draw(st.sampled_from(["acme", "globex", "nobody"]))}
        try:
            event = {**REDACTOR(event), "emitter": source.event(number)["emitter"]}
        except ContractError:
            continue
        event = source.encrypted(number, event)
        codec = drawn.draw(st.sampled_from([AUDIT_EVENT, AUDIT_EVENT, AS_RELEASED_FIRST]))
        event = event if codec is AUDIT_EVENT else codec.decode(codec.encode(event))
        encoded = drawn.draw(st.one_of(st.none(), encodings(codec, event)))
        records.append(source.record(number, codec.encode(event) if encoded is None else codec.header + encoded))
        number += 1
    policy = drawn.draw(st.sampled_from([world.pipeline.policy, OTHER_POLICY]))
    skipped = drawn.draw(st.sets(st.integers(0, 40), max_size=4))  # offsets that hold no record
    offsets = (offset for offset in itertools.count() if offset not in skipped)
    placed = [record._replace(offset=offset) for record, offset in zip(records, offsets, strict=False)]
    half = len(placed) // 2
    sealed_alike(world.pipeline, [batch for batch in (placed[:half], placed[half:]) if batch], policy)


def test_many_records_of_many_runs_and_tenants_are_sealed_alike_in_every_form(world: World) -> None:
    """Salts drawn anew, plans of many sorts, both versions of the event, signatures, tokens, lineages, gaps, and what is not
    good in between."""
    speakers = [world.speaker(), world.speaker(epoch=2), world.speaker(instance="two"), world.speaker("loadgen")]
    chance, records = random.Random(7), list[RawRecord]()
    numbers = dict.fromkeys(range(len(speakers)), 0)
    for n in range(600):
        who = chance.randrange(len(speakers))
        speaker, number = speakers[who], numbers[who]
        numbers[who] += chance.choice([1] * 12 + [0, 2])  # a resend follows, or a hole
        fields: dict[str, Any] = {
            "tenant": chance.choice(["acme", "globex"]),
            "event_type": chance.choice(["OTHER", "MESSAGE", "ADMIN"]),
            "message": chance.choice([None, {**MESSAGE, "stage": chance.choice(["SENT", "DELIVERED"])}]),
            "correlation_id": chance.choice([None, "c", f"m-{n}"]),
            "result": chance.choice(["SUCCESS", "FAILURE"]),
            "actor": {"kind": "USER", "id": hash_value(bytes(32), str(n % 5)), "display": None, "login": None},
        }
        if speaker.run.run.source == "loadgen":
            fields["event_name"] = "load.test"
        if number:
            fields["actor"]["login"] = chance.choice([None, None, f"login-{n % 7}"])
            event = speaker.encrypted(number, speaker.event(number, **fields))
            codec = chance.choice([AUDIT_EVENT, AUDIT_EVENT, AS_RELEASED_FIRST])
            records.append(speaker.record(number, codec.encode(event)))
        else:
            records.append(speaker.record(number))
        if chance.random() < 0.02:
            records.append(speaker.record(number + 1, region="us-east"))
    offset, placed = 0, list[RawRecord]()
    for record in records:
        offset += chance.choice([1] * 20 + [2])
        placed.append(record._replace(offset=offset))
    for size in (1000, 150, 1):
        batches = [placed[start : start + size] for start in range(0, len(placed), size)]
        sealed_alike(world.pipeline, batches if size > 1 else batches[:60], world.pipeline.policy)


def without_ciphertexts(outputs: Outputs) -> Outputs:
    """HPKE makes a fresh key each time: what is encrypted is left out."""
    return replace(outputs, quarantine=[], subject_keys=[(key, b"") for key, _ in outputs.subject_keys])


def head_number(record: RawRecord) -> int | None:
    try:
        return read_head(record.value).seq
    except EvidenceError:
        return None


def test_good_records_are_sealed_without_decoding_them(world: World, source: Speaker) -> None:
    class Counting(Decode):
        asked = 0

        def __call__(self, value: bytes) -> Any:
            Counting.asked += 1
            return super().__call__(value)

    pipeline = replace(world.pipeline, decode=Counting(packaged_registry()))
    records = [source.record(0), *(source.record(n, message=MESSAGE, correlation_id=f"m-{n}") for n in range(1, 30))]
    for n in range(30, 40):
        actor = {"kind": "USER", "id": HASHED, "display": None, "login": f"ada-{n}"}
        records.append(source.record(n, AUDIT_EVENT.encode(source.encrypted(n, source.event(n, actor=actor)))))
    older = [AS_RELEASED_FIRST.encode(source.event(n, message=MESSAGE, correlation_id=f"m-{n}")) for n in range(40, 50)]
    records += [source.record(n, value) for n, value in enumerate(older, 40)]
    _, outputs = pipeline.seal_batch(fresh(), Batch(at(records)), NOW_US)
    assert kinds(outputs) == [EVENT] * 50 and Counting.asked == 1, "the opening alone"
    assert [sealed.content.content_schema for _, sealed in sealed_of(outputs)[-10:]] == [AS_RELEASED_FIRST.sha256] * 10
    assert len(outputs.subject_keys) == 1, "of whom all the logins are about"


def test_the_same_inputs_give_the_same_outputs_and_the_state_given_is_not_changed(world: World, source: Speaker) -> None:
    pipeline = replace(world.pipeline, random=lambda size: bytes(n % 256 for n in range(size)))
    state, _ = pipeline.seal_batch(fresh(), Batch(at([source.record(0), source.record(4)])), NOW_US)
    batch = Batch(at([source.record(2), source.record(2), source.record(9, region="us-east")], 2))
    before = copy.deepcopy(state)
    (first_state, first), (second_state, second) = (pipeline.seal_batch(state, batch, NOW_US) for _ in range(2))
    assert state == before
    assert first_state == second_state
    # what quarantine encrypts is the same; HPKE makes a fresh key each time
    opened_first, opened_second = ([world.open_quarantined(v) for v in o.quarantine] for o in (first, second))
    assert [{**q, "encapsulated": b""} for q in opened_first] == [{**q, "encapsulated": b""} for q in opened_second]
    assert (first.archive, first.hot, first.siem, first.sources, first.counts) == (
        second.archive, second.hot, second.siem, second.sources, second.counts,
    )  # fmt: skip


def test_a_run_is_known_by_source_instance_and_epoch(world: World) -> None:
    run = Run("github", "one", uuid7(1))
    assert state_key(CHAIN, run) == f"{CHAIN}\ngithub/one/{uuid7(1).hex()}".encode()
