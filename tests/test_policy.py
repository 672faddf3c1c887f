"""The class policy decides class, retention, signature and routes from its files alone (CON-5, RET-1, ROU-2, EVI-2)."""

from __future__ import annotations

import hashlib
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.fields import field_tree
from schemas.policy import DAY_MS, Policy, retain_until
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError
from sealtrail.seal import LogClass, Route
from tests.strategies import events, minimal_event

POLICY = Policy.load()
ALL = Route.ARCHIVE | Route.HOT | Route.SIEM
COLD = Route.ARCHIVE | Route.HOT

# what each rule says
OUTCOMES = {
    "emitter": (LogClass.OPERATIONAL, False, COLD),
    "admin-change": (LogClass.ADMIN, True, ALL),
    "policy-verdict": (LogClass.SECURITY, True, ALL),
    "data-export": (LogClass.COMPLIANCE, True, ALL),
    "retention-hold-erasure": (LogClass.COMPLIANCE, True, ALL),
    "finding-response": (LogClass.SECURITY, True, ALL),
    "login": (LogClass.SECURITY, False, ALL),
    "refused": (LogClass.SECURITY, False, ALL),
    "access": (LogClass.SECURITY, False, COLD),
    "reveal": (LogClass.SECURITY, True, ALL),
    "review": (LogClass.COMPLIANCE, False, COLD),
    "github-alert": (LogClass.SECURITY, False, ALL),
    "connector-state": (LogClass.OPERATIONAL, False, ALL),
    "debug": (LogClass.DEBUG, False, COLD),
    "default": (LogClass.OPERATIONAL, False, COLD),
}

# event name, event type, result, the rule that decides
EVENTS = [
    ("chat.rule.changed", "ADMIN", "SUCCESS", "admin-change"),
    ("chat.rule.changed", "ADMIN", "DENIED", "admin-change"),
    ("github.deployment.created", "DEPLOYMENT", "SUCCESS", "admin-change"),
    ("github.deployment_status.created", "OTHER", "SUCCESS", "admin-change"),
    ("github.member.added", "OTHER", "SUCCESS", "admin-change"),
    ("github.membership.removed", "OTHER", "SUCCESS", "admin-change"),
    ("github.organization.member_added", "OTHER", "SUCCESS", "admin-change"),
    ("github.team.created", "OTHER", "SUCCESS", "admin-change"),
    ("github.team_add", "OTHER", "SUCCESS", "admin-change"),
    ("github.repository.publicized", "OTHER", "SUCCESS", "admin-change"),
    ("github.public", "OTHER", "SUCCESS", "admin-change"),
    ("github.branch_protection_rule.edited", "OTHER", "SUCCESS", "admin-change"),
    ("github.deploy_key.created", "OTHER", "SUCCESS", "admin-change"),
    ("github.installation.created", "OTHER", "SUCCESS", "admin-change"),
    ("github.push", "OTHER", "SUCCESS", "default"),
    ("github.other", "OTHER", "SUCCESS", "default"),
    ("github.repository_dispatch", "OTHER", "SUCCESS", "default"),
    ("github.workflow_run.completed", "AUTOMATION", "FAILURE", "default"),
    ("github.workflow_job.queued", "ADMIN", "SUCCESS", "default"),
    ("github.check_run.created", "DEPLOYMENT", "SUCCESS", "default"),
    ("chat.policy.overridden", "POLICY", "SUCCESS", "policy-verdict"),
    ("chat.export.finished", "EXPORT", "SUCCESS", "data-export"),
    ("chat.retention.edited", "RETENTION", "SUCCESS", "retention-hold-erasure"),
    ("chat.hold.placed", "HOLD", "SUCCESS", "retention-hold-erasure"),
    ("chat.erasure", "ERASURE", "SUCCESS", "retention-hold-erasure"),
    ("chat.finding", "DETECTION", "SUCCESS", "finding-response"),
    ("chat.connector.off", "RESPONSE", "SUCCESS", "finding-response"),
    ("chat.login", "AUTHENTICATION", "SUCCESS", "login"),
    ("chat.login", "AUTHENTICATION", "DENIED", "login"),
    ("chat.message.sent", "MESSAGE", "DENIED", "refused"),
    ("chat.record.read", "ACCESS", "SUCCESS", "access"),
    ("trail.revealed", "ACCESS", "SUCCESS", "reveal"),
    ("chat.review.done", "REVIEW", "SUCCESS", "review"),
    ("github.secret_scanning_alert.created", "OTHER", "SUCCESS", "github-alert"),
    ("chat.connector.broken", "OTHER", "FAILURE", "connector-state"),
    ("chat.debug.cache", "OTHER", "SUCCESS", "debug"),
    ("chat.debug.cache", "EXPORT", "SUCCESS", "data-export"),
    ("chat.message.sent", "MESSAGE", "SUCCESS", "default"),
    ("emitter.pulse", "EMITTER", "SUCCESS", "default"),
]


@pytest.mark.parametrize(("event_name", "event_type", "result", "rule"), EVENTS)
def test_an_event_gets_the_class_that_the_policy_says(event_name: str, event_type: str, result: str, rule: str) -> None:
    decision = POLICY.decide(minimal_event(event_name=event_name, event_type=event_type, result=result))
    assert decision.rule == rule
    assert (decision.log_class, decision.sign, decision.routes) == OUTCOMES[rule]


def test_an_emitter_speaks_of_itself_for_the_deployment() -> None:
    pulse = minimal_event(event_name="emitter.pulse", event_type="EMITTER", tenant="@deployment")
    assert POLICY.decide(pulse).rule == "emitter"


def test_a_refusal_is_seen_whatever_was_refused() -> None:
    event = minimal_event(event_type="API_CALL", authorization={"decision": "DENY"})
    assert POLICY.decide(event).rule == "refused"


def test_every_rule_is_tried_by_some_event() -> None:
    assert {rule for *_, rule in EVENTS} | {"emitter"} == set(OUTCOMES) == {rule.name for rule in POLICY._rules}


@pytest.mark.parametrize(
    ("log_class", "archive_days", "hot_days"),
    [
        (LogClass.SECURITY, 24 * 31, 180),
        (LogClass.ADMIN, 7 * 366, 366),
        (LogClass.COMPLIANCE, 7 * 366, 366),
        (LogClass.OPERATIONAL, 366, 90),
        (LogClass.DEBUG, 14, 7),
    ],
)
def test_every_class_has_the_required_retention_an_owner_readers_and_a_review(
    log_class: LogClass, archive_days: int, hot_days: int
) -> None:
    found = POLICY.classes[log_class]
    assert (found.archive_days, found.hot_days) == (archive_days, hot_days)
    assert all((found.owner, found.readers, found.export, found.review_days))
    assert all(purposes for _, purposes in found.readers)
    assert POLICY.lock_mode(log_class) == "COMPLIANCE"


@given(events())
def test_debug_never_goes_to_the_siem_and_the_archive_gets_everything(event: dict[str, Any]) -> None:
    decision = POLICY.decide(event)
    assert Route.ARCHIVE in decision.routes
    assert decision.log_class is not LogClass.DEBUG or Route.SIEM not in decision.routes
    assert decision.retain_ms <= POLICY.longest_ms


@given(events())
def test_a_decision_depends_on_the_event_alone_not_on_what_was_decided_before(event: dict[str, Any]) -> None:
    assert POLICY.decide(event) == Policy.load().decide(event)


def test_no_rule_reads_a_value_that_redaction_changes() -> None:
    marks = {leaf.path.replace("[]", ""): leaf.marks for leaf in field_tree(AUDIT_EVENT.text).leaves()}
    for rule in POLICY._rules:
        for field in rule.matches.fields if rule.matches is not None else ():
            found = marks[field]
            assert found is not None
            assert found.redact is None, f"{rule.name} reads {field}"


# -- retention


@given(st.integers(0, 4 * 10**15), st.integers(1, 2**42))
def test_a_record_is_kept_until_a_midnight_at_or_after_its_time(sealed_at_us: int, retain_ms: int) -> None:
    until = retain_until(sealed_at_us, retain_ms)
    assert until % DAY_MS == 0
    assert 0 <= until * 1000 - (sealed_at_us + retain_ms * 1000) < DAY_MS * 1000


@pytest.mark.parametrize(
    ("sealed_at_us", "until"),
    [(0, DAY_MS), (1, 2 * DAY_MS), (DAY_MS * 1000 - 1, 2 * DAY_MS), (DAY_MS * 1000, 2 * DAY_MS)],
)
def test_rounding_is_exact_at_midnight(sealed_at_us: int, until: int) -> None:
    assert retain_until(sealed_at_us, DAY_MS) == until


BASE = (resources.files("schemas") / "policy" / "base.toml").read_text("utf-8")
TENANT = 'version = 1\ntenant = "acme"\n'
DEVIATING = TENANT + (
    "[retention.operational]\narchive_days = 10\nhot_days = 1\n"
    "[regions.us-east.retention.operational]\narchive_days = 20\nhot_days = 2\n"
)
REGIONAL = BASE + "\n[regions.us-east.retention.operational]\narchive_days = 30\nhot_days = 3\n"


@pytest.mark.parametrize(
    ("base", "tenants", "region", "days"),
    [
        (BASE, {}, "us-east", (366, 90)),
        (REGIONAL, {}, "eu-central", (366, 90)),
        (REGIONAL, {}, "us-east", (30, 3)),
        (REGIONAL, {"acme": DEVIATING}, "eu-central", (10, 1)),
        (REGIONAL, {"acme": DEVIATING}, "us-east", (20, 2)),
        (REGIONAL, {"globex": DEVIATING.replace("acme", "globex")}, "us-east", (30, 3)),
    ],
)
def test_the_narrowest_retention_counts(base: str, tenants: dict[str, str], region: str, days: tuple[int, int]) -> None:
    decision = Policy(base, tenants).decide(minimal_event(region=region))
    assert (decision.retain_ms // DAY_MS, decision.hot_days) == days


def test_notes_stay_as_long_as_anything_does() -> None:
    longer = TENANT + "[retention.debug]\narchive_days = 9999\nhot_days = 1\n"
    policy = Policy(BASE, {"acme": longer})
    assert policy.longest_ms == 9999 * DAY_MS
    assert policy.notes()[0] == policy.longest_ms


# -- which files


def test_a_decision_names_its_files_by_their_combined_hash() -> None:
    policy = Policy(BASE, {"acme": TENANT})
    base, tenant = hashlib.sha256(BASE.encode()).digest(), hashlib.sha256(TENANT.encode()).digest()
    own, others = hashlib.sha256(base + tenant).digest(), hashlib.sha256(base + bytes(32)).digest()
    assert policy.decide(minimal_event(tenant="acme")).policy == own
    assert policy.decide(minimal_event(tenant="initech")).policy == others == policy.notes()[1]
    assert policy.combined == {own: (base, tenant), others: (base, bytes(32))}
    assert policy.texts == {base.hex(): BASE, tenant.hex(): TENANT}


def test_the_texts_are_the_files_bytes_whatever_their_line_ends(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "base.toml").write_bytes(BASE.replace("\n", "\r\n").encode())
    (tmp_path / "tenants" / "acme.toml").write_bytes(TENANT.encode())
    policy = Policy.load(tmp_path)
    assert set(policy.texts) == {hashlib.sha256(f.read_bytes()).hexdigest() for f in tmp_path.rglob("*.toml")}


def test_a_folder_holds_the_same_policy_as_the_package(tmp_path: Path) -> None:
    packaged = resources.files("schemas") / "policy"
    assert isinstance(packaged, Path)
    shutil.copytree(packaged, tmp_path / "copy")
    assert Policy.load(tmp_path / "copy").texts == POLICY.texts


# -- who may state what


@pytest.mark.parametrize(
    ("source", "tenant", "event_name", "entitled"),
    [
        ("github", "acme", "github.push", True),
        ("github", "octo", "github.member.added", True),
        ("github", "acme", "github", False),
        ("github", "acme", "githubx.push", False),
        ("github", "acme", "chat.message.sent", False),
        ("github", "umbrella", "github.push", False),
        ("github", "@deployment", "emitter.pulse", True),
        ("github", "acme", "emitter.pulse", False),
        ("github", "@deployment", "github.push", False),
        ("loadgen", "initech", "github.push", True),
        ("unknown", "acme", "github.push", False),
        ("unknown", "@deployment", "emitter.open", False),
        ("", "", "", False),
        ("publisher", "@deployment", "keys.certified", True),
        ("publisher", "@deployment", "keys.ended", True),
    ],
)
def test_a_source_states_what_its_entitlement_says(source: str, tenant: str, event_name: str, entitled: bool) -> None:
    assert POLICY.entitled(source, tenant, event_name) is entitled


def test_a_tenant_adds_readers_to_its_own_events_only() -> None:
    added = ("globex-auditor", ("audit",))
    assert added in POLICY.readers(LogClass.ADMIN, "globex")
    assert added not in POLICY.readers(LogClass.ADMIN, "acme")
    assert added not in POLICY.readers(LogClass.SECURITY, "globex")


def test_who_may_reveal_what_is_tokenised_is_said_for_each_class_and_nobody_else_may() -> None:
    analyst = ("security-analyst", ("incident-response", "forensics"))
    expected = {
        LogClass.SECURITY: (analyst,),
        LogClass.ADMIN: (analyst,),
        LogClass.COMPLIANCE: (("compliance-officer", ("legal-hold", "data-subject-request")),),
        LogClass.OPERATIONAL: (analyst,),
        LogClass.DEBUG: (),
    }
    assert {name: POLICY.revealers(name, "acme") for name in expected} == expected
    assert {name: table.revealers for name, table in POLICY.classes.items()} == expected


def test_a_tenant_lets_readers_of_its_own_reveal_in_its_own_events_only() -> None:
    text = TENANT + "[[readers.debug]]\nrole = 'helper'\npurposes = ['support', 'audit']\nreveal = ['support']"
    policy = Policy(BASE, {"acme": text})
    assert policy.revealers(LogClass.DEBUG, "acme") == (("helper", ("support",)),)
    assert policy.revealers(LogClass.DEBUG, "globex") == policy.revealers(LogClass.OPERATIONAL, "acme")[1:] == ()


# -- bad files

BAD_BASE: list[tuple[str, str, str, str]] = [
    ("unknown key", "[notes]", 'motto = "x"\n[notes]', "motto"),
    (
        "reveals what it may not read",
        'role = "auditor", purposes = ["audit"]',
        'role = "auditor", purposes = ["audit"], reveal = ["forensics"]',
        r"classes\.security\.readers\.1: .*reveal: a purpose for which this role may not read",
    ),
    (
        "reveal that is no list",
        'role = "auditor", purposes = ["audit"]',
        'role = "auditor", purposes = ["audit"], reveal = true',
        r"classes\.security\.readers\.1\.reveal",
    ),
    ("unknown key in a class", 'export = "never"', 'export = "never"\nsign = true', r"classes\.debug\.sign"),
    ("misspelt duration", "hot_days = 7 }", "hot_day = 7 }", r"classes\.debug\.retention\.hot_day"),
    ("no such class", "[classes.debug]", "[classes.trace]", r"classes\.trace"),
    ("class missing", BASE[BASE.index("[classes.debug]") : BASE.index("# Seals that")], "", "classes: debug missing"),
    ("hot longer than archive", "hot_days = 7 }", "hot_days = 15 }", "hot_days is longer"),
    ("no days", "archive_days = 14", "archive_days = 0", r"archive_days: .*greater than or equal to 1"),
    ("a slip of the pen", "archive_days = 14", "archive_days = 400000", r"archive_days: .*less than or equal"),
    ("days as text", "archive_days = 14", 'archive_days = "14"', "archive_days"),
    ("lock of no kind", 'lock_mode = "COMPLIANCE"', 'lock_mode = "SOFT"', r"classes\.security\.lock_mode"),
    (
        "debug to the SIEM",
        'class = "debug"\nroutes = ["archive", "hot"]',
        'class = "debug"\nroutes = ["archive", "siem"]',
        "debug never goes",
    ),
    (
        "not archived",
        'class = "operational"\nroutes = ["archive", "hot"]',
        'class = "operational"\nroutes = ["hot"]',
        "the archive gets every event",
    ),
    ("no such output", 'routes = ["archive", "hot", "siem"]', 'routes = ["archive", "fax"]', r"rules\.1\.routes\.1"),
    ("two rules of one name", 'name = "debug"', 'name = "access"', "two of one name"),
    (
        "unknown field in a rule",
        'event_type = "EXPORT"',
        'event_kind = "EXPORT"',
        r"rules\.data-export: .*unknown field event_kind",
    ),
    (
        "unknown modifier in a rule",
        '"event_name|contains" = ".debug."',
        '"event_name|near" = "x"',
        r"rules\.debug: .*modifier near",
    ),
    (
        "wildcard tenant",
        'tenants = ["acme", "globex", "initech", "octo"]\nevents = ["chat.*"]',
        'tenants = ["*"]\nevents = ["chat.*"]',
        r"sources\.chat\.tenants\.0",
    ),
    ("wildcard event", 'events = ["chat.*"]', 'events = ["*"]', r"sources\.chat\.events\.0"),
    ("reserved event", 'events = ["chat.*"]', 'events = ["emitter.*"]', r"sources\.chat: .*every source's already"),
    ("another version", "version = 1", "version = 2", "version"),
    ("not TOML", "version = 1", "version = ", "base.toml"),
]


@pytest.mark.parametrize(("old", "new", "problem"), [b[1:] for b in BAD_BASE], ids=[b[0] for b in BAD_BASE])
def test_a_bad_base_file_is_refused_with_its_key(old: str, new: str, problem: str) -> None:
    assert old in BASE
    with pytest.raises(ConfigError, match=problem) as caught:
        Policy(BASE.replace(old, new, 1), {})
    assert "base.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TENANT + "[sources.chat]\ntenants = ['acme']\nevents = ['chat.*']", "sources"),
        (TENANT + "[[rules]]\nname = 'x'", "rules"),
        (TENANT + "[[readers.debug]]\nrole = 'x'\npurposes = ['audit']\nreveal = ['support']", r"readers\.debug\.0: .*reveal"),
        (TENANT + "[retention.trace]\narchive_days = 1\nhot_days = 1", r"retention\.trace"),
        (TENANT + "[retention.debug]\narchive_days = 1\nhot_days = 2", "hot_days is longer"),
        (TENANT.replace("acme", "globex"), "tenant: not the file's name"),
        (TENANT.replace("acme", "@deployment"), "tenant"),
        ("", "version"),
    ],
)
def test_a_bad_tenant_file_is_refused_with_its_key(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        Policy(BASE, {"acme": text})
    assert "tenants/acme.toml" in str(caught.value)


def test_a_folder_without_a_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy: cannot read .*base\.toml"):
        Policy.load(tmp_path)
