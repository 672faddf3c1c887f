"""Step 5: the chain. Contents go in, sealed and linked events come out, in the order given.

A `ChainWriter` lives for one transaction. The last seal of a transaction is always signed, so that
every seal is attested by the sealer through `prev`; which one is last is known only at `finish`, so
the newest seal is held back until then. `ChainHead` is all that the next transaction needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sealtrail.certificate import Certificate
from sealtrail.seal import (
    DEPLOYMENT_TENANT,
    ZERO_DIGEST,
    Content,
    Kind,
    LogClass,
    Reason,
    Route,
    Seal,
    SealedEvent,
    Signature,
    encode_seal,
    encode_sealed_event,
    leaf_hash,
    scope,
    scope_key,
    seal_message,
)

MAX_SCOPE_KEYS = 65_536  # tenants a chain; 32 bytes each and the name


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands: the next seq, the last leaf hash, the next raw offset, the last time."""

    chain: str
    seq: int = 0
    prev: bytes = ZERO_DIGEST
    next_offset: int = 0
    sealed_at_us: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What one seal is to say, before it has a place in the chain."""

    kind: Kind
    content: Content
    source_offset: int
    source_count: int
    retain_until_ms: int
    routes: Route
    reason: Reason = Reason.NONE
    log_class: LogClass = LogClass.NONE
    tenant: str = DEPLOYMENT_TENANT
    sign: bool = False


@dataclass(frozen=True, slots=True)
class Linked:
    """A sealed event in its place, as bytes for the outputs that its seal names."""

    value: bytes
    routes: Route


class Sealer:
    """What seals: the sealer's key and the disclosure key of the deployment.

    Args:
        certificate: of the sealer key; `sign` is its Ed25519.
        disclosure: the disclosure key.
        ended: the key's end is stated, and there is no other: nothing more may be sealed with it.
    """

    def __init__(
        self, certificate: Certificate, sign: Callable[[bytes], bytes], disclosure: bytes, *, ended: bool = False
    ) -> None:
        self.certificate = certificate
        self._ended = ended
        self._key_id = certificate.key_id
        self._sign = sign
        self._disclosure = disclosure
        self._scope_keys: dict[tuple[str, str], bytes] = {}

    def retired(self) -> Sealer:
        """The same, whose key ended."""
        return Sealer(self.certificate, self._sign, self._disclosure, ended=True)

    def may_seal(self, time_s: float) -> bool:
        """Whether what is sealed at that time can be archived: the key did not end, and its certificate covers the time."""
        return not self._ended and self.certificate.covers(time_s)

    def scope(self, tenant: str, chain: str, seq: int) -> bytes:
        """The scope field of a tenant's seal."""
        key = self._scope_keys.get((tenant, chain))
        if key is None:
            if len(self._scope_keys) >= MAX_SCOPE_KEYS:
                self._scope_keys.clear()
            key = self._scope_keys[tenant, chain] = scope_key(self._disclosure, tenant, chain)
        return scope(key, seq)

    def signature(self, leaf: bytes) -> Signature:
        """The sealer's signature of a leaf hash."""
        return Signature(self._key_id, self._sign(seal_message(leaf)))


class ChainWriter:
    """Appends entries to a chain for one transaction.

    Args:
        head: where the chain stands.
        now_us: the sealer's clock; `sealed_at` never decreases even if it does.
    """

    def __init__(self, head: ChainHead, sealer: Sealer, now_us: int) -> None:
        self._head = head
        self._sealer = sealer
        self._now_us = max(now_us, head.sealed_at_us)
        self._held: Entry | None = None
        self.linked: list[Linked] = []

    @property
    def next_offset(self) -> int:
        """The first raw offset that no entry accounts for yet."""
        held = self._held
        return self._head.next_offset if held is None else held.source_offset + held.source_count

    @property
    def next_seq(self) -> int:
        """The number of the seal that the next entry gets."""
        return self._head.seq + (self._held is not None)

    @property
    def sealed_at_us(self) -> int:
        """The time that this transaction's seals state."""
        return self._now_us

    def append(self, entry: Entry) -> None:
        """Add an entry; it must account for exactly the next raw offsets."""
        if entry.source_offset != self.next_offset:
            raise ValueError(f"entry begins at raw offset {entry.source_offset}; {self.next_offset} is next")
        self._link(last=False)
        self._held = entry

    def finish(self) -> ChainHead:
        """Sign and link the last entry; the head after it."""
        self._link(last=True)
        self._held = None
        return self._head

    def _link(self, *, last: bool) -> None:
        entry, head = self._held, self._head
        if entry is None:
            return
        signed = entry.sign or last
        seal = encode_seal(
            Seal(
                prev=head.prev,
                content_digest=entry.content.digest(),
                scope=self._sealer.scope(entry.tenant, head.chain, head.seq),
                kind=entry.kind,
                reason=entry.reason,
                log_class=entry.log_class,
                signed=signed,
                routes=entry.routes,
                seq=head.seq,
                source_offset=entry.source_offset,
                source_count=entry.source_count,
                sealed_at_us=self._now_us,
                retain_until_ms=entry.retain_until_ms,
                chain=head.chain,
            )
        )
        leaf = leaf_hash(seal)
        signature = self._sealer.signature(leaf) if signed else None
        self.linked.append(Linked(encode_sealed_event(SealedEvent(seal, entry.content, signature)), entry.routes))
        self._head = ChainHead(head.chain, head.seq + 1, leaf, entry.source_offset + entry.source_count, self._now_us)
