"""Pure functions of the verifier, remembered by their input: a million verifications of almost the same archive.

What is remembered is what a function gave for these very bytes. Every verification runs each of its steps; a function that
raised runs again. The verifier's own code is neither replaced nor changed, and outside the block it remembers nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from unittest.mock import patch

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail import avro, certificate, note, seal, segment

SEALS = 20_000  # of some segments, each seal whole and changed; the least recently used give way
NOTES = 2_000  # certificates, checkpoints, statements
OBJECTS = 500  # contents objects and their frames


class RememberedKey:
    """An Ed25519 public key that checks a signature once."""

    def __init__(self, public: bytes) -> None:
        self._public = public

    @staticmethod
    def from_public_bytes(public: bytes) -> RememberedKey:
        """The key, malformed or not: `verify` finds out."""
        return RememberedKey(public)

    def verify(self, signature: bytes, message: bytes) -> None:
        """As the key itself: raises InvalidSignature or ValueError."""
        problem = _problem(self._public, signature, message)
        if problem is not None:
            raise problem("remembered")


@lru_cache(SEALS)
def _problem(public: bytes, signature: bytes, message: bytes) -> type[Exception] | None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        return type(error)
    return None


@dataclass(frozen=True, slots=True)
class _Digest:
    value: bytes

    def digest(self) -> bytes:
        """The same object each time, whose own hash Python keeps."""
        return self.value


class _Hashing:
    """Stands for the module `hashlib` where a module of the verifier hashes what it hashed before."""

    def __init__(self, size: int) -> None:
        self.sha256: Callable[[bytes], _Digest] = lru_cache(size)(lambda data: _Digest(hashlib.sha256(data).digest()))


def _replacements() -> dict[str, object]:
    """Where a name is looked up, and what is found there instead."""
    found: dict[str, object] = {
        f"sealtrail.{module}.Ed25519PublicKey": RememberedKey for module in ("note", "checkpoint", "signatures", "session")
    }
    parse_note = lru_cache(NOTES)(note.parse_note)
    found |= {f"sealtrail.{module}.parse_note": parse_note for module in ("certificate", "checkpoint", "sworn")}
    decode_seal = lru_cache(SEALS)(seal.decode_seal)
    found |= {f"sealtrail.{module}.decode_seal": decode_seal for module in ("chainverify", "contents")}
    return found | {
        "sealtrail.chainverify.leaf_hash": lru_cache(SEALS)(seal.leaf_hash),
        "sealtrail.merkle.hashlib": _Hashing(SEALS),
        "sealtrail.contents.hashlib": _Hashing(OBJECTS),
        "sealtrail.contents.decode_frames": lru_cache(OBJECTS)(segment.decode_frames),
        "sealtrail.contents.open_frame": lru_cache(OBJECTS)(segment.open_frame),
        "sealtrail.seal.Content.digest": lru_cache(SEALS)(seal.Content.digest),
        "sealtrail.documents.Codec": lru_cache(OBJECTS)(avro.Codec),
        "sealtrail.avro.Codec.decode": lru_cache(SEALS)(avro.Codec.decode),
        "sealtrail.avro._container_header": lru_cache(OBJECTS)(avro._container_header),
        "sealtrail.certified.verify_certificate": lru_cache(OBJECTS)(certificate.verify_certificate),
    }


class Memory:
    """What one process remembers."""

    def __init__(self) -> None:
        self._replacements = _replacements()

    @contextmanager
    def in_use(self) -> Generator[None]:
        """The block in which the verifier remembers."""
        with ExitStack() as stack:
            for where, what in self._replacements.items():
                stack.enter_context(patch(where, what))
            yield
