"""Whether a contestant did the work: everything it made visible is read and checked before its time counts.

What is true of outputs that pass:
1. Each chain's seals are numbered 0, 1, 2 …, each `prev` is the leaf hash of the one before, and time does not go back.
2. Each raw offset from 0 on is accounted for by one EVENT; none is refused, repeated, or left out.
3. Each content is the raw record's event, and its digest is right. Encrypted values are tokens in it: in a chain, the same for
   the same value of the same person, another for another.
4. Class and routes are the policy's; what the policy signs is signed, and every signature verifies.
5. Hot and SIEM hold exactly the sealed events whose routes say so, in the order of their chain.

Read with isolation read_committed. Not here: time (`watch`), and what peers do not state (`scope` of the sealer's own key).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kafkaio.reader import Record
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.tokenized import Tokenized
from sealtrail.seal import (
    ZERO_DIGEST,
    Kind,
    LogClass,
    Route,
    Seal,
    SealedEvent,
    decode_seal,
    decode_sealed_event,
    leaf_hash,
    seal_message,
)
from sealtrail.token import is_token

TOKENISED = Tokenized(packaged_registry())


class WrongError(Exception):
    """A contestant's outputs are not what they must be: which topic, which place, what."""


class Committed(Protocol):
    """What reads topics: `kafkaio.reader.PartitionReader`."""

    def read_all(self, topic: str, partition: int) -> Iterable[Record]:
        """Every committed record, in order."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What must become of one raw record.

    Attributes:
        digest: SHA-256 of its event, with no text where tokens will stand.
        log_class, sign, routes: what the policy says of it.
        tenant: whose event it is; texts: what its tokens stand for, each with whom it is about.
    """

    digest: bytes
    log_class: LogClass
    sign: bool
    routes: Route
    tenant: str
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a contestant's outputs are, and by what they are checked.

    Attributes:
        atomic: outputs of one transaction become visible together. Without, hot and SIEM are compared as far as all three
            topics go.
        attested: the last seal of each chain must be signed, as each transaction's last is.
    """

    archive: str
    hot: str
    siem: str
    key: bytes  # Ed25519, 32 bytes
    atomic: bool
    attested: bool


@dataclass(slots=True)
class Found:
    """What was checked: raw offsets accounted for and signed seals; offsets of the archive's records, by partition."""

    records: int = 0
    signed: int = 0
    places: dict[int, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Chain:
    seals: list[tuple[Route, bytes]] = field(default_factory=list)  # routes and leaf, by seq
    leaf: bytes = ZERO_DIGEST
    next_offset: int = 0
    sealed_at_us: int = 0
    signed: bool = True
    tokens: dict[tuple[str, str, str], str] = field(default_factory=dict)  # tenant, whom it is about, text
    texts: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # the other way round


def check(asked: Asked, partitions: Mapping[str, int], raw: Sequence[Sequence[Expected]], reader: Committed) -> Found:
    """Check everything that is visible.

    Args:
        partitions: of each topic, how many.
        raw: by partition and offset.

    Raises:
        WrongError: the first thing that is wrong.
    """
    found, chains = Found(), dict[str, _Chain]()
    key = Ed25519PublicKey.from_public_bytes(asked.key)
    for partition in range(partitions[asked.archive]):
        places = found.places[partition] = []
        for record in reader.read_all(asked.archive, partition):
            where = f"{asked.archive}/{partition}@{record.offset}"
            event = decode_sealed_event(record.value or b"")
            seal = decode_seal(event.seal)
            if int(seal.chain.rpartition("/")[2]) != partition:
                raise WrongError(f"{where}: of chain {seal.chain}")
            _link(where, chains.setdefault(seal.chain, _Chain()), seal, event, key)
            if seal.kind is Kind.EVENT:
                _event(where, chains[seal.chain], seal, event, raw[partition])
                found.records += 1
                places.append(record.offset)
            elif seal.kind not in (Kind.GENESIS, Kind.HEARTBEAT):
                raise WrongError(f"{where}: {seal.kind} {seal.reason}")
            found.signed += seal.signed
    for name, chain in chains.items():
        if asked.attested and not chain.signed:
            raise WrongError(f"{name}: its last seal is not signed")
    for topic, route in ((asked.hot, Route.HOT), (asked.siem, Route.SIEM)):
        _copies(asked, topic, route, partitions[topic], chains, reader)
    return found


def _link(where: str, chain: _Chain, seal: Seal, event: SealedEvent, key: Ed25519PublicKey) -> None:
    """Rules 1 and 4 of one seal; the chain moves on."""
    if seal.seq != len(chain.seals):
        raise WrongError(f"{where}: seq {seal.seq}, {len(chain.seals)} is next")
    if seal.prev != chain.leaf:
        raise WrongError(f"{where}: prev is not the leaf before")
    if seal.sealed_at_us < chain.sealed_at_us:
        raise WrongError(f"{where}: time goes back")
    if seal.source_offset != chain.next_offset:
        raise WrongError(f"{where}: raw offset {seal.source_offset}, {chain.next_offset} is next")
    if event.content.digest() != seal.content_digest:
        raise WrongError(f"{where}: content digest")
    leaf = leaf_hash(event.seal)
    if seal.signed != (event.signature is not None):
        raise WrongError(f"{where}: signed is {seal.signed}")
    if event.signature is not None:
        if event.signature.key_id != hashlib.sha256(key.public_bytes_raw()).digest():
            raise WrongError(f"{where}: signed by another key")
        try:
            key.verify(event.signature.value, seal_message(leaf))
        except InvalidSignature:
            raise WrongError(f"{where}: signature") from None
    chain.seals.append((seal.routes, leaf))
    chain.leaf, chain.next_offset, chain.sealed_at_us = leaf, seal.next_offset, seal.sealed_at_us
    chain.signed = seal.signed


def _event(where: str, chain: _Chain, seal: Seal, event: SealedEvent, raw: Sequence[Expected]) -> None:
    """Rules 2 to 4 of an EVENT."""
    if seal.source_count != 1 or seal.source_offset >= len(raw):
        raise WrongError(f"{where}: accounts for {seal.source_count} raw offsets from {seal.source_offset}")
    expected = raw[seal.source_offset]
    content = event.content.content
    if expected.texts:
        content = _tokens(where, chain, content, expected)
    if hashlib.sha256(content).digest() != expected.digest:
        raise WrongError(f"{where}: content is not the raw record's")
    if (seal.log_class, seal.routes) != (expected.log_class, expected.routes) or (expected.sign and not seal.signed):
        raise WrongError(f"{where}: class, routes or signature are not the policy's")


def _tokens(where: str, chain: _Chain, content: bytes, expected: Expected) -> bytes:
    """The content without its tokens, which are what they should be."""
    event = AUDIT_EVENT.decode(content)
    found = [value.text for value in TOKENISED.values(event)]
    if len(found) != len(expected.texts):
        raise WrongError(f"{where}: {len(found)} tokens, not {len(expected.texts)}")
    for token, (subject, text) in zip(found, expected.texts, strict=True):
        meant = (expected.tenant, subject, text)
        if not is_token(token):
            raise WrongError(f"{where}: not a token")
        if chain.tokens.setdefault(meant, token) != token or chain.texts.setdefault(token, meant) != meant:
            raise WrongError(f"{where}: a value has two tokens, or a token two values")
    return AUDIT_EVENT.encode(without_tokens(event))


def without_tokens(event: dict[str, Any]) -> dict[str, Any]:
    """The event with no text in the places of tokens."""
    return TOKENISED(event, lambda *_: "")


def _copies(asked: Asked, topic: str, route: Route, partitions: int, chains: Mapping[str, _Chain], reader: Committed) -> None:
    """Rule 5 for one topic."""
    copies: dict[str, list[tuple[int, bytes]]] = defaultdict(list)
    for partition in range(partitions):
        for record in reader.read_all(topic, partition):
            data = decode_sealed_event(record.value or b"").seal
            seal = decode_seal(data)
            copies[seal.chain].append((seal.seq, leaf_hash(data)))
    for name in {*chains, *copies}:
        seals = chains[name].seals if name in chains else []
        wanted = [(seq, leaf) for seq, (routes, leaf) in enumerate(seals) if routes & route]
        got = copies.get(name, [])
        if not asked.atomic:
            end = min(wanted[-1][0] if wanted else -1, got[-1][0] if got else -1)
            wanted = [one for one in wanted if one[0] <= end]
            got = [one for one in got if one[0] <= end]
        if wanted != got:
            raise WrongError(f"{topic}: {len(got)} sealed events of {name}, {len(wanted)} are routed there, or others")
