"""Is this event one that the contract admits? Asked by the emitter before it numbers, and again by the sealer.

1. Shape: every field of its type, nothing missing, nothing that the schema does not know, text that UTF-8 can carry.
2. Patterns: public and internal text matches its pattern; any text is at most 8 KiB.
3. Rules that a schema cannot state: RULES, by path; and those across fields, in `Contract.check`.
4. Extension: registered, strictly decoded, checked by 1 and 2 under its own schema.
5. Size: at most 1 MiB encoded.

Compiled from the schema into closures once. A refusal names the field and the rule, never the value; the name of a key
that the schema does not know is not repeated either.

Not here: whether values are redacted (`schemas.redact`), who may state what (`schemas.policy`), who spoke.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

from schemas.fields import Node, field_tree
from schemas.registry import AUDIT_EVENT, Registry
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.errors import ContractError, EvidenceError
from sealtrail.session import RUN_SESSION, RUN_STATEMENT

MAX_TEXT_BYTES = 8192
MAX_EVENT_BYTES = 1 << 20  # with the single-object header
EARLIEST_US = 946_684_800_000_000  # 2000-01-01: before it a clock was not set
LATEST_US = 7_258_118_400_000_000  # 2200-01-01
OPEN = "emitter.open"
_WRAPPED_KEY_BYTES = 80  # HPKE of 32 bytes: 32 of encapsulation, 16 of tag
FLOAT_MAX = 3.4028234663852886e38  # of 32 bits (IEEE 754)
_VARINT = 10  # bytes that a long takes at most

_Check = Callable[[Any], int]  # raises ContractError; returns an upper bound of the encoded size, in bytes
_Rule = Callable[[Any], str | None]  # what is wrong with a value of the right type, or None


def uuid7(value: bytes) -> str | None:
    """RFC 9562 §5.7: version 7, variant 10."""
    return None if len(value) == 16 and value[6] >> 4 == 7 and value[8] >> 6 == 2 else "not a UUIDv7"


def _not_negative(value: int) -> str | None:
    return None if value >= 0 else "negative"


def _counted_from_one(value: int) -> str | None:
    return None if value >= 1 else "less than 1"


def _plausible(value: int) -> str | None:
    return None if EARLIEST_US <= value < LATEST_US else "not between the years 2000 and 2200"


def _trace_context(value: str) -> str | None:
    """W3C Trace Context §3.2.2: ids of zeros alone are invalid."""
    return "an id of zeros alone" if value[3:35] == "0" * 32 or value[36:52] == "0" * 16 else None


RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        "event_id": uuid7,
        "emitter.epoch": uuid7,
        "emitter.seq": _not_negative,
        "occurred_at": _plausible,
        "traceparent": _trace_context,
        "causation_id": uuid7,
        "retry.original_event_id": uuid7,
        "retry.attempt": _counted_from_one,
        "delivery.attempts[].number": _counted_from_one,
        "delivery.attempts[].at": _plausible,
        "message.recipient_count": _not_negative,
        "audience.count": _not_negative,
        "content_ref.size": _not_negative,
    }
)


# Of the rules on numbers, what they let through, both included: for whoever asks without calling.
RANGES: Mapping[_Rule, tuple[int, int]] = MappingProxyType(
    {
        _not_negative: (0, (1 << 63) - 1),
        _counted_from_one: (1, (1 << 63) - 1),
        _plausible: (EARLIEST_US, LATEST_US - 1),
    }
)


class Contract:
    """Checks events of one schema. Any thread may call.

    Args:
        registry: whose extensions are admitted.
        region: the one region whose events are admitted; None admits any.
        event: the schema that the events are written with.
    """

    def __init__(self, registry: Registry, region: str | None = None, event: Codec = AUDIT_EVENT) -> None:
        self._registry = registry
        self._region = region
        self._codec = event
        self._event = _record(field_tree(event.text), "", RULES)
        self._extensions = {
            digest: _record(field_tree(codec.text), "extension.payload.", {})
            for digest, codec in registry.extensions.items()
            if digest not in registry.unclassified
        }
        self._admitted: tuple[bytes, bytes] | None = None  # the last extension that `extension` made: checked already

    def check(self, event: Mapping[str, object]) -> None:
        """Return if the event keeps the contract.

        Raises:
            ContractError: names the first field that does not. `field` is "region" for an event of another region.
        """
        bound = HEADER_SIZE + self._event(event)
        if self._region is not None and event["region"] != self._region:
            raise ContractError("region", "not the region of this deployment")
        self._across(event)
        if bound > MAX_EVENT_BYTES:
            size = len(self._codec.encode(event))
            if size > MAX_EVENT_BYTES:
                raise ContractError("", f"too large: {size} bytes encoded, at most {MAX_EVENT_BYTES}")

    def extension(self, schema: object, value: object) -> dict[str, object]:
        """The field `extension` for the value of a connector's own record. Any thread may call.

        Raises:
            ContractError: not registered, or the value breaks its schema; names the field.
        """
        if not isinstance(schema, bytes):
            raise ContractError("extension.schema", "not bytes")
        check = self._extensions.get(schema)
        if check is None:
            raise ContractError("extension.schema", "not a registered extension")
        check(value)
        payload = self._registry.extension_payload(schema, cast("dict[str, Any]", value))
        self._admitted = (schema, payload)
        return {"schema": schema, "payload": payload}

    def _across(self, event: Mapping[str, Any]) -> None:
        actor = event["actor"]
        if not actor["id"] and actor["kind"] != "SYSTEM":
            raise ContractError("actor.id", "empty, and the actor is not SYSTEM")
        redaction = event["redaction"]
        if redaction["fields"] and redaction["status"] == "NONE":
            raise ContractError("redaction.status", "NONE, yet fields are named")
        extension = event.get("extension")
        if (event["event_name"] == OPEN) != (extension is not None and extension["schema"] == RUN_SESSION.sha256):
            raise ContractError("extension", f"{OPEN} carries a run's session, and nothing else does")
        if extension is not None:
            schema, payload = extension["schema"], extension["payload"]
            if self._admitted == (schema, payload):
                return
            value = self._registry.extension_value(schema, payload)
            check = self._extensions.get(schema)
            if check is not None:
                check(value)
            else:
                _check_session(value, event["emitter"])


def problem_of(leaf: Node, value: object, *, of_event: bool) -> str | None:
    """What is wrong with a value of one leaf (of an array: with one of its items) by shape, pattern and rules, or None.

    Args:
        of_event: the leaf is the event's own, so RULES hold; an extension has none.
    """
    node = leaf.items if leaf.items is not None else leaf
    try:
        _compile(node, "", RULES if of_event else {})(value)
    except ContractError as error:
        return error.problem
    return None


def _check_session(session: Mapping[str, Any], emitter: Mapping[str, Any]) -> None:
    """A run's session holds nothing but itself: a strict statement of this emitter, and a key of the one size.

    Signature, epoch, audience and keys are for authentication to check, against the record's header.
    """
    try:
        statement = RUN_STATEMENT.decode_body(session["statement"])
    except EvidenceError:
        raise ContractError("extension.payload.statement", "not the canonical encoding of a run's statement") from None
    if (statement["source"], statement["instance"]) != (emitter["source"], emitter["instance"]):
        raise ContractError("extension.payload.statement", "speaks of another emitter")
    if len(session["wrapped_key"]) != _WRAPPED_KEY_BYTES:
        raise ContractError("extension.payload.wrapped_key", f"not {_WRAPPED_KEY_BYTES} bytes")


def _compile(node: Node, prefix: str, rules: Mapping[str, _Rule]) -> _Check:
    path = prefix + node.path
    if node.kind == "record":
        return _record(node, prefix, rules)
    if node.kind == "array" and node.items is not None:
        return _array(path, _compile(node.items, prefix, rules), node.items.nullable)
    check = _leaf(node, path)
    rule = rules.get(path)
    return check if rule is None else _ruled(path, check, rule)


def _record(node: Node, prefix: str, rules: Mapping[str, _Rule]) -> _Check:
    path = (prefix + node.path).rstrip(".")
    members = {name: (_compile(below, prefix, rules), below.nullable, not below.optional) for name, below in node.fields}
    base = 1 + sum(1 if below.nullable else MAX_TEXT_BYTES for _, below in node.fields if below.optional)  # those left out
    required = sum(needed for _, _, needed in members.values())
    find = members.get

    def check_record(value: Any) -> int:
        if not isinstance(value, dict):
            raise ContractError(path, "not a record")
        bound = base
        missing = required
        unknown = 0
        for name, item in value.items():  # what is there, not what could be: most fields of most events are unset
            member = find(name)
            if member is None:
                unknown += 1
                continue
            check, nullable, needed = member
            missing -= needed
            bound += 1 if item is None and nullable else check(item) + 1
        if missing:
            first = next(name for name, (_, _, needed) in members.items() if needed and name not in value)
            raise ContractError(f"{path}.{first}" if path else first, "missing")
        if unknown:
            raise ContractError(path, f"{unknown} keys that the schema does not know")
        return bound

    return check_record


def _array(path: str, check: _Check, nullable: bool) -> _Check:
    def check_array(value: Any) -> int:
        if not isinstance(value, (list, tuple)):
            raise ContractError(path, "not a list")
        bound = 2 * _VARINT
        for item in value:
            bound += 1 + (1 if item is None and nullable else check(item))
        return bound

    return check_array


def _ruled(path: str, check: _Check, rule: _Rule) -> _Check:
    def check_ruled(value: Any) -> int:
        bound = check(value)
        problem = rule(value)
        if problem is not None:
            raise ContractError(path, problem)
        return bound

    return check_ruled


def _leaf(node: Node, path: str) -> _Check:
    if node.kind == "string":
        return _text(path, node.marks.pattern if node.marks is not None else None)
    if node.kind == "enum":
        return _symbol(path, node.symbols)
    if node.kind in ("int", "long"):
        return _integer(path, 31 if node.kind == "int" else 63)
    if node.kind in ("bytes", "fixed"):
        return _octets(path, node.size if node.kind == "fixed" else None)
    if node.kind == "boolean":
        return _boolean(path)
    return _number(path, FLOAT_MAX if node.kind == "float" else sys.float_info.max)


def _text(path: str, pattern: str | None) -> _Check:
    fullmatch = None if pattern is None else re.compile(pattern).fullmatch

    def check_text(value: Any) -> int:
        if not isinstance(value, str):
            raise ContractError(path, "not text")
        size = len(value)
        if not value.isascii():
            try:
                size = len(value.encode())
            except UnicodeEncodeError:
                raise ContractError(path, "text that UTF-8 cannot carry") from None  # the cause would show the value
        if size > MAX_TEXT_BYTES:
            raise ContractError(path, f"{size} bytes of text; at most {MAX_TEXT_BYTES}")
        if fullmatch is not None and fullmatch(value) is None:
            raise ContractError(path, "does not match the field's pattern")
        return size + 2

    return check_text


def _symbol(path: str, symbols: frozenset[str]) -> _Check:
    def check_symbol(value: Any) -> int:
        if not isinstance(value, str) or value not in symbols:
            raise ContractError(path, "not one of the field's symbols")
        return 2

    return check_symbol


def _integer(path: str, bits: int) -> _Check:
    low, high = -(1 << bits), (1 << bits) - 1

    def check_integer(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ContractError(path, f"not an integer of {bits + 1} bits")
        return _VARINT

    return check_integer


def _octets(path: str, size: int | None) -> _Check:
    def check_octets(value: Any) -> int:
        if not isinstance(value, bytes):
            raise ContractError(path, "not bytes")
        if size is not None and len(value) != size:
            raise ContractError(path, f"{len(value)} bytes; expected {size}")
        return len(value) + _VARINT

    return check_octets


def _boolean(path: str) -> _Check:
    def check_boolean(value: Any) -> int:
        if not isinstance(value, bool):
            raise ContractError(path, "neither true nor false")
        return 1

    return check_boolean


def _number(path: str, most: float) -> _Check:
    def check_number(value: Any) -> int:
        if not isinstance(value, float) or not abs(value) <= most:
            raise ContractError(path, "not a finite number of its type")
        return 8

    return check_number
