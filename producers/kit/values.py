"""What an event is made of, as a connector's developer writes it down. Values; nothing is checked or stated here.

Fields that hold people's names, addresses or texts are left out of every repr, so that a log of a value leaks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

from producers.kit.words import ActorKind, AuthorizationMethod, Decision
from schemas.contract import MAX_EVENT_BYTES
from schemas.fields import Node, field_tree
from sealtrail.avro import Codec
from sealtrail.errors import ContractError

MAX_EXTENSION_BYTES = MAX_EVENT_BYTES // 16  # 64 KiB: facts of one act; what is larger is content


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted. id: as the platform knows the account, hashed in the event; display: as people do, masked."""

    kind: ActorKind
    id: str = field(repr=False)
    display: str | None = field(default=None, repr=False)

    @classmethod
    def user(cls, identifier: str, display: str | None = None) -> Self:
        """A person."""
        return cls(ActorKind.USER, identifier, display)

    @classmethod
    def service(cls, identifier: str) -> Self:
        """A service account."""
        return cls(ActorKind.SERVICE, identifier)

    @classmethod
    def integration(cls, identifier: str) -> Self:
        """An integration: a bot, an app, the connector itself."""
        return cls(ActorKind.INTEGRATION, identifier)

    @classmethod
    def system(cls, identifier: str) -> Self:
        """Nobody in particular: a timer, a clean-up."""
        return cls(ActorKind.SYSTEM, identifier)


@dataclass(frozen=True, slots=True)
class Subject:
    """The person acted upon. id: hashed in the event; display: masked."""

    id: str = field(repr=False)
    display: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class BusinessObject:
    """What was acted upon. type: a slug; id: opaque, in clear, never a person's; name: as people know it, masked."""

    type: str
    id: str
    name: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Authorization:
    """Proof of authorisation: by which method, which scopes, and what which version of which policy said."""

    method: AuthorizationMethod
    scopes: Sequence[str] = ()
    policy: str | None = None
    policy_version: str | None = None
    decision: Decision = Decision.NOT_CHECKED


@dataclass(frozen=True, slots=True)
class Content:
    """A body that its owner keeps. In the event: its keyed digest, size, media type and location; never the body."""

    body: bytes = field(repr=False)
    media_type: str
    location: str


@dataclass(frozen=True, slots=True)
class ContentRef:
    """The same where the body is not at hand. digest: keyed, 32 bytes; see `producers.kit.content`. size: bytes."""

    digest: bytes
    size: int
    media_type: str
    location: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a message goes out: what stands in every event of it (CAP-4).

    hop: the system that it is handed to; validated, signed, encrypted: None where nobody knows; payload: the bytes as
    sent, of which the event carries a keyed digest; retry_policy: a name that stands for its numbers.
    """

    hop: str
    validated: bool | None = None
    signed: bool | None = None
    encrypted: bool | None = None
    payload: bytes | None = field(default=None, repr=False)
    retry_policy: str | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """A connector's own record: the codec of its registered schema, and a value of it.

    Fields of the schema that have a default may be left out.
    """

    codec: Codec
    value: Mapping[str, object] = field(repr=False)

    def encoded(self) -> dict[str, object]:
        """As in the event. Raises ContractError when the value does not fit the schema, or is over 64 KiB."""
        _refuse_unknown(_tree(self.codec.text), self.value)
        try:
            payload = self.codec.encode_body(self.value)
        except Exception:  # fastavro raises many kinds on a value that does not fit, and their texts quote it
            raise ContractError("extension.payload", "does not fit the extension's schema") from None
        if len(payload) > MAX_EXTENSION_BYTES:
            raise ContractError("extension.payload", f"{len(payload)} bytes; at most {MAX_EXTENSION_BYTES}")
        return {"schema": self.codec.sha256, "payload": payload}


@lru_cache(maxsize=64)  # schemas that one process writes with: a handful
def _tree(text: str) -> Node:
    return field_tree(text)


def _refuse_unknown(node: Node, value: object) -> None:
    """The encoder passes over keys that the schema does not know: what was meant to be stated would be lost in silence."""
    if node.kind == "array" and node.items is not None and isinstance(value, (list, tuple)):
        for item in value:
            _refuse_unknown(node.items, item)
    elif node.kind == "record" and isinstance(value, Mapping):
        known = dict(node.fields)
        unknown = len(value.keys() - known.keys())
        if unknown:
            where = f"extension.payload.{node.path}".rstrip(".")
            raise ContractError(where, f"{unknown} keys that the extension's schema does not know")
        for name, below in value.items():
            _refuse_unknown(known[name], below)
