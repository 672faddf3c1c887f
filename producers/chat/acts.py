"""What people and machines do in a chat besides sending messages, as drafts. Pure.

Each takes an `Act`: whose, who, from where, on what authority. Names of people, texts and addresses go into fields that
the schema redacts; identifiers of things must be opaque.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from producers.chat.events import SYSTEM, extension
from producers.lifecycle import Draft


@dataclass(frozen=True, slots=True)
class Act:
    """Who did it, for which tenant. by: their address here. credential: a reference, never the credential."""

    tenant: str
    by: str
    kind: str = "USER"
    method: str = "SSO_SESSION"
    scopes: Sequence[str] = ()
    credential: str | None = None
    source_ip: str | None = None
    ticket: str | None = None
    approver: str | None = None
    reason: str | None = None
    traceparent: str | None = None
    correlation_id: str | None = None
    causation_id: bytes | None = None


def login(act: Act, account: str, *, succeeded: bool) -> Draft:
    """Somebody logged in, or tried to. account: as people type it; hashed.

    Only what let somebody in is tokenised as well: what did not may be a password in the wrong field.
    """
    name, result = ("succeeded", "SUCCESS") if succeeded else ("failed", "FAILURE")
    effect = "EFFECTIVE" if succeeded else "ATTEMPTED"
    subject = _subject(account) if succeeded else {"id": account, "display": None}
    return {**_act(act, f"chat.login.{name}", "AUTHENTICATION", result, effect), "subject": subject}


def permission(act: Act, whom: str, group: str, before: str | None, after: str | None) -> Draft:
    """A role in a group was granted (before none), changed, or revoked (after none)."""
    name = "granted" if before is None else "revoked" if after is None else "changed"
    draft = _act(act, f"chat.permission.{name}", "ADMIN", "SUCCESS", "EFFECTIVE", ("group", group))
    return {**draft, "subject": _subject(whom), "changes": [_change("/role", before, after)]}


def configuration(act: Act, setting: str, path: str, before: object, after: object) -> Draft:
    """A setting of the integration was changed. path: JSON Pointer within it; values: any JSON."""
    draft = _act(act, "chat.config.changed", "ADMIN", "SUCCESS", "EFFECTIVE", ("setting", setting))
    return {**draft, "changes": [_change(path, before, after)]}


def export(act: Act, what: str, rows: int, destination: str, *, succeeded: bool = True) -> Draft:
    """Records left the system."""
    result, effect = ("SUCCESS", "EFFECTIVE") if succeeded else ("FAILURE", "ATTEMPTED")
    draft = _act(
        act, "chat.export.completed" if succeeded else "chat.export.failed", "EXPORT", result, effect, ("export", what)
    )
    return {**draft, "target_system": destination, "extension": extension(rows=rows)}


def mention(act: Act, whom: str, message: str) -> Draft:
    """Somebody was named in a message."""
    draft = _act(act, "chat.mention.created", "MENTION", "SUCCESS", "EFFECTIVE", ("message", message))
    return {**draft, "subject": _subject(whom)}


def file_share(act: Act, file: str, name: str, digest: bytes, size: int, media_type: str, group: str) -> Draft:
    """A file was shared with a group. digest: keyed, see `digest`; name: masked."""
    return {
        **_act(act, "chat.file.shared", "FILE_SHARE", "SUCCESS", "EFFECTIVE", ("file", file)),
        "object_name": name,
        "content_ref": {"digest": digest, "size": size, "media_type": media_type, "location": f"chat:group/{group}"},
    }


def api_call(act: Act, operation: str, target: str, status: int) -> Draft:
    """The integration called somebody else's interface."""
    result = "SUCCESS" if status < 400 else "DENIED" if status in (401, 403) else "FAILURE"
    draft = _act(
        act, "chat.api.called", "API_CALL", result, "EFFECTIVE" if status < 400 else "ATTEMPTED", ("operation", operation)
    )
    return {**draft, "target_system": target, "extension": extension(operation=operation, status=status)}


def automation(act: Act, automation: str, run: str, *, executed: bool | None) -> Draft:
    """A run of an automation: intended (executed None, stated before), executed, or not executed after all."""
    if executed is None:
        name, result, effect = "intended", "UNKNOWN", "ATTEMPTED"
    else:
        name, result, effect = ("executed", "SUCCESS", "EFFECTIVE") if executed else ("failed", "FAILURE", "ATTEMPTED")
    draft = _act(act, f"chat.automation.{name}", "AUTOMATION", result, effect, ("automation", automation))
    return {**draft, "correlation_id": run}


def trace(act: Act, step: str, *, good: bool = True) -> Draft:
    """What a developer wants to see of the integration's inner steps. Class debug: kept for days, never in the SIEM."""
    return _act(act, "chat.debug.step", "OTHER", "SUCCESS" if good else "FAILURE", "NONE", ("step", step))


def connector(tenant: str, instance: str, state: str, hop: str, *, works: bool) -> Draft:
    """The connector itself: started, stopped, failed (it cannot reach the receiver), recovered."""
    draft = _act(
        Act(tenant, instance, kind="INTEGRATION", method="CERTIFICATE"),
        f"chat.connector.{state}",
        "OTHER",
        "SUCCESS" if works else "FAILURE",
        "EFFECTIVE",
        ("connector", f"{SYSTEM}/{instance}"),
    )
    return {**draft, "target_system": hop}


def _act(
    act: Act, name: str, event_type: str, result: str, effect: str, business_object: tuple[str, str] | None = None
) -> Draft:
    return {
        "event_name": name,
        "tenant": act.tenant,
        "event_type": event_type,
        "result": result,
        "effect": effect,
        "source_system": SYSTEM,
        "target_system": SYSTEM,
        "object": None if business_object is None else dict(zip(("type", "id"), business_object, strict=True)),
        "ticket": act.ticket,
        "traceparent": act.traceparent,
        "correlation_id": act.correlation_id,
        "causation_id": act.causation_id,
        "authorization": {
            "method": act.method,
            "scopes": list(act.scopes),
            "policy": None,
            "policy_version": None,
            "decision": "NOT_CHECKED",
        },
        "actor": {"kind": act.kind, "id": act.by, "display": None, "login": act.by if act.kind == "USER" else None},
        "approver": act.approver,
        "credential": act.credential,
        "source_ip": act.source_ip,
        "reason": act.reason,
    }


def _subject(person: str) -> dict[str, object]:
    return {"id": person, "display": None, "login": person}


def _change(path: str, before: object, after: object) -> dict[str, object]:
    op = "ADD" if before is None else "REMOVE" if after is None else "REPLACE"
    values = (None if value is None else json.dumps(value) for value in (before, after))
    return {"op": op, "path": path, **dict(zip(("before", "after"), values, strict=True))}
