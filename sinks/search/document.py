"""One sealed event as one document: a pure function, and `mapping` says what each field is.

Values are those of the event as it was sealed, so already redacted; `reason`, `detail` and an extension's payload are
left out all the same: they are somebody's words. Null is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sealtrail.seal import Route
from sinks.delivery import Item

ECS_VERSION = "8.17.0"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ROUTES = {Route.ARCHIVE: "archive", Route.HOT: "hot", Route.SIEM: "siem", Route.QUARANTINE: "quarantine"}
_OUTCOME = {"SUCCESS": "success", "FAILURE": "failure", "DENIED": "failure", "PARTIAL": "unknown", "UNKNOWN": "unknown"}
_WORD = re.compile(r"[^\W_]+")

# ECS event.category and event.type by the event model's family; ECS has no category for a message.
CATEGORIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = MappingProxyType(
    {
        "ACCESS": (("database",), ("access",)),
        "AUTHENTICATION": (("authentication",), ("start",)),
        "ADMIN": (("configuration",), ("change",)),
        "MESSAGE": ((), ("info",)),
        "MENTION": ((), ("info",)),
        "FILE_SHARE": (("file",), ("access",)),
        "API_CALL": (("api",), ("access",)),
        "AUTOMATION": (("process",), ("info",)),
        "DEPLOYMENT": (("package",), ("installation", "change")),
        "EXPORT": (("file",), ("creation",)),
        "POLICY": (("configuration",), ("info",)),
        "HOLD": (("configuration",), ("change",)),
        "RETENTION": (("configuration",), ("change",)),
        "ERASURE": (("database",), ("change",)),
        "DETECTION": (("intrusion_detection",), ("info",)),
        "RESPONSE": (("configuration",), ("change",)),
        "REVIEW": (("iam",), ("info",)),
        "EMITTER": (("process",), ("info",)),
        "OTHER": ((), ("info",)),
    }
)


def document_of(item: Item) -> dict[str, Any]:
    """The document of a sealed event."""
    event, seal = item.event, item.seal
    category, kind = CATEGORIES[event["event_type"]]
    trace = (event["traceparent"] or "").split("-")
    actor, subject = event["actor"], event["subject"] or {}
    found: dict[str, Any] = _without_nulls(
        {
            "@timestamp": _time(event["occurred_at"]),
            "ecs": {"version": ECS_VERSION},
            "event": {
                "id": str(UUID(bytes=event["event_id"])),
                "kind": "alert" if event["event_type"] == "DETECTION" else "event",
                "category": list(category) or None,
                "type": list(kind),
                "action": event["event_name"],
                "outcome": _OUTCOME[event["result"]],
                "ingested": _time(seal.sealed_at_us),
            },
            "organization": {"id": event["tenant"]},
            "user": {
                "id": actor["id"] or None,
                "name": actor["display"],
                "target": {"id": subject.get("id"), "name": subject.get("display")},
            },
            "trace": {"id": trace[1] if len(trace) == 4 else None},
            "span": {"id": trace[2] if len(trace) == 4 else None},
            "cloud": {"region": event["region"]},
            "sealtrail": {
                "chain": seal.chain,
                "seq": seal.seq,
                "leaf_hash": item.leaf.hex(),
                "signed": seal.signed,
                "routes": [name for route, name in _ROUTES.items() if route in seal.routes],
                "policy": item.sealed.content.policy.hex(),
                "content_schema": item.sealed.content.content_schema.hex(),
                "retain_until": _time(seal.retain_until_ms * 1000),
                "class": seal.log_class.lower(),
                "type": event["event_type"],
                "result": event["result"],
                "effect": event["effect"],
                "actor_kind": actor["kind"],
                "actor_login": actor["login"],
                "subject_login": subject.get("login"),
                **{name: event[name] for name in _AS_THEY_ARE},
                "emitter": {**event["emitter"], "epoch": str(UUID(bytes=event["emitter"]["epoch"]))},
                "object": {**(event["object"] or {}), "name": event["object_name"]},
                "causation_id": _uuid(event["causation_id"]),
                "retry": _retry(event["retry"]),
                "delivery": _delivery(event["delivery"]),
                "content_ref": _content_ref(event["content_ref"]),
                "extension": event["extension"]["schema"].hex() if event["extension"] else None,
                "changes": event["changes"] or None,
                "words": words_of(event),
            },
        }
    )
    return found


def words_of(event: Mapping[str, Any]) -> str:
    """What free words are looked for in: names and identifiers of the act, of its object and of its systems."""
    business_object = event["object"] or {}
    message, delivery = event["message"] or {}, event["delivery"] or {}
    named = [
        event["event_name"],
        event["event_type"],
        event["result"],
        event["source_system"],
        event["target_system"],
        event["ticket"],
        business_object.get("type"),
        business_object.get("id"),
        message.get("type"),
        message.get("stage"),
        message.get("recipient_group"),
        delivery.get("failure"),
        *[change["path"] for change in event["changes"]],
    ]
    return " ".join(dict.fromkeys(word.lower() for text in named if text for word in _WORD.findall(text)))


_AS_THEY_ARE = (
    "source_ip",
    "source_system",
    "target_system",
    "ticket",
    "correlation_id",
    "sender",
    "approver",
    "credential",
    "authorization",
    "message",
    "deployment",
    "audience",
    "automation",
    "redaction",
)


def _retry(retry: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if retry is None else {**retry, "original_event_id": _uuid(retry["original_event_id"])}


def _delivery(delivery: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if delivery is None:
        return None
    digest = delivery["payload_digest"]
    return {
        **delivery,
        "payload_digest": None if digest is None else digest.hex(),
        "attempts": [{**attempt, "at": _time(attempt["at"])} for attempt in delivery["attempts"]],
    }


def _content_ref(reference: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if reference is None else {**reference, "digest": reference["digest"].hex()}


def _uuid(value: bytes | None) -> str | None:
    return None if value is None else str(UUID(bytes=value))


def _time(micros: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _without_nulls(value: Any) -> Any:
    """`value` without nulls, and without objects that hold nothing else."""
    if isinstance(value, dict):
        kept = {name: _without_nulls(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner is not None and inner != {}}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
