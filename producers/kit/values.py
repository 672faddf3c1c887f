"""What an event is made of, as a connector's developer writes it down. Values; nothing is checked or stated here.

Fields that hold people's names, addresses or texts are left out of every repr, so that a log of a value leaks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from producers.kit.words import ActorKind, AuthorizationMethod, Decision
from schemas.contract import MAX_EVENT_BYTES
from sealtrail.avro import Codec
from sealtrail.errors import ContractError

MAX_EXTENSION_BYTES = MAX_EVENT_BYTES // 16  # 64 KiB: facts of one act; what is larger is content
MAX_NESTING = 16  # records do not contain themselves: a schema that deep is none that anybody reads


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acted. id: as the platform knows the account, hashed in the event; display: as people do, masked.

    login: what the account is called, or its address, at most 4,096 bytes. Tokenised: whoever may reveal it can read it,
    until the person's key is destroyed; left out where the tenant's people have no keys.
    """

    kind: ActorKind
    id: str = field(repr=False)
    display: str | None = field(default=None, repr=False)
    login: str | None = field(default=None, repr=False)

    @classmethod
    def user(cls, identifier: str, display: str | None = None, login: str | None = None) -> Self:
        """A person."""
        return cls(ActorKind.USER, identifier, display, login)

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
    """The person acted upon. id: hashed in the event; display: masked; login: tokenised, see `Actor`."""

    id: str = field(repr=False)
    display: str | None = field(default=None, repr=False)
    login: str | None = field(default=None, repr=False)


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

    def stated(self) -> dict[str, object]:
        """As in a draft; the emitter checks and encodes it. Raises ContractError when it is over 64 KiB."""
        size = _size(self.value, 0)
        if size > MAX_EXTENSION_BYTES:
            raise ContractError("extension.payload", f"over {MAX_EXTENSION_BYTES} bytes")
        return {"schema": self.codec.sha256, "value": self.value if isinstance(self.value, dict) else dict(self.value)}


def _size(value: object, depth: int) -> int:
    """About how many bytes a value takes; of what is nested too deep to be a record, more than any may."""
    if isinstance(value, (str, bytes)):
        return 1 + len(value)
    if depth > MAX_NESTING:
        return MAX_EXTENSION_BYTES + 1
    if isinstance(value, Mapping):
        return 1 + sum(_size(below, depth + 1) for below in value.values())
    if isinstance(value, (list, tuple)):
        return 1 + sum(_size(below, depth + 1) for below in value)
    return 1
