"""Keyed digests of bodies and payloads: what stands in an event instead of them (CON-4).

    HMAC-SHA-256(tenant-hash key, "sealtrail/body/v1\\n" || bytes)

The context line keeps these digests apart from the hashes of identifiers under the same key: without it, who may send
a message and read the trail could write a text whose digest tells whether an identifier is the one that was hashed.
Like every keyed hash it lets whoever holds the key test guesses.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from keystore import Keystore
from sealtrail.errors import ConfigError, ContractError

CONTEXT = b"sealtrail/body/v1\n"
TENANT_HASH = "tenant-hash-"

BodyDigest = Callable[[str, bytes], bytes]  # tenant, bytes -> 32 bytes; raises ContractError("tenant")


def body_digest(key: bytes, data: bytes) -> bytes:
    """The digest, 32 bytes, under a tenant's hash key."""
    return hmac.digest(key, CONTEXT + data, "sha256")


def keyed_by(keystore: Keystore) -> BodyDigest:
    """Digests under the hash keys in `keystore`, each read once. Any thread may call."""
    keys: dict[str, bytes] = {}

    def digest(tenant: str, data: bytes) -> bytes:
        key = keys.get(tenant)
        if key is None:
            try:
                key = keys[tenant] = keystore.secret(TENANT_HASH + tenant)
            except ConfigError:
                raise ContractError("tenant", "no hash key of that tenant is held here") from None
        return body_digest(key, data)

    return digest
