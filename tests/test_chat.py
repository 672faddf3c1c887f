"""The chat connector against a receiver that acknowledges, delays, refuses and dies: each outcome is in the trail, once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from auditor.commands.emit.deployment import Outcome as DeploymentOutcome
from auditor.commands.emit.deployment import state
from infra import keys
from infra.places import Places
from infra.receivers.chat import ChatReceiver, Rules
from kafkaio.reader import PartitionReader
from keystore import Keystore
from producers.audit import AuditProducer
from producers.chat import ChatConnector, ChatMessage, HttpTransport, MessageType, acts
from producers.chat.acts import Act
from producers.chat.connector import BROKEN_AFTER, payload_of
from producers.chat.events import CHAT
from producers.chat.message import MAX_BODY_BYTES
from producers.chat.retry import POLICIES, RetryPolicy, policy_named
from producers.chat.trace import begun
from producers.chat.traffic import traffic
from producers.chat.transport import Reply
from producers.kit import Actor, Audit, Deployed, Outcome, Result
from producers.kit.content import CONTEXT, body_digest, keyed_by
from producers.memory import MemoryBroker
from schemas.catalogue import topic_name
from schemas.policy import Policy
from schemas.redact import hash_value
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError
from sealtrail.seal import LogClass, Route
from tests.conftest import RAW_PARTITIONS, Deployment, wait_until

SECRET = b"shared-by-two"
MARKER = "Zebulon-Quixote-Marker"
AT_ONCE = RetryPolicy("test.v1", attempts=3, base_s=0.0, cap_s=0.0, timeout_s=5.0)
Event = dict[str, Any]


def source_settings(tmp: Path, source: str, **given: Any) -> Settings:
    places = Places(tmp)
    keys.ensure(places, datetime.now(UTC))
    return Settings.load(
        role=source,
        keys=f"file:{places.keys / source}",
        root_vkey=places.root / "root.vkey",
        certificates=places.keys / "certs",
        **given,
    )


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return source_settings(tmp_path_factory.mktemp("keys"), "chat")


class Chat:
    """A connector, its receiver, and the events that it stated."""

    def __init__(self, settings: Settings, receiver: ChatReceiver, **options: Any) -> None:
        self.broker = MemoryBroker()
        self.emitter = AuditProducer(settings, "chat", "one", producer_factory=self.broker.connect)
        self.receiver = receiver
        self.digest = keyed_by(Keystore.open(settings.keys))
        self.stop = threading.Event()
        self.connector = ChatConnector(
            self.emitter,
            options.pop("transport", None) or HttpTransport(receiver.url, secret=SECRET),
            self.digest,
            instance="one",
            tenants=["acme", "globex"],
            stop=self.stop,
            retry=options.pop("retry", AT_ONCE),
            **options,
        )

    def events(self) -> list[Event]:
        """What the connector stated, without the emitter's own."""
        self.emitter.await_broker(20)
        found = [AUDIT_EVENT.decode(record.value) for record in self.broker.records]
        return [event for event in found if not event["event_name"].startswith("emitter.")]

    def names(self) -> list[str]:
        return [event["event_name"].removeprefix("chat.message.") for event in self.events()]


@pytest.fixture
def receiver() -> Iterator[ChatReceiver]:
    with ChatReceiver(secret=SECRET) as made:
        yield made


@pytest.fixture
def chat(settings: Settings, receiver: ChatReceiver) -> Iterator[Chat]:
    made = Chat(settings, receiver)
    yield made
    made.emitter.close(20)


def message(**given: Any) -> ChatMessage:
    plain = ChatMessage(
        "m-1", "acme", MessageType.DIRECT, "ada@acme.example", None, 1, b"the invoice", "chat:m-1",
        credential="session-77aa", source_ip="192.0.2.7",
    )  # fmt: skip
    return replace(plain, **given)


# -- one message's life


def test_a_message_that_works_at_once_is_attempted_and_delivered(chat: Chat, receiver: ChatReceiver) -> None:
    assert chat.connector.send(message())
    sent, delivered = chat.events()
    assert (sent["event_name"], sent["effect"], sent["result"]) == ("chat.message.sent", "ATTEMPTED", "UNKNOWN")
    assert (delivered["event_name"], delivered["effect"], delivered["result"]) == (
        "chat.message.delivered", "EFFECTIVE", "SUCCESS",
    )  # fmt: skip
    assert sent["retry"] == {"original_event_id": None, "attempt": 1, "idempotency_key": "m-1"}
    assert delivered["retry"] == {"original_event_id": sent["event_id"], "attempt": 1, "idempotency_key": "m-1"}
    assert delivered["causation_id"] == sent["event_id"]
    assert delivered["correlation_id"] == sent["correlation_id"] == "m-1"
    delivery = delivered["delivery"]
    assert (delivery["validated"], delivery["signed"], delivery["encrypted"]) == (True, True, False)
    assert delivery["retry_policy"] == "test.v1" and delivery["acknowledgement"].startswith("m-")
    (attempt,) = delivery["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["status"], attempt["hop"]) == (1, "ACKNOWLEDGED", 202, "messenger")
    assert receiver.effective == {"m-1": payload_of(message())}
    assert receiver.counts.get("badly_signed", 0) == 0


def test_the_digests_are_keyed_and_the_body_is_nowhere(chat: Chat, settings: Settings) -> None:
    told = message(body=MARKER.encode(), source_ip="192.0.2.77", sender=f"{MARKER}@acme.example")
    chat.connector.send(told)
    key = Keystore.open(settings.keys).secret("tenant-hash-acme")
    for event in chat.events():
        assert event["content_ref"]["digest"] == body_digest(key, told.body)
        assert event["content_ref"]["digest"].hex() not in hash_value(key, MARKER)
        assert event["delivery"]["payload_digest"] == body_digest(key, payload_of(told))
        assert event["content_ref"]["size"] == len(MARKER)
    for record in chat.broker.records:
        assert MARKER.encode() not in record.value and b"192.0.2.77" not in record.value
    assert CONTEXT.endswith(b"\n")


def test_the_span_of_an_attempt_is_in_the_request_the_event_and_the_record(chat: Chat) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    chat.connector.send(message(traceparent=parent))
    spans = {event["traceparent"] for event in chat.events()}
    (span,) = spans
    assert span[:35] == parent[:35] and span != parent
    headers = [dict(record.headers).get("traceparent") for record in chat.broker.records[1:3]]
    assert headers == [span.encode()] * 2


def test_each_attempt_has_a_span_of_its_own_within_the_messages_trace(chat: Chat, receiver: ChatReceiver) -> None:
    receiver.rules = Rules(busy=1.0)
    chat.connector.send(message(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
    assert chat.names() == ["sent", "retried", "delivered"]
    sent, retried, delivered = (event["traceparent"] for event in chat.events())
    assert sent != retried == delivered
    assert sent[:35] == retried[:35] == "00-4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_malformed_parent_starts_a_trace_of_its_own() -> None:
    for parent in (None, "garbage", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"):
        assert begun(os.urandom, parent).startswith("00-")
    assert begun(lambda n: bytes(n)) != "00-" + "0" * 32 + "-" + "0" * 16 + "-01"


@pytest.mark.parametrize(
    ("rule", "names", "outcomes"),
    [
        ({"refuse": 1.0}, ["sent", "failed"], ["REFUSED"]),
        ({"busy": 1.0}, ["sent", "retried", "delivered"], ["REFUSED", "ACKNOWLEDGED"]),
        ({"lost": 1.0}, ["sent", "retried", "delivered"], ["TIMED_OUT", "ACKNOWLEDGED"]),
    ],
)
def test_what_the_receiver_does_is_what_the_trail_says(
    chat: Chat, receiver: ChatReceiver, rule: dict[str, float], names: list[str], outcomes: list[str]
) -> None:
    receiver.rules = Rules(**rule)  # type: ignore[arg-type]
    chat.connector.send(message())
    assert chat.names() == names
    last = chat.events()[-1]
    assert [attempt["outcome"] for attempt in last["delivery"]["attempts"]] == outcomes
    assert [attempt["number"] for attempt in last["delivery"]["attempts"]] == list(range(1, len(outcomes) + 1))
    assert last["retry"]["attempt"] == len(outcomes)


def test_an_answer_that_was_lost_is_asked_for_again_and_takes_effect_once(chat: Chat, receiver: ChatReceiver) -> None:
    receiver.rules = Rules(lost=1.0)
    assert chat.connector.send(message())
    assert len(receiver.effective) == 1 and receiver.counts["repeated"] == 1
    said = CHAT.decode_body(chat.events()[-1]["extension"]["payload"])
    assert said["repeated"] is True


def test_a_refusal_for_good_is_not_tried_again_and_names_reason_and_hop(chat: Chat, receiver: ChatReceiver) -> None:
    receiver.rules = Rules(refuse=1.0)
    assert not chat.connector.send(message())
    failed = chat.events()[-1]
    assert (failed["result"], failed["effect"]) == ("FAILURE", "ATTEMPTED")
    assert (failed["delivery"]["failure"], failed["delivery"]["failed_hop"]) == ("recipient-unknown", "messenger")
    assert receiver.counts["requests"] == 1


def test_after_a_time_out_nobody_claims_to_know(settings: Settings, receiver: ChatReceiver) -> None:
    receiver.rules = Rules(slow=1.0, hang_s=30)
    chat = Chat(settings, receiver, retry=replace(AT_ONCE, attempts=2, timeout_s=0.3))
    assert not chat.connector.send(message())
    failed = chat.events()[-1]
    assert chat.names() == ["sent", "retried", "failed"]
    assert (failed["result"], failed["delivery"]["failure"]) == ("UNKNOWN", "no-answer")
    assert len(receiver.effective) == 1
    chat.emitter.close(20)


def test_what_failed_is_escalated_and_whether_that_worked_is_said(settings: Settings, receiver: ChatReceiver) -> None:
    receiver.rules = Rules(refuse=1.0)
    with ChatReceiver(secret=SECRET) as on_call:
        told = Chat(settings, receiver, escalation=HttpTransport(on_call.url, hop="on-call", secret=SECRET))
        told.connector.send(message())
        assert told.names() == ["sent", "failed", "escalated"]
        (notice,) = map(json.loads, on_call.effective.values())
        assert notice == {"message": "m-1", "tenant": "acme", "reason": "recipient-unknown", "attempts": 1}
        address = on_call.url
    escalated = told.events()[-1]
    assert (escalated["result"], escalated["target_system"]) == ("SUCCESS", "on-call")
    untold = Chat(settings, receiver, escalation=HttpTransport(address, hop="on-call"))
    untold.connector.send(message())
    escalated = untold.events()[-1]
    assert (escalated["result"], escalated["effect"]) == ("FAILURE", "ATTEMPTED")
    assert (escalated["delivery"]["failure"], escalated["delivery"]["failed_hop"]) == ("unreachable", "on-call")
    told.emitter.close(20)
    untold.emitter.close(20)


def test_a_broadcast_shows_its_whole_life(chat: Chat) -> None:
    lives = set()
    for number in range(40):
        chat.connector.send(
            message(id=f"b-{number}", type=MessageType.BROADCAST, recipient_group="all", recipient_count=900, approver="bob")
        )
    by_message = defaultdict(list)
    for event in chat.events():
        by_message[event["correlation_id"]].append(event["message"]["stage"])
        assert event["message"]["recipient_count"] == 900 and event["approver"]
    for stages in by_message.values():
        assert stages[:5] == ["DRAFTED", "APPROVED", "QUEUED", "SENT", "DELIVERED"]
        lives.add(tuple(stages[5:]))
    assert ("VIEWED", "ARCHIVED") in lives and ("VIEWED",) in lives


def test_what_the_sending_policy_forbids_is_a_verdict_and_goes_nowhere(chat: Chat, receiver: ChatReceiver) -> None:
    for approver in (None, "ada@acme.example"):  # nobody, or the sender itself
        assert not chat.connector.send(message(type=MessageType.BROADCAST, recipient_count=80, approver=approver))
    assert not receiver.effective
    for event in chat.events():
        assert (event["event_name"], event["event_type"], event["result"]) == ("chat.policy.denied", "POLICY", "DENIED")
        assert event["authorization"]["decision"] == "DENY" and event["authorization"]["policy"] == "chat-sending"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"body": b""}, "body-empty"),
        ({"body": bytes(MAX_BODY_BYTES + 1)}, "body-too-large"),
        ({"recipient_count": 0}, "recipients-out-of-range"),
        ({"media_type": "text"}, "media-type-malformed"),
    ],
)
def test_what_is_not_well_formed_fails_before_it_is_sent(
    chat: Chat, receiver: ChatReceiver, given: dict[str, Any], problem: str
) -> None:
    if "media_type" in given:  # the contract itself refuses to state it
        with pytest.raises(ContractError, match="media_type"):
            chat.connector.send(message(**given))
        return
    assert not chat.connector.send(message(**given))
    (failed,) = chat.events()
    assert (failed["delivery"]["validated"], failed["delivery"]["failure"], failed["effect"]) == (False, problem, "NONE")
    assert not receiver.effective


def test_a_receiver_that_is_away_is_stated_once_and_its_return_too(settings: Settings) -> None:
    with ChatReceiver() as gone:
        address, port = gone.url, gone.port
    chat = Chat(settings, gone, transport=HttpTransport(address))
    for number in range(BROKEN_AFTER):
        assert not chat.connector.send(message(id=f"m-{number}"))
    with ChatReceiver(port):
        assert chat.connector.send(message(id="m-back"))
    states = [(e["event_name"], e["tenant"]) for e in chat.events() if ".connector." in e["event_name"]]
    assert states == [
        ("chat.connector.failed", "acme"), ("chat.connector.failed", "globex"),
        ("chat.connector.recovered", "acme"), ("chat.connector.recovered", "globex"),
    ]  # fmt: skip
    failed = [event["delivery"] for event in chat.events() if event["event_name"] == "chat.message.failed"]
    assert {attempt["outcome"] for delivery in failed for attempt in delivery["attempts"]} == {"UNREACHABLE"}
    chat.emitter.close(20)


def test_told_to_stop_it_makes_no_further_attempt(settings: Settings, receiver: ChatReceiver) -> None:
    receiver.rules = Rules(busy=1.0)
    chat = Chat(settings, receiver, retry=replace(AT_ONCE, base_s=600, cap_s=600))
    thread = threading.Thread(target=lambda: chat.connector.send(message()))
    thread.start()
    wait_until(lambda: receiver.counts.get("busy"), what="the first attempt")
    chat.stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert chat.names() == ["sent", "failed"]
    assert chat.events()[-1]["delivery"]["failure"] == "connector-stopped"
    chat.emitter.close(20)


def test_a_receiver_that_dies_after_processing_is_asked_again_and_its_journal_knows(tmp_path: Path, settings: Settings) -> None:
    journal = tmp_path / "journal"
    with receiver_process("--journal", str(journal), "--die-after", "1") as (process, url):
        chat = Chat(settings, None, transport=HttpTransport(url), retry=replace(AT_ONCE, attempts=100, base_s=0.1, cap_s=0.2))  # type: ignore[arg-type]
        thread = threading.Thread(target=lambda: chat.connector.send(message()))
        thread.start()
        assert process.wait(60) == -signal.SIGKILL
        port = int(url.rpartition(":")[2])
        with ChatReceiver(port, journal=journal) as again:
            thread.join(120)
            assert again.counts["repeated"] == 1 and again.counts["effective"] == 1
    names = chat.names()
    assert names[0] == "sent" and names[-1] == "delivered" and set(names[1:-1]) == {"retried"}
    outcomes = [attempt["outcome"] for attempt in chat.events()[-1]["delivery"]["attempts"]]
    assert outcomes[0] == "TIMED_OUT" and outcomes[-1] == "ACKNOWLEDGED"
    chat.emitter.close(20)


# -- the other acts


def some_acts() -> list[tuple[dict[str, object], LogClass, bool]]:
    """Drafts, the class that the policy gives each, and whether the SIEM gets it."""
    act = Act("acme", "ada@acme.example", credential="session-1", source_ip="192.0.2.1", reason="because of a ticket")
    return [
        (acts.login(act, "ada@acme.example", succeeded=False), LogClass.SECURITY, True),
        (acts.login(act, "ada@acme.example", succeeded=True), LogClass.SECURITY, True),
        (acts.permission(act, "bob@acme.example", "g-1", "member", "admin"), LogClass.ADMIN, True),
        (acts.permission(act, "bob@acme.example", "g-1", None, "member"), LogClass.ADMIN, True),
        (acts.permission(act, "bob@acme.example", "g-1", "member", None), LogClass.ADMIN, True),
        (acts.configuration(act, "retention", "/retention_days", 30, 60), LogClass.ADMIN, True),
        (acts.export(act, "e-1", 12, "warehouse"), LogClass.COMPLIANCE, True),
        (acts.export(act, "e-1", 0, "warehouse", succeeded=False), LogClass.COMPLIANCE, True),
        (acts.mention(act, "bob@acme.example", "m-1"), LogClass.OPERATIONAL, False),
        (acts.file_share(act, "f-1", "salaries.pdf", bytes(32), 5, "application/pdf", "g-1"), LogClass.OPERATIONAL, False),
        (acts.api_call(act, "tickets.create", "ticketing", 200), LogClass.OPERATIONAL, False),
        (acts.api_call(act, "tickets.create", "ticketing", 403), LogClass.SECURITY, True),
        (acts.automation(act, "digest", "run-1", executed=None), LogClass.OPERATIONAL, False),
        (acts.automation(act, "digest", "run-1", executed=True), LogClass.OPERATIONAL, False),
        (acts.automation(act, "digest", "run-1", executed=False), LogClass.OPERATIONAL, False),
        (acts.trace(act, "render"), LogClass.DEBUG, False),
        (acts.connector("acme", "one", "stopped", "messenger", works=True), LogClass.OPERATIONAL, True),
    ]


def test_every_act_passes_the_contract_and_gets_its_class(chat: Chat) -> None:
    expected = some_acts()
    for draft, _, _ in expected:
        chat.connector.act(draft)
    policy = Policy.load()
    found = chat.events()
    assert len(found) == len(expected)
    for event, (_, log_class, to_siem) in zip(found, expected, strict=True):
        decision = policy.decide(event)
        assert (decision.log_class, bool(decision.routes & Route.SIEM)) == (log_class, to_siem), event["event_name"]
    everything = b"".join(record.value for record in chat.broker.records)
    assert not [word for word in (b"ada@", b"bob@", b"192.0.2", b"salaries", b"because") if word in everything]


def test_a_person_is_stated_with_the_address_that_the_chat_knows(chat: Chat) -> None:
    """Which is tokenised; what let nobody in, and the address of a machine, are not."""
    act, bot = Act("acme", "ada@acme.example"), Act("acme", "digest", kind="INTEGRATION")
    chat.connector.act(acts.mention(act, "bob@acme.example", "m-1"))
    chat.connector.act(acts.login(act, "ada@acme.example", succeeded=True))
    chat.connector.act(acts.login(act, "hunter2", succeeded=False))
    chat.connector.act(acts.api_call(bot, "tickets.create", "ticketing", 200))
    stated = [[(event[who] or {}).get("login") for who in ("actor", "subject")] for event in chat.events()]
    assert [[text is not None and text.startswith("enc_") for text in texts] for texts in stated] == [
        [True, True], [True, True], [True, False], [False, False],
    ]  # fmt: skip


def test_a_change_says_before_and_after(chat: Chat) -> None:
    chat.connector.act(acts.permission(Act("acme", "ada"), "bob", "g-1", "member", "admin"))
    (event,) = chat.events()
    assert event["changes"] == [{"op": "REPLACE", "path": "/role", "before": '"member"', "after": '"admin"'}]


# -- traffic, retry policies, deployments


def test_the_same_seed_gives_the_same_traffic() -> None:
    digest: Callable[[str, bytes], bytes] = lambda tenant, data: body_digest(tenant.encode(), data)  # noqa: E731
    first, again = ([*traffic(7, 3000, ["acme", "globex"], digest)] for _ in range(2))
    other = [*traffic(8, 3000, ["acme", "globex"], digest)]
    assert first == again != other
    sent = [doing for doing in first if isinstance(doing, ChatMessage)]
    assert len(sent) == 3000 == len({one.id for one in sent}) and {one.tenant for one in sent} == {"acme", "globex"}
    assert {one.type for one in sent} == set(MessageType)
    assert 100 < len(first) - 3000 < 260


def test_waits_grow_up_to_the_cap_and_honour_what_the_receiver_asks() -> None:
    policy = RetryPolicy("x.v1", 9, base_s=1.0, cap_s=8.0, timeout_s=1.0)
    assert [policy.wait_s(n, 0.0) for n in (1, 2, 3, 4, 9)] == [0.5, 1.0, 2.0, 4.0, 4.0]
    assert policy.wait_s(1, 0.999) < 1.0
    assert policy.wait_s(1, 0.0, asked_s=5) == 5 and policy.wait_s(1, 0.0, asked_s=500) == 8.0
    for name, known in POLICIES.items():
        assert policy_named(name) is known
    with pytest.raises(ConfigError, match=r"exponential-3\.v1"):
        policy_named("forever")


@pytest.mark.parametrize(("status", "final"), [(400, True), (401, True), (422, True), (408, False), (429, False), (503, False)])
def test_which_refusals_are_worth_another_attempt(status: int, final: bool) -> None:
    assert Reply(Outcome.REFUSED, status).final is final


@pytest.mark.parametrize("url", ["ftp://h:1", "h:1", "http://", "https://[::1"])
def test_an_address_that_is_none_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="--receiver"):
        HttpTransport(url)


def test_a_deployment_carries_commit_digest_approver_and_checks(tmp_path: Path) -> None:
    broker = MemoryBroker()
    emitter = AuditProducer(source_settings(tmp_path, "ci"), "ci", "one", producer_factory=broker.connect)
    checks = {"tests": Result.SUCCESS, "review": Result.SUCCESS, "scan": Result.PARTIAL}
    deployed = Deployed("billing-api", "production", "a" * 40, "sha256:" + "b" * 64, checks)
    audit = Audit(emitter, "ci")
    with audit.context(tenant="acme", actor=Actor.service("pipeline@acme"), ticket="CHG-9", correlation_id="run-3"):
        for outcome in DeploymentOutcome:
            state(audit, outcome, deployed, "ada@acme")
    emitter.close(20)
    events = [AUDIT_EVENT.decode(record.value) for record in broker.records][1:-1]
    assert [e["event_name"] for e in events] == ["ci.deployment.completed", "ci.deployment.failed", "ci.deployment.denied"]
    for event in events:
        assert event["deployment"]["artifact_digest"] == "sha256:" + "b" * 64 and event["deployment"]["commit"] == "a" * 40
        assert {check["name"]: check["result"] for check in event["deployment"]["checks"]} == checks
        assert event["approver"].startswith("hmac_") and event["ticket"] == "CHG-9"
        decision = Policy.load().decide(event)
        assert decision.log_class is LogClass.ADMIN and decision.sign and decision.routes & Route.SIEM


# -- as a process, on Kafka


class receiver_process:
    """The receiver in a process of its own: its process and its address."""

    def __init__(self, *arguments: str) -> None:
        self._command = [sys.executable, "-m", "infra.receivers.chat", *arguments]

    def __enter__(self) -> tuple[subprocess.Popen[str], str]:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        return self._process, json.loads(self._process.stdout.readline())["url"]

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def emit(deployment: Deployment, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "auditor", "emit", *arguments]
    role = "ci" if arguments[0] == "deployment" else "chat"
    environment = {**os.environ, "SEALTRAIL_TOPIC_PREFIX": deployment.topic_prefix}
    return subprocess.Popen(
        [*command, "--config", str(deployment.stack.role_file(role)), "--json"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def raw_events(deployment: Deployment) -> list[Event]:
    topic = topic_name(deployment.topic_prefix, "audit.raw")
    with PartitionReader(deployment.settings("admin")) as reader:
        values = [r.value for p in range(RAW_PARTITIONS) for r in reader.read_all(topic, p) if r.value is not None]
    return [AUDIT_EVENT.decode(value) for value in values]


def test_the_command_sends_and_says_what_became_of_it(deployment: Deployment) -> None:
    with receiver_process("--refuse", "0.05", "--busy", "0.1") as (_, url):
        process = emit(deployment, "chat", "--receiver", url, "--messages", "300", "--on-call", url)
        out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    result = json.loads(out)
    names = Counter(event["event_name"] for event in raw_events(deployment))
    assert names["chat.message.delivered"] == result["delivered"] > 200
    assert names["chat.message.failed"] == names["chat.message.escalated"] == result["failed"] > 0
    assert names["chat.message.retried"] == result["retried"] > 0
    assert names["chat.connector.started"] == names["chat.connector.stopped"] == 3
    assert sum(names.values()) == result["events"] == result["acknowledged"]
    sent = [n for n in names.elements() if n == "chat.message.sent"]
    assert len(sent) == result["messages"] - result["denied"] - result["malformed"]


def test_switched_off_it_says_so_last_and_closes(deployment: Deployment) -> None:
    with receiver_process() as (_, url):
        process = emit(deployment, "chat", "--receiver", url, "--messages", "20", "--tenants", "acme", "--idle")
        assert process.stderr is not None
        wait_until(lambda: "started" in process.stderr.readline(), what="the connector started")  # type: ignore[union-attr]
        wait_until(lambda: len(raw_events(deployment)) > 40, what="its messages")
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    names = [event["event_name"] for event in raw_events(deployment)]
    assert names[-2:] == ["chat.connector.stopped", "emitter.close"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--receiver", "nowhere"], "--receiver"),
        (["--receiver", "http://127.0.0.1:9", "--tenants", "umbrella"], "--tenants"),
        (["--receiver", "http://127.0.0.1:9", "--retry-policy", "x"], "--retry-policy"),
    ],
)
def test_a_wrong_option_is_named(deployment: Deployment, arguments: list[str], said: str) -> None:
    process = emit(deployment, "chat", *arguments)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3 and said in err


def test_the_deployment_command_states_one_event(deployment: Deployment) -> None:
    given = ["--tenant", "acme", "--environment", "production", "--target", "billing-api", "--commit", "c" * 40]
    process = emit(deployment, "deployment", *given, "--approver", "ada", "--check", "tests=SUCCESS")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (event,) = [e for e in raw_events(deployment) if not e["event_name"].startswith("emitter.")]
    assert event["event_id"].hex() == json.loads(out)["event_id"] and event["event_name"] == "ci.deployment.completed"
    wrong = emit(deployment, "deployment", *given, "--check", "tests")
    assert wrong.wait(120) == 3
    unlawful = emit(deployment, "deployment", *given[:-1], "not-a-commit")
    _, err = unlawful.communicate(timeout=120)
    assert unlawful.returncode == 1 and "commit" in err
