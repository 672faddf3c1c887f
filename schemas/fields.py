"""The classes of fields: what an event schema says about each of its leaves, read once into a tree.

    {"name": "id", "type": "string", "dataClass": "personal", "redact": "hash"}

Attributes of a leaf, beside Avro's own:

    dataClass     public | internal | personal | secret | content; every leaf has one
    redact        omit | mask | hash | tokenize; on personal, secret and content leaves, and only there; a secret is omitted
    subjectField  on a tokenised leaf: the text that says which person its value is about, so under whose key its token is
                  made: a field of the same record, the leaf itself included; or, with a dot, a path from the event's
                  root through records alone, in extensions too (`actor.id`). Without it: the tenant's residual subject
    pattern       on public and internal text, and only there: the regular expression that the whole text matches,
                  so that free text is never public or internal
    clearPaths, clearValues   on a masked leaf beside a `path`: where, and which, values need no mask
    extension     true on the bytes that hold an extension's Avro body; they are classified by their own schema
    example       a synthetic value, as the application would state it; fixed and bytes in hexadecimal, of an array one item

and of an enum's definition `symbolDocs`, what each symbol means. `lint` refuses whatever breaks a rule of protection, and
`violations` names them all; neither repeats a value. Types are kept to what a reader can
follow: unions only of null and one other, no maps (a key is a value that nobody classified), no recursion.

Not here: what is done with the tree; see `schemas.contract` (shape) and `schemas.redact` (redaction and its check). That
names follow the house's form and that doc and example are there is `schemas.evolution.linting`'s to ask: a process may run
without them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar, cast

import re2

from sealtrail.errors import ContractError

PRIMITIVES = frozenset({"boolean", "int", "long", "float", "double", "string", "bytes"})
_AVRO_ATTRIBUTES = frozenset({"name", "type", "doc", "default", "order"})  # no aliases: a released name stays
_LEAF_ATTRIBUTES = frozenset(
    {"dataClass", "redact", "pattern", "extension", "subjectField", "clearPaths", "clearValues", "example"}
)
_NAME = re.compile(r"[a-z_]{1,64}")  # so that a path always fits redaction.fields' own pattern
_SUBJECT = re.compile(r"[a-z_]{1,64}(\.[a-z_]{1,64})*")


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


_Word = TypeVar("_Word", DataClass, Redact)


@dataclass(frozen=True, slots=True)
class Marks:
    """What the schema says of one leaf."""

    data_class: DataClass
    redact: Redact | None = None
    pattern: str | None = None
    clear_paths: frozenset[str] = frozenset()
    clear_values: str | None = None
    extension: bool = False
    example: object = None
    subject_field: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One type at one place of a schema.

    Attributes:
        path: dotted names, `[]` for an array's items: `changes[].before`; "" for the schema itself.
        kind: an Avro type's name: `record`, `array`, `enum`, `fixed`, or a primitive.
        nullable: null is allowed as well.
        optional: a writer may leave it out; then it is null, or the schema's default.
        size: of a fixed, in bytes.
        name: of a record, enum or fixed, without its namespace.
        doc: of the field, or of the schema itself.
        logical: the logical type, or "".
        default: of an optional one.
        fallback: an enum's own default, which stands for symbols that a reader does not know; or "".
        symbol_docs: of an enum, (symbol, what it means) as stated.
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
    name: str = ""
    doc: str = ""
    logical: str = ""
    default: object = None
    fallback: str = ""
    symbol_docs: tuple[tuple[str, str], ...] = ()

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
    return _Reader().node(_document(text), "", {})


def violations(text: str) -> tuple[Node | None, tuple[ContractError, ...]]:
    """The tree as far as it can be read, and every rule of protection that the schema breaks, in its order."""
    found: list[ContractError] = []
    try:
        tree = _Reader(found.append).node(_document(text), "", {})
    except ContractError as error:
        return None, (*found, error)
    return tree, tuple(found)


def lint(codec_text: str) -> None:
    """Refuse a schema that leaves a field unclassified or unprotected.

    Raises:
        ContractError: names the first such field.
    """
    field_tree(codec_text)


def subject_problems(tree: Node, event: Node) -> Iterator[ContractError]:
    """Every leaf of a schema whose subjectField has a dot and leads to nothing that identifies a person.

    Args:
        event: the event's own tree, at whose root such a path begins; `tree` itself, if it is the event's.
    """
    for leaf in tree.leaves():
        path = leaf.marks.subject_field if leaf.marks is not None else None
        if path is not None and "." in path and not _identifies(_at(event, path)):
            yield ContractError(leaf.path, f"subjectField: {_NO_SUBJECT}")


_NO_SUBJECT = "no text there that still identifies a person when it is redacted"


def _at(node: Node | None, path: str) -> Node | None:
    """What stands at a path through records alone."""
    for name in path.split("."):
        node = dict(node.fields).get(name) if node is not None and node.kind == "record" else None
    return node


def _identifies(node: Node | None) -> bool:
    """Whether a leaf is one text, and redaction leaves different people different."""
    if node is None or node.kind != "string" or node.marks is None:
        return False
    return node.marks.redact not in (Redact.OMIT, Redact.MASK)


def _is_path(node: Node) -> bool:
    """Whether clearPaths may go by a field: it is there, and stands as it was stated."""
    return node.kind == "string" and not node.nullable and node.marks is not None and node.marks.redact is None


def _document(text: str) -> dict[str, object]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ContractError("", "schema is not JSON") from None
    if not isinstance(document, dict) or document.get("type") != "record":
        raise ContractError("", "schema is not a record")
    return document


def _refuse(error: ContractError) -> None:
    raise error


class _Reader:
    """Walks one schema; remembers its named types.

    Args:
        report: what to do with a broken rule; the default raises it. If it returns, the walk goes on beside the field.
    """

    def __init__(self, report: Callable[[ContractError], None] = _refuse) -> None:
        self._report = report
        self._named: dict[str, dict[str, object]] = {}
        self._open: list[str] = []

    def _broken(self, path: str, problem: str) -> None:
        self._report(ContractError(path, problem))

    def node(self, schema: object, path: str, field: Mapping[str, object]) -> Node:
        made, nullable = Node(path, "unreadable"), False
        try:
            if isinstance(schema, list):
                others = [branch for branch in schema if branch != "null"]
                if len(others) != 1 or len(schema) != 2:
                    raise ContractError(path, "a union of anything but null and one other type")
                if schema[0] != "null":
                    self._broken(path, "null comes first in a union, so that it can be the default")
                schema, nullable = others[0], True
            made = self._typed(self._resolve(schema, path), path, field, nullable)
        except ContractError as error:
            self._report(error)
        doc = field.get("doc", schema.get("doc", "") if isinstance(schema, dict) else "")
        return replace(made, nullable=nullable, optional="default" in field, default=field.get("default"), doc=str(doc))

    def _typed(self, definition: Mapping[str, object], path: str, field: Mapping[str, object], nullable: bool) -> Node:
        kind = cast("str", definition["type"])
        if kind == "record":
            return self._record(definition, path, field)
        if kind == "array":
            items = self.node(definition.get("items"), f"{path}[]", {k: v for k, v in field.items() if k != "default"})
            if items.kind == "array":
                raise ContractError(path, "an array of arrays")
            return Node(path, "array", items=items, marks=items.marks)
        for problem in _leaf_problems(path, kind, nullable, field):
            self._broken(path, problem)
        size, symbols, docs = definition.get("size", 0), definition.get("symbols", ()), definition.get("symbolDocs", {})
        if not isinstance(size, int) or not isinstance(symbols, (list, tuple)) or not isinstance(docs, dict):
            raise ContractError(path, "a malformed type")
        return Node(
            path,
            kind,
            size=size,
            symbols=frozenset(map(str, symbols)),
            marks=_marks(field),
            name=str(definition.get("name", "")).rpartition(".")[2],
            logical=str(definition.get("logicalType", "")),
            fallback=str(definition.get("default", "")),
            symbol_docs=tuple((str(symbol), str(doc)) for symbol, doc in docs.items()),
        )

    def _record(self, definition: Mapping[str, object], path: str, field: Mapping[str, object]) -> Node:
        if _LEAF_ATTRIBUTES & field.keys():
            self._broken(path, "classified as a whole; classify its leaves")
        name = str(definition.get("name"))
        members = definition.get("fields")
        if name in self._open or not isinstance(members, list):
            raise ContractError(path, "a record that contains itself, or has no list of fields")
        self._open.append(name)
        fields = []
        for member in members:
            if not isinstance(member, dict) or not _NAME.fullmatch(str(member.get("name"))):
                self._broken(path, "a field whose name is not of a-z and _")
                continue
            below = f"{path}.{member['name']}" if path else str(member["name"])
            fields.append((str(member["name"]), self.node(member.get("type"), below, member)))
        self._open.pop()
        made = Node(path, "record", fields=tuple(fields), name=name.rpartition(".")[2])
        self._check_siblings(made)
        return made

    def _check_siblings(self, record: Node) -> None:
        """A leaf with clearPaths stands beside the `path` that they speak of; a tokenised one beside whom it is about."""
        names = dict(record.fields)
        for name, node in record.fields:
            if node.marks is None:
                continue
            beside = names.get("path")
            if node.marks.clear_paths and (
                beside is None or not _is_path(beside) or list(names).index("path") > list(names).index(name)
            ):
                self._broken(node.path, "clearPaths without a path of public or internal text, never null, before it")
            subject = node.marks.subject_field
            if subject is not None and "." not in subject and subject != name and not _identifies(names.get(subject)):
                self._broken(node.path, f"subjectField: {_NO_SUBJECT}")

    def _resolve(self, schema: object, path: str) -> Mapping[str, object]:
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
            self._named[str(schema.get("name")).rpartition(".")[2]] = schema
        elif kind != "array" and kind not in PRIMITIVES:
            raise ContractError(path, "a type that cannot be classified (null alone, map, or unknown)")
        return schema


def _leaf_problems(path: str, kind: str, nullable: bool, field: Mapping[str, object]) -> Iterator[str]:
    """Every rule about a single leaf that this one breaks."""
    if set(field) - _AVRO_ATTRIBUTES - _LEAF_ATTRIBUTES:
        yield "an attribute that is none of Avro's and none of the contract's"
    redact = field.get("redact")
    yield from _redaction_problems(kind, nullable, field)
    pattern = field.get("pattern")
    extension = field.get("extension", False)
    if not isinstance(extension, bool) or (extension and (kind != "bytes" or path != "extension.payload")):
        yield "extension marks the bytes of extension.payload alone"
    if redact is None and kind == "bytes" and not extension:
        yield "bytes of any content are never public or internal"
    if redact is None and kind == "string" and pattern is None:
        yield "free text is never public or internal: a pattern is missing"
    if pattern is not None and (redact is not None or kind != "string"):
        yield "a pattern belongs on public and internal text alone"
    clear_paths, clear_values = field.get("clearPaths", []), field.get("clearValues")
    if bool(clear_paths) != (clear_values is not None) or (clear_paths and redact != Redact.MASK):
        yield "clearPaths and clearValues go together, on a masked leaf"
    if not isinstance(clear_paths, list) or not all(isinstance(p, str) for p in clear_paths):
        yield "clearPaths is not a list of text"
    subject = field.get("subjectField")
    if subject is not None and redact != Redact.TOKENIZE:
        yield "a subjectField belongs on tokenised text alone"
    if subject is not None and not (isinstance(subject, str) and _SUBJECT.fullmatch(subject)):
        yield "subjectField is neither a field's name nor a path of names"
    if not all(stated is None or _is_expression(stated) for stated in (pattern, clear_values)):
        yield "a pattern that is not a regular expression of RE2"


def _redaction_problems(kind: str, nullable: bool, field: Mapping[str, object]) -> Iterator[str]:
    data_class, redact = _one_of(DataClass, field.get("dataClass")), _one_of(Redact, field.get("redact"))
    if data_class is None:
        yield "not classified: dataClass is missing or unknown"
    elif data_class in (DataClass.PUBLIC, DataClass.INTERNAL):
        if field.get("redact") is not None:
            yield f"{data_class}, yet it names a redaction"
    elif redact is None:
        yield f"{data_class} without a redaction"
    else:
        if data_class is DataClass.SECRET and redact is not Redact.OMIT:
            yield "a secret is omitted, never masked, hashed or tokenised"
        if redact is Redact.OMIT and not nullable and kind in ("enum", "fixed"):
            yield "omit needs a type that can be empty"
        if redact is not Redact.OMIT and kind != "string":
            yield f"{redact} is for text; use omit"


def _one_of(words: type[_Word], stated: object) -> _Word | None:
    return next((word for word in words if word == stated), None)


def _marks(field: Mapping[str, object]) -> Marks | None:
    """The marks of a leaf that breaks no rule; of one that was reported, as far as they can be read, or None."""
    data_class = _one_of(DataClass, field.get("dataClass"))
    if data_class is None:
        return None
    pattern, values, paths = field.get("pattern"), field.get("clearValues"), field.get("clearPaths", [])
    subject = field.get("subjectField")
    return Marks(
        data_class,
        _one_of(Redact, field.get("redact")),
        None if pattern is None else str(pattern),
        frozenset(map(str, paths)) if isinstance(paths, list) else frozenset(),
        None if values is None else str(values),
        field.get("extension") is True,
        field.get("example"),
        None if subject is None else str(subject),
    )


def _is_expression(pattern: object) -> bool:
    """Whether RE2 accepts it: nothing that could take more than linear time by a look-around or a reference."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(str(pattern), options)
        re.compile(str(pattern))
    except (re2.error, re.error):
        return False
    return True
