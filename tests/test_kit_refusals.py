"""What the kit and the type checker refuse, and what is said of it; the emitter for samples against the real one."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from producers.audit import AuditProducer
from producers.github import GITHUB
from producers.kit import (
    Actor,
    Audit,
    Authorization,
    AuthorizationMethod,
    BusinessObject,
    Content,
    Deployed,
    Extension,
)
from producers.kit.diff import MAX_CHANGES
from producers.kit.values import MAX_EXTENSION_BYTES
from producers.memory import MemoryBroker
from producers.samples.emitter import SampleEmitter
from schemas.contract import MAX_TEXT_BYTES
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ContractError, TransientError
from tests.kitted import ADA, RULE, Builder, Kit, nested
from tests.test_chat import source_settings

# -- bad input

LOOP: dict[str, Any] = {}
LOOP["self"] = [LOOP]
PUSH: dict[str, Any] = {"hook": "push", "malformed": False, "settings": []}
BAD: dict[str, tuple[Builder, str]] = {
    "no tenant": (lambda a: a.access.allowed(RULE, tenant=None), "tenant"),  # type: ignore[arg-type]
    "no actor": (lambda a: a.access.allowed(RULE, actor=None), "actor"),  # type: ignore[arg-type]
    "a tenant that is a list": (lambda a: a.access.allowed(RULE, tenant=["Zebulon"]), "tenant"),  # type: ignore[arg-type]
    "an unknown tenant": (lambda a: a.access.allowed(RULE, tenant="initech"), "tenant"),
    "a body of an unknown tenant": (
        lambda a: a.export.completed(RULE, "w", tenant="initech", content=Content(b"x", "a/b", "c")),
        "tenant",
    ),
    "an actor that is text": (lambda a: a.access.allowed(RULE, actor="Zebulon"), "actor"),  # type: ignore[arg-type]
    "an actor without an id": (lambda a: a.access.allowed(RULE, actor=Actor.user("")), "actor.id"),
    "an object that is text": (lambda a: a.access.allowed("Zebulon"), "object"),  # type: ignore[arg-type]
    "an object named for a person": (lambda a: a.access.allowed(BusinessObject("user", "Zeb ulon")), "object.id"),
    "a naive time": (lambda a: a.access.allowed(RULE, occurred_at=datetime(2026, 1, 1)), "occurred_at"),  # noqa: DTZ001
    "a time that is text": (lambda a: a.access.allowed(RULE, occurred_at="2026"), "occurred_at"),  # type: ignore[arg-type]
    "a time before clocks were set": (
        lambda a: a.access.allowed(RULE, occurred_at=datetime(1999, 1, 1, tzinfo=UTC)),
        "occurred_at",
    ),
    "a lone surrogate": (lambda a: a.access.allowed(RULE, reason="\ud800 Zebulon"), "reason"),
    "a lone surrogate in a diff": (lambda a: a.admin.created(RULE, {"a": "Zebulon \ud800"}), "changes[].after"),
    "a lone surrogate in a key": (lambda a: a.admin.created(RULE, {"a": {"Zebulon \ud800": 1}}), "changes[].after"),
    "a cycle": (lambda a: a.admin.changed(RULE, {}, LOOP), "changes[].after"),
    "a cycle before": (lambda a: a.admin.changed(RULE, LOOP, {}), "changes[].before"),
    "too deep": (lambda a: a.admin.created(RULE, nested(100, "Zebulon")), "changes[].after"),
    "not a number": (lambda a: a.admin.created(RULE, {"a": [float("nan")]}), "changes[].after"),
    "an endless number": (lambda a: a.admin.created(RULE, {"a": float("inf")}), "changes[].after"),
    "a number of many digits": (lambda a: a.admin.created(RULE, {"a": 10**5000}), "changes[].after"),
    "a time in a diff": (lambda a: a.admin.created(RULE, {"a": datetime.now(UTC)}), "changes[].after"),
    "bytes in a diff": (lambda a: a.admin.deleted(RULE, {"a": b"Zebulon"}), "changes[].before"),
    "a key that is a number": (lambda a: a.admin.created(RULE, {"a": {1: "Zebulon"}}), "changes[].after"),
    "a key that no path holds": (lambda a: a.admin.created(RULE, {"Zebulon@acme": 1}), "changes[].path"),
    "a long value": (lambda a: a.admin.created(RULE, {"a": "Zebulon" * MAX_TEXT_BYTES}), "changes[].after"),
    "too many changes": (lambda a: a.admin.created(RULE, {f"k{n}": n for n in range(MAX_CHANGES + 1)}), "changes"),
    "before that is a list": (lambda a: a.admin.changed(RULE, ["Zebulon"], {}), "changes"),  # type: ignore[arg-type]
    "a group that is a sentence": (lambda a: a.file_share.withdrawn(RULE, "Zebulon and friends"), "changes[].path"),
    "a wrong result": (lambda a: a.automation.failed("digest", "r", result="Zebulon"), "result"),  # type: ignore[arg-type]
    "a wrong method": (
        lambda a: a.access.allowed(RULE, authorization=Authorization("Zebulon")),  # type: ignore[arg-type]
        "authorization.method",
    ),
    "scopes that are text": (
        lambda a: a.access.allowed(RULE, authorization=Authorization(AuthorizationMethod.NONE, "Zebulon")),
        "authorization.scopes",
    ),
    "a wrong outcome": (
        lambda a: a.message("m", "direct", recipients=1).sent().failed("x", "Zebulon"),  # type: ignore[arg-type]
        "delivery.attempts[].outcome",
    ),
    "a failure in words": (lambda a: a.message("m", "direct", recipients=1).failed("Zebulon is ill"), "delivery.failure"),
    "fewer than no recipients": (lambda a: a.message("m", "direct", recipients=-1).sent(), "message.recipient_count"),
    "a first attempt of number 0": (
        lambda a: a.message("m", "direct", recipients=1).retried(bytes(16), 0),
        "retry.original_event_id",
    ),
    "a commit that is none": (lambda a: a.deployment.failed(Deployed("t", "e", "Zebulon")), "deployment.commit"),
    "a trace of zeros": (
        lambda a: a.access.allowed(RULE, traceparent="00-" + "0" * 32 + "-" + "1" * 16 + "-01"),
        "traceparent",
    ),
    "a body that is text": (
        lambda a: a.export.completed(RULE, "w", content=Content("Zebulon", "a/b", "c")),  # type: ignore[arg-type]
        "content_ref.digest",
    ),
    "a content that is bytes": (lambda a: a.export.completed(RULE, "w", content=b"Zebulon"), "content_ref"),  # type: ignore[arg-type]
    "an extension that lacks a field": (
        lambda a: a.access.allowed(RULE, extension=Extension(GITHUB, {})),
        "extension.payload.hook",
    ),
    "an extension of a wrong type": (
        lambda a: a.access.allowed(RULE, extension=Extension(GITHUB, {"hook": 7, "malformed": False})),
        "extension.payload.hook",
    ),
    "an extension with a field that nobody registered": (
        lambda a: a.access.allowed(RULE, extension=Extension(GITHUB, {**PUSH, "zebulon": 1})),
        "extension.payload",
    ),
    "an extension with a long text": (
        lambda a: a.access.allowed(RULE, extension=Extension(GITHUB, {**PUSH, "ref": "Z" * (MAX_TEXT_BYTES + 1)})),
        "extension.payload.ref",
    ),
    "an extension that contains itself": (
        lambda a: a.access.allowed(RULE, extension=Extension(GITHUB, LOOP)),
        "extension.payload",
    ),
    "an oversized extension": (
        lambda a: a.access.allowed(
            RULE, extension=Extension(GITHUB, {**PUSH, "settings": [{"name": "n" * 40}] * (MAX_EXTENSION_BYTES // 40)})
        ),
        "extension.payload",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_names_the_field_and_never_the_value(acme: Kit, name: str) -> None:
    build, field = BAD[name]
    with pytest.raises(ContractError) as refused:
        build(acme.audit)
    assert refused.value.field == field
    said = f"{refused.value} {refused.value.__cause__}"
    assert "Zeb" not in said and "initech" not in said and "\ud800" not in said
    assert refused.value.__suppress_context__ or refused.value.__context__ is None
    assert acme.audit.refused == {field: 1} and [error.field for error in acme.emitter.refused] == [field]
    acme.audit.access.allowed(RULE)  # the application goes on


def test_a_cycle_is_called_one(acme: Kit) -> None:
    with pytest.raises(ContractError, match="contains itself"):
        acme.audit.admin.created(RULE, LOOP)
    twice = {"same": 1}
    acme.audit.admin.created(RULE, {"a": twice, "b": [twice, twice]})  # twice is no cycle


def test_a_word_that_no_builder_knows_is_an_error_of_the_call(acme: Kit) -> None:
    for build in (
        lambda: acme.audit.access.allowed(RULE, tenent="acme"),  # type: ignore[call-arg]
        lambda: acme.audit.message("m", "direct", recipients=1, colour="red"),  # type: ignore[call-arg]
        lambda: acme.audit.context(colour="red").__enter__(),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError, match="unexpected keyword"):
            build()


WRONG = """
from producers.kit import Audit, BusinessObject, Outcome
def use(audit: Audit, rule: BusinessObject) -> None:
    audit.admin.changed(rule, {"a": 1})  # after is missing
    audit.message("m", "direct")  # recipients are missing
    audit.message("m", "direct", recipients=1).failed("x", Outcome.REFUSED)  # nothing was sent
    audit.message("m", "direct", recipients=1).sent().retried()  # how did the first one end?
    audit.message("m", "direct", recipients=1).sent().viewed()  # an attempt is not a message
    audit.access.allowed(rule, actor="ada")  # text is no actor
    audit.access.allowed(rule, tenent="acme")  # no such word
    audit.deployment.completed(rule, "bob")  # an object is no deployment
    audit.connector.changed("broken", "one")  # no such state
    audit.policy.overridden(rule)  # on whose authority?
    audit.automation.executed("a", "r", result="FINE")  # no such result
"""


def test_wrong_use_is_an_error_of_the_type_checker(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(WRONG)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(file)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if "wrong.py" in line and "error" in line}
    wanted = {number for number, line in enumerate(WRONG.splitlines(), 1) if "#" in line}
    assert lines == wanted, done.stdout


# -- emitters


def test_what_the_kit_refuses_is_counted_and_recorded_by_the_producer(tmp_path: Path) -> None:
    broker = MemoryBroker()
    with AuditProducer(source_settings(tmp_path, "chat"), "chat", "one", producer_factory=broker.connect) as emitter:
        audit = Audit(emitter, "chat", traces=lambda: None)
        with pytest.raises(ContractError), audit.context(tenant="acme", actor=ADA):
            audit.admin.created(RULE, LOOP)
        assert emitter.await_broker(20) and emitter.counts.refused == 1
    events = [AUDIT_EVENT.decode(record.value) for record in broker.records]
    refused = [event["object"] for event in events if event["event_name"] == "emitter.refused"]
    assert len(refused) == 1 and refused[0]["type"] == "field"


DRAFTS: dict[str, dict[str, object]] = {
    "good": {
        "event_name": "chat.x",
        "tenant": "acme",
        "event_type": "OTHER",
        "result": "SUCCESS",
        "effect": "NONE",
        "actor": {"kind": "USER", "id": "ada@acme.example", "display": "Ada"},
    },
    "no name": {"tenant": "acme"},
    "the emitter's own": {"event_name": "emitter.pulse", "tenant": "acme"},
    "another tenant": {"event_name": "chat.x", "tenant": "nobody"},
    "not the caller's to state": {"event_name": "chat.x", "tenant": "acme", "region": "eu-central"},
    "an extension's value": {
        "event_name": "chat.x",
        "tenant": "acme",
        "event_type": "OTHER",
        "result": "SUCCESS",
        "effect": "NONE",
        "actor": {"kind": "USER", "id": "ada", "display": None},
        "extension": {"schema": GITHUB.sha256, "value": {"hook": 7}},
    },
    "unknown": {"event_name": "chat.x", "tenant": "acme", "colour": "red"},
}


def test_the_emitter_for_samples_refuses_and_redacts_as_the_producer_does(tmp_path: Path) -> None:
    broker = MemoryBroker()
    sample = SampleEmitter(["acme"])
    with AuditProducer(source_settings(tmp_path, "chat"), "chat", "one", ["acme"], producer_factory=broker.connect) as real:
        for name, draft in DRAFTS.items():
            said = []
            for emitter in (sample, real):
                try:
                    assert len(emitter.emit(draft)) == 16
                    said.append("accepted")
                except ContractError as error:
                    said.append(str(error))
            assert said[0] == said[1], name
            assert (said[0] == "accepted") == (name == "good")
    (event,) = [e for r in broker.records if (e := AUDIT_EVENT.decode(r.value))["event_name"] == "chat.x"]
    assert (
        event["redaction"] == sample.events[0]["redaction"]
        and event["actor"]["display"] == sample.events[0]["actor"]["display"]
    )
    sample.close()
    with pytest.raises(TransientError):
        sample.emit(DRAFTS["good"])
