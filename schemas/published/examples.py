"""Examples of events, one a family: made from the examples of the schema's leaves, and redacted as every event is.

What an example shows is what the trail would hold: its personal values are hashed under a key that everybody knows (32 zero
bytes), tokenised under another (64 zero bytes, every person's here) and masked, its secrets and details are gone. Each passes
the contract and the sealer's check of redaction, or the pages are not made. Bytes are hexadecimal, ids are UUIDs; an
extension's payload stands decoded under its record's name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from schemas.contract import Contract
from schemas.evolution.linting import example_of
from schemas.evolution.released import full_name
from schemas.fields import Node, field_tree
from schemas.published.events import EMITTER, KIT, REGION, Entry
from schemas.redact import REDACTION_POLICY, RedactionCheck, Redactor
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.tokenized import Tokenized
from sealtrail.avro import Codec
from sealtrail.errors import ConfigError, ContractError
from sealtrail.token import SUBJECT_KEY_SIZE, FieldCipher, SubjectKey

KEY = bytes(32)  # the hash key of the examples: published, so that the hashes can be made again
SUBJECT_KEY = bytes(SUBJECT_KEY_SIZE)  # of every person in them, likewise
_TREE = field_tree(AUDIT_EVENT.text)
_UUIDS = frozenset({"event_id", "epoch", "causation_id", "original_event_id"})


def one_a_family(entries: Iterable[Entry]) -> dict[str, Entry]:
    """By family, the line that stands first for it."""
    found: dict[str, Entry] = {}
    for entry in entries:
        found.setdefault(entry.family, entry)
    return found


def event_of(entry: Entry) -> dict[str, Any]:
    """An event of a line of the catalogue, as the application states it: complete, well-formed, not yet redacted.

    Its values are the leaves' examples, save where the line says otherwise; name, family, result and effect are the line's own.
    """
    event: dict[str, Any] = {}
    for name, node in _TREE.fields:
        given = name in entry.fills or not (node.nullable or node.kind == "array")
        event[name] = example_value(node) if given else [] if node.kind == "array" else None
    event |= {
        "event_name": entry.one,
        "tenant": entry.tenant,
        "region": REGION,
        "event_type": entry.family,
        "result": entry.results[0],
        "effect": entry.effects[0],
        "emitter": {
            **event["emitter"],
            "source": event["emitter"]["source"] if entry.source in (EMITTER, KIT) else entry.source,
        },
        "redaction": {"status": "NONE", "policy": REDACTION_POLICY, "fields": []},
    }
    if entry.machine:
        event["actor"] = {"kind": "SYSTEM", "id": event["emitter"]["source"], "display": None, "login": None}
    codec = None if entry.extension is None else _extension(entry.extension)
    event["extension"] = None if codec is None else example_value(field_tree(codec.text))
    for path, value in (*entry.example, *((path, None) for path in entry.without)):
        _put(event, path, value)
    if codec is not None:
        event["extension"] = {"schema": codec.sha256, "payload": codec.encode_body(event["extension"])}
    return event


def redacted(event: Mapping[str, object]) -> dict[str, Any]:
    """The event as the trail would hold it.

    Raises:
        ContractError: it does not keep the contract, or the sealer would find something in it that is not redacted.
    """
    registry = packaged_registry()
    contract, tokenized, cipher = Contract(registry, REGION), Tokenized(registry), FieldCipher(KEY)
    contract.check(event)
    made = Redactor(AUDIT_EVENT.text, registry, lambda _: KEY)(event)
    sent = tokenized(made, lambda path, text, _: cipher.encrypt(0, 0, made["event_id"], path, text.encode()).decode())
    contract.check(sent)
    for violation in RedactionCheck(registry)(sent):
        raise ContractError(violation.field, violation.problem)
    sealed = tokenized(made, lambda _, text, __: token_of(made["tenant"], text))
    contract.check(sealed)
    return sealed


def token_of(tenant: str, text: str) -> str:
    """The token of a text in the examples."""
    return SubjectKey(tenant, SUBJECT_KEY).token(text)


def as_json(event: Mapping[str, Any]) -> str:
    """An event as one readable JSON document."""
    document = _plain(event)
    if event["extension"] is not None:
        codec = packaged_registry().extensions[event["extension"]["schema"]]
        payload = _plain(codec.decode_body(event["extension"]["payload"]))
        document["extension"] = {"schema": codec.sha256.hex(), "payload": {full_name(codec.text): payload}}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def example_value(node: Node) -> Any:
    """A value of any type of the contract: leaves have their examples, lists one item; nothing is null."""
    if node.kind == "record":
        return {name: example_value(below) for name, below in node.fields}
    if node.items is not None:
        return [example_value(node.items)]
    return example_of(node)


def _put(event: dict[str, Any], path: str, value: object) -> None:
    *parents, last = path.split(".")
    place: Any = event
    for part in parents:
        inner = place.get(part)
        place = inner[0] if isinstance(inner, list) else inner
        if not isinstance(place, dict) or last not in place:
            raise ConfigError(f"event catalogue: {event['event_name']}: example: {path}: not a field that the example has")
    place[last] = value


def _extension(name: str) -> Codec:
    return next(codec for codec in packaged_registry().extensions.values() if full_name(codec.text) == name)


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, bytes):
        return str(UUID(bytes=value)) if name in _UUIDS else value.hex()
    if isinstance(value, Mapping):
        return {key: _plain(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, name) for item in value]
    return value
