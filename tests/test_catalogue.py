"""The event catalogue names every event that code states, with the class that the policy gives it (CON-7).

Events of this project's own connectors and of 329 real webhooks are made here and looked up; words in the code that look like
the name of an event must stand in it, and no line of it may name what no code states.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from auditor import policy as publishing
from auditor import watch
from auditor.commands.emit.deployment import Outcome as DeploymentOutcome
from auditor.commands.emit.deployment import state
from auditor.policy import Authority
from processors.detect import finding
from processors.detect.leaks import Leaked
from processors.detect.silence import Alarm, Kind
from producers import lifecycle
from producers.chat import acts
from producers.chat.events import CHAT, SYSTEM, authorization, life_of
from producers.chat.message import SendingPolicy
from producers.github import draft_of
from producers.github.families import FAMILIES
from producers.github.files import webhooks
from producers.kit import Actor, Audit, ContentRef, Decision, Delivery, Deployed, Extension, Message, Outcome, Result, context
from producers.samples.emitter import SampleEmitter
from schemas.fields import field_tree
from schemas.policy import Policy
from schemas.published.events import EMITTER, KIT, Entry, decisions, find, load, parse
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError
from sealtrail.report import Finding, FindingKind, Report
from tests.kitted import ADA, RULE, TRACE, VERDICT, digest, made
from tests.test_chat import message, some_acts
from tests.test_github import complete
from tests.test_kit import FAMILIES as KIT_FAMILIES
from tests.test_kit import STAGES

ENTRIES = load()
POLICY = Policy.load()
FIELDS = [name for name, _ in field_tree(AUDIT_EVENT.text).fields]
EVERYWHERE = {name for name, node in field_tree(AUDIT_EVENT.text).fields if not node.nullable and node.kind != "array"}
Draft = Mapping[str, Any]
NOW_US = 1_795_000_000_000_000


PACKAGES = ("auditor", "infra", "processors", "producers", "schemas", "sealtrail", "sinks")


def chat_messages() -> Iterator[Draft]:
    """Every stage of a message's life, good and bad, as the chat connector states it."""
    emitter = SampleEmitter(["acme"])
    audit = Audit(emitter, SYSTEM, digest=digest, traces=lambda: None)
    way = Delivery("messenger", validated=True, signed=True, encrypted=True, payload=b"{}", retry_policy="exponential")
    one = message(approver="bob", ticket="CHG-1", recipient_group="g-1")

    def life() -> Message:
        return life_of(audit, one, SendingPolicy(), way, TRACE)

    good = life()
    good.drafted()
    good.approved("bob")
    good.queued()
    good.sent().retried(Outcome.UNREACHABLE).delivered("r-1", status=200, extension=Extension(CHAT, {"repeated": True}))
    good.viewed(extension=Extension(CHAT, {"viewers": 3}))
    good.archived()
    life().denied(authorization(one, SendingPolicy(), Decision.DENY))
    life().failed("body-empty", validated=False)
    bad = life()
    bad.sent().failed("timed-out", Outcome.TIMED_OUT)
    bad.escalated("pager", reference="p-1")
    bad.not_escalated("pager", "unreachable")
    life().sent().failed("blocked", Outcome.REFUSED, status=403)
    yield from emitter.events


def kit_events() -> Iterator[Draft]:
    """Everything that the kit's builders state."""
    kit = made()
    with context(tenant="acme", actor=ADA):
        own = "review.done"  # an application's own act: any name, of any family
        builders = [family[0] for name, family in KIT_FAMILIES.items() if name != own]
        for build in (*builders, *(stage[0] for stage in STAGES.values())):
            build(kit.audit)
        kit.audit.export.completed(RULE, "warehouse", content=ContentRef(bytes(32), 5, "text/csv", "warehouse:e-1"))
        for result in Result:
            kit.audit.access.answered(RULE, result)
        kit.audit.api_call.called("tickets.create", "ticketing", 403)
        kit.audit.api_call.called("tickets.create", "ticketing", 500)
        kit.audit.policy.decided(RULE, replace(VERDICT, decision=Decision.ALLOW))
        for state in ("started", "recovered"):
            kit.audit.connector.changed(state, "one")
    yield from kit.emitter.events


def ci_events() -> Iterator[Draft]:
    """What `sealtrail emit deployment` states."""
    kit = made("ci")
    with kit.audit.context(tenant="acme", actor=Actor.service("ci-bot")):
        for outcome in DeploymentOutcome:
            state(kit.audit, outcome, Deployed("shop", "production", "a" * 40), "bob")
    yield from kit.emitter.events


def own_events() -> Iterator[Draft]:
    """What the trail's own processes and a pipeline of CI/CD state, as far as that is made without servers."""
    yield from (lifecycle.opened("a/b", bytes(200)), lifecycle.pulse("a/b"), lifecycle.closed("a/b"))
    yield lifecycle.refused("a/b", "actor.id")
    yield from ci_events()
    authority = Authority("ann", "asked", "CHG-1", "bob")
    yield publishing._intent("p-1", authority)
    files = {file.name: file.read_text() for file in Path("schemas/policy").rglob("*.toml")}
    base, tenants = files.pop("base.toml"), {name.removesuffix(".toml"): text for name, text in files.items()}
    edited = re.sub("archive_days = 366,", "archive_days = 400,", base.replace("review_days = 366", "review_days = 300"))
    changes = publishing.difference(Policy(base, tenants), Policy(edited, tenants))
    yield from publishing._stated("p-1", changes, authority)
    for kind in Kind:
        yield finding.of_alarm(bytes(32), Alarm(kind, "chat", "one", bytes(16), 0, NOW_US, 2, 7), "c/d/e.0/0")
    for shape in ("jwt", "not-masked"):
        leaked = Leaked("chat", "one", "reason", shape, 2, 7, 9, 0, NOW_US)
        yield finding.of_leak(bytes(32), leaked, "c/d/e.0/0", "Head of integrations")
    yield watch.stated(Finding(FindingKind.ALTERED, 4, "c/d/e.0/0", 7, 1, "somewhere", "x"))
    yield watch.completed(Report(), "audit.example/", 1.0)
    yield watch.overdue("cycle", 9.0)


def entry_of(draft: Draft) -> Entry:
    entry = find(ENTRIES, draft["event_name"], draft["event_type"])
    assert entry is not None, (draft["event_name"], draft["event_type"])
    return entry


def check(draft: Draft) -> None:
    """The event stands in the catalogue: how it ends, what it fills, and with the class, signature and routes of the policy."""
    entry = entry_of(draft)
    event = complete(draft)
    assert event["result"] in entry.results, draft
    assert event["effect"] in entry.effects, draft
    filled = {name for name in FIELDS if event[name] not in (None, [])} - EVERYWHERE
    assert filled <= set(entry.fills), (entry.name, filled - set(entry.fills))
    decided = POLICY.decide(event)
    said = next(decision for results, decision in decisions(entry, POLICY) if event["result"] in results)
    assert (decided.log_class, decided.sign, decided.routes) == (said.log_class, said.sign, said.routes), entry.name


def test_every_event_of_the_329_payloads_is_in_the_catalogue(github_payloads: Path) -> None:
    payloads = [*webhooks(github_payloads.read_bytes(), None)]
    assert len(payloads) == 329
    for hook, payload in payloads:
        check(draft_of(hook, payload, "acme").draft)


def test_every_event_that_the_chat_connector_states_is_in_the_catalogue() -> None:
    states = (("started", True), ("stopped", True), ("failed", False), ("recovered", True))
    for draft, _, _ in some_acts():
        check(draft)
    for stated in chain(chat_messages(), (acts.connector("acme", "one", s, "messenger", works=w) for s, w in states)):
        check(stated)


def test_every_event_that_the_kit_states_is_in_the_catalogue() -> None:
    stated = [*kit_events()]
    assert len({event["event_name"] for event in stated}) > 40
    for event in stated:
        check(event)


def test_every_event_that_the_trail_itself_states_is_in_the_catalogue() -> None:
    for draft in own_events():
        check(draft)


def test_what_a_line_says_that_its_events_fill_some_event_fills(github_payloads: Path) -> None:
    """Otherwise the catalogue promises what nobody states. Of what is made here: the rest needs servers."""
    drafts: list[Draft] = [
        draft_of(hook, payload, "acme").draft for hook, payload in webhooks(github_payloads.read_bytes(), None)
    ]
    drafts += [*chat_messages(), *kit_events(), *(draft for draft, _, _ in some_acts())]
    filled: dict[str, set[str]] = {}
    for draft in drafts:
        entry = entry_of(draft)
        filled.setdefault(entry.name, set()).update(name for name in FIELDS if draft.get(name) not in (None, []))
    assert len(filled) > 40
    own = {entry.name: set(entry.fills) - set(entry.common) for entry in ENTRIES}
    none_here = {"github.deployment_review.{approved,requested,rejected}": {"approver"}}  # of a payload that is not among them
    none_here |= {f"github.workflow_{what}": {"retry"} for what in ("run", "job")}  # tests/test_github.py makes one
    for name, fields in filled.items():
        spared = next((fields for prefix, fields in none_here.items() if name.startswith(prefix)), set())
        assert own[name] - fields <= spared, (name, own[name] - fields)


def test_the_catalogue_has_exactly_the_names_of_the_github_families() -> None:
    names = {
        f"github.{hook}.{action}" if action else f"github.{hook}"
        for hook, f in FAMILIES.items()
        for action in f.actions or {""}
    }
    listed = {name: entry.family for entry in ENTRIES if entry.source == "github" for name in entry.names}
    assert set(listed) == names | {"github.other"}
    assert all(listed[f"github.{hook}"] == f.event_type for hook, f in FAMILIES.items() if not f.actions)


# -- words in the code


def stated_in_code() -> Iterator[tuple[str, str]]:
    """(where, text) of what looks like an event's name, or like the beginning of one that an f-string goes on with."""
    starts = tuple({f"{entry.one.partition('.')[0]}." for entry in ENTRIES if not entry.reserved})
    for path in sorted(file for package in PACKAGES for file in Path(package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            text = node.value
            if text.startswith(starts) and re.fullmatch(r"[a-z_]+\.[a-z0-9_.]*", text):
                yield f"{path}:{node.lineno}", text


NO_EVENTS = {
    "emitter.", "emitter.source", "emitter.instance", "emitter.epoch", "emitter.seq",  # paths of fields
    "chat.avsc", "github.avsc", "hold.avsc", "policy.toml",  # files
    "chat.", "github.", "keys.", "policy.",  # beginnings that are asked for
    "verification.",  # of a finding's rule
}  # fmt: skip


def test_every_word_in_the_code_that_names_an_event_is_in_the_catalogue() -> None:
    names = {name for entry in ENTRIES for name in entry.some}
    prefixes = tuple(entry.prefix for entry in ENTRIES if entry.prefix is not None)
    found = [(where, text) for where, text in stated_in_code() if text not in NO_EVENTS]
    assert len(found) > 40
    for where, text in found:
        begins = text.endswith(".") and any(name.startswith(text) for name in names)
        known = text in names or f"{SYSTEM}.{text}" in names  # the kit's words come without a system
        assert known or text.startswith(prefixes) or begins, f"{where}: {text} is not in schemas/events.toml"


def test_every_line_of_the_catalogue_is_stated_somewhere_in_the_code() -> None:
    texts = {text for _, text in stated_in_code()} - {"chat.", "github.", "keys.", "policy."}
    texts |= {str(draft["event_name"]) for draft in chain(chat_messages(), ci_events())}  # the kit puts their names together
    begun = tuple(text for text in texts if text.endswith("."))
    for entry in ENTRIES:
        if not entry.reserved and entry.source not in ("github", KIT):
            for name in entry.names:
                assert name in texts or name.startswith(begun), name


# -- the file


def test_a_source_may_state_what_the_catalogue_says_of_it() -> None:
    for entry in ENTRIES:
        for name in entry.some:
            source = SYSTEM if entry.source in (EMITTER, KIT) else entry.source
            assert POLICY.entitled(source, entry.tenant, name) is not entry.reserved, name


def test_one_that_names_an_event_stands_before_one_for_any_words() -> None:
    found = [find(ENTRIES, name, "DETECTION") for name in ("detection.source_gap", "detection.x", "x.y")]
    assert [entry and entry.name for entry in found] == ["detection.{silent_source,source_gap}", "detection.*", None]


def line(name: str, source: str, family: str, more: str = "") -> str:
    head = f'\n[[events]]\nname = "{name}"\nsource = "{source}"\nfamily = "{family}"\nmeaning = "m"\n'
    return head + f'results = ["SUCCESS"]\neffects = ["NONE"]\n{more}\n'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (line("chat.a", "nobody_known", "OTHER"), "source"),
        (line("chat.a", "chat", "GOSSIP"), "family: GOSSIP"),
        (line("chat.a", "chat", "OTHER", 'fills = ["nothing"]'), "fills: nothing"),
        (line("chat.a", "chat", "OTHER", 'class = "debug"'), "class: Extra inputs"),
        (line("chat.a", "chat", "OTHER").replace("SUCCESS", "FINE"), "results: FINE"),
        (line("chat.a", "chat", "OTHER").replace("NONE", "SOME"), "effects: SOME"),
        (line("Chat Message", "chat", "OTHER"), "name: String should match pattern"),
        (line("github.push", "chat", "OTHER"), "github.push stands there twice"),
        ("version =", "is not TOML"),
    ],
)
def test_a_mistake_in_the_catalogue_is_refused_by_name(more: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse(Path("schemas/events.toml").read_text() + more)


def test_a_family_without_an_event_is_refused() -> None:
    text = Path("schemas/events.toml").read_text().replace('family = "ERASURE"', 'family = "OTHER"')
    with pytest.raises(ConfigError, match="no event of the family ERASURE"):
        parse(text)


def test_a_line_whose_names_the_policy_tells_apart_is_refused() -> None:
    entries = parse(Path("schemas/events.toml").read_text() + line("github.{star,team}", "github", "OTHER"))
    with pytest.raises(ConfigError, match="decides differently"):
        decisions(entries[-1], POLICY)
