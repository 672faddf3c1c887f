"""What is tokenised leaves an emitter encrypted for the sealer, each value under a number of its own; or not at all."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from infra import keys
from infra.places import Places
from keystore import Keystore, load_keyring, load_root
from keystore.ceremony import DAY_S, Root
from keystore.file import generate
from producers.audit import AuditProducer
from producers.backlog import MemoryBacklog
from producers.memory import MemoryBroker, MemoryRecord
from producers.record import RawRecord
from schemas.redact import RedactionCheck
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.settings import Settings
from schemas.tokenized import Tokenized
from sealtrail.certificate import Role
from sealtrail.errors import ContractError, EvidenceError
from sealtrail.session import unwrap_session_key, verify_session
from sealtrail.token import FieldCipher
from tests.test_producer import NOW_NS, Clock, draft, event_of

LOGIN = "ada.lovelace@acme.example"
NOW_S = NOW_NS // 10**9
TOKENIZED = Tokenized(packaged_registry())
CHECK = RedactionCheck(packaged_registry())


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Keys of the local stack's making."""
    made = Places(tmp_path_factory.mktemp("keys"))
    keys.ensure(made, datetime.fromtimestamp(NOW_S, UTC))
    return made


@pytest.fixture
def certificates(places: Places, tmp_path: Path) -> Path:
    """Everybody's certificates but those of tenants' people."""
    folder = shutil.copytree(places.keys / "certs", tmp_path / "certs")
    for path in folder.glob("*tenant-subject*"):
        path.unlink()
    return folder


@pytest.fixture
def settings(places: Places, certificates: Path) -> Settings:
    return Settings.load(
        role="github",
        keys=f"file:{places.keys / 'github'}",
        root_vkey=places.root / "root.vkey",
        certificates=certificates,
    )


Certify = Callable[..., None]


@pytest.fixture
def certify(places: Places, certificates: Path) -> Certify:
    """Certify a key of a tenant's people."""

    def made(tenant: str, begins_s: int = NOW_S - 1, days: int = 1) -> None:
        _, public = generate("tenant-subject-x")
        assert public is not None
        _, note = Root.open(places.root).certify(Role.TENANT_SUBJECT, tenant, public, begins_s, days)
        (certificates / f"people-of-{tenant}.cert").write_text(note)

    return made


def about(login: str | None, **given: object) -> dict[str, object]:
    return draft(actor={"kind": "USER", "id": "4711", "display": None, "login": login}, **given)


def ciphers(broker: MemoryBroker, settings: Settings, places: Places) -> Callable[[MemoryRecord], FieldCipher]:
    """What the sealer opens a record's values with."""
    assert settings.certificates and settings.root_vkey
    keyring = load_keyring(settings.certificates, load_root(settings.root_vkey))
    pipeline = Keystore.open(f"file:{places.keys / 'sealer'}").opener("pipeline")

    def of(record: MemoryRecord) -> FieldCipher:
        session = verify_session(dict(record.headers)["st-session"], keyring, NOW_S)
        return FieldCipher(unwrap_session_key(session, pipeline.open))

    return of


def test_a_login_leaves_encrypted_for_the_sealer_alone_and_for_its_own_place(
    settings: Settings, places: Places, certify: Certify
) -> None:
    certify("acme")
    broker = MemoryBroker()
    subject = {"id": "4712", "login": "Bob"}
    with AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=Clock()) as emitter:
        event_id = emitter.emit(about(LOGIN, subject=subject))
        emitter.emit(about(LOGIN))
    first, second = broker.records[1:3]
    event = event_of(first)
    assert CHECK(event) == ()
    assert event["redaction"]["fields"] == ["actor.id", "actor.login", "subject.id", "subject.login"]
    assert not any(text.encode() in record.value for record in broker.records for text in (LOGIN, "Bob"))
    cipher = ciphers(broker, settings, places)(first)
    found = {
        value.path: cipher.decrypt(event["emitter"]["seq"], event_id, value.path, value.text)
        for value in TOKENIZED.values(event)
    }
    assert found == {"actor.login": LOGIN, "subject.login": "Bob"}
    text = event["actor"]["login"]
    for seq, of, path in [(2, event_id, "actor.login"), (1, bytes(16), "actor.login"), (1, event_id, "subject.login")]:
        with pytest.raises(EvidenceError):
            cipher.decrypt(seq, of, path, text)
    assert event_of(second)["actor"]["login"] != text


def test_no_number_encrypts_twice_however_many_threads_emit(settings: Settings, places: Places, certify: Certify) -> None:
    certify("acme")
    broker = MemoryBroker()
    with AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=Clock()) as emitter:

        def work(name: int) -> None:
            for number in range(50):
                emitter.emit(about(f"{name}/{number}", subject={"id": "b", "login": f"{name}:{number}"}))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    nonces, texts = set(), set()
    cipher_of = ciphers(broker, settings, places)
    for record in broker.records:
        event, cipher = event_of(record), cipher_of(record)
        seq = event["emitter"]["seq"]
        for value in TOKENIZED.values(event):
            nonces.add((event["emitter"]["epoch"], seq, base64.urlsafe_b64decode(value.text[4:12])[:4]))
            texts.add(cipher.decrypt(seq, event["event_id"], value.path, value.text))
    assert len(nonces) == len(texts) == 400


class Noting(MemoryBacklog):
    """Notes what it is to keep: what a spool would write to disk."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[RawRecord] = []

    def append(self, records: Sequence[RawRecord]) -> None:
        self.given += records
        super().append(records)


def test_what_a_spool_is_to_keep_is_encrypted_already(settings: Settings, certify: Certify) -> None:
    certify("acme")
    backlog, connect = Noting(), MemoryBroker().connect
    with AuditProducer(settings, "github", "one", producer_factory=connect, clock=Clock(), backlog=lambda: backlog) as emitter:
        emitter.emit(about(LOGIN))
    assert any(b"actor.login" in record.value for record in backlog.given)
    assert not any(LOGIN.encode() in part for record in backlog.given for part in (record.value, str(record).encode()))


@pytest.mark.parametrize(
    ("tenant", "begins_s"),
    [(None, 0), ("globex", NOW_S - 1), ("acme", NOW_S - 2 * DAY_S), ("acme", NOW_S + 1)],
    ids=["no certificate", "another tenant's", "one that ended", "one that has not begun"],
)
def test_where_a_tenants_people_have_no_key_the_login_is_left_out_and_named(
    settings: Settings, certify: Certify, tenant: str | None, begins_s: int
) -> None:
    if tenant is not None:
        certify(tenant, begins_s)
    broker = MemoryBroker()
    with AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=Clock()) as emitter:
        emitter.emit(about(LOGIN))
        emitter.emit(about(LOGIN, reason="x" * 3000))  # too long for one pass
    for record in broker.records[1:3]:
        event = event_of(record)
        assert event["actor"]["login"] is None
        assert "actor.login" in event["redaction"]["fields"]
        assert CHECK(event) == ()
        assert LOGIN.encode() not in record.value


def test_a_certificate_that_begins_or_ends_meanwhile_counts_from_then_on(settings: Settings, certify: Certify) -> None:
    certify("acme", NOW_S + 60)
    broker, clock = MemoryBroker(), Clock()
    with AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=clock) as emitter:
        for seconds in (0, 61, 2 * DAY_S):
            clock.now_ns = NOW_NS + seconds * 10**9
            emitter.emit(about(LOGIN))
    logins = [event_of(record)["actor"]["login"] for record in broker.records if event_of(record)["event_name"] == "test.act"]
    assert [login is not None for login in logins] == [False, True, False]


def test_a_login_that_is_too_long_is_refused_by_its_field(settings: Settings, certify: Certify) -> None:
    certify("acme")
    broker = MemoryBroker()
    emitter = AuditProducer(settings, "github", "one", producer_factory=broker.connect, clock=Clock())
    with emitter, pytest.raises(ContractError, match=r"actor\.login: 4097 bytes"):
        emitter.emit(about("x" * 4097))
    assert [event["object"]["id"] for event in map(event_of, broker.records) if event["event_name"] == "emitter.refused"] == [
        "actor.login"
    ]


def test_a_prepared_event_shows_no_text_in_its_repr(settings: Settings, certify: Certify) -> None:
    certify("acme")
    with AuditProducer(settings, "github", "one", producer_factory=MemoryBroker().connect, clock=Clock()) as emitter:
        admitted: Any = emitter.admit(about(LOGIN))
    assert len(admitted.prepared.holes) == 1
    assert "lovelace" not in repr(admitted)
    assert json.loads(AUDIT_EVENT.text)["fields"][0]["name"] == "event_id"  # what a hole's ciphertext is bound to
