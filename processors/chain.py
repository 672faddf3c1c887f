"""Step 5: the chain. Contents go in, sealed and linked events come out, in the order given.

A `ChainWriter` lives for one transaction. The last seal of a transaction is always signed, so that
every seal is attested by the sealer through `prev`; which one is last is known only at `finish`, so
the newest seal is held back until then. `ChainHead` is all that the next transaction needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from keystore import Signer
from schemas.policy import retain_until
from sealtrail.certificate import Certificate
from sealtrail.seal import (
    ZERO_DIGEST,
    Kind,
    LogClass,
    Reason,
    Route,
    SealWriter,
    Signature,
    content_digest,
    leaf_hash,
    scope,
    scope_key,
    seal_message,
    seal_words,
    sealed_event_bytes,
    signature_bytes,
)

if TYPE_CHECKING:
    from processors.native import Kernel, NativeSigner

MAX_SCOPE_KEYS = 65_536  # tenants a chain; 32 bytes each and the name
SALT_SIZE = 16
SALTS = 64  # drawn at once


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands: the next seq, the last leaf hash, the next raw offset, the last time."""

    chain: str
    seq: int = 0
    prev: bytes = ZERO_DIGEST
    next_offset: int = 0
    sealed_at_us: int = 0


class Plan(NamedTuple):
    """What the seals of one sort have in common within a transaction: made once, by `ChainWriter.plan`.

    Attributes:
        words: of a seal that is not signed, and of one that is.
        sign: whether the policy asks for a signature; the last seal has one in any case.
        outputs: lists that take the sealed event.
    """

    words: tuple[bytes, bytes]
    sign: bool
    retain_until_ms: int
    scope_key: bytes
    policy: bytes
    content_schema: bytes
    outputs: tuple[list[bytes], ...]


class Held(NamedTuple):
    """A seal that is not linked yet."""

    plan: Plan
    event_id: bytes
    salt: bytes
    content: bytes
    source_offset: int
    source_count: int


class Sealer:
    """What seals: the sealer's key and the disclosure key of the deployment.

    Args:
        certificate: of the sealer key; `signer` holds it.
        disclosure: the disclosure key.
        ended: the key's end is stated, and there is no other: nothing more may be sealed with it.
    """

    def __init__(self, certificate: Certificate, signer: Signer, disclosure: bytes, *, ended: bool = False) -> None:
        self.certificate = certificate
        self._ended = ended
        self._key_id = certificate.key_id
        self._signer = signer
        self._lent: dict[Kernel, NativeSigner | None] = {}
        self._disclosure = disclosure
        self._scope_keys: dict[tuple[str, str], bytes] = {}

    def retired(self) -> Sealer:
        """The same, whose key ended."""
        return Sealer(self.certificate, self._signer, self._disclosure, ended=True)

    def may_seal(self, time_s: float) -> bool:
        """Whether what is sealed at that time can be archived: the key did not end, and its certificate covers the time."""
        return not self._ended and self.certificate.covers(time_s)

    def scope_key(self, tenant: str, chain: str) -> bytes:
        """The key of a tenant's scopes in a chain."""
        key = self._scope_keys.get((tenant, chain))
        if key is None:
            if len(self._scope_keys) >= MAX_SCOPE_KEYS:
                self._scope_keys.clear()
            key = self._scope_keys[tenant, chain] = scope_key(self._disclosure, tenant, chain)
        return key

    def signature(self, leaf: bytes) -> Signature:
        """The sealer's signature of a leaf hash."""
        return Signature(self._key_id, self._signer.sign(seal_message(leaf)))

    def lent(self, kernel: Kernel) -> NativeSigner | None:
        """What signs as `signature` does, for the kernel; None: the key is elsewhere, or it cannot."""
        if kernel not in self._lent:
            tail = signature_bytes(Signature(self._key_id, b""))
            try:
                self._lent[kernel] = self._signer.lend(lambda private: kernel.Signer(private, seal_message(b""), tail))
            except NotImplementedError:
                self._lent[kernel] = None
        return self._lent[kernel]

    def keep(self, kernel: Kernel) -> None:
        """Lend it nothing more: its signatures failed."""
        self._lent[kernel] = None


class ChainWriter:
    """Appends seals to a chain for one transaction, and writes the sealed events to the outputs of their routes.

    Args:
        head: where the chain stands.
        now_us: the sealer's clock; `sealed_at` never decreases even if it does.
        outputs: by route, the list that takes sealed events.
        random: cryptographic: n -> n bytes.

    Attributes:
        writer: of these seals' bytes.
        salts, salted: bytes for salts, and how many of them are used.
    """

    def __init__(
        self,
        head: ChainHead,
        sealer: Sealer,
        now_us: int,
        outputs: Mapping[Route, list[bytes]],
        random: Callable[[int], bytes],
    ) -> None:
        self._head = head
        self._chain = head.chain
        self._sealer = sealer
        self.sealed_at_us = max(now_us, head.sealed_at_us)
        self.next_offset = head.next_offset
        self._seq = head.seq
        self._prev = head.prev
        self._outputs = outputs
        self._taking: dict[Route, tuple[list[bytes], ...]] = {}  # of them, those that take what has these routes
        self.writer = SealWriter(head.chain, self.sealed_at_us)
        self._random = random
        self.salts = b""
        self.salted = 0
        self._held: Held | None = None

    @property
    def next_seq(self) -> int:
        """The number of the seal that is appended next."""
        return self._seq + (self._held is not None)

    def plan(
        self,
        kind: Kind,
        reason: Reason,
        log_class: LogClass,
        routes: Route,
        retain_ms: int,
        tenant: str,
        policy: bytes,
        content_schema: bytes,
        *,
        sign: bool = False,
    ) -> Plan:
        """For seals of one sort. `retain_ms`: from the moment of sealing on."""
        taking = self._taking.get(routes)
        if taking is None:
            taking = self._taking[routes] = tuple(output for route, output in self._outputs.items() if routes & route)
        return Plan(
            _words(kind, reason, log_class, routes),
            sign,
            retain_until(self.sealed_at_us, retain_ms),
            self._sealer.scope_key(tenant, self._chain),
            policy,
            content_schema,
            taking,
        )

    def append(self, plan: Plan, event_id: bytes, content: bytes, source_offset: int, source_count: int) -> None:
        """Add a seal; it must account for exactly the next raw offsets."""
        if source_offset != self.next_offset:
            raise ValueError(f"a seal that begins at raw offset {source_offset}; {self.next_offset} is next")
        if self._held is not None:
            self._link(self._held, last=False)
        at = self.salted
        if at == len(self.salts):
            self.salts, at = self._random(SALTS * SALT_SIZE), 0
        self.salted = at + SALT_SIZE
        self._held = Held(plan, event_id, self.salts[at : self.salted], content, source_offset, source_count)
        self.next_offset = source_offset + source_count

    def flush(self) -> tuple[int, bytes]:
        """Link what is held, as another seal follows; next seq, and prev. For whoever goes on, and gives back by `go_on`."""
        if self._held is not None:
            self._link(self._held, last=False)
            self._held = None
        return self._seq, self._prev

    def go_on(self, seq: int, prev: bytes, held: Held, salts: bytes, salted: int) -> None:
        """After seals that were appended elsewhere; the newest is held."""
        self._seq, self._prev, self._held, self.salts, self.salted = seq, prev, held, salts, salted
        self.next_offset = held.source_offset + held.source_count

    def attesting(self, kernel: Kernel) -> NativeSigner | Callable[[bytes], bytes]:
        """What the sealed event of a signed seal ends with, of its leaf hash; as the kernel asks for it."""
        return self._sealer.lent(kernel) or (lambda leaf: signature_bytes(self._sealer.signature(leaf)))

    def attest_here(self, kernel: Kernel) -> None:
        """From the next transaction on, whatever it signs is signed in Python."""
        self._sealer.keep(kernel)

    def finish(self) -> ChainHead:
        """Sign and link the last seal; the head after it, the one that was given if nothing was appended."""
        if self._held is None:
            return self._head
        self._link(self._held, last=True)
        self._held = None
        return ChainHead(self._chain, self._seq, self._prev, self.next_offset, self.sealed_at_us)

    def _link(self, held: Held, *, last: bool) -> None:
        plan, event_id, salt, content, source_offset, source_count = held
        seq = self._seq
        signed = plan.sign or last
        digest = content_digest(salt, plan.policy, plan.content_schema, event_id, content)
        in_scope = scope(plan.scope_key, seq)
        words, until = plan.words[signed], plan.retain_until_ms
        seal = self.writer.seal(self._prev, digest, in_scope, words, seq, source_offset, source_count, until)
        leaf = leaf_hash(seal)
        signature = self._sealer.signature(leaf) if signed else None
        value = sealed_event_bytes(seal, salt, plan.policy, plan.content_schema, event_id, content, signature)
        for output in plan.outputs:
            output.append(value)
        self._prev = leaf
        self._seq = seq + 1


@lru_cache(maxsize=1024)
def _words(kind: Kind, reason: Reason, log_class: LogClass, routes: Route) -> tuple[bytes, bytes]:
    """Of a seal that is not signed, and of one that is."""
    return (
        seal_words(kind, reason, log_class, routes, signed=False),
        seal_words(kind, reason, log_class, routes, signed=True),
    )
