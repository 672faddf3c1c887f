"""One sealed event as one OCSF event: a pure function.

Version 1.9.0 carries the seal in `attestation_list` (profile record_integrity); 1.5.0 has no such profile, so it stands in
`unmapped`. An attestation's fingerprint is said to be over the OCSF event; ours is the leaf hash of the *seal*, which commits
to the event as it was sealed: its serialization says so (`sealtrail/seal/v1`).

What is personal is here as it was sealed, hashed or masked. Left out altogether: `reason`, `detail`, an extension's payload,
and the values of changes; their paths are named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sealtrail.seal import Signature
from sinks.delivery import Item

VERSIONS = ("1.9.0", "1.5.0")

_CATEGORIES = {2: "findings", 3: "iam", 6: "application"}
AUTHENTICATION, AUTHORIZE_SESSION, ENTITY_MANAGEMENT = 3002, 3003, 3004
APPLICATION_LIFECYCLE, API_ACTIVITY, DATASTORE_ACTIVITY, DETECTION_FINDING = 6002, 6003, 6005, 2004

# The class and the activity of each family of events; API Activity 99 (Other) for whatever has no class of its own.
CLASSES: Mapping[str, tuple[int, int]] = {
    "AUTHENTICATION": (AUTHENTICATION, 1),
    "ADMIN": (ENTITY_MANAGEMENT, 3),
    "HOLD": (ENTITY_MANAGEMENT, 3),
    "RETENTION": (ENTITY_MANAGEMENT, 3),
    "ERASURE": (ENTITY_MANAGEMENT, 4),
    "DEPLOYMENT": (APPLICATION_LIFECYCLE, 8),
    "EXPORT": (DATASTORE_ACTIVITY, 1),
    "DETECTION": (DETECTION_FINDING, 1),
    "ACCESS": (API_ACTIVITY, 2),
}
OTHER = (API_ACTIVITY, 99)

_SEVERITY = {"DETECTION": 4, "POLICY": 2, "EXPORT": 2, "HOLD": 2, "RETENTION": 2, "ERASURE": 2, "RESPONSE": 3}
_ACTOR = {"USER": 1, "SYSTEM": 3, "SERVICE": 4, "INTEGRATION": 4}
_STATUS = {"SUCCESS": 1, "FAILURE": 2, "DENIED": 2}
_SHA256, _HEX, _OTHER = 3, 1, 99


def record_uid(item: Item) -> str:
    """The id of the record in every SIEM, whatever happens to its delivery: chain and seq."""
    return f"{item.seal.chain}:{item.seal.seq}"


def ocsf_of(item: Item, version: str = VERSIONS[0]) -> dict[str, Any]:
    """The OCSF event of a sealed event.

    Args:
        version: one of VERSIONS.
    """
    event, seal = item.event, item.seal
    class_uid, activity = class_of(event)
    integrity = _attestation(item)
    found: dict[str, Any] = {
        "category_uid": class_uid // 1000,
        "class_uid": class_uid,
        "activity_id": activity,
        "type_uid": class_uid * 100 + activity,
        "activity_name": event["event_name"] if activity == _OTHER else None,
        "severity_id": severity_of(event),
        "status_id": _STATUS.get(event["result"], _OTHER),
        "status": event["result"],
        "time": event["occurred_at"] // 1000,
        "message": event["event_name"],
        "metadata": {
            "version": version,
            "product": {"name": "Sealtrail", "vendor_name": "Sealtrail"},
            "uid": record_uid(item),
            "original_event_uid": str(UUID(bytes=event["event_id"])),
            "correlation_uid": event["correlation_id"],
            "event_code": event["event_name"],
            "log_name": str(seal.log_class).lower(),
            "logged_time": seal.sealed_at_us // 1000,
            "tenant_uid": event["tenant"],
            "profiles": ["record_integrity"] if version == VERSIONS[0] else None,
        },
        "actor": {"user": _user(event["actor"])},
        **_specific(class_uid, event),
        "unmapped": {"sealtrail": _rest(item), **({} if version == VERSIONS[0] else {"attestation": integrity})},
        "attestation_list": [integrity] if version == VERSIONS[0] else None,
    }
    kept: dict[str, Any] = _without_nulls(found)
    return kept


def class_of(event: Mapping[str, Any]) -> tuple[int, int]:
    """Class and activity of an event."""
    if event["event_type"] == "POLICY" and event["authorization"] and event["authorization"]["scopes"]:
        return AUTHORIZE_SESSION, 1
    return CLASSES.get(event["event_type"], OTHER)


def severity_of(event: Mapping[str, Any]) -> int:
    """1 informational to 4 high."""
    if event["result"] == "DENIED":
        return 3
    if event["result"] == "FAILURE":
        return max(2, _SEVERITY.get(event["event_type"], 2))
    return _SEVERITY.get(event["event_type"], 1)


def _specific(class_uid: int, event: Mapping[str, Any]) -> dict[str, Any]:
    """What the class requires beyond the base event."""
    business_object = event["object"] or {"type": "unknown", "id": event["event_name"]}
    target = event["target_system"] or event["source_system"] or event["emitter"]["source"]
    endpoint = {"svc_name": event["source_system"] or event["emitter"]["source"]}
    if class_uid == AUTHENTICATION:
        return {"user": _user(event["subject"] or event["actor"]), "service": {"name": target}}
    if class_uid == AUTHORIZE_SESSION:
        return {"user": _user(event["subject"] or event["actor"]), "privileges": event["authorization"]["scopes"]}
    if class_uid == ENTITY_MANAGEMENT:
        return {"entity": {"uid": business_object["id"], "type": business_object["type"]}}
    if class_uid == APPLICATION_LIFECYCLE:
        deployment = event["deployment"] or {}
        return {"app": {"name": target, "uid": deployment.get("artifact_digest"), "version": deployment.get("commit")}}
    if class_uid == DATASTORE_ACTIVITY:
        return {"src_endpoint": endpoint, "type_id": 3, "table": {"name": f"{business_object['type']} of {target}"}}
    if class_uid == DETECTION_FINDING:
        return {"finding_info": {"uid": business_object["id"], "title": event["event_name"]}}
    return {"src_endpoint": endpoint, "api": {"operation": event["event_name"], "service": {"name": target}}}


def _user(person: Mapping[str, Any]) -> dict[str, Any]:
    return {"uid": person["id"] or "unknown", "name": person["display"], "type_id": _ACTOR.get(person.get("kind", ""), 1)}


def _attestation(item: Item) -> dict[str, Any]:
    seal = item.seal
    return {
        "uid": record_uid(item),
        "authority_uid": seal.chain.split("/", 1)[0],
        "chain_uid": seal.chain,
        "fingerprint": _fingerprint(item.leaf),
        "prev_event": {"uid": f"{seal.chain}:{seal.seq - 1}", "fingerprint": _fingerprint(seal.prev)} if seal.seq else None,
        "signatures": [_signature(item.sealed.signature)] if item.sealed.signature else None,
    }


def _fingerprint(digest: bytes) -> dict[str, Any]:
    return {
        "algorithm_id": _SHA256,
        "algorithm": "SHA-256",
        "value": digest.hex(),
        "encoding_id": _HEX,
        "serialization_id": _OTHER,
        "serialization": "sealtrail/seal/v1",
    }


def _signature(signature: Signature) -> dict[str, Any]:
    return {
        "algorithm_id": _OTHER,
        "algorithm": "Ed25519",
        "serialization_id": _OTHER,
        "serialization": "sealtrail/seal/v1",
        "digest": {**_fingerprint(signature.key_id), "serialization_id": None, "serialization": None},
    }


def _rest(item: Item) -> dict[str, Any]:
    event, seal = item.event, item.seal
    return {
        "class": str(seal.log_class).lower(),
        "type": event["event_type"],
        "effect": event["effect"],
        "emitter": f"{event['emitter']['source']}/{event['emitter']['instance']}",
        "source_system": event["source_system"],
        "target_system": event["target_system"],
        "object": event["object"],
        "ticket": event["ticket"],
        "traceparent": event["traceparent"],
        "subject": (event["subject"] or {}).get("id"),
        "approver": event["approver"],
        "decision": (event["authorization"] or {}).get("decision"),
        "stage": (event["message"] or {}).get("stage"),
        "failure": (event["delivery"] or {}).get("failure"),
        "environment": (event["deployment"] or {}).get("environment"),
        "reach": (event["audience"] or {}).get("reach"),
        "changed": [change["path"] for change in event["changes"]] or None,
        "retain_until": seal.retain_until_ms,
        "signed": seal.signed,
    }


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {name: _without_nulls(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner is not None and inner != {}}
    if isinstance(value, list):
        return [_without_nulls(inner) for inner in value]
    return value
