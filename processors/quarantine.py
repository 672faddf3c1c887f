"""Where refused and repeated records go: the original bytes, encrypted to the quarantine key.

Key, value and headers are kept as they came, for whoever has to find out why; only the holder of the
quarantine key's private half can read them, and no process of the pipeline holds it. A broker limits
what a batch is after compression, so a raw record can be far larger than the quarantine topic takes:
then its beginning is kept, and says so. The seal's note holds digest and size of the whole value.

A record that may hold a secret is kept nowhere, not even so: its envelope is empty and says that it is
(ADR 14). What may be one is decided on bytes that perhaps nobody can decode, so on the side of yes.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from processors.records import RawRecord
from schemas.secrets import may_hold_secret
from sealtrail.avro import Codec
from sealtrail.seal import Reason
from sealtrail.session import HPKE

VERSION = 1
MAX_KEPT = 2 << 20  # bytes of key, value and headers; the quarantine topic takes 3 MiB
TRUNCATED_VALUE = 65_536  # bytes kept of a value that is too large
TRUNCATED_KEY = 1_024

QUARANTINED = Codec(
    """{"type": "record", "name": "Quarantined", "namespace": "io.sealtrail.v1",
 "doc": "A raw record that was not sealed as an event.",
 "fields": [
  {"name": "version", "type": "int", "doc": "1: HPKE DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."},
  {"name": "chain", "type": "string"},
  {"name": "source_offset", "type": "long", "doc": "Raw offset; its seal says why."},
  {"name": "reason", "type": "string", "doc": "As in the seal, lower case with hyphens; none for a duplicate."},
  {"name": "truncated", "type": "boolean", "doc": "Only the first 1,024 bytes of key, 65,536 of value; nothing of a secret."},
  {"name": "key_id", "type": {"type": "fixed", "name": "Digest", "size": 32}, "doc": "The quarantine key."},
  {"name": "encapsulated", "type": "bytes", "doc": "HPKE to the quarantine key of the Avro body of QuarantinedRecord."}
 ]}"""
)
RECORD = Codec(
    """{"type": "record", "name": "QuarantinedRecord", "namespace": "io.sealtrail.v1",
 "fields": [
  {"name": "key", "type": "bytes"},
  {"name": "value", "type": "bytes"},
  {"name": "headers", "type": {"type": "array", "items": {"type": "record", "name": "Header", "fields": [
    {"name": "name", "type": "string"}, {"name": "value", "type": "bytes"}]}}}
 ]}"""
)


def must_be_withheld(record: RawRecord) -> bool:
    """Whether some part of a record may hold a secret."""
    return any(may_hold_secret(part) for part in (record.key, record.value, *(held for _, held in record.headers)))


class Quarantine:
    """Callable: (chain, raw record, reason, whether to withhold it) to the bytes for `audit.quarantine`, never above 3 MiB.

    Args:
        public: the quarantine key, 32 bytes X25519.
    """

    def __init__(self, public: bytes) -> None:
        self._public = X25519PublicKey.from_public_bytes(public)
        self._key_id = hashlib.sha256(public).digest()

    def __call__(self, chain: str, record: RawRecord, reason: Reason, withheld: bool = False) -> bytes:
        key, value, headers = record.key, record.value, record.headers
        size = len(key) + len(value) + sum(len(name.encode()) + len(held) for name, held in headers)
        # Nothing that could not be written may be tried again as it was.
        truncated = size > MAX_KEPT or reason is Reason.UNPROCESSABLE
        if withheld:
            key, value, headers = b"", b"", ()
        elif truncated:
            key, value, headers = key[:TRUNCATED_KEY], value[:TRUNCATED_VALUE], ()
        body = RECORD.encode_body(
            {"key": key, "value": value, "headers": [{"name": name, "value": held} for name, held in headers]}
        )
        info = quarantine_info(chain, record.offset)
        return QUARANTINED.encode(
            {
                "version": VERSION,
                "chain": chain,
                "source_offset": record.offset,
                "reason": reason.label,
                "truncated": truncated or withheld,
                "key_id": self._key_id,
                "encapsulated": HPKE.encrypt(body, self._public, info),
            }
        )


def quarantine_info(chain: str, offset: int) -> bytes:
    """What binds a quarantined record to its place."""
    return f"sealtrail/quarantine/v1\n{chain}\n{offset}".encode()
