"""From a webhook to a draft of an audit event. Pure, and total: no payload makes it raise.

1. A hook and action of the table of families, in the documented shape: `github.<hook>[.<action>]` with all that the
   family finds.
2. Any other hook or action: `github.other`, with who and where; its result is UNKNOWN, for nobody here judged it.
3. A payload of another shape than documented: `github.other`, marked `malformed`, with nothing from the payload but
   a known action.

It does not redact: logins, names, branches and texts stand in the draft where the schema redacts them. Bodies — commit
messages, issues, comments — are not copied at all.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import NamedTuple

from producers.github.facts import Facts, Person, account
from producers.github.families import FAMILIES, Family
from producers.github.payload import MalformedError, number, text, value
from producers.github.words import ACTIONS, HOOKS
from producers.lifecycle import Draft
from sealtrail.avro import Codec

GITHUB = Codec((files("schemas") / "extensions" / "github.avsc").read_text("utf-8"))
SYSTEM = "github"
_DELIVERY = re.compile(r"[0-9a-f-]{1,64}")
_ACTOR_KINDS = {"User": "USER", "Bot": "INTEGRATION", "Organization": "SERVICE", "Mannequin": "SERVICE"}
_MAX_ATTEMPT = (1 << 31) - 1  # an Avro int
_OTHER = Family("OTHER", frozenset(), lambda payload, _: _somewhere(payload))
_NO_CONTEXT: dict[str, int | None] = {"repository_id": None, "organization_id": None, "installation_id": None}


class Mapped(NamedTuple):
    """A draft, and whether the payload had another shape than documented."""

    draft: Draft
    malformed: bool


def draft_of(hook: str, payload: object, tenant: str, *, delivery_id: str | None = None, verified: bool = False) -> Mapped:
    """The draft of the event that this webhook is.

    Args:
        hook: header X-GitHub-Event.
        tenant: whose event it is.
        payload: the body as parsed JSON.
        delivery_id: header X-GitHub-Delivery; anything but hexadecimal digits and hyphens is ignored.
        verified: whether the body's signature (X-Hub-Signature-256) was checked and is good.
    """
    hook = hook if hook in HOOKS else "unknown"
    action = _action(payload)
    delivery_id = delivery_id if delivery_id and _DELIVERY.fullmatch(delivery_id) else None
    malformed = False
    try:
        draft = _well_formed(hook, action, payload, delivery_id)
    except MalformedError:
        draft, malformed = _malformed(hook, action, delivery_id), True
    draft |= {
        "tenant": tenant,
        "source_system": SYSTEM,
        "target_system": SYSTEM,
        "authorization": {
            "method": "WEBHOOK_SIGNATURE",
            "scopes": [],
            "policy": None,
            "policy_version": None,
            "decision": "ALLOW" if verified else "NOT_CHECKED",
        },
    }
    return Mapped(draft, malformed)


def _action(payload: object) -> str | None:
    action = payload.get("action") if isinstance(payload, dict) else None
    return action if isinstance(action, str) and action in ACTIONS else None


def _well_formed(hook: str, action: str | None, payload: object, delivery_id: str | None) -> Draft:
    if not isinstance(payload, dict):
        raise MalformedError((), "an object")
    family = FAMILIES.get(hook)
    stated = text(payload, "action")
    if family is None or (stated or "") not in (family.actions or {""}):
        family, name = _OTHER, "github.other"
    else:
        name = f"github.{hook}.{stated}" if stated else f"github.{hook}"
    facts = family.find(payload, stated or "")
    return {
        "event_name": name,
        "event_type": family.event_type,
        "result": facts.result,
        "effect": facts.effect,
        "occurred_at": facts.occurred_us,
        "object": {"type": facts.object_type, "id": facts.object_id} if facts.object_type else None,
        "object_name": facts.object_name,
        "correlation_id": facts.correlation_id or delivery_id,
        "retry": _retry(facts) if family.event_type == "AUTOMATION" else None,
        "deployment": _deployment(facts),
        "actor": _actor(payload),
        "subject": _person(facts.subject),
        "approver": facts.approver,
        "credential": facts.credential,
        "changes": [{"op": c.op, "path": c.path, "before": c.before, "after": c.after} for c in facts.changes],
        "extension": _extension(hook, action, delivery_id, facts, _context(payload)),
    }


def _malformed(hook: str, action: str | None, delivery_id: str | None) -> Draft:
    return {
        "event_name": "github.other",
        "event_type": "OTHER",
        "result": "UNKNOWN",
        "effect": "NONE",
        "correlation_id": delivery_id,
        "actor": _SYSTEM_ACTOR,
        "extension": _extension(hook, action, delivery_id, None, _NO_CONTEXT),
    }


def _somewhere(payload: object) -> Facts:
    """Where an event of no family happened: its repository, else its organisation, else nowhere known."""
    for kind, name in (("repository", "full_name"), ("organization", "login")):
        identifier = number(payload, kind, "id")
        if identifier is not None:
            return Facts(kind, str(identifier), text(payload, kind, name), result="UNKNOWN", effect="NONE")
    return Facts("", "", result="UNKNOWN", effect="NONE")


_SYSTEM_ACTOR: dict[str, str | None] = {"kind": "SYSTEM", "id": SYSTEM, "display": None, "login": None}


def _actor(payload: object) -> dict[str, str | None]:
    if value(payload, "sender") is None:
        return _SYSTEM_ACTOR
    sender = account(payload, "sender")
    kind = _ACTOR_KINDS.get(text(payload, "sender", "type") or "User", "SERVICE")
    return {"kind": kind, "id": sender.id, "display": sender.login, "login": sender.login if kind == "USER" else None}


def _person(person: Person | None) -> dict[str, str | None] | None:
    return None if person is None else {"id": person.id, "display": person.login, "login": person.login}


def _retry(facts: Facts) -> dict[str, object] | None:
    """A workflow run again: the run is the same, the attempt another (CAP-6)."""
    attempt = facts.run_attempt
    if attempt is None or attempt < 2:
        return None
    if attempt > _MAX_ATTEMPT:
        raise MalformedError(("run_attempt",), "a small number")
    return {"original_event_id": None, "attempt": attempt, "idempotency_key": f"run-{facts.run_id}"}


def _deployment(facts: Facts) -> dict[str, object] | None:
    deployed = facts.deployment
    if deployed is None:
        return None
    return {
        "environment": deployed.environment,
        "commit": deployed.commit,
        "artifact_digest": None,
        "checks": [{"name": name, "result": result} for name, result in deployed.checks],
    }


def _context(payload: object) -> dict[str, int | None]:
    return {f"{kind}_id": number(payload, kind, "id") for kind in ("repository", "organization", "installation")}


def _extension(
    hook: str, action: str | None, delivery_id: str | None, facts: Facts | None, context: dict[str, int | None]
) -> dict[str, bytes]:
    found = facts or Facts("", "")
    push = found.push
    body = GITHUB.encode_body(
        {
            "hook": hook,
            "action": action,
            "delivery_id": delivery_id,
            "malformed": facts is None,
            **context,
            "run_id": found.run_id,
            "run_attempt": found.run_attempt,
            "state": found.state,
            "commit": found.commit,
            "commit_before": push.before if push else None,
            "commit_count": push.commits if push else None,
            "ref_kind": push.kind if push else None,
            "ref_created": push.created if push else None,
            "ref_deleted": push.deleted if push else None,
            "ref_forced": push.forced if push else None,
            "settings": [{"name": s.name, "before": s.before, "after": s.after} for s in found.settings],
            "ref": found.ref,
        }
    )
    return {"schema": GITHUB.sha256, "payload": body}
