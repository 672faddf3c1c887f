"""The classes of fields: what an event schema says about each of its leaves, read once into a tree.

    {"name": "id", "type": "string", "dataClass": "personal", "redact": "hash"}

Attributes of a leaf, beside Avro's own:

    dataClass     public | internal | personal | secret | content; every leaf has one
    redact        omit | mask | hash; on personal, secret and content leaves, and only there; a secret is omitted
    pattern       on public and internal text, and only there: the regular expression that the whole text matches,
                  so that free text is never public or internal
    clearPaths, clearValues   on a masked leaf beside a `path`: where, and which, values need no mask
    extension     true on the bytes that hold an extension's Avro body; they are classified by their own schema

`lint` refuses whatever breaks these rules, names the field and never a value. Types are kept to what a reader can
follow: unions only of null and one other, no maps (a key is a value that nobody classified), no recursion.

Not here: what is done with the tree; see `schemas.contract` (shape) and `schemas.redact` (redaction and its check).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import re2

from sealtrail.errors import ContractError

PRIMITIVES = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
_AVRO_ATTRIBUTES = frozenset({"name", "type", "doc", "default", "aliases", "order"})
_LEAF_ATTRIBUTES = frozenset({"dataClass", "redact", "pattern", "extension", "clearPaths", "clearValues"})
_NAME = re.compile(r"[a-z_]{1,64}")  # so that a path always fits redaction.fields' own pattern


class DataClass(StrEnum):
    """How sensitive a leaf is."""

    PUBLIC = "public"
    INTERNAL = "internal"
    PERSONAL = "personal"
    SECRET = "secret"  # a class of fields, not a password
    CONTENT = "content"


class Redact(StrEnum):
    """What redaction does to a leaf."""

    OMIT = "omit"
    MASK = "mask"
    HASH = "hash"
    TOKENIZE = "tokenize"


@dataclass(frozen=True, slots=True)
class Marks:
    """What the schema says of one leaf."""

    data_class: DataClass
    redact: Redact | None = None
    pattern: str | None = None
    clear_paths: frozenset[str] = frozenset()
    clear_values: str | None = None
    extension: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """One type at one place of a schema.

    Attributes:
        path: dotted names, `[]` for an array's items: `changes[].before`; "" for the schema itself.
        kind: an Avro type's name: `record`, `array`, `enum`, `fixed`, or a primitive.
        nullable: null is allowed as well.
        optional: a writer may leave it out; then it is null, or the schema's default.
        size: of a fixed, in bytes.
        marks: on leaves alone. An array of leaves carries its items' marks too.
    """

    path: str
    kind: str
    nullable: bool = False
    optional: bool = False
    size: int = 0
    symbols: frozenset[str] = frozenset()
    fields: tuple[tuple[str, Node], ...] = ()
    items: Node | None = None
    marks: Marks | None = None

    def leaves(self) -> Iterator[Node]:
        """Every leaf under this node, in the schema's order."""
        if self.kind == "record":
            for _, node in self.fields:
                yield from node.leaves()
        elif self.items is not None and self.items.kind == "record":
            yield from self.items.leaves()
        else:
            yield self


def field_tree(text: str) -> Node:
    """The tree of a schema's text, every rule checked.

    Raises:
        ContractError: with the field's path and the rule that it breaks.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ContractError("", "schema is not JSON") from None
    if not isinstance(document, dict) or document.get("type") != "record":
        raise ContractError("", "schema is not a record")
    return _Reader().node(document, "", {})


def lint(codec_text: str) -> None:
    """Refuse a schema that leaves a field unclassified or unprotected.

    Raises:
        ContractError: names the first such field.
    """
    field_tree(codec_text)


class _Reader:
    """Walks one schema; remembers its named types."""

    def __init__(self) -> None:
        self._named: dict[str, dict[str, object]] = {}
        self._open: list[str] = []

    def node(self, schema: object, path: str, field: dict[str, object]) -> Node:
        nullable = False
        if isinstance(schema, list):
            others = [branch for branch in schema if branch != "null"]
            if len(others) != 1 or len(schema) != 2:
                raise ContractError(path, "a union of anything but null and one other type")
            schema, nullable = others[0], True
        definition = self._resolve(schema, path)
        kind = cast("str", definition["type"])
        optional = "default" in field
        if kind == "record":
            return self._record(definition, path, field, nullable, optional)
        if kind == "array":
            items = self.node(definition.get("items"), f"{path}[]", {k: v for k, v in field.items() if k != "default"})
            if items.kind == "array":
                raise ContractError(path, "an array of arrays")
            return Node(path, "array", nullable, optional, items=items, marks=items.marks)
        marks = _marks(path, kind, nullable, field)
        size = definition.get("size", 0)
        symbols = definition.get("symbols", ())
        if not isinstance(size, int) or not isinstance(symbols, (list, tuple)):
            raise ContractError(path, "a malformed type")
        return Node(path, kind, nullable, optional, size=size, symbols=frozenset(map(str, symbols)), marks=marks)

    def _record(
        self, definition: dict[str, object], path: str, field: dict[str, object], nullable: bool, optional: bool
    ) -> Node:
        if _LEAF_ATTRIBUTES & field.keys():
            raise ContractError(path, "classified as a whole; classify its leaves")
        name = str(definition.get("name"))
        members = definition.get("fields")
        if name in self._open or not isinstance(members, list):
            raise ContractError(path, "a record that contains itself, or has no list of fields")
        self._open.append(name)
        fields = []
        for member in members:
            if not isinstance(member, dict) or not _NAME.fullmatch(str(member.get("name"))):
                raise ContractError(path, "a field whose name is not of a-z and _")
            below = f"{path}.{member['name']}" if path else str(member["name"])
            fields.append((str(member["name"]), self.node(member.get("type"), below, member)))
        self._open.pop()
        made = Node(path, "record", nullable, optional, fields=tuple(fields))
        _check_siblings(made)
        return made

    def _resolve(self, schema: object, path: str) -> dict[str, object]:
        """The definition of a type: a primitive, a complex one, or one that was named before."""
        if isinstance(schema, str):
            if schema in PRIMITIVES:
                return {"type": schema}
            if schema.rpartition(".")[2] in self._named:
                return self._named[schema.rpartition(".")[2]]
            raise ContractError(path, "a type that cannot be classified (null alone, map, or unknown)")
        if not isinstance(schema, dict):
            raise ContractError(path, "a malformed type")
        kind = schema.get("type")
        if kind in ("record", "fixed", "enum"):
            self._named[str(schema.get("name"))] = schema
        elif kind != "array" and kind not in PRIMITIVES:
            raise ContractError(path, "a type that cannot be classified (null alone, map, or unknown)")
        return schema


def _marks(path: str, kind: str, nullable: bool, field: dict[str, object]) -> Marks:
    """The marks of a leaf; every rule about a single leaf is checked here."""
    if set(field) - _AVRO_ATTRIBUTES - _LEAF_ATTRIBUTES:
        raise ContractError(path, "an attribute that is none of Avro's and none of the contract's")
    try:
        data_class = DataClass(str(field.get("dataClass")))
    except ValueError:
        raise ContractError(path, "not classified: dataClass is missing or unknown") from None
    redact = _redact(path, kind, nullable, data_class, field)
    pattern = field.get("pattern")
    extension = field.get("extension", False)
    if not isinstance(extension, bool) or (extension and (kind != "bytes" or path != "extension.payload")):
        raise ContractError(path, "extension marks the bytes of extension.payload alone")
    if redact is None and kind == "bytes" and not extension:
        raise ContractError(path, "bytes of any content are never public or internal")
    if redact is None and kind == "string" and pattern is None:
        raise ContractError(path, "free text is never public or internal: a pattern is missing")
    if pattern is not None and (redact is not None or kind != "string"):
        raise ContractError(path, "a pattern belongs on public and internal text alone")
    clear_paths, clear_values = field.get("clearPaths", []), field.get("clearValues")
    if bool(clear_paths) != (clear_values is not None) or (clear_paths and redact is not Redact.MASK):
        raise ContractError(path, "clearPaths and clearValues go together, on a masked leaf")
    if not isinstance(clear_paths, list) or not all(isinstance(p, str) for p in clear_paths):
        raise ContractError(path, "clearPaths is not a list of text")
    return Marks(data_class, redact, _pattern(path, pattern), frozenset(clear_paths), _pattern(path, clear_values), extension)


def _redact(path: str, kind: str, nullable: bool, data_class: DataClass, field: dict[str, object]) -> Redact | None:
    stated = field.get("redact")
    if data_class in (DataClass.PUBLIC, DataClass.INTERNAL):
        if stated is not None:
            raise ContractError(path, f"{data_class}, yet it names a redaction")
        return None
    try:
        redact = Redact(str(stated))
    except ValueError:
        raise ContractError(path, f"{data_class} without a redaction") from None
    if redact is Redact.TOKENIZE:
        raise ContractError(path, "tokenize does not exist yet; use hash, mask or omit")
    if data_class is DataClass.SECRET and redact is not Redact.OMIT:
        raise ContractError(path, "a secret is omitted, never masked or hashed")
    if redact is Redact.OMIT and not nullable and kind in ("enum", "fixed"):
        raise ContractError(path, "omit needs a type that can be empty")
    if redact is not Redact.OMIT and kind != "string":
        raise ContractError(path, f"{redact} is for text; use omit")
    return redact


def _pattern(path: str, pattern: object) -> str | None:
    """The pattern, if RE2 accepts it: nothing that could take more than linear time by a look-around or a reference."""
    if pattern is None:
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(str(pattern), options)
        re.compile(str(pattern))
    except (re2.error, re.error):
        raise ContractError(path, "a pattern that is not a regular expression of RE2") from None
    return str(pattern)


def _check_siblings(record: Node) -> None:
    """A leaf with clearPaths stands beside the `path` that they speak of."""
    names = dict(record.fields)
    for _, node in record.fields:
        if node.marks is not None and node.marks.clear_paths and ("path" not in names or names["path"].kind != "string"):
            raise ContractError(node.path, "clearPaths without a path beside it")
