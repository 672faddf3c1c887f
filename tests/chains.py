"""Chains for tests of what comes after the sealer: valid records of one partition, made without Kafka.

A chain's records follow the format rules; what they say is invented: tenants, classes and times are what a test asks for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.registry import AUDIT_EVENT
from sealtrail.layout import DAY_MS, chain_name
from sealtrail.seal import (
    DEPLOYMENT_TENANT,
    SEAL_NOTE,
    ZERO_DIGEST,
    ZERO_EVENT_ID,
    Content,
    Kind,
    LogClass,
    Reason,
    Route,
    Seal,
    SealedEvent,
    Signature,
    encode_note,
    encode_seal,
    encode_sealed_event,
    leaf_hash,
    scope,
    scope_key,
    seal_message,
)

SECOND_US = 1_000_000
START_US = 1_790_000_000 * SECOND_US
Sign = Callable[[bytes], bytes]


def event_bytes(tenant: str, number: int, *, padding: int = 0) -> bytes:
    """A valid AuditEvent of a tenant; `number` makes its event id."""
    return AUDIT_EVENT.encode(
        {
            "event_id": number.to_bytes(16, "big"),
            "event_name": "github.push",
            "tenant": tenant,
            "emitter": {"source": "github", "instance": "one", "epoch": bytes(16), "seq": number},
            "region": "eu-central",
            "event_type": "OTHER",
            "occurred_at": START_US + number,
            "result": "SUCCESS",
            "effect": "EFFECTIVE",
            "redaction": {"status": "NONE", "policy": "v1", "fields": []},
            "changes": [],
            "actor": {"kind": "SERVICE", "id": "hmac_0", "display": None},
            "detail": "x" * padding or None,
        }
    )


@dataclass
class ChainMaker:
    """A sealer without decisions: `event`, `heartbeat`, `rejected` give the next record's value.

    Args:
        key_id, sign: the sealer's key.
        policy: the combined policy hash that contents name.
        random: n -> n bytes, for salts.
    """

    key_id: bytes
    sign: Sign
    chain: str = chain_name("audit.example", "local", "audit.raw", b"\x1f\x0c\x2a\x9b" + bytes(12), 0, 0)
    policy: bytes = bytes(32)
    now_us: int = START_US
    retain_days: int = 30
    seq: int = 0
    prev: bytes = ZERO_DIGEST
    offset: int = 0
    random: Callable[[int], bytes] = field(default=lambda size: bytes(size))

    @classmethod
    def with_key(cls, private: Ed25519PrivateKey, **rest: object) -> ChainMaker:
        """A maker that signs with a raw key."""
        public = private.public_key().public_bytes_raw()
        return cls(hashlib.sha256(public).digest(), private.sign, **rest)  # type: ignore[arg-type]  # as the caller gives

    def genesis(self) -> bytes:
        """The chain's first record, signed."""
        return self._note(Kind.GENESIS, Reason.NONE, 0, signed=True)

    def heartbeat(self, *, signed: bool = True) -> bytes:
        """A heartbeat; the sealer signs it, being the last of its transaction."""
        return self._note(Kind.HEARTBEAT, Reason.NONE, 0, signed=signed)

    def rejected(self, *, signed: bool = False) -> bytes:
        """A rejected record's note."""
        return self._note(Kind.REJECTED, Reason.UNDECODABLE, 1, signed=signed, detail="truncated")

    def event(
        self,
        tenant: str = "acme",
        log_class: LogClass = LogClass.OPERATIONAL,
        *,
        signed: bool = False,
        padding: int = 0,
    ) -> bytes:
        """An event's record."""
        data = event_bytes(tenant, self.seq, padding=padding)
        content = Content(self.random(16), self.policy, AUDIT_EVENT.sha256, self.seq.to_bytes(16, "big"), data)
        return self.seal(Kind.EVENT, Reason.NONE, log_class, content, 1, signed=signed, tenant=tenant)

    def seal(
        self,
        kind: Kind,
        reason: Reason,
        log_class: LogClass,
        content: Content,
        count: int,
        *,
        signed: bool,
        tenant: str = DEPLOYMENT_TENANT,
    ) -> bytes:
        """Any record, and the chain one seal longer."""
        retain_ms = -(-(self.now_us // 1000 + self.retain_days * DAY_MS) // DAY_MS) * DAY_MS
        seal = Seal(
            prev=self.prev,
            content_digest=content.digest(),
            scope=scope(scope_key(bytes(32), tenant, self.chain), self.seq),
            kind=kind,
            reason=reason,
            log_class=log_class,
            signed=signed,
            routes=Route.ARCHIVE,
            seq=self.seq,
            source_offset=self.offset,
            source_count=count,
            sealed_at_us=self.now_us,
            retain_until_ms=retain_ms,
            chain=self.chain,
        )
        data = encode_seal(seal)
        self.prev = leaf_hash(data)
        self.seq += 1
        self.offset += count
        signature = Signature(self.key_id, self.sign(seal_message(self.prev))) if signed else None
        return encode_sealed_event(SealedEvent(data, content, signature))

    def _note(self, kind: Kind, reason: Reason, count: int, *, signed: bool, **fields: object) -> bytes:
        content = Content(self.random(16), self.policy, SEAL_NOTE.sha256, ZERO_EVENT_ID, encode_note(**fields))
        return self.seal(kind, reason, LogClass.NONE, content, count, signed=signed)
