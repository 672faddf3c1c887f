"""The secret net over an event: where a secret may still stand when every marked field is redacted, and what becomes of it.

    public, internal     the secret becomes `[secret:<shape>]` if the field's pattern takes that, else the event is refused
    mask                 the whole value becomes `*`: the last characters that a mask shows may be the secret's
    tokenize             the same, in plain text: in the application, and by `overwritten` in the sealer, which decrypts it
    hash, omit           nothing to do: what is there says nothing

Extensions alike, by their own schema; bytes and fixed hold digests and ids. Used in the application before redaction, and in
the sealer after its check. Nothing is taken out, only overwritten: the event, its fields and its number stay.

Compiled from the schema into closures once. Leaks and refusals name field and shape, never a value.

Not here: what a secret looks like (`schemas.secrets`); marked fields (`schemas.redact`); what a leak is reported as.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.contract import MAX_TEXT_BYTES
from schemas.fields import Node, Redact, field_tree
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import find, redact
from sealtrail.avro import Codec
from sealtrail.errors import ContractError
from sealtrail.token import is_encrypted

_Net = Callable[[Any, list["Leak"]], Any]


@dataclass(frozen=True, slots=True)
class Leak:
    """A field in which a secret stood, and of which shape. Holds no value."""

    field: str
    shape: str


class SecretError(ContractError):
    """A secret stands where no mark can: the event is refused. `shape` says of which kind."""

    def __init__(self, field: str, shape: str) -> None:
        super().__init__(field, f"holds what looks like a secret ({shape})")
        self.shape = shape


class Net:
    """Callable: a well-formed event to one without secrets, and the leaks; the same event if there are none.

    The given event is not changed. Any thread may call.

    Args:
        registry: whose extensions are looked through.
        event: the schema that the events are written with.

    Raises:
        SecretError: a field's pattern does not take a mark; names the field and the shape.
        ContractError: the extension is not registered or malformed.
    """

    def __init__(self, registry: Registry, event: Codec = AUDIT_EVENT) -> None:
        self._registry = registry
        self._event = _net(field_tree(event.text), "")
        self._extensions = {
            digest: _net(field_tree(codec.text), "extension.payload.")
            for digest, codec in registry.extensions.items()
            if digest not in registry.unclassified
        }

    def __call__(self, event: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[Leak, ...]]:
        leaks: list[Leak] = []
        made: Mapping[str, Any] = event if self._event is None else self._event(event, leaks)
        extension = event.get("extension")
        if isinstance(extension, Mapping) and (net := self._extensions.get(extension.get("schema", b""))) is not None:
            schema, payload = extension["schema"], extension.get("payload")
            if isinstance(payload, bytes):  # what it is else, is the contract's to refuse
                value = self._registry.extension_value(schema, payload)
                caught = net(value, leaks)
                if caught is not value:
                    encoded = self._registry.extensions[schema].encode_body(caught)
                    made = {**made, "extension": {"schema": schema, "payload": encoded}}
        return made, tuple(dict.fromkeys(leaks))


def overwritten(text: str) -> tuple[str, tuple[str, ...]]:
    """A text that is masked or tokenised, `*` all through if it holds a secret; and the shapes found."""
    hits = find(text)
    return ("*" * len(text) if hits else text), tuple(hit.shape for hit in hits)


def _net(node: Node, path: str) -> _Net | None:
    """The closure that looks through a value of this node's type, or None when no text below can hold a secret."""
    if node.kind == "record":
        members = [(name, net) for name, below in node.fields if (net := _net(below, path)) is not None]
        return _record(members) if members else None
    if node.kind == "array" and node.items is not None:
        items = _net(node.items, path)
        return None if items is None else _array(items)
    if node.kind != "string" or node.marks is None:
        return None
    if node.marks.redact is None:
        return _open(path + node.path, re.compile(node.marks.pattern or ""))
    if node.marks.redact is Redact.TOKENIZE:
        return _tokenized(path + node.path)
    return _masked(path + node.path) if node.marks.redact is Redact.MASK else None


def _record(members: list[tuple[str, _Net]]) -> _Net:
    def net_record(value: Any, leaks: list[Leak]) -> Any:
        if not isinstance(value, Mapping):
            return value  # its type is the contract's to refuse
        made = {name: caught for name, net in members if (caught := net(value.get(name), leaks)) is not value.get(name)}
        return {**value, **made} if made else value

    return net_record


def _array(net: _Net) -> _Net:
    def net_array(value: Any, leaks: list[Leak]) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        made = [net(item, leaks) for item in value]
        return value if all(new is old for new, old in zip(made, value, strict=True)) else made

    return net_array


def _open(path: str, pattern: re.Pattern[str]) -> _Net:
    def net_open(value: Any, leaks: list[Leak]) -> Any:
        if not isinstance(value, str):
            return value
        made, shapes = redact(value)
        if not shapes:
            return value
        if pattern.fullmatch(made) is None or len(made.encode()) > MAX_TEXT_BYTES:
            raise SecretError(path, shapes[0])
        leaks += [Leak(path, shape) for shape in shapes]
        return made

    return net_open


def _masked(path: str) -> _Net:
    def net_masked(value: Any, leaks: list[Leak]) -> Any:
        if not isinstance(value, str):
            return value
        made, shapes = overwritten(value)
        leaks += [Leak(path, shape) for shape in shapes]
        return made

    return net_masked


def _tokenized(path: str) -> _Net:
    masked = _masked(path)

    def net_tokenized(value: Any, leaks: list[Leak]) -> Any:
        # A ciphertext may look like anything. What a person typed in its form, the sealer sees when it decrypts it.
        return value if isinstance(value, str) and is_encrypted(value) else masked(value, leaks)

    return net_tokenized
