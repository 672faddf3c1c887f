"""The kit's builders: what each states, and what none of them states."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from producers.github import GITHUB
from producers.kit import (
    Act,
    Actor,
    Audit,
    Authorization,
    AuthorizationMethod,
    Content,
    ContentRef,
    Decision,
    Delivery,
    Deployed,
    Effect,
    EventType,
    Extension,
    Message,
    Outcome,
    Result,
    Subject,
    words,
)
from producers.kit.content import body_digest
from producers.kit.diff import changed
from producers.kit.families import result_of_status
from producers.kit.web import Caller
from schemas.fields import field_tree
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError, ContractError
from sealtrail.seal import LogClass
from tests.kitted import ADA, KEY, RULE, TRACE, VERDICT, Builder, Kit

# -- every family

DEPLOYED = Deployed("billing", "production", "a" * 40, "sha256:" + "b" * 64, {"tests": Result.SUCCESS})
ORIGINAL = bytes.fromhex("019aaaaaaaaa7000800000000000000a")


def direct(audit: Audit) -> Message:
    return audit.message("m-1", "direct", recipients=1)


STAGES: dict[str, tuple[Builder, str, str]] = {
    "approved": (lambda a: direct(a).approved("bob"), "SUCCESS", "EFFECTIVE"),
    "queued": (lambda a: direct(a).queued(), "SUCCESS", "EFFECTIVE"),
    "sent": (lambda a: direct(a).sent(), "UNKNOWN", "ATTEMPTED"),
    "retried": (lambda a: direct(a).retried(ORIGINAL, 2), "UNKNOWN", "ATTEMPTED"),
    "viewed": (lambda a: direct(a).viewed(), "SUCCESS", "EFFECTIVE"),
    "failed": (lambda a: direct(a).failed("body-empty"), "FAILURE", "NONE"),
    "escalated": (lambda a: direct(a).escalated("on-call"), "SUCCESS", "EFFECTIVE"),
    "archived": (lambda a: direct(a).archived(), "SUCCESS", "EFFECTIVE"),
}
FAMILIES: dict[str, tuple[Builder, str, str, str, LogClass]] = {
    "access.allowed": (lambda a: a.access.allowed(RULE), "ACCESS", "SUCCESS", "EFFECTIVE", LogClass.SECURITY),
    "access.denied": (lambda a: a.access.denied(RULE), "ACCESS", "DENIED", "ATTEMPTED", LogClass.SECURITY),
    "access.failed": (lambda a: a.access.failed(RULE), "ACCESS", "FAILURE", "ATTEMPTED", LogClass.SECURITY),
    "login.succeeded": (
        lambda a: a.authentication.succeeded("ada"),
        "AUTHENTICATION",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.SECURITY,
    ),
    "login.failed": (
        lambda a: a.authentication.failed("ada"),
        "AUTHENTICATION",
        "FAILURE",
        "ATTEMPTED",
        LogClass.SECURITY,
    ),
    "login.ended": (lambda a: a.authentication.ended("ada"), "AUTHENTICATION", "SUCCESS", "EFFECTIVE", LogClass.SECURITY),
    "config.changed": (
        lambda a: a.admin.changed(RULE, {"enabled": True}, {"enabled": False}),
        "ADMIN",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.ADMIN,
    ),
    "config.created": (lambda a: a.admin.created(RULE, {"enabled": True}), "ADMIN", "SUCCESS", "EFFECTIVE", LogClass.ADMIN),
    "config.deleted": (lambda a: a.admin.deleted(RULE, {"enabled": True}), "ADMIN", "SUCCESS", "EFFECTIVE", LogClass.ADMIN),
    "permission.granted": (
        lambda a: a.admin.granted(Subject("bob"), RULE, "member"),
        "ADMIN",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.ADMIN,
    ),
    "permission.changed": (
        lambda a: a.admin.role_changed(Subject("bob"), RULE, "member", "admin"),
        "ADMIN",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.ADMIN,
    ),
    "permission.revoked": (
        lambda a: a.admin.revoked(Subject("bob"), RULE, "member"),
        "ADMIN",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.ADMIN,
    ),
    "deployment.completed": (
        lambda a: a.deployment.completed(DEPLOYED, "bob"),
        "DEPLOYMENT",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.ADMIN,
    ),
    "deployment.failed": (lambda a: a.deployment.failed(DEPLOYED), "DEPLOYMENT", "FAILURE", "ATTEMPTED", LogClass.ADMIN),
    "deployment.denied": (lambda a: a.deployment.denied(DEPLOYED), "DEPLOYMENT", "DENIED", "NONE", LogClass.ADMIN),
    "export.completed": (
        lambda a: a.export.completed(RULE, "warehouse"),
        "EXPORT",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.COMPLIANCE,
    ),
    "export.failed": (lambda a: a.export.failed(RULE, "warehouse"), "EXPORT", "FAILURE", "ATTEMPTED", LogClass.COMPLIANCE),
    "export.denied": (lambda a: a.export.denied(RULE, "warehouse"), "EXPORT", "DENIED", "NONE", LogClass.COMPLIANCE),
    "hold.placed": (lambda a: a.hold.placed("m-1", "a claim"), "HOLD", "SUCCESS", "EFFECTIVE", LogClass.COMPLIANCE),
    "hold.lifted": (lambda a: a.hold.lifted("m-1", "settled"), "HOLD", "SUCCESS", "EFFECTIVE", LogClass.COMPLIANCE),
    "hold.refused": (lambda a: a.hold.refused("m-1", "no store"), "HOLD", "FAILURE", "ATTEMPTED", LogClass.COMPLIANCE),
    "retention.changed": (
        lambda a: a.retention.changed(RULE, {"retention_days": 30}, {"retention_days": 60}),
        "RETENTION",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.COMPLIANCE,
    ),
    "retention.applied": (lambda a: a.retention.applied(RULE), "RETENTION", "SUCCESS", "EFFECTIVE", LogClass.COMPLIANCE),
    "mention.created": (
        lambda a: a.mention.created(Subject("bob"), "m-1"),
        "MENTION",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "file.shared": (
        lambda a: a.file_share.shared(RULE, ContentRef(bytes(32), 5, "application/pdf", "drive:f-1"), "g-1"),
        "FILE_SHARE",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "file.withdrawn": (
        lambda a: a.file_share.withdrawn(RULE, "g-1"),
        "FILE_SHARE",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "api.called": (
        lambda a: a.api_call.called("tickets.create", "ticketing", 201),
        "API_CALL",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "automation.intended": (
        lambda a: a.automation.intended("digest", "run-1"),
        "AUTOMATION",
        "UNKNOWN",
        "ATTEMPTED",
        LogClass.OPERATIONAL,
    ),
    "automation.executed": (
        lambda a: a.automation.executed("digest", "run-1"),
        "AUTOMATION",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "automation.failed": (
        lambda a: a.automation.failed("digest", "run-1"),
        "AUTOMATION",
        "FAILURE",
        "ATTEMPTED",
        LogClass.OPERATIONAL,
    ),
    "policy.denied": (lambda a: a.policy.decided(RULE, VERDICT), "POLICY", "DENIED", "NONE", LogClass.SECURITY),
    "policy.overridden": (
        lambda a: a.policy.overridden(RULE, VERDICT, "bob", "an emergency"),
        "POLICY",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.SECURITY,
    ),
    "connector.stopped": (
        lambda a: a.connector.changed("stopped", "one"),
        "OTHER",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "connector.failed": (lambda a: a.connector.changed("failed", "one"), "OTHER", "FAILURE", "EFFECTIVE", LogClass.OPERATIONAL),
    "message.drafted": (
        lambda a: a.message("m-1", "direct", recipients=1).drafted(),
        "MESSAGE",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "message.delivered": (
        lambda a: a.message("m-1", "direct", recipients=1).delivered("a-7"),
        "MESSAGE",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "policy.allowed": (
        lambda a: a.policy.decided(RULE, Authorization(AuthorizationMethod.STEP_UP, decision=Decision.ALLOW)),
        "POLICY",
        "SUCCESS",
        "NONE",
        LogClass.SECURITY,
    ),
    "connector.started": (
        lambda a: a.connector.changed("started", "one"),
        "OTHER",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    "connector.recovered": (
        lambda a: a.connector.changed("recovered", "one"),
        "OTHER",
        "SUCCESS",
        "EFFECTIVE",
        LogClass.OPERATIONAL,
    ),
    **{
        f"message.{stage}": (build, "MESSAGE", result, effect, LogClass.OPERATIONAL)
        for stage, (build, result, effect) in STAGES.items()
    },
    "review.done": (
        lambda a: a.state(Act("review.done", EventType.REVIEW, Result.SUCCESS, Effect.NONE)),
        "REVIEW",
        "SUCCESS",
        "NONE",
        LogClass.COMPLIANCE,
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_each_builder_states_one_event_of_its_family_and_class(acme: Kit, name: str) -> None:
    build, event_type, result, effect, log_class = FAMILIES[name]
    build(acme.audit)
    assert acme.names() == [f"slack.{name}"]
    event = acme.last
    assert (event["event_type"], event["result"], event["effect"]) == (event_type, result, effect)
    assert (event["tenant"], event["source_system"], event["actor"]["kind"]) == ("acme", "slack", "USER")
    assert Policy.load().decide(event).log_class is log_class
    assert b"Zebulon" not in AUDIT_EVENT.encode(event) and b"ada@" not in AUDIT_EVENT.encode(event)


def test_what_any_event_may_carry_stands_where_the_schema_has_it(kit: Kit) -> None:
    at = datetime(2026, 11, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    cause = kit.audit.access.allowed(RULE, tenant="acme", actor=ADA)
    kit.audit.access.allowed(
        RULE, tenant="globex", actor=Actor.service("s-1"), occurred_at=at, cause=cause, ticket="CHG-1", traceparent=TRACE,
        correlation_id="c-1", credential="key-7", source_ip="192.0.2.1", reason="Zebulon asked", detail="gone",
        approver="bob", source_system="crm", target_system="erp", authorization=VERDICT,
        extension=Extension(GITHUB, {"hook": "push", "malformed": False, "settings": []}),
    )  # fmt: skip
    event = kit.last
    assert event["occurred_at"] == 1_793_529_000_000_000 == int(at.timestamp()) * 1_000_000
    assert (event["causation_id"], event["ticket"], event["traceparent"]) == (cause, "CHG-1", TRACE)
    assert (event["correlation_id"], event["source_system"], event["target_system"]) == ("c-1", "crm", "erp")
    assert all(event[name].startswith("hmac_") for name in ("credential", "source_ip", "approver"))
    assert event["detail"] is None and event["reason"].startswith("*")
    assert event["authorization"] == {
        "method": "SSO_SESSION", "scopes": ["chat:write"], "policy": "sending", "policy_version": "3", "decision": "DENY",
    }  # fmt: skip
    assert GITHUB.decode_body(event["extension"]["payload"])["hook"] == "push"


def test_a_persons_login_leaves_encrypted(acme: Kit) -> None:
    acme.audit.admin.granted(Subject("bob", "Bob Zebulon", "bob@acme.example"), RULE, "member")
    actor, subject = acme.last["actor"], acme.last["subject"]
    assert actor["login"] != subject["login"] and all(text.startswith("enc_") for text in (actor["login"], subject["login"]))
    assert {"actor.login", "subject.login"} <= set(acme.last["redaction"]["fields"])
    acme.audit.mention.created(Subject("bob"), "m-1", actor=Actor.service("s-1"))
    assert acme.last["actor"]["login"] is acme.last["subject"]["login"] is None
    with pytest.raises(ContractError, match=r"actor\.login"):
        acme.audit.access.allowed(RULE, actor=Actor.user("ada", login="a" * 5000))


def test_the_words_of_the_kit_are_those_of_the_schema() -> None:
    tree = dict(field_tree(AUDIT_EVENT.text).fields)

    def symbols(*path: str) -> frozenset[str]:
        node = tree[path[0]]
        for name in path[1:]:
            node = dict((node.items or node).fields)[name]
        return node.symbols

    places: dict[type[Any], tuple[str, ...]] = {
        words.Result: ("result",), words.Effect: ("effect",), words.ActorKind: ("actor", "kind"),
        words.AuthorizationMethod: ("authorization", "method"), words.Decision: ("authorization", "decision"),
        words.Outcome: ("delivery", "attempts", "outcome"), words.Stage: ("message", "stage"),
    }  # fmt: skip
    for enum, path in places.items():
        assert {str(word) for word in enum} == symbols(*path), enum
    assert {str(word) for word in words.EventType} == symbols("event_type") - {"EMITTER"}


@pytest.mark.parametrize(
    ("status", "result"), [(200, "SUCCESS"), (302, "SUCCESS"), (401, "DENIED"), (404, "FAILURE"), (503, "FAILURE")]
)
def test_what_a_peers_status_says(status: int, result: str) -> None:
    assert result_of_status(status) == result


def test_a_body_becomes_a_keyed_reference_and_stands_nowhere(acme: Kit) -> None:
    body = b"salaries of Zebulon"
    content = Content(body, "text/csv", "drive:f-1")
    acme.audit.export.completed(RULE, "warehouse", content=content)
    assert acme.last["content_ref"] == {
        "digest": body_digest(KEY, body), "size": 19, "media_type": "text/csv", "location": "drive:f-1",
    }  # fmt: skip
    assert body not in AUDIT_EVENT.encode(acme.last) and "salaries" not in repr(content)
    bare = Audit(acme.emitter, "slack", traces=lambda: None)
    with pytest.raises(ConfigError, match="digest"):
        bare.export.completed(RULE, "warehouse", content=content)


# -- one message's life


def test_a_messages_life_is_one_lineage(acme: Kit) -> None:
    delivery = Delivery("messenger", validated=True, signed=True, encrypted=False, payload=b"{}", retry_policy="two.v1")
    content = Content(b"hello", "text/plain", "slack:m-1")
    ids: list[bytes] = []
    with acme.audit.context(correlation_id="request-1"):
        message = acme.audit.message(
            "m-1", "broadcast", recipients=900, group="all", sender="ada", content=content, delivery=delivery
        )
        ids += [message.drafted(), message.approved("bob"), message.queued()]
    first = message.sent(traceparent=TRACE)
    second = first.retried(Outcome.TIMED_OUT)
    ids += [first.event_id, second.event_id, second.delivered("a-77", status=202)]
    ids += [message.viewed(), message.archived(), message.escalated("on-call", reference="p-1")]
    stages = [event["message"]["stage"] for event in acme.emitter.events]
    assert stages == [
        "DRAFTED", "APPROVED", "QUEUED", "SENT", "RETRIED", "DELIVERED", "VIEWED", "ARCHIVED", "ESCALATED",
    ]  # fmt: skip
    events = acme.emitter.events
    assert [event["event_id"] for event in events] == ids
    assert [event["causation_id"] for event in events] == [None, *ids[:-1]]
    assert {event["correlation_id"] for event in events} == {"m-1"}
    assert {event["message"]["recipient_count"] for event in events} == {900}
    assert [event["approver"] is None for event in events] == [True] + [False] * 8
    assert [event["retry"] for event in events[2:7]] == [
        None,
        {"original_event_id": None, "attempt": 1, "idempotency_key": "m-1"},
        {"original_event_id": ids[3], "attempt": 2, "idempotency_key": "m-1"},
        {"original_event_id": ids[3], "attempt": 2, "idempotency_key": "m-1"},
        None,
    ]
    delivered = events[5]["delivery"]
    assert [(a["number"], a["outcome"], a["status"], a["hop"]) for a in delivered["attempts"]] == [
        (1, "TIMED_OUT", None, "messenger"), (2, "ACKNOWLEDGED", 202, "messenger"),
    ]  # fmt: skip
    assert (delivered["acknowledgement"], delivered["retry_policy"], delivered["signed"]) == ("a-77", "two.v1", True)
    assert delivered["payload_digest"] == body_digest(KEY, b"{}")
    assert {event["target_system"] for event in events} == {"messenger", "on-call"}
    assert [event["traceparent"] for event in events[3:6]] == [TRACE, None, None]


def test_the_outcome_of_an_attempt_is_in_the_attempts_span(acme: Kit) -> None:
    acme.audit.message("m-1", "direct", recipients=1).sent(traceparent=TRACE).delivered()
    assert [event["traceparent"] for event in acme.emitter.events] == [TRACE, TRACE]


@pytest.mark.parametrize(
    ("outcome", "result"), [(Outcome.REFUSED, "FAILURE"), (Outcome.UNREACHABLE, "FAILURE"), (Outcome.TIMED_OUT, "UNKNOWN")]
)
def test_after_a_time_out_a_failed_message_may_have_arrived(acme: Kit, outcome: Outcome, result: str) -> None:
    message = acme.audit.message("m-1", "direct", recipients=1, delivery=Delivery("messenger"))
    message.sent().failed("no-answer", outcome, status=500)
    message.not_escalated("on-call", "unreachable")
    failed, escalated = acme.emitter.events[-2:]
    assert (failed["result"], failed["effect"]) == (result, "ATTEMPTED")
    assert (failed["delivery"]["failure"], failed["delivery"]["failed_hop"]) == ("no-answer", "messenger")
    assert (escalated["result"], escalated["delivery"]["failed_hop"]) == ("FAILURE", "on-call")


def test_what_was_not_sent_failed_without_effect_or_was_forbidden(acme: Kit) -> None:
    acme.audit.message("m-1", "direct", recipients=0).failed("body-empty", hop="slack", validated=False)
    acme.audit.message("m-2", "broadcast", recipients=80).denied(VERDICT)
    failed, denied = acme.emitter.events
    assert (failed["effect"], failed["delivery"]["validated"], failed["delivery"]["failure"]) == ("NONE", False, "body-empty")
    assert (denied["event_name"], denied["event_type"], denied["result"]) == ("slack.policy.denied", "POLICY", "DENIED")
    assert denied["authorization"]["decision"] == "DENY"


def test_a_retry_of_another_process_names_the_original(acme: Kit) -> None:
    original = acme.audit.message("m-1", "direct", recipients=1, idempotency_key="k-1").sent().event_id
    later = acme.audit.message("m-1", "direct", recipients=1, idempotency_key="k-1")
    later.retried(original, 2, cause=original).delivered()
    retried, delivered = acme.emitter.events[1:]
    assert retried["retry"] == {"original_event_id": original, "attempt": 2, "idempotency_key": "k-1"} == delivered["retry"]
    assert retried["causation_id"] == original and retried["correlation_id"] == "m-1"


def test_what_follows_an_attempt_is_caused_by_it_whatever_caused_the_attempt(acme: Kit) -> None:
    asked = acme.audit.access.allowed(RULE)
    attempt = acme.audit.message("m-1", "direct", recipients=1).sent(cause=asked)
    attempt.delivered()
    assert [event["causation_id"] for event in acme.emitter.events[1:]] == [asked, attempt.event_id]


def test_a_value_that_is_logged_names_nobody() -> None:
    values = [
        ADA, Subject("ada@acme.example", "Ada Zebulon", "ada@acme.example"), RULE, Content(b"Zebulon", "text/plain", "x:1"),
        Delivery("hop", payload=b"Zebulon"), Extension(GITHUB, {"ref": "Zebulon"}),
        Act("x", EventType.OTHER, Result.SUCCESS, Effect.NONE, compared=({"a": "Zebulon"}, {})),
        *changed({"a": "Zebulon"}, {}), Caller("acme", ADA),
    ]  # fmt: skip
    assert not any(word in repr(values) for word in ("Zebulon", "ada@"))


def test_an_attempt_ends_once(acme: Kit) -> None:
    attempt = acme.audit.message("m-1", "direct", recipients=1).sent()
    attempt.delivered()
    with pytest.raises(ContractError, match=r"delivery\.attempts"):
        attempt.failed("no-answer", Outcome.TIMED_OUT)


def test_a_runs_outcome_is_caused_by_its_intention(acme: Kit) -> None:
    run = acme.audit.automation.intended("digest", "run-1", ticket="CHG-1")
    run.executed(result=Result.PARTIAL)
    intended, executed = acme.emitter.events
    assert executed["causation_id"] == intended["event_id"] == run.event_id
    assert (intended["correlation_id"], executed["correlation_id"]) == ("run-1", "run-1")
    assert (executed["result"], executed["ticket"]) == ("PARTIAL", "CHG-1")
    with acme.audit.context(correlation_id="request-1"):
        acme.audit.automation.intended("digest", "run-2").failed()
    assert [event["correlation_id"] for event in acme.emitter.events[2:]] == ["request-1", "request-1"]
