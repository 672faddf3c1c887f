"""The index template: names of the Elastic Common Schema where it has one, `sealtrail.*` for the rest, nothing else.

`dynamic: strict`: a field that is not here is refused, never guessed. Keywords beyond `LONGEST` characters stay in the
document and are not indexed, so no value can be too long for the index. Of what the event model classes as content
(`reason`, `detail`) and of an extension's payload nothing is put in.

Free words: `sealtrail.words`, which `document` fills with names and identifiers alone.
"""

from __future__ import annotations

from typing import Any

from schemas.search_names import alias, patterns

VERSION = 3
LONGEST = 1024

_KEYWORD = {"type": "keyword", "ignore_above": LONGEST}
_LONG = {"type": "long"}
_BOOLEAN = {"type": "boolean"}
_MICROS = {"type": "date", "format": "strict_date_optional_time"}
_SHOWN = {"type": "keyword", "index": False, "doc_values": False}  # in the document, not searched for


def _object(**properties: object) -> dict[str, Any]:
    return {"type": "object", "dynamic": "strict", "properties": properties}


PROPERTIES: dict[str, Any] = {
    "@timestamp": _MICROS,
    "ecs": _object(version=_KEYWORD),
    "event": _object(
        id=_KEYWORD, kind=_KEYWORD, category=_KEYWORD, type=_KEYWORD, action=_KEYWORD, outcome=_KEYWORD, ingested=_MICROS
    ),
    "organization": _object(id=_KEYWORD),
    "user": _object(id=_KEYWORD, name=_KEYWORD, target=_object(id=_KEYWORD, name=_KEYWORD)),
    "trace": _object(id=_KEYWORD),
    "span": _object(id=_KEYWORD),
    "cloud": _object(region=_KEYWORD),
    "sealtrail": _object(
        chain=_KEYWORD,
        seq=_LONG,
        leaf_hash=_KEYWORD,
        signed=_BOOLEAN,
        routes=_KEYWORD,
        policy=_KEYWORD,
        content_schema=_KEYWORD,
        retain_until=_MICROS,
        **{"class": _KEYWORD},
        type=_KEYWORD,
        result=_KEYWORD,
        effect=_KEYWORD,
        actor_kind=_KEYWORD,
        actor_login=_KEYWORD,
        subject_login=_KEYWORD,
        source_ip=_KEYWORD,
        source_system=_KEYWORD,
        target_system=_KEYWORD,
        emitter=_object(source=_KEYWORD, instance=_KEYWORD, epoch=_KEYWORD, seq=_LONG),
        object=_object(type=_KEYWORD, id=_KEYWORD, name=_KEYWORD),
        ticket=_KEYWORD,
        correlation_id=_KEYWORD,
        causation_id=_KEYWORD,
        sender=_KEYWORD,
        approver=_KEYWORD,
        credential=_KEYWORD,
        retry=_object(original_event_id=_KEYWORD, attempt=_LONG, idempotency_key=_KEYWORD),
        authorization=_object(method=_KEYWORD, scopes=_KEYWORD, policy=_KEYWORD, policy_version=_KEYWORD, decision=_KEYWORD),
        delivery=_object(
            validated=_BOOLEAN,
            signed=_BOOLEAN,
            encrypted=_BOOLEAN,
            payload_digest=_SHOWN,
            retry_policy=_KEYWORD,
            attempts=_object(number=_LONG, at=_MICROS, outcome=_KEYWORD, status=_LONG, hop=_KEYWORD),
            acknowledgement=_KEYWORD,
            failure=_KEYWORD,
            failed_hop=_KEYWORD,
        ),
        message=_object(stage=_KEYWORD, type=_KEYWORD, recipient_group=_KEYWORD, recipient_count=_LONG),
        deployment=_object(
            environment=_KEYWORD, commit=_KEYWORD, artifact_digest=_KEYWORD, checks=_object(name=_KEYWORD, result=_KEYWORD)
        ),
        audience=_object(reach=_KEYWORD, group=_KEYWORD, count=_LONG),
        automation=_object(steps=_object(name=_KEYWORD, intended=_BOOLEAN, executed=_BOOLEAN)),
        content_ref=_object(digest=_KEYWORD, size=_LONG, media_type=_KEYWORD, location=_SHOWN),
        redaction=_object(status=_KEYWORD, policy=_KEYWORD, fields=_KEYWORD),
        extension=_KEYWORD,
        changes=_object(op=_KEYWORD, path=_KEYWORD, before=_SHOWN, after=_SHOWN),
        words={"type": "text", "norms": False},
    ),
}


def template(topic_prefix: str) -> dict[str, Any]:
    """The body of the deployment's index template."""
    return {
        "index_patterns": patterns(topic_prefix),
        "priority": 500,
        "version": VERSION,
        "template": {
            "aliases": {alias(topic_prefix): {}},
            "settings": {
                "index": {
                    "number_of_shards": 1,
                    "auto_expand_replicas": "0-1",
                    "refresh_interval": "1s",
                    "codec": "best_compression",
                }
            },
            "mappings": {"dynamic": "strict", "_meta": {"sealtrail": VERSION}, "properties": PROPERTIES},
        },
    }
