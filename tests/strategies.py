"""The one file of Hypothesis strategies: events and extensions of the contract, and the encodings that Avro allows.

Events are drawn from the schema itself, so a new field is covered without a line here. All are well-formed and not yet
redacted: `Contract.check` accepts them, `RedactionCheck` may not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from hypothesis import strategies as st

from producers.spool import RawRecord
from schemas.contract import EARLIEST_US, LATEST_US, OPEN
from schemas.fields import Node, field_tree
from schemas.registry import AUDIT_EVENT, packaged_registry
from sealtrail.avro import Codec, without_logical_types

Event = dict[str, Any]

GITHUB = next(c for c in packaged_registry().extensions.values() if '"GithubEvent"' in c.text)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@st.composite
def uuid7s(draw: st.DrawFn) -> bytes:
    """16 bytes with the version and variant of RFC 9562's UUIDv7."""
    raw = bytearray(draw(st.binary(min_size=16, max_size=16)))
    raw[6] = raw[6] & 0x0F | 0x70
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


_times = st.integers(EARLIEST_US, LATEST_US - 1)
_SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "event_id": uuid7s(),
    "event_name": st.from_regex(r"[a-z]{1,8}\.[a-z_]{1,12}", fullmatch=True).filter(lambda name: name != OPEN),
    "emitter.epoch": uuid7s(),
    "emitter.seq": st.integers(0, 2**63 - 1),
    "occurred_at": _times,
    "causation_id": uuid7s(),
    "retry.original_event_id": uuid7s(),
    "retry.attempt": st.integers(1, 2**31 - 1),
    "delivery.attempts[].number": st.integers(1, 2**31 - 1),
    "delivery.attempts[].at": _times,
    "message.recipient_count": st.integers(0, 2**31 - 1),
    "audience.count": st.integers(0, 2**31 - 1),
    "content_ref.size": st.integers(0, 2**63 - 1),
    "traceparent": st.from_regex(r"00-[0-9a-e]{31}f-[0-9a-e]{15}f-[0-9a-f]{2}", fullmatch=True),
    "actor.id": texts.filter(bool),
    "redaction": st.just({"status": "NONE", "policy": "v1", "fields": []}),
    "extension": st.none(),
}


def values(node: Node, special: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Values of one node of a schema's tree."""
    found = special.get(node.path)
    if found is None:
        found = _values(node, special)
    return st.none() | found if node.nullable else found


def _values(node: Node, special: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    if node.kind == "record":
        return st.fixed_dictionaries({name: values(below, special) for name, below in node.fields})
    if node.kind == "array":
        assert node.items is not None
        return st.lists(values(node.items, special), max_size=3)
    if node.kind == "string":
        pattern = node.marks.pattern if node.marks is not None else None
        return texts if pattern is None else _matching(pattern)
    simple: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
        "boolean": st.booleans,
        "int": lambda: st.integers(-(2**31), 2**31 - 1),
        "long": lambda: st.integers(-(2**63), 2**63 - 1),
        "double": lambda: st.floats(allow_nan=False, allow_infinity=False),
        "float": lambda: st.floats(allow_nan=False, allow_infinity=False, width=32),
        "bytes": lambda: st.binary(max_size=40),
        "fixed": lambda: st.binary(min_size=node.size, max_size=node.size),
        "enum": lambda: st.sampled_from(sorted(node.symbols)),
    }
    return simple[node.kind]()


_NAMES = st.text("abz09._-", max_size=20).map(lambda tail: "n" + tail)
_OPAQUE = st.text("!/=?AZaz09~", min_size=1, max_size=20)
_FAST = {"^[a-z0-9][a-z0-9._-]{0,127}$": _NAMES, "^[!-?A-~]{1,256}$": _OPAQUE}  # the two that are everywhere


@cache
def _matching(pattern: str) -> st.SearchStrategy[str]:
    """Texts that match a schema's pattern; a trailing newline, which `$` would let through, never."""
    found = _FAST.get(pattern)
    return found if found is not None else st.from_regex(pattern.removesuffix("$") + r"\Z", fullmatch=True)


@cache
def github_extensions() -> st.SearchStrategy[Event]:
    """Values of the github extension."""
    return values(field_tree(GITHUB.text), {})


@cache
def _plain_events() -> st.SearchStrategy[Event]:
    return values(field_tree(AUDIT_EVENT.text), _SPECIAL)


@st.composite
def events(draw: st.DrawFn, extension: bool | None = None) -> Event:
    """Complete, well-formed, unredacted events; with a github extension, without (False), or either (None)."""
    event = draw(_plain_events())
    if extension or (extension is None and draw(st.booleans())):
        value = draw(github_extensions())
        event["extension"] = {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(value)}
    return event


def minimal_event(**fields: object) -> Event:
    """The smallest event that the contract admits, with these fields over it. Not drawn: for tables."""
    event: Event = {f["name"]: f.get("default") for f in json.loads(AUDIT_EVENT.text)["fields"]}
    event |= {
        "event_id": bytes.fromhex("019aaaaaaaaa7000800000000000000a"),
        "event_name": "github.push",
        "tenant": "acme",
        "emitter": {
            "source": "github",
            "instance": "a",
            "epoch": bytes.fromhex("019aaaaaaaaa7000800000000000000b"),
            "seq": 0,
        },
        "region": "eu-central",
        "event_type": "OTHER",
        "occurred_at": 1_795_000_000_000_000,
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "redaction": {"status": "NONE", "policy": "v1", "fields": []},
        "changes": [],
        "actor": {"kind": "USER", "id": "alice@example.com", "display": None, "login": None},
    }
    return event | fields


@st.composite
def encodings(draw: st.DrawFn, codec: Codec, value: object) -> bytes:
    """A body that decodes to `value`, among all that Avro's specification allows: long varints, any blocks.

    The canonical one is `codec.encode_body(value)`; this draws that or another.
    """
    schema = without_logical_types(json.loads(codec.text))
    return _Encoder(draw, dict(_named(schema))).encode(schema, value)


def _named(schema: Any) -> Iterator[tuple[str, Any]]:
    """The named types anywhere in a schema, by name."""
    if isinstance(schema, dict):
        if schema.get("type") in ("record", "enum", "fixed"):
            yield schema["name"], schema
        for part in schema.values():
            yield from _named(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _named(part)


class _Encoder:
    """Avro 1.11 "Binary Encoding", with its freedoms drawn."""

    def __init__(self, draw: st.DrawFn, named: dict[str, Any]) -> None:
        self._draw = draw
        self._named = named

    def encode(self, schema: Any, value: Any) -> bytes:
        if isinstance(schema, str) and schema in self._named:
            schema = self._named[schema]
        kind = schema if isinstance(schema, str) else schema["type"] if isinstance(schema, dict) else "union"
        match kind:
            case "union":
                index = 0 if value is None else 1
                return self._long(index) + (b"" if value is None else self.encode(schema[1], value))
            case "record":
                return b"".join(self.encode(f["type"], value[f["name"]]) for f in schema["fields"])
            case "array":
                return self._blocks(schema["items"], value)
            case "enum":
                return self._long(schema["symbols"].index(value))
            case "string":
                return self._long(len(value.encode())) + bytes(value.encode())
            case "bytes":
                return self._long(len(value)) + bytes(value)
            case "fixed":
                return bytes(value)
            case "boolean":
                return bytes([value])
            case "int" | "long":
                return self._long(value)
        raise AssertionError(f"no encoding for {kind}")

    def _blocks(self, items: Any, values: list[Any]) -> bytes:
        out = b""
        rest = list(values)
        while rest:
            count = self._draw(st.integers(1, len(rest)))
            block, rest = b"".join(self.encode(items, item) for item in rest[:count]), rest[count:]
            sized = self._draw(st.booleans())
            out += self._long(-count) + self._long(len(block)) + block if sized else self._long(count) + block
        return out + self._long(0)

    def _long(self, value: int) -> bytes:
        zigzag = (value << 1) ^ (value >> 63)
        zigzag &= (1 << 64) - 1
        groups = [zigzag & 0x7F]
        while zigzag := zigzag >> 7:
            groups.append(zigzag & 0x7F)
        if len(groups) < 9 and self._draw(st.integers(0, 30)) == 0:
            groups.append(0)  # over-long: one group more than needed
        return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


# -- schemas: versions of one record within the contract's subset

_MARKS: dict[str, dict[str, Any]] = {
    "string": {"dataClass": "internal", "pattern": "^[a-z]*$"},
    "bytes": {"dataClass": "content", "redact": "omit"},
}
_PLAIN_DEFAULTS: dict[str, Any] = {"int": 0, "long": 1, "boolean": False, "string": "none", "double": 0.5, "float": 0.25}
_FIELD_NAMES = ("alpha", "beta", "gamma", "delta")


@st.composite
def _types(draw: st.DrawFn, path: str, depth: int) -> tuple[str, Any]:
    """A kind and its Avro type. Named types are named for their place, with a variant, so that names meet and differ."""
    kinds = ["int", "long", "float", "double", "boolean", "string", "bytes", "enum", "fixed", "array"]
    kind = draw(st.sampled_from([*kinds, "record"] if depth else kinds))
    name = path.title().replace("_", "") + draw(st.sampled_from(["", "", "", "Other"]))
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from(["A", "B", "C"]), min_size=1, unique=True))
        default = draw(st.sampled_from([{}, {"default": symbols[0]}]))
        return kind, {"type": "enum", "name": f"{name}Enum", "symbols": symbols, **default}
    if kind == "fixed":
        return kind, {"type": "fixed", "name": f"{name}Fixed", "size": draw(st.integers(1, 2))}
    if kind == "array":
        below, items = draw(_types(f"{path}_item", depth).filter(lambda made: not made[0].startswith("array")))
        return f"array of {below}", {"type": "array", "items": items}
    if kind == "record":
        return kind, {"type": "record", "name": f"{name}Record", "fields": draw(_fields(path, depth - 1))}
    return kind, kind


@st.composite
def _fields(draw: st.DrawFn, prefix: str, depth: int) -> list[dict[str, Any]]:
    made = []
    for name in draw(st.lists(st.sampled_from(_FIELD_NAMES), min_size=1, max_size=4, unique=True)):
        kind, avro_type = draw(_types(f"{prefix}_{name}", depth))
        nullable = draw(st.booleans())
        field: dict[str, Any] = {"name": name, "type": ["null", avro_type] if nullable else avro_type}
        leaf = kind.removeprefix("array of ")
        if leaf != "record":
            field |= _MARKS.get(leaf, {"dataClass": "public"})
        if draw(st.booleans()):
            if nullable:
                field["default"] = None
            elif kind.startswith("array"):
                field["default"] = []
            elif kind in _PLAIN_DEFAULTS:
                field["default"] = _PLAIN_DEFAULTS[kind]
        made.append(field)
    return made


@st.composite
def _edited(draw: st.DrawFn, fields: list[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """The fields with some left out, put elsewhere, or drawn anew: close enough to what was to be compatible at times."""
    drawn = {field["name"]: field for field in draw(_fields(prefix, 1))}
    kept = [drawn.pop(field["name"], field) if draw(st.integers(0, 3)) == 0 else field for field in fields]
    kept = [field for field in kept if draw(st.integers(0, 5)) > 0]
    more = [field for name, field in drawn.items() if name not in {f["name"] for f in fields}]
    return draw(st.permutations([*kept, *more[:1]])) or fields


@st.composite
def schema_pairs(draw: st.DrawFn) -> tuple[str, str]:
    """Two texts of one record's schema: unrelated at times, mostly the second an edit of the first."""
    fields = draw(_fields("top", 1))
    others = draw(st.one_of(_edited(fields, "top"), _edited(fields, "top"), _fields("top", 1)))
    head = {"type": "record", "name": "Thing", "namespace": "io.sealtrail.thing.v1"}
    return json.dumps({**head, "fields": fields}), json.dumps({**head, "fields": others})


def values_of(text: str) -> st.SearchStrategy[Event]:
    """Values of any schema of the subset, extensions' payloads aside."""
    return values(field_tree(text), {})


# -- the spool

spooled = st.builds(RawRecord, st.binary(max_size=60), st.lists(st.tuples(texts, st.binary(max_size=9)), max_size=4).map(tuple))
