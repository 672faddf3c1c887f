"""From JSON to a draft as `AuditProducer.emit` takes it, by the schema's own names.

    in JSON                                        in the draft
    "0a1b…", hexadecimal; of 16 bytes also a UUID  bytes and fixed
    "2026-11-28T09:00:00.25+01:00", or an integer  times: microseconds (milliseconds, where the schema has these) since 1970
    2                                              2.0, where the schema has a double or float
    {"schema": "<full name>", "value": {…}}        an extension: of the registered record of that name, as it is written now

Everything else passes as it is: whether it is right is the contract's to say, and it names what the schema does not know.
Compiled once. Pure; no message repeats a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from schemas.evolution.released import full_name
from schemas.fields import Node, field_tree
from schemas.registry import AUDIT_EVENT, Registry
from sealtrail.errors import ContractError

_Convert = Callable[[object], object]

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_US = {"timestamp-micros": 1, "timestamp-millis": 1000}
_EXACT = 1 << 53  # integers up to here are doubles
_LARGEST_FLOAT = 3.4028234663852886e38
_NOT_THE_CALLERS = ("event_id", "emitter", "region", "redaction")  # the emitter refuses them by name


class DraftReader:
    """Callable: one event as parsed JSON to a draft. Any thread may call.

    Args:
        registry: whose extensions may be stated.

    Raises:
        ContractError: names the field, never its value.
    """

    def __init__(self, registry: Registry) -> None:
        tree = field_tree(AUDIT_EVENT.text)
        self._fields = {
            name: made
            for name, node in tree.fields
            if name not in (*_NOT_THE_CALLERS, "extension") and (made := _converter(node, name))
        }
        self._fields["extension"] = self._extension
        self._extensions: dict[str, tuple[bytes, _Convert | None]] = {}
        for digest, codec in registry.extensions.items():
            if digest not in registry.unclassified:  # what is written now comes before its released versions
                made = _record(field_tree(codec.text), "extension.payload.")
                self._extensions.setdefault(full_name(codec.text), (digest, made))

    def __call__(self, item: object) -> dict[str, object]:
        if isinstance(item, ContractError):
            raise item
        if not isinstance(item, dict):
            raise ContractError("", "not an object")
        return _converted(item, self._fields)

    def _extension(self, given: object) -> object:
        if not isinstance(given, dict) or given.keys() != {"schema", "value"}:
            raise ContractError("extension", "expected schema and value, and nothing else")
        known = self._extensions.get(given["schema"]) if isinstance(given["schema"], str) else None
        if known is None:
            raise ContractError("extension.schema", "not the full name of a registered extension")
        digest, convert = known
        return {"schema": digest, "value": convert(given["value"]) if convert else given["value"]}


def _converted(item: Mapping[str, object], fields: Mapping[str, _Convert]) -> dict[str, object]:
    return {name: fields[name](value) if name in fields and value is not None else value for name, value in item.items()}


def _converter(node: Node, path: str) -> _Convert | None:
    """What turns JSON into this node's value; None if JSON's own is that."""
    if node.kind == "record":
        return _record(node, f"{path}.")
    if node.kind == "array" and node.items is not None:
        return _array(_converter(node.items, f"{path}[]"))
    if node.kind in ("bytes", "fixed"):
        return _octets(path, node.size)
    if node.logical in _UNITS_US:
        return _time(path, _UNITS_US[node.logical])
    if node.kind in ("double", "float"):
        return _number(path, _LARGEST_FLOAT if node.kind == "float" else None)
    return None


def _record(node: Node, prefix: str) -> _Convert | None:
    fields = {name: made for name, below in node.fields if (made := _converter(below, prefix + name))}
    return (lambda value: _converted(value, fields) if isinstance(value, dict) else value) if fields else None


def _array(item: _Convert | None) -> _Convert | None:
    if item is None:
        return None
    return lambda value: [None if below is None else item(below) for below in value] if isinstance(value, list) else value


def _octets(path: str, size: int) -> _Convert:
    def read(value: object) -> bytes:
        if isinstance(value, str):
            if size == 16 and _UUID.fullmatch(value):
                return bytes.fromhex(value.replace("-", ""))
            if _HEX.fullmatch(value):
                return bytes.fromhex(value)
        raise ContractError(path, "not hexadecimal digits")

    return read


def _time(path: str, unit_us: int) -> _Convert:
    def read(value: object) -> object:
        if not isinstance(value, str):
            return value
        matched = _TIME.fullmatch(value)
        if matched is None:
            raise ContractError(path, "not a time as RFC 3339 writes it")
        day, clock, fraction, zone = matched.groups()
        if zone is None:
            raise ContractError(path, "a time without a zone")
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}")
            seconds = (moment - _EPOCH) // timedelta(seconds=1)
        except (ValueError, OverflowError):
            raise ContractError(path, "not a time as RFC 3339 writes it") from None
        micros = int((fraction or "").ljust(6, "0")[:6])  # what is finer than the schema's unit is cut off
        return (seconds * 1_000_000 + micros) // unit_us

    return read


def _number(path: str, largest: float | None) -> _Convert:
    def read(value: object) -> object:
        if type(value) is int and abs(value) <= _EXACT:
            value = float(value)
        if largest is not None and isinstance(value, float) and abs(value) > largest:
            raise ContractError(path, "a number beyond its type")
        return value

    return read
