"""The interfaces of a keystore, and which kind of key a name stands for.

`Keystore.open` picks the backend by the URI's scheme; a backend subclasses `Keystore` and registers itself.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar, Protocol, TypeVar

from sealtrail.errors import ConfigError

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9][a-z0-9@._-]{0,159}")
_GENERATION = re.compile(r"(.+)@([2-9]|[1-9][0-9]{1,5})")


class Signer(Protocol):
    """An Ed25519 key that signs. Any thread may call.

    `sign` may reach out to a service with remote backends: it raises TransientError when that is away, ConfigError when
    it refuses. The file backend does neither. `key_id` is SHA-256 of `public`, both 32 bytes.
    """

    @property
    def key_id(self) -> bytes: ...

    @property
    def public(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        ...

    def lend(self, use: Callable[[bytes], T]) -> T | None:
        """What `use` makes of the private bytes, 32, for what signs below Python; None: they are not in this process."""
        ...


class Opener(Protocol):
    """An X25519 key that opens what was encrypted to it, in the suite of `sealtrail.session`. Any thread may call."""

    @property
    def key_id(self) -> bytes: ...

    @property
    def public(self) -> bytes: ...

    def open(self, wrapped: bytes, info: bytes) -> bytes:
        """The plaintext. Raises EvidenceError: altered, encrypted to another key, or under other info."""
        ...


class KeyKind(StrEnum):
    """What a key does."""

    SIGNS = "signs"
    OPENS = "opens"
    SECRET = "is a shared secret"  # a kind of key, not a key


_KINDS: tuple[tuple[str, KeyKind], ...] = (
    ("source-", KeyKind.SIGNS),
    ("sealer", KeyKind.SIGNS),
    ("archive", KeyKind.SIGNS),
    ("auditor", KeyKind.SIGNS),
    ("root", KeyKind.SIGNS),
    ("pipeline", KeyKind.OPENS),
    ("quarantine", KeyKind.OPENS),
    ("tenant-data-", KeyKind.OPENS),
    ("tenant-subject-", KeyKind.OPENS),
    ("tenant-hash-", KeyKind.SECRET),
    ("tenant-index-", KeyKind.SECRET),
    ("disclosure", KeyKind.SECRET),
    ("spool-", KeyKind.SECRET),
)


def base_of(name: str) -> tuple[str, int]:
    """What a key is for, and which one of these it is: `sealer` is the first, `sealer@2` its successor."""
    match = _GENERATION.fullmatch(name)
    return (name, 1) if match is None else (match[1], int(match[2]))


def kind_of(name: str) -> KeyKind:
    """What the key of this name does.

    Raises:
        ConfigError: no key has such a name.
    """
    base, _ = base_of(name)
    if _NAME.fullmatch(name) and ".." not in name:
        for start, kind in _KINDS:
            if len(base) > len(start) and base.startswith(start) if start.endswith("-") else base == start:
                return kind
    raise ConfigError("keystore: asked for a key by a name that no key has")


class Keystore(abc.ABC):
    """One process's keys. Its repr names the place, never a key's bytes."""

    _backends: ClassVar[dict[str, Callable[[str], Keystore]]] = {}

    @classmethod
    def open(cls, uri: str) -> Keystore:
        """The keystore at a URI, `file:DIRECTORY`.

        Raises:
            ConfigError: setting `keys` is empty, of an unknown scheme, or the place cannot be used.
        """
        scheme, colon, place = uri.partition(":")
        backend = cls._backends.get(scheme)
        if not colon or not place or backend is None:
            raise ConfigError(f"setting keys: expected {' or '.join(sorted(cls._backends))}: and a place")
        return backend(place)

    @abc.abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names of the keys in it, sorted."""

    def generations(self, base: str) -> tuple[str, ...]:
        """The names of all keys for one purpose, the newest first."""
        return tuple(sorted((n for n in self.names() if base_of(n)[0] == base), key=lambda n: -base_of(n)[1]))

    @abc.abstractmethod
    def signer(self, name: str) -> Signer:
        """The signing key of that name. Raises ConfigError: missing, unusable, or of another kind."""

    @abc.abstractmethod
    def opener(self, name: str) -> Opener:
        """The opening key of that name. Raises ConfigError: missing, unusable, or of another kind."""

    @abc.abstractmethod
    def secret(self, name: str) -> bytes:
        """The symmetric key of that name, 32 bytes. Raises ConfigError: missing, unusable, or of another kind."""


def expect(name: str, kind: KeyKind) -> None:
    """Refuse a key of another kind. Raises ConfigError."""
    actual = kind_of(name)
    if actual is not kind:
        raise ConfigError(f"key {name} {actual}; it was asked for as one that {kind}")
