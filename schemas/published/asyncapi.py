"""The topics as an AsyncAPI 3.0 document: channels, messages with their Avro schemas, who sends and who receives.

From the topic catalogue and the schemas of its values; these stand there as they are, with the attributes of the contract
(`dataClass`, `redact`, …), which Avro lets be. An extension's record is a schema of its own in the components: it is the
body of `extension.payload`. Names are those of the catalogue; a deployment's `topic_prefix` stands in front of them.

Source: AsyncAPI 3.0.0; its Kafka bindings 0.5.0. Not here: which topic carries what; the caller says (`auditor.topics`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from schemas.catalogue import RAW, Catalogue, Topic
from schemas.evolution.released import full_name

VERSION = "3.0.0"
AVRO = "application/vnd.apache.avro+json;version=1.9.0"
CONTENT_TYPE = "application/avro"  # as in the header of a raw record
BINDING = "0.5.0"

# Headers of a record on the raw topic; values are bytes, so the text says what they are.
_HEADERS: Mapping[str, str] = {
    "st-session": "The run's signed statement and wrapped session key: Avro single-object encoding of RunSession.",
    "st-mac": "HMAC-SHA-256, 32 bytes, under the run's session key, of topic, number and digest of the value.",
    "content-type": "The encoding of the value.",
    "traceparent": "W3C trace context, where the event has one.",
}


def document(catalogue: Catalogue, values: Mapping[str, str], extensions: Mapping[str, str]) -> dict[str, Any]:
    """The document.

    Args:
        values: text of the schema of a topic's values, by topic; a topic that is not there is reserved.
        extensions: texts of the extensions' schemas, by full name.
    """
    messages = {full_name(text): _message(text, raw=topic == RAW) for topic, text in values.items()}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Sealtrail",
            "version": "1",
            "description": "Topics of the audit trail. A deployment's topic_prefix stands in front of each address.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {topic.name: _channel(topic, catalogue, values.get(topic.name)) for topic in catalogue.topics},
        "operations": {
            f"{role}.{action}.{topic.name}": _operation(topic, role, action, values)
            for topic in catalogue.topics
            for action, roles in (("send", topic.writers), ("receive", topic.readers))
            for role in roles
        },
        "components": {
            "messages": dict(sorted(messages.items())),
            "schemas": {name: _schema(text) for name, text in sorted(extensions.items())},
        },
    }


def _channel(topic: Topic, catalogue: Catalogue, value: str | None) -> dict[str, Any]:
    reserved = "" if value is not None else " Reserved: nothing is written to it yet."
    name = None if value is None else full_name(value)
    return {
        "address": topic.name,
        "description": topic.purpose + reserved,
        "messages": {} if name is None else {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partition_count(catalogue.raw_partitions),
                "replicas": catalogue.replication_factor,
                "topicConfiguration": {
                    "cleanup.policy": [topic.cleanup_policy],
                    "retention.ms": topic.retention_ms,
                    "max.message.bytes": topic.max_message_bytes,
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(topic: Topic, role: str, action: str, values: Mapping[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": f"The role {role} may {'write to' if action == 'send' else 'read'} {topic.name}.",
    }
    if topic.name in values:
        made["messages"] = [{"$ref": f"#/channels/{topic.name}/messages/{full_name(values[topic.name])}"}]
    return made


def _message(text: str, *, raw: bool) -> dict[str, Any]:
    schema = json.loads(text)
    made: dict[str, Any] = {
        "name": schema["name"],
        "summary": schema.get("doc", ""),
        "contentType": CONTENT_TYPE,
        "payload": _schema(text),
    }
    if raw:
        properties = {name: {"type": "string", "description": said} for name, said in _HEADERS.items()}
        made["headers"] = {"type": "object", "properties": properties, "required": ["st-session", "st-mac", "content-type"]}
        made["bindings"] = {
            "kafka": {"key": {"type": "string", "description": "source/instance of the emitter"}, "bindingVersion": BINDING}
        }
    return made


def _schema(text: str) -> dict[str, Any]:
    return {"schemaFormat": AVRO, "schema": json.loads(text)}
