"""Archives that are made anew with the same seals each time: what was missed once can be tried again by its number."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

WRAPPED_SIZE = 80  # bytes: an encapsulated key, a session key and its tag


class _Wrapping:
    """Stands for HPKE where a run wraps its session key, which is random and which no verifier opens."""

    def encrypt(self, key: bytes, public: X25519PublicKey, info: bytes) -> bytes:
        """Bytes of the right size that depend on the run alone."""
        return hashlib.shake_128(public.public_bytes_raw() + info).digest(WRAPPED_SIZE)


@contextmanager
def repeatable() -> Generator[None]:
    """The block in which seals are made; contents stay encrypted at random, so that references differ."""
    with patch("sealtrail.session.HPKE", _Wrapping()):
        yield
