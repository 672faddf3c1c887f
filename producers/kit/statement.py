"""From an act to a draft: what the family decides, what is stated with it, and what the context says. Pure.

An `Act` is the part that a builder fixes: name, type, result, effect, and the records of its family. `Stated` is what any
event may carry besides; the type checker knows the names. Explicit wins over the context, the context over a default.

Refused here, as a ContractError with the field's name: no tenant, no actor, a time without a zone, values of other types
than the kit's. All other rules are the contract's, which the emitter checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar, Unpack, cast

from producers.kit.content import BodyDigest
from producers.kit.context import NAMES as CONTEXT_NAMES
from producers.kit.context import Context
from producers.kit.diff import Change, changed
from producers.kit.values import Actor, Authorization, BusinessObject, Content, ContentRef, Extension, Subject
from producers.kit.words import Effect, EventType, Result
from producers.lifecycle import Draft
from sealtrail.errors import ConfigError, ContractError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class Stated(Context, total=False):
    """What any event may carry besides its act; and the context's words, for this event alone.

    occurred_at: with a zone; now, where it is left out. reason: why, in a person's words, masked. detail: free text,
    never kept by the trail. approver: hashed. source_system, target_system: the connector's own, where left out.
    """

    occurred_at: datetime
    reason: str | None
    detail: str | None
    approver: str | None
    source_system: str
    target_system: str
    extension: Extension | None


NAMES = frozenset(Stated.__annotations__) | CONTEXT_NAMES


@dataclass(frozen=True, slots=True)
class Act:
    """What happened. `name` comes after the system's: "message.sent" of chat is chat.message.sent.

    compared: before and after, whose difference are the changes. records: further fields of the event schema, by name:
    message, delivery, deployment, retry, sender.
    """

    name: str
    event_type: EventType
    result: Result
    effect: Effect
    business_object: BusinessObject | None = None
    subject: Subject | None = None
    content: Content | ContentRef | None = None
    changes: Sequence[Change] = ()
    compared: tuple[Mapping[str, object], Mapping[str, object]] | None = field(default=None, repr=False)
    records: Mapping[str, object] = field(default_factory=dict, repr=False)


def layered(*layers: Mapping[str, object]) -> Stated:
    """One over the other; the last wins."""
    merged: dict[str, object] = {}
    for layer in layers:
        merged.update(layer)
    return cast("Stated", merged)


def only_known(**stated: Unpack[Stated]) -> Stated:
    """`stated`, if all its names are known. Raises TypeError, as a call with a wrong keyword does."""
    unknown = stated.keys() - NAMES
    if unknown:
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}")
    return stated


def draft_of(system: str, act: Act | Callable[[str], Act], stated: Stated, digest: BodyDigest | None) -> Draft:
    """The draft of an act, or of one that follows from the tenant. `stated`: the context's layer included.

    Raises:
        ContractError: see the module. ConfigError: content to refer to, and no `digest`.
    """
    tenant, actor = stated.get("tenant"), stated.get("actor")
    if tenant is None:
        raise ContractError("tenant", "missing: neither given nor in the context")
    _need(str, tenant, "tenant")  # before it is looked up anywhere
    if actor is None:
        raise ContractError("actor", "missing: neither given nor in the context")
    act = act if isinstance(act, Act) else act(tenant)
    business_object, subject = _of(BusinessObject, act.business_object, "object"), _of(Subject, act.subject, "subject")
    changes = act.changes if act.compared is None else changed(*act.compared)
    extension = _of(Extension, stated.get("extension"), "extension")
    draft: Draft = {
        "event_name": f"{system}.{act.name}",
        "tenant": tenant,
        "event_type": _word(act.event_type),
        "result": _word(act.result),
        "effect": _word(act.effect),
        "source_system": stated.get("source_system", system),
        "target_system": stated.get("target_system", system),
        "object": None if business_object is None else {"type": business_object.type, "id": business_object.id},
        "object_name": None if business_object is None else business_object.name,
        "subject": None if subject is None else {"id": subject.id, "display": subject.display, "login": subject.login},
        "actor": _actor(_need(Actor, actor, "actor")),
        "authorization": _authorization(_of(Authorization, stated.get("authorization"), "authorization")),
        "causation_id": stated.get("cause"),
        "content_ref": content_ref(act.content, tenant, digest),
        "changes": [{"op": c.op, "path": c.path, "before": c.before, "after": c.after} for c in changes],
        "extension": None if extension is None else extension.stated(),
        **act.records,
    }
    for name in ("ticket", "traceparent", "correlation_id", "credential", "source_ip", "reason", "detail", "approver"):
        draft[name] = stated.get(name)
    if "occurred_at" in stated:
        draft["occurred_at"] = microseconds(stated["occurred_at"], "occurred_at")
    return draft


def microseconds(time: datetime, where: str) -> int:
    """Since 1970, UTC. Raises ContractError for a time without a zone: whose noon it is, nobody could say later."""
    if not isinstance(time, datetime):
        raise ContractError(where, "not a datetime")
    if time.utcoffset() is None:
        raise ContractError(where, "a time without a zone")
    return (time - _EPOCH) // timedelta(microseconds=1)


def content_ref(content: Content | ContentRef | None, tenant: str, digest: BodyDigest | None) -> dict[str, object] | None:
    """As in the event: for a body its keyed digest and size."""
    if content is None:
        return None
    if isinstance(content, ContentRef):
        found, size = content.digest, content.size
    elif isinstance(content, Content):
        found, size = keyed(tenant, content.body, digest, "content_ref.digest"), len(content.body)
    else:
        raise ContractError("content_ref", "neither Content nor ContentRef")
    return {"digest": found, "size": size, "media_type": content.media_type, "location": content.location}


def keyed(tenant: str, data: bytes, digest: BodyDigest | None, where: str) -> bytes:
    """The keyed digest of bytes."""
    if digest is None:
        raise ConfigError("Audit was made without `digest`: bodies and payloads cannot be referred to")
    if not isinstance(data, bytes):
        raise ContractError(where, "the body is not bytes")
    return digest(tenant, data)


def _of(kind: type[T], value: object, where: str) -> T | None:
    return None if value is None else _need(kind, value, where)


def _need(kind: type[T], value: object, where: str) -> T:
    if not isinstance(value, kind):
        raise ContractError(where, f"not of type {kind.__name__}")
    return value


def _word(word: object) -> object:
    """Plain text of a closed list's word; anything else as it is, for the contract to refuse."""
    return str(word) if isinstance(word, str) else word


def _actor(actor: Actor) -> dict[str, object]:
    return {"kind": _word(actor.kind), "id": actor.id, "display": actor.display, "login": actor.login}


def _authorization(found: Authorization | None) -> dict[str, object] | None:
    if found is None:
        return None
    if isinstance(found.scopes, str) or not isinstance(found.scopes, Sequence):
        raise ContractError("authorization.scopes", "not a list of text")
    return {
        "method": _word(found.method),
        "scopes": list(found.scopes),
        "policy": found.policy,
        "policy_version": found.policy_version,
        "decision": _word(found.decision),
    }
