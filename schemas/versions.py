"""An older version of the event, as the sealer goes over it: laid out as it was written, classified as the event is now.

Every event is checked by the current schema, whichever version its connector has. So the locator of an older version asks of
its fields what the current one says of them. That is so where the older differs in nothing but fields that it lacks and that
the current one does without; of any other, events go through the steps, which are the oracle.

Not here: which versions there are (`schemas.evolution.released`), and how they may differ (`schemas.evolution.changes`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from schemas.contract import MAX_EVENT_BYTES
from schemas.fields import PRIMITIVES
from schemas.locator import ASKED, PICKED
from schemas.registry import Registry
from sealtrail.avro import Codec
from sealtrail.errors import SealtrailError

UNFIT = (SealtrailError, ValueError, LookupError)  # what a version raises of which there is no locator

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Version:
    """What a locator is made for.

    Attributes:
        event: its layout, and the current schema's word on each of its fields. Its header is that of the version.
        most: bytes of an event that, with what it lacks, is not too large as the current schema has it.
    """

    event: Codec
    most: int = MAX_EVENT_BYTES


def versions(registry: Registry) -> Iterator[Version]:
    """Those that are known and can be located, the current one first."""
    current, *older = registry.by_header.values()
    yield Version(current)
    for codec in older:
        try:
            yield version(codec, current)
        except UNFIT as error:
            _log.warning("events of an older version go through the steps", schema=codec.sha256.hex(), problem=str(error))


def version(older: Codec, current: Codec) -> Version:
    """The older schema with the current one's word on its fields. Raises ValueError: where they differ in more than that."""
    merge = _Merge()
    merged = Codec(json.dumps(merge.record(json.loads(older.text), json.loads(current.text), "")))
    if merged.header != older.header:
        raise ValueError("another layout")
    # What is lacking takes a byte each; and each item of an array, of a byte at least, may lack all that is lacking anywhere.
    return Version(merged, MAX_EVENT_BYTES // (1 + merge.lacking))


class _Merge:
    """One walk through both. `lacking`: how many fields the older has not."""

    def __init__(self) -> None:
        self.lacking = 0
        self._old: dict[str, dict[str, Any]] = {}
        self._now: dict[str, dict[str, Any]] = {}
        self._merged: dict[str, str] = {}  # names of types: of the older, of the current one

    def record(self, old: dict[str, Any], now: dict[str, Any], path: str) -> dict[str, Any]:
        """Fields in the older's order, which must be the current one's."""
        current = iter(now["fields"])
        fields = []
        for field in old["fields"]:
            where = f"{path}.{field['name']}".lstrip(".")
            for other in current:
                if other["name"] == field["name"]:
                    break
                self._lacks(other, path)
            else:
                raise ValueError(f"{where}: not there now, or elsewhere")
            fields.append({**other, "type": self._type(field["type"], other["type"], where)})
        for other in current:
            self._lacks(other, path)
        return {**old, "fields": fields}

    def _lacks(self, field: dict[str, Any], path: str) -> None:
        where = f"{path}.{field['name']}".lstrip(".")
        if field.get("default", ...) not in (None, []):
            raise ValueError(f"{where}: lacking, and null or [] does not do for it")
        if any(needed == where or needed.startswith(f"{where}.") for needed in (*PICKED, *ASKED)):
            raise ValueError(f"{where}: lacking, and sealing needs it")
        _define(field["type"], self._now)
        self.lacking += 1

    def _type(self, old: Any, now: Any, path: str) -> Any:
        if isinstance(old, list):
            if not isinstance(now, list) or len(old) != len(now) or old.index("null") != now.index("null"):
                raise ValueError(f"{path}: another union")
            return [one if one == "null" else self._type(one, other, path) for one, other in zip(old, now, strict=True)]
        before, after = _define(old, self._old), _define(now, self._now)
        kind = before["type"]
        if kind != after["type"]:
            raise ValueError(f"{path}: another type")
        if kind in PRIMITIVES:
            return old
        if kind == "array":
            return {**before, "items": self._type(before["items"], after["items"], f"{path}[]")}
        name = str(before["name"])
        if name in self._merged:
            if self._merged[name] != after["name"]:
                raise ValueError(f"{path}: another type")
            return name
        self._merged[name] = after["name"]
        return self._named(before, after, path)

    def _named(self, before: dict[str, Any], after: dict[str, Any], path: str) -> dict[str, Any]:
        if before["type"] == "record":
            return self.record(before, after, path)
        if before["type"] == "enum":
            if before["symbols"] != after["symbols"][: len(before["symbols"])]:
                raise ValueError(f"{path}: other symbols")
            return before
        if before["type"] == "fixed" and before["size"] == after["size"]:
            return before
        raise ValueError(f"{path}: another type")


def _define(schema: Any, named: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The definition of a type, by name or in place, remembered from its first use on."""
    if isinstance(schema, str):
        return {"type": schema} if schema in PRIMITIVES else named[schema.rpartition(".")[2]]
    if isinstance(schema, list):
        for branch in schema:
            if branch != "null":
                _define(branch, named)
        return {"type": "union"}
    if "name" in schema:
        named[schema["name"].rpartition(".")[2]] = schema
    if schema["type"] == "array":
        _define(schema["items"], named)
    for field in schema.get("fields", ()):
        _define(field["type"], named)
    return dict(schema)
