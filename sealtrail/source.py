"""Where a verifier reads from: an archive in S3, or a copy of one. It only reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from sealtrail.errors import EvidenceError


class MissingObjectError(EvidenceError):
    """The store says that there is no such object or version."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One version of an object, or a delete marker, as a listing shows it; `size` in bytes."""

    key: str
    version: str
    is_latest: bool
    is_marker: bool
    size: int


@dataclass(frozen=True, slots=True)
class Lock:
    """Object Lock of one version: mode COMPLIANCE, GOVERNANCE or "" for none; `until_ms` UTC since 1970."""

    mode: str
    until_ms: int
    legal_hold: bool


class Source(Protocol):
    """A store to read. Implementations retry by themselves; what they raise is final for that call.

    Every method may raise UndecidedError when the store does not answer: what was asked is then not known.
    """

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """All versions and markers under a prefix, in key order, the newest version of a key first."""

    def read(self, key: str, version: str) -> bytes:
        """One version's bytes. Raises MissingObjectError when the store says it is not there."""

    def lock(self, key: str, version: str) -> Lock | None:
        """The lock of one version; None when this source cannot know (a copy)."""
