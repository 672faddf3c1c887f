"""The tokenised values of an event: where they stand, whom they are about, and a walk that puts others in their place.

    actor.login                        "alice@example.com", about actor.id
    extension.payload.people[].address "bob@example.com", about nobody that the schema names: ""

The walk does not care which form a value has: plain in the application, encrypted on its way, a token in what is sealed
(`sealtrail.token`). It is compiled from the schemas into closures once, and visits only what leads to a tokenised leaf.

Not here: which leaf may be tokenised, and whom a leaf may name (`schemas.fields`); keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.fields import Marks, Node, Redact, field_tree
from schemas.registry import AUDIT_EVENT, Registry
from sealtrail.avro import Codec
from sealtrail.token import RESIDUAL

Replace = Callable[[str, str, str], str]
_Place = tuple[Mapping[str, Any], Mapping[str, Any]]  # the record that holds a leaf, and the event
_Walk = Callable[[Any, _Place, Replace], Any]
_Subject = Callable[[str, _Place], str]


@dataclass(frozen=True, slots=True)
class TokenizedValue:
    """A tokenised value of an event: path as in `redaction.fields`, text as it stands, subject as for `Tokenized`."""

    path: str
    text: str
    subject: str


class Tokenized:
    """Callable: (event, replace) to the event with another text for every tokenised value that is not empty.

    `replace(path, text, subject)` is asked once for each, in the schema's order, the event's own before its extension's: path
    as in `redaction.fields`; `subject` is the text of the field that the leaf's `subjectField` names, *as it stands in
    the event given*: RESIDUAL where that is null or absent, or no field is named; `text` itself where a leaf names
    itself. Whom a value is about may itself be encrypted: whoever needs it in clear walks twice, first to decrypt,
    then with what came out.

    The event given is not changed; it is returned itself if every text was replaced by an equal one, or there was none.
    An event is one that its contract admits, of any version: what it lacks is not there. Any thread may call.

    Args:
        registry: whose extensions are looked through.
        event: the schema that the events are written with, or a later version of it.

    Raises:
        ContractError: the extension is malformed; what `replace` raises.
    """

    def __init__(self, registry: Registry, event: Codec = AUDIT_EVENT) -> None:
        self._registry = registry
        self._event = _walk(field_tree(event.text), "")
        compiled = {
            digest: _walk(field_tree(codec.text), "extension.payload.")
            for digest, codec in registry.extensions.items()
            if digest not in registry.unclassified
        }
        self._extensions = {digest: walk for digest, walk in compiled.items() if walk is not None}

    def __call__(self, event: dict[str, Any], replace: Replace) -> dict[str, Any]:
        made: dict[str, Any] = event if self._event is None else self._event(event, (event, event), replace)
        extension = event.get("extension")
        if extension is None or (walk := self._extensions.get(extension["schema"])) is None:
            return made
        schema = extension["schema"]
        value = self._registry.extension_value(schema, extension["payload"])
        walked = walk(value, (value, event), replace)
        if walked is value:
            return made
        payload = self._registry.extension_payload(schema, walked)
        return {**made, "extension": {"schema": schema, "payload": payload}}

    def values(self, event: dict[str, Any]) -> tuple[TokenizedValue, ...]:
        """Every tokenised value of an event that is not empty, in the order in which they are asked for."""
        found: list[TokenizedValue] = []

        def note(path: str, text: str, subject: str) -> str:
            found.append(TokenizedValue(path, text, subject))
            return text

        self(event, note)
        return tuple(found)


def _walk(node: Node, prefix: str) -> _Walk | None:
    """The closure that walks a value of this node's type, or None when nothing below is tokenised."""
    if node.kind == "record":
        return _record([(name, walk) for name, below in node.fields if (walk := _walk(below, prefix)) is not None])
    if node.items is not None:
        items = _walk(node.items, prefix)
        return None if items is None else _array(items)
    if node.marks is None or node.marks.redact is not Redact.TOKENIZE:
        return None
    return _leaf(prefix + node.path, _subject(node, node.marks))


def _record(members: list[tuple[str, _Walk]]) -> _Walk | None:
    if not members:
        return None

    def walk_record(value: Any, place: _Place, replace: Replace) -> Any:
        inner = (value, place[1])
        made = {
            name: new
            for name, walk in members
            if (old := value.get(name)) and (new := walk(old, inner, replace)) is not old
        }  # fmt: skip
        return {**value, **made} if made else value

    return walk_record


def _array(walk: _Walk) -> _Walk:
    def walk_array(value: Any, place: _Place, replace: Replace) -> Any:
        made = [walk(item, place, replace) if item else item for item in value]
        return value if all(new is old for new, old in zip(made, value, strict=True)) else made

    return walk_array


def _leaf(path: str, subject: _Subject) -> _Walk:
    def walk_leaf(value: Any, place: _Place, replace: Replace) -> Any:
        new = replace(path, value, subject(value, place))
        return value if new == value else new

    return walk_leaf


def _subject(leaf: Node, marks: Marks) -> _Subject:
    """Text of the leaf and its place to the text that says whom it is about."""
    named = marks.subject_field
    if named is None:
        return lambda _, __: RESIDUAL
    if named == leaf.path.removesuffix("[]").rpartition(".")[2]:
        return lambda text, _: text
    if "." not in named:
        return lambda _, place: place[0].get(named) or RESIDUAL
    *records, last = named.split(".")

    def at_path(_: str, place: _Place) -> str:
        record: Any = place[1]
        for name in records:
            record = record.get(name) or {}
        found: str | None = record.get(last)
        return found or RESIDUAL

    return at_path
