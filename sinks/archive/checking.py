"""What the sink checks of every record before it archives it: pure, one chain at a time.

- The record is a sealed event, its seal is canonical and of this chain.
- seq follows, `prev` is the leaf hash of the seal before, `sealed_at` does not decrease, GENESIS stands at 0 and only there.
- The content is the one that the seal's digest covers.
- A seal that says signed carries a signature of a key that the root certified for sealers at that time; no other does.

Anything else is an EvidenceError: nothing of such a chain is archived from there on. Not checked here: that raw offsets
are covered once and that emitters' numbers have no holes; a verifier does, and the archive is what it needs for that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealtrail.avro import HEADER_SIZE
from sealtrail.certificate import Certificate
from sealtrail.errors import EvidenceError, TransientError
from sealtrail.layout import DAY_MS
from sealtrail.seal import (
    DEPLOYMENT_TENANT,
    SEAL_NOTE,
    ZERO_DIGEST,
    ZERO_EVENT_ID,
    Content,
    Kind,
    LogClass,
    Seal,
    Signature,
    decode_seal,
    decode_sealed_event,
    leaf_hash,
    seal_message,
)

_TENANT = re.compile(r"@deployment|[a-z0-9][a-z0-9._-]{0,62}")
_MAX_NAME = 8_192  # bytes; the contract's limit for any string

FindKey = Callable[[bytes], Certificate | None]
"""The sealer's certificate of a key id, or None when the root certified no such sealer key."""

TenantOf = Callable[[Seal, Content], str]
"""Whose content it is. Raises EvidenceError, or UnknownSchemaError."""


class UnknownSchemaError(TransientError):
    """The content's schema is not known to this process; a newer release may know it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One checked record: the seal decoded and as bytes, its leaf hash, what it seals and whose that is."""

    seal: Seal
    data: bytes
    leaf: bytes
    content: Content
    signature: Signature | None
    tenant: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where a chain stands: what the next seal's seq and `prev` must be, and the earliest it may say it was made."""

    chain: str
    next_seq: int = 0
    prev: bytes = ZERO_DIGEST
    sealed_at_us: int = 0


class ChainCheck:
    """Checks one chain's records in order; stands still at the first that is wrong."""

    __slots__ = ("_find_key", "_publics", "_tenant_of", "position")

    def __init__(self, position: Position, find_key: FindKey, tenant_of: TenantOf) -> None:
        self.position = position
        self._find_key = find_key
        self._tenant_of = tenant_of
        self._publics: dict[bytes, tuple[Certificate, Ed25519PublicKey]] = {}

    def __call__(self, value: bytes) -> Entry:
        """The entry of a record's value, and one step forward.

        Raises:
            EvidenceError: the record does not continue the chain as it must; the message says where and what.
            UnknownSchemaError: it may, but this process cannot read its content's head.
        """
        position = self.position
        where = f"{position.chain} seq {position.next_seq}"
        try:
            event = decode_sealed_event(value)
            seal = decode_seal(event.seal)
        except EvidenceError as error:
            raise EvidenceError(f"{where}: {error}") from error
        leaf = leaf_hash(event.seal)
        self._check_place(seal, where)
        self._check_kind(seal, event.content, where)
        if event.content.digest() != seal.content_digest:
            raise EvidenceError(f"{where}: content is not the one that was sealed")
        self._check_signature(seal, leaf, event.signature, where)
        try:
            tenant = self._tenant_of(seal, event.content)
        except EvidenceError as error:
            raise EvidenceError(f"{where}: {error}") from error
        self.position = Position(position.chain, position.next_seq + 1, leaf, seal.sealed_at_us)
        return Entry(seal, event.seal, leaf, event.content, event.signature, tenant)

    def _check_place(self, seal: Seal, where: str) -> None:
        position = self.position
        if seal.chain != position.chain:
            raise EvidenceError(f"{where}: seal of chain {seal.chain}")
        if seal.seq != position.next_seq:
            raise EvidenceError(f"{where}: got seq {seal.seq}")
        if seal.prev != position.prev:
            raise EvidenceError(f"{where}: prev is {seal.prev.hex()[:16]}…, expected {position.prev.hex()[:16]}…")
        if seal.sealed_at_us < position.sealed_at_us:
            raise EvidenceError(f"{where}: sealed_at goes back from {position.sealed_at_us} to {seal.sealed_at_us}")
        if seal.retain_until_ms % DAY_MS or seal.retain_until_ms * 1000 < seal.sealed_at_us:
            raise EvidenceError(f"{where}: retain_until is not a UTC midnight after sealed_at")

    @staticmethod
    def _check_kind(seal: Seal, content: Content, where: str) -> None:
        if (seal.kind is Kind.GENESIS) != (seal.seq == 0):
            raise EvidenceError(f"{where}: a seal of kind {seal.kind} cannot stand here")
        if (seal.kind is Kind.EVENT) == (seal.log_class is LogClass.NONE):
            raise EvidenceError(f"{where}: kind {seal.kind} with class {seal.log_class}")
        if seal.kind is Kind.EVENT:
            return
        if content.content_schema != SEAL_NOTE.sha256 or content.event_id != ZERO_EVENT_ID:
            raise EvidenceError(f"{where}: kind {seal.kind} does not carry a note")

    def _check_signature(self, seal: Seal, leaf: bytes, signature: Signature | None, where: str) -> None:
        if signature is None:
            if seal.signed:
                raise EvidenceError(f"{where}: says signed, carries no signature")
            return
        if not seal.signed:
            raise EvidenceError(f"{where}: carries a signature, does not say signed")
        certificate, public = self._public(signature.key_id, where)
        if not certificate.speaks_for(seal.chain):
            raise EvidenceError(f"{where}: sealer key {signature.key_id.hex()[:16]}… is certified for {certificate.name}")
        if not certificate.covers(seal.sealed_at_us / 1_000_000):
            raise EvidenceError(f"{where}: sealer key {signature.key_id.hex()[:16]}… was not valid at sealed_at")
        try:
            public.verify(signature.value, seal_message(leaf))
        except InvalidSignature as error:
            raise EvidenceError(f"{where}: wrong signature of sealer key {signature.key_id.hex()[:16]}…") from error

    def _public(self, key_id: bytes, where: str) -> tuple[Certificate, Ed25519PublicKey]:
        known = self._publics.get(key_id)
        if known is None:
            certificate = self._find_key(key_id)
            if certificate is None:
                raise EvidenceError(f"{where}: signed by {key_id.hex()[:16]}…, no certified sealer key")
            known = self._publics[key_id] = certificate, Ed25519PublicKey.from_public_bytes(certificate.public)
        return known


class TenantReader:
    """Reads the tenant at the head of an event's bytes, without decoding the rest.

    Args:
        headers: per SHA-256 of an event schema's text, its 10-byte single-object header. Every such schema begins with
            event_id (fixed 16), event_name (string) and tenant (string).

    What is not an event belongs to the deployment.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        self._headers = headers

    def __call__(self, seal: Seal, content: Content) -> str:
        if seal.kind is not Kind.EVENT:
            return DEPLOYMENT_TENANT
        header = self._headers.get(content.content_schema)
        if header is None:
            raise UnknownSchemaError(
                f"{seal.chain} seq {seal.seq}: event schema {content.content_schema.hex()} is not known to this release",
                30,
            )
        data = content.content
        if data[:HEADER_SIZE] != header:
            raise EvidenceError("content is not of the schema that it names")
        start = HEADER_SIZE + 16
        if data[HEADER_SIZE:start] != content.event_id:
            raise EvidenceError("content has another event_id than its record")
        _, start = _read_name(data, start, "event_name")
        raw, _ = _read_name(data, start, "tenant")
        tenant = raw.decode("ascii", "replace")
        if not _TENANT.fullmatch(tenant):
            raise EvidenceError("content with a tenant of a wrong form")
        return tenant


def _read_name(data: bytes, start: int, field: str) -> tuple[bytes, int]:
    """An Avro string's bytes and the position after it; refuses over-long lengths and what runs past the end."""
    value = shift = 0
    position = start
    while position < len(data) and shift <= 21:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            size = value >> 1
            over_long = byte == 0 and position - start > 1
            if value & 1 or over_long or size > _MAX_NAME or position + size > len(data):
                break
            return data[position : position + size], position + size
    raise EvidenceError(f"content whose {field} cannot be read")
