"""The GitHub connector on 329 payloads that nobody here wrote: what each becomes, and that nothing leaks."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from auditor.commands.emit import app
from producers.generate import generated_payloads, shapes_of
from producers.github import GITHUB, draft_of
from producers.github.code import slug
from producers.github.families import FAMILIES
from producers.github.files import webhooks
from producers.github.words import ACTIONS, HOOKS
from schemas.contract import MAX_EVENT_BYTES, Contract
from schemas.redact import RedactionCheck, Redactor
from schemas.registry import AUDIT_EVENT, packaged_registry
from tests.conftest import Deployment
from tests.sent import sent

# What the 329 payloads become. 102 of a family, of which the 59 of pushes, deployments, members, organisations, teams,
# repositories and workflow runs; 227 others.
EXPECTED = {
    "github.branch_protection_rule.created": 2,
    "github.branch_protection_rule.deleted": 1,
    "github.branch_protection_rule.edited": 2,
    "github.check_run.completed": 3,
    "github.check_run.created": 3,
    "github.check_run.requested_action": 1,
    "github.check_run.rerequested": 2,
    "github.deploy_key.created": 2,
    "github.deployment.created": 4,
    "github.deployment_review.requested": 1,
    "github.deployment_status.created": 4,
    "github.github_app_authorization.revoked": 2,
    "github.installation.created": 2,
    "github.installation.deleted": 2,
    "github.installation.new_permissions_accepted": 1,
    "github.installation.suspend": 1,
    "github.installation.unsuspend": 1,
    "github.installation_repositories.added": 2,
    "github.installation_repositories.removed": 1,
    "github.member.added": 3,
    "github.member.edited": 1,
    "github.membership.added": 1,
    "github.membership.removed": 4,
    "github.meta.deleted": 2,
    "github.org_block.blocked": 3,
    "github.org_block.unblocked": 1,
    "github.organization.member_added": 3,
    "github.organization.member_invited": 1,
    "github.organization.renamed": 1,
    "github.other": 227,
    "github.public": 3,
    "github.push": 7,
    "github.repository.created": 2,
    "github.repository.edited": 2,
    "github.repository.privatized": 2,
    "github.repository.publicized": 3,
    "github.repository.renamed": 1,
    "github.repository.transferred": 3,
    "github.team.added_to_repository": 2,
    "github.team.created": 1,
    "github.team.deleted": 1,
    "github.team.edited": 1,
    "github.team.removed_from_repository": 1,
    "github.team_add": 3,
    "github.workflow_job.completed": 2,
    "github.workflow_job.in_progress": 3,
    "github.workflow_job.queued": 2,
    "github.workflow_job.waiting": 1,
    "github.workflow_run.completed": 3,
    "github.workflow_run.requested": 2,
}
CORE = {"push", "deployment", "deployment_status", "workflow_run", "repository", "public"}
CORE |= {"member", "membership", "organization", "team", "team_add"}
CANARY = "Canary"

REGISTRY = packaged_registry()
CONTRACT = Contract(REGISTRY, "eu-central")
REDACTOR = Redactor(AUDIT_EVENT.text, REGISTRY, lambda _: b"k" * 32)
CHECK = RedactionCheck(REGISTRY)

Shape = tuple[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def shapes(github_payloads: Path) -> list[Shape]:
    return [(hook, payload) for hook, payload in webhooks(github_payloads.read_bytes(), None) if isinstance(payload, dict)]


def complete(draft: Mapping[str, object]) -> dict[str, Any]:
    """What the emitter adds to a draft, with fixed values."""
    fields = {f["name"]: f.get("default") for f in json.loads(AUDIT_EVENT.text)["fields"]}
    event = {**fields, "changes": [], **draft}
    uuid7 = bytes.fromhex("017f22e279b07cc398c4dc0c0c07398f")
    event |= {
        "event_id": uuid7,
        "emitter": {"source": "github", "instance": "t", "epoch": uuid7, "seq": 1},
        "region": "eu-central",
    }
    event |= {"redaction": {"status": "NONE", "policy": "v1", "fields": []}}
    event["occurred_at"] = event["occurred_at"] or 1_795_000_000_000_000
    return event


def sealed(hook: str, payload: object) -> tuple[dict[str, Any], bytes]:
    """The event as it would leave: checked, redacted, encrypted, encoded and strictly decoded."""
    event = complete(draft_of(hook, payload, "acme").draft)
    CONTRACT.check(event)
    data = AUDIT_EVENT.encode(sent(REDACTOR(event)))
    decoded = AUDIT_EVENT.decode(data)
    CONTRACT.check(decoded)
    assert CHECK(decoded) == ()
    assert len(data) <= MAX_EVENT_BYTES
    return decoded, data


def one(shapes: list[Shape], name: str, number: int = 0) -> dict[str, Any]:
    """The draft of the number-th payload that becomes that event, its extension decoded, empty values left out."""
    drafts = (draft_of(hook, payload, "acme").draft for hook, payload in shapes if name.startswith(f"github.{hook}"))
    draft: dict[str, Any] = next(islice((d for d in drafts if d["event_name"] == name), number, None))
    extension = GITHUB.decode_body(draft["extension"]["payload"])
    draft = {**draft, "extension": {k: v for k, v in extension.items() if v not in (None, [])}}
    return {k: v for k, v in draft.items() if v not in (None, [])}


# -- the real payloads


def test_every_payload_becomes_the_event_of_its_family(shapes: list[Shape]) -> None:
    mapped = [draft_of(hook, payload, "acme") for hook, payload in shapes]
    assert Counter(m.draft["event_name"] for m in mapped) == EXPECTED
    assert sum(EXPECTED.values()) == 329
    assert not any(m.malformed for m in mapped)
    families = Counter(hook for hook, _ in shapes)
    assert sum(families[hook] for hook in CORE) == 59


def test_every_event_keeps_the_contract_and_is_redacted(shapes: list[Shape]) -> None:
    for hook, payload in shapes:
        event, _ = sealed(hook, payload)
        assert event["redaction"]["status"] == "APPLIED"


def test_no_login_mail_or_message_of_the_payload_is_in_the_event(shapes: list[Shape]) -> None:
    personal = ("login", "email", "username", "full_name", "message", "title", "body", "description")

    def texts(node: object, key: str = "") -> Iterator[str]:
        if isinstance(node, dict):
            for k, v in node.items():
                yield from texts(v, k)
        elif isinstance(node, list):
            for v in node:
                yield from texts(v, key)
        elif isinstance(node, str) and key in personal and len(node) > 3:
            yield node

    for hook, payload in shapes:
        _, data = sealed(hook, payload)
        for text in set(texts(payload)) - {"github"}:  # an organisation of that name is among them
            assert text.encode() not in data, f"{hook} leaks a {len(text)}-character text"


# -- what is found

FOUND: dict[str, tuple[str, dict[str, object]]] = {
    "a repository made public": (
        "github.public",
        {
            "object": {"type": "repository", "id": "186853002"},
            "changes": [{"op": "REPLACE", "path": "/visibility", "before": '"private"', "after": '"public"'}],
            "result": "SUCCESS",
            "effect": "EFFECTIVE",
            "event_type": "ADMIN",
        },
    ),
    "a member added": (
        "github.member.added",
        {
            "subject": {"id": "39652351", "display": "hacktocat", "login": "hacktocat"},
            "actor": {"kind": "USER", "id": "39652351", "display": "hacktocat", "login": "hacktocat"},
            "object": {"type": "repository", "id": "186853002"},
        },
    ),
    "a permission changed": (
        "github.member.edited",
        {"changes": [{"op": "REPLACE", "path": "/permission", "before": '"write"', "after": None}]},
    ),
    "a member invited": (
        "github.organization.member_invited",
        {"effect": "ATTEMPTED", "occurred_at": 1_621_829_421_000_000},
    ),
    "an organisation renamed": (
        "github.organization.renamed",
        {"changes": [{"op": "REPLACE", "path": "/login", "before": '"Octocoders"', "after": '"Octocoders"'}]},
    ),
    "a team given a repository": (
        "github.team.added_to_repository",
        {
            "object": {"type": "team", "id": "3253328"},
            "changes": [
                {"op": "ADD", "path": "/repositories/186853261", "before": None, "after": None},
                {"op": "ADD", "path": "/permission", "before": None, "after": '"pull"'},
            ],
        },
    ),
    "a repository transferred": (
        "github.repository.transferred",
        {"changes": [{"op": "REPLACE", "path": "/owner", "before": "1", "after": "38302899"}]},
    ),
    "a deployment asked for": (
        "github.deployment.created",
        {
            "effect": "ATTEMPTED",
            "correlation_id": "deployment-145988746",
            "occurred_at": 1_557_933_653_000_000,
            "deployment": {
                "environment": "production",
                "commit": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
                "artifact_digest": None,
                "checks": [],
            },
        },
    ),
    "a deployment that succeeded": (
        "github.deployment_status.created",
        {
            "result": "SUCCESS",
            "effect": "EFFECTIVE",
            "correlation_id": "deployment-145988746",
            "changes": [{"op": "ADD", "path": "/state", "before": None, "after": '"success"'}],
        },
    ),
    "a workflow run asked for": (
        "github.workflow_run.requested",
        {"event_type": "AUTOMATION", "result": "UNKNOWN", "effect": "ATTEMPTED", "correlation_id": "run-289782451"},
    ),
    "a job that failed": ("github.workflow_job.completed", {"result": "FAILURE", "effect": "ATTEMPTED"}),
    "a deploy key": ("github.deploy_key.created", {"credential": "deploy_key:100"}),
    "an app suspended": (
        "github.installation.suspend",
        {"changes": [{"op": "REPLACE", "path": "/state", "before": '"active"', "after": '"suspended"'}]},
    ),
    "anything else": ("github.other", {"result": "UNKNOWN", "effect": "NONE", "event_type": "OTHER"}),
}


@pytest.mark.parametrize(("name", "expected"), FOUND.values(), ids=FOUND.keys())
def test_what_matters_of_an_act_is_found(shapes: list[Shape], name: str, expected: dict[str, object]) -> None:
    if name == "github.other":
        draft: dict[str, Any] = draft_of("fork", next(p for h, p in shapes if h == "fork"), "acme").draft
    else:
        draft = one(shapes, name)
    assert {key: draft.get(key) for key in expected} == expected


def test_a_push_says_what_it_did_to_the_branch(shapes: list[Shape]) -> None:
    assert one(shapes, "github.push", 4)["extension"] == {
        "hook": "push",
        "malformed": False,
        "repository_id": 186853002,
        "installation_id": 1,
        "commit": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "commit_count": 1,
        "ref_kind": "BRANCH",
        "ref_created": True,
        "ref_deleted": False,
        "ref_forced": False,
        "ref": "refs/heads/master",
    }


def test_a_loosened_branch_protection_says_which_rules_in_clear(shapes: list[Shape]) -> None:
    hook, payload = next((h, p) for h, p in shapes if h == "branch_protection_rule" and len(p.get("changes", ())) > 2)
    event, _ = sealed(hook, payload)
    settings = {s["name"]: (s["before"], s["after"]) for s in GITHUB.decode_body(event["extension"]["payload"])["settings"]}
    assert settings["linear_history_requirement_enforcement_level"] == ("everyone", "off")
    assert settings["require_code_owner_review"] == ("true", "false")
    assert settings["required_approving_review_count"] == ("2", "1")


def test_a_run_tried_again_is_a_retry(shapes: list[Shape]) -> None:
    _, payload = next((h, p) for h, p in shapes if h == "workflow_run")
    again = copy.deepcopy(dict(payload))
    again["workflow_run"]["run_attempt"] = 3
    draft = draft_of("workflow_run", again, "acme").draft
    assert draft["retry"] == {"original_event_id": None, "attempt": 3, "idempotency_key": "run-1589141559"}


@pytest.mark.parametrize(("verified", "decision"), [(True, "ALLOW"), (False, "NOT_CHECKED")])
def test_the_webhooks_signature_is_the_authorisation(verified: bool, decision: str) -> None:
    draft = draft_of("ping", {}, "acme", verified=verified, delivery_id="72d3162e-cc78-11e3-81ab-4c9367dc0958").draft
    authorization: Any = draft["authorization"]
    assert (authorization["method"], authorization["decision"]) == ("WEBHOOK_SIGNATURE", decision)
    assert draft["correlation_id"] == "72d3162e-cc78-11e3-81ab-4c9367dc0958"


def test_every_family_and_action_is_one_of_githubs_words() -> None:
    assert FAMILIES.keys() <= HOOKS
    assert frozenset().union(*(family.actions for family in FAMILIES.values())) <= ACTIONS


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Production EU/1", "production-eu-1"), ("_x", "x"), ("…", "unknown"), ("a" * 200, "a" * 128)],
)
def test_an_environments_name_is_written_as_the_contract_wants(name: str, expected: str) -> None:
    assert slug(name) == expected


# -- payloads of another shape

MALFORMED: dict[str, tuple[str, object]] = {
    "not an object": ("push", []),
    "nothing": ("push", None),
    "no repository": ("push", {"ref": "refs/heads/x", "after": "a" * 40}),
    "an id that is text": ("member", {"action": "added", "member": {"id": "7"}, "repository": {"id": 1}}),
    "an id that is true": ("public", {"repository": {"id": True}}),
    "a number beyond 63 bits": ("public", {"repository": {"id": 1 << 63}}),
    "a lone surrogate": ("public", {"repository": {"id": 1, "full_name": "\ud800"}}),
    "a commit that is none": ("push", {"ref": "refs/heads/x", "after": "x", "repository": {"id": 1}}),
    "a time of the last century": (
        "deploy_key",
        {"action": "created", "key": {"id": 1, "created_at": "1970-01-01T00:00:00Z"}},
    ),
    "an action that is a number": ("member", {"action": 7}),
    "a sender that is text": ("fork", {"sender": "octocat"}),
}


@pytest.mark.parametrize(("hook", "payload"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_payload_is_one_generic_event_of_unknown_result(hook: str, payload: object) -> None:
    assert draft_of(hook, payload, "acme").malformed
    event, _ = sealed(hook, payload)
    assert (event["event_name"], event["result"], event["object"]) == ("github.other", "UNKNOWN", None)
    extension = GITHUB.decode_body(event["extension"]["payload"])
    assert (extension["hook"], extension["malformed"]) == (hook, True)


def test_hooks_actions_and_words_of_peoples_choosing_do_not_pass() -> None:
    dispatch = draft_of("repository_dispatch", {"action": CANARY.lower(), "repository": {"id": 1}}, "acme")
    assert GITHUB.decode_body(dispatch.draft["extension"]["payload"])["action"] is None  # type: ignore[index]
    unknown = draft_of(CANARY.lower(), {}, "acme", delivery_id=CANARY)
    assert GITHUB.decode_body(unknown.draft["extension"]["payload"])["hook"] == "unknown"  # type: ignore[index]
    role = {
        "action": "edited",
        "member": {"id": 1},
        "repository": {"id": 1},
        "changes": {"permission": {"to": CANARY.lower()}},
    }
    _, data = sealed("member", role)
    assert CANARY.lower().encode() not in data


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20) | st.just(CANARY),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["id", "login", "name", "from", "x"]), below, max_size=3)
    ),
    max_leaves=6,
)


@given(st.data())
@hypothesis_settings(
    max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_no_payload_makes_the_mapping_fail_or_leak(shapes: list[Shape], data: st.DataObject) -> None:
    hook, payload = data.draw(st.sampled_from([s for s in shapes if s[0] in FAMILIES]))
    mutated: Any = copy.deepcopy(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        node = mutated
        while isinstance(node, dict) and node:
            key = data.draw(st.sampled_from(sorted(node)))
            if key == "environment":
                break
            below = node[key]
            if not isinstance(below, dict) or not below or data.draw(st.booleans()):
                if data.draw(st.booleans()):
                    del node[key]
                else:
                    node[key] = data.draw(JSON)
                break
            node = below
    _, encoded = sealed(hook, mutated)
    assert CANARY.encode() not in encoded


@given(st.sampled_from(sorted(HOOKS | {"", "x" * 300, CANARY})), JSON)
def test_anything_at_all_is_an_event(hook: str, payload: object) -> None:
    sealed(hook, payload)


# -- generated payloads


def test_generated_payloads_are_the_same_for_a_seed_and_of_the_given_shapes(shapes: list[Shape]) -> None:
    first = list(generated_payloads(shapes, 7, 1000))
    assert first == list(generated_payloads(shapes, 7, 1000))
    assert first != list(generated_payloads(shapes, 8, 1000))
    assert {tenant for tenant, _, _ in first} == {"acme", "globex", "initech"}
    mapped = [draft_of(hook, payload, tenant) for tenant, hook, payload in first]
    assert not any(m.malformed for m in mapped)
    assert {m.draft["event_name"] for m in mapped} == EXPECTED.keys()


def test_generated_payloads_tell_of_other_people_and_later_times(shapes: list[Shape]) -> None:
    generated = [p for _, hook, p in generated_payloads(shapes, 7, 329) if hook == "member"]
    real = json.dumps([p for hook, p in shapes if hook == "member"])
    assert len(generated) == 4
    for payload in generated:
        person: Any = payload["member"]
        assert f'"{person["login"]}"' not in real
        assert person["html_url"] == f"https://github.com/{person['login']}"
        repository: Any = payload["repository"]
        assert repository["updated_at"] >= "2025-12-31"


def test_the_index_and_the_shapes_of_it_agree(github_payloads: Path, shapes: list[Shape]) -> None:
    assert shapes_of(json.loads(github_payloads.read_bytes())) == shapes


# -- the command


@pytest.mark.parametrize(("content", "problem"), [(b"{", "not JSON"), (b"[{}]", "--event"), (b"7", "--event")])
def test_a_file_that_says_nothing_usable_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "payload.json"
    path.write_bytes(content)
    found = CliRunner().invoke(app, ["github", str(path)])
    assert found.exit_code == 2
    assert problem in found.stderr


def test_emit_github_hands_all_real_payloads_to_kafka(deployment: Deployment, github_payloads: Path) -> None:
    config = deployment.stack.places.roles / "github.toml"
    environment = {"SEALTRAIL_TOPIC_PREFIX": deployment.topic_prefix}
    arguments = ["github", str(github_payloads), "--config", str(config), "--json"]
    without_tenant = CliRunner().invoke(app, arguments, env=environment)
    assert without_tenant.exit_code == 3
    assert "--tenant" in without_tenant.stderr
    found = CliRunner().invoke(app, [*arguments, "--tenant", "acme"], env=environment)
    assert found.exit_code == 0, found.stderr
    result = json.loads(found.stdout)
    assert (result["emitted"], result["refused"], result["malformed"], result["acknowledged"]) == (329, 0, 0, 331)
    assert result["by_name"] == EXPECTED
