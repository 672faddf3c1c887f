"""Revealing on real parts: who may, sees what a token stands for; nobody else does; neither stays unrecorded (CON-2, CTL-2)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from auditor import looking
from auditor.cli import build
from auditor.commands.reveal import read_keys, run_reveal
from auditor.commands.show import run_show
from auditor.finding import Found, find_event
from auditor.revealing import NO_VALUE
from infra.stack import Stack
from kafkaio.client import client_config
from kafkaio.reader import PartitionReader
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, EvidenceError
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from sealtrail.token import SubjectKey, is_token, wrap_subject_key
from sinks.archive.assembly import publish_documents
from tests.conftest import RAW_PARTITIONS, Deployment, new_deployment, wait_until
from tests.pipeline import processes

LOGIN, OTHER_LOGIN = "alice.liddell@example.com", "bob\x1b[2J@example.com"


@dataclass
class Trail:
    """A deployment that runs, three events in it, and how its readers ask."""

    deployment: Deployment
    failed: UUID  # a login: class security
    granted: UUID  # a right: class admin, of another tenant, with a subject
    trace: UUID  # class debug

    def settings(self, role: str = "security-analyst", **flags: Any) -> Settings:
        return self.deployment.settings("reader", reader_role=role, person="j.doe", **{"search_endpoint": "", **flags})

    @property
    def chains(self) -> str:
        return f"{self.settings().authority}/{self.deployment.name}/"

    def reveal(self, event: UUID, purpose: str = "forensics", fields: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
        """What is revealed, once the record is archived."""
        settings = self.settings(**more)
        found = wait_until(lambda: run_reveal(settings, event, purpose, fields, self.chains), what="the record in the archive")
        assert set(found["verified"].values()) == {"ok"} and len(found["verified"]) == 3
        return found

    def stated(self, name: str = "trail.") -> list[dict[str, Any]]:
        """What readers did, in order."""
        return [event for event in self.sealed() if event["event_name"].startswith(name)]

    def sealed(self) -> list[dict[str, Any]]:
        topic = topic_name(self.deployment.topic_prefix, "audit.archive")
        found = []
        with PartitionReader(self.deployment.settings("admin")) as reader:
            for partition in range(RAW_PARTITIONS):
                for record in reader.read_all(topic, partition):
                    sealed = decode_sealed_event(record.value or b"")
                    if decode_seal(sealed.seal).kind is Kind.EVENT:
                        found.append(AUDIT_EVENT.decode(sealed.content.content))
        return found


def draft(tenant: str, name: str, event_type: str, result: str = "SUCCESS", **more: Any) -> dict[str, Any]:
    actor = {"kind": "USER", "id": "u-1", "display": None, "login": LOGIN}
    return {
        "tenant": tenant, "event_name": name, "event_type": event_type, "result": result, "effect": "NONE",
        "target_system": "messenger", "object": {"type": "room", "id": "r-1"}, "actor": actor, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def trail(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trail]:
    deployment = new_deployment(stack)
    publish_documents(deployment.settings("publisher"))
    subject = {"id": "u-2", "display": None, "login": OTHER_LOGIN}
    drafts = (
        draft("acme", "chat.login.failed", "AUTHENTICATION", "FAILURE"),
        draft("globex", "chat.permission.granted", "ADMIN", subject=subject),
        draft("acme", "chat.debug.trace", "OTHER"),
    )
    with processes(deployment, ("sealer", "sink-archive"), tmp_path_factory.mktemp("reveal")):
        with AuditProducer(deployment.settings("chat"), "chat", "one") as emitter:
            events = [UUID(bytes=emitter.emit(made)) for made in drafts]
        yield Trail(deployment, *events)


def test_whom_the_policy_lets_reveals_an_events_tokens_and_that_is_sealed_first(trail: Trail) -> None:
    before = len(trail.stated())
    found = trail.reveal(trail.failed)
    assert found["event"] == {"event_id": str(trail.failed), "event_name": "chat.login.failed", "tenant": "acme"}
    assert found["revealed"] == [{"field": "actor.login", "text": LOGIN}]
    stated = trail.stated()[before:]
    event = stated[-1]
    assert UUID(bytes=event["event_id"]) == UUID(found["access"]["recorded_as"])
    assert (event["event_name"], event["event_type"], event["result"]) == ("trail.revealed", "ACCESS", "SUCCESS")
    assert event["object"] == {"type": "event", "id": str(trail.failed)} and event["target_system"] == "archive"
    scopes = event["authorization"]["scopes"]
    assert {"role:security-analyst", "purpose:forensics", "field:*", "class:security", "class:admin"} <= set(scopes)
    assert "class:debug" not in scopes and event["actor"]["id"].startswith("hmac_")


def test_what_is_sealed_is_a_token_and_the_texts_are_in_no_event(trail: Trail) -> None:
    trail.reveal(trail.granted)
    texts = [json.dumps(event, default=repr) for event in trail.sealed()]
    assert not any(LOGIN in text or "bob" in text for text in texts)
    (granted,) = [event for event in trail.sealed() if event["event_id"] == trail.granted.bytes]
    assert is_token(granted["actor"]["login"]) and is_token(granted["subject"]["login"])
    assert granted["actor"]["login"] != granted["subject"]["login"]


def test_fields_that_are_named_are_in_the_event_and_those_that_hold_nothing_are_said(trail: Trail) -> None:
    found = trail.reveal(trail.granted, fields=("subject.login", "actor.id"))
    assert found["revealed"] == [{"field": "subject.login", "text": OTHER_LOGIN}, {"field": "actor.id", "problem": NO_VALUE}]
    scopes = trail.stated("trail.revealed")[-1]["authorization"]["scopes"]
    assert [scope for scope in scopes if scope.startswith("field:")] == ["field:subject.login", "field:actor.id"]


# -- who may not


@pytest.mark.parametrize(
    ("role", "purpose"),
    [("auditor", "audit"), ("security-analyst", "detection"), ("compliance-officer", "audit"), ("nobody", "forensics")],
)
def test_who_may_read_and_not_reveal_is_refused_before_anything_is_read_and_that_is_recorded(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, role: str, purpose: str
) -> None:
    monkeypatch.setattr(looking, "ArchiveReader", lambda _: pytest.fail("the archive was asked"))
    before = len(trail.stated())
    with pytest.raises(ContractError, match=r"may reveal nothing for .*; the refusal is recorded as"):
        run_reveal(trail.settings(role), trail.failed, purpose, (), trail.chains)
    (event,) = trail.stated()[before:]
    assert (event["event_name"], event["result"], event["authorization"]["decision"]) == ("trail.revealed", "DENIED", "DENY")
    assert event["object"]["id"] == str(trail.failed)
    assert "field:*" in event["authorization"]["scopes"]
    assert not any(scope.startswith("class:") for scope in event["authorization"]["scopes"])


@pytest.mark.parametrize(
    ("role", "purpose", "name"),
    [("security-analyst", "incident-response", "trace"), ("compliance-officer", "legal-hold", "failed")],
)
def test_a_record_of_a_class_that_one_may_not_reveal_is_refused_and_that_is_recorded(
    trail: Trail, role: str, purpose: str, name: str
) -> None:
    def refusal() -> str | None:
        try:
            found = run_reveal(trail.settings(role), getattr(trail, name), purpose, (), trail.chains)
        except ContractError as error:
            return str(error)
        assert found is None, "not archived yet"
        return None

    assert "may not reveal this record for" in wait_until(refusal, what="the record in the archive")
    allowed, refused = trail.stated()[-2:]
    assert (allowed["result"], refused["result"]) == ("SUCCESS", "DENIED")
    assert allowed["event_name"] == refused["event_name"] == "trail.revealed"


def test_a_reader_of_one_tenant_reveals_nothing_of_another(trail: Trail) -> None:
    assert trail.reveal(trail.failed, reader_tenant="acme")["revealed"] == [{"field": "actor.login", "text": LOGIN}]
    trail.reveal(trail.granted)
    with pytest.raises(ContractError, match="may not reveal this record"):
        run_reveal(trail.settings(reader_tenant="acme"), trail.granted, "forensics", (), trail.chains)


def test_who_may_read_sees_the_token(trail: Trail) -> None:
    trail.reveal(trail.failed)
    shown = run_show(trail.settings("auditor"), trail.failed, "audit", trail.chains)
    assert shown is not None and is_token(shown["event"]["actor"]["login"])


# -- what cannot be revealed


def test_without_the_tenants_subject_key_the_field_says_so(trail: Trail, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    shutil.copytree(trail.settings().keys.removeprefix("file:"), keys)
    (keys / "tenant-subject-acme.key").unlink()
    (one,) = trail.reveal(trail.failed, keys=f"file:{keys}")["revealed"]
    assert one["field"] == "actor.login" and "text" not in one
    assert one["problem"].startswith("its key is wrapped to tenant-subject key ") and one["problem"].endswith("not here")


def test_of_a_record_that_does_not_verify_nothing_is_revealed(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    trail.reveal(trail.failed)

    def damaged(*arguments: Any) -> Found | None:
        found = find_event(*arguments)
        return None if found is None else replace(found, checks={**found.checks, "content digest": "not what was sealed"})

    def among_others(*arguments: Any) -> Found | None:
        found = find_event(*arguments)
        return None if found is None else replace(found, tenant="globex")

    for other, problem in ((damaged, "not what was sealed"), (among_others, "among another tenant's")):
        monkeypatch.setattr(looking, "find_event", other)
        with pytest.raises(EvidenceError, match=f"nothing of it is revealed.*{problem}") as caught:
            run_reveal(trail.settings(), trail.failed, "forensics", (), trail.chains)
        assert LOGIN not in str(caught.value)


def test_what_is_not_there_is_none_and_recorded(trail: Trail) -> None:
    before = len(trail.stated())
    assert run_reveal(trail.settings(), UUID(int=7), "forensics", (), trail.chains) is None
    assert [event["event_name"] for event in trail.stated()[before:]] == ["trail.revealed"]


# -- the keys' topic


@contextmanager
def transaction(deployment: Deployment, *, commit: bool = True) -> Iterator[Producer]:
    producer = Producer({**client_config(deployment.settings("sealer")), "transactional.id": f"{deployment.name}/test-keys"})
    producer.init_transactions(60)
    producer.begin_transaction()
    yield producer
    assert producer.flush(60) == 0
    (producer.commit_transaction if commit else producer.abort_transaction)(60)


def test_keys_are_read_from_the_chains_own_partition_as_far_as_they_are_committed(deployment: Deployment) -> None:
    topic, public = topic_name(deployment.topic_prefix, "audit.subject-keys"), bytes(range(32))
    chain = f"audit.example/{deployment.name}/{deployment.topic_prefix}audit.raw.1f0c2a9b.0/1"
    keys = [SubjectKey("acme", bytes([n]) * 64) for n in range(5)]
    wrapped = [wrap_subject_key(chain, bytes(32), key, 1, public) for key in keys]
    committed, elsewhere, aborted, destroyed, later = wrapped
    with transaction(deployment) as producer:
        producer.produce(topic, elsewhere.encode(), elsewhere.record_key, 0)
        for one in (committed, destroyed):
            producer.produce(topic, one.encode(), one.record_key, 1)
    with transaction(deployment, commit=False) as producer:
        producer.produce(topic, aborted.encode(), aborted.record_key, 1)
    with transaction(deployment) as producer:
        producer.produce(topic, None, destroyed.record_key, 1)
        producer.produce(topic, later.encode(), later.record_key, 1)
    reader, wanted = deployment.settings("reader"), {key.key_id for key in keys}
    assert read_keys(reader, chain, wanted) == {
        committed.key_id: {committed.record_key: [committed.encode()]},
        destroyed.key_id: {destroyed.record_key: []},
        later.key_id: {later.record_key: [later.encode()]},
    }
    assert read_keys(reader, chain, {later.key_id}).keys() == {later.key_id}
    assert read_keys(reader, chain, set()) == {}
    assert read_keys(reader, f"{chain}1", wanted) == {}, "a partition that this deployment's topic does not have"
    for role in ("verifier", "sealer"):
        with pytest.raises(ConfigError, match="TOPIC_AUTHORIZATION_FAILED"):
            read_keys(deployment.settings(role), chain, wanted)


# -- the command


def test_the_command_shows_texts_on_stdout_alone_and_its_status_says_whether_all_were_revealed(
    trail: Trail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trail.reveal(trail.granted)
    config = tmp_path / "reader.toml"
    skipped = ("archive_bucket", "reader_role", "search_endpoint")
    lines = [
        line for line in trail.deployment.stack.role_file("reader").read_text().splitlines() if not line.startswith(skipped)
    ]
    lines += [f'topic_prefix = "{trail.deployment.topic_prefix}"', f'deployment = "{trail.deployment.name}"']
    lines += [f'archive_bucket = "{trail.deployment.bucket}"', 'reader_role = "security-analyst"']
    config.write_text("\n".join(lines))

    def invoke(*arguments: str) -> Any:
        common = ["--purpose", "forensics", "--config", str(config), "--chain", trail.chains]
        return CliRunner().invoke(build(), ["reveal", *arguments, *common])

    done = invoke(str(trail.granted))
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"actor.login    {LOGIN}\nsubject.login  bob\\x1b[2J@example.com\n"
    assert " of tenant globex, seal " in done.stderr
    assert "access recorded as" in done.stderr and LOGIN not in done.stderr + caplog.text
    done = invoke(str(trail.granted), "--field", "subject.login", "--field", "actor.display", "--json")
    assert done.exit_code == 1 and LOGIN not in done.output
    assert json.loads(done.stdout)["revealed"] == [
        {"field": "subject.login", "text": OTHER_LOGIN},
        {"field": "actor.display", "problem": NO_VALUE},
    ]
    before = len(trail.stated())
    for typed in ("Alice", "alice@example.com", "", "a" * 201):
        done = invoke(str(trail.granted), "--field", typed)
        assert done.exit_code == 2 and "must be a field's path" in done.stderr
        assert not typed or typed not in done.output
    assert invoke("nonsense").exit_code == 2
    assert len(trail.stated()) == before
    done = invoke(str(UUID(int=9)))
    assert done.exit_code == 1 and "no readable record" in done.stderr
    done = CliRunner().invoke(build(), ["reveal", str(trail.granted), "--purpose", "detection", "--config", str(config)])
    assert done.exit_code == 1 and "may reveal nothing for 'detection'" in done.stderr and not done.stdout
