"""The seal, the sealed event and the digests that bind them.

The seal is the small permanent record; the content may expire or be erased without breaking a
proof. Layout and rules: design §5; `sealtrail/avsc/seal.avsc`. Nothing here decides anything:
`chain` does.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Any

from sealtrail.avro import Codec, packaged
from sealtrail.errors import EvidenceError

VERSION = 1
ZERO_DIGEST = bytes(32)
ZERO_EVENT_ID = bytes(16)
MAX_SEAL_SIZE = 65_535  # C2SP tlog-tiles writes an entry's length in 16 bits
DEPLOYMENT_TENANT = "@deployment"  # owns what belongs to no tenant: notes, pulses

_CONTENT_CONTEXT = b"sealtrail/content/v1\n"
_SEAL_CONTEXT = b"sealtrail/seal/v1\n"


class Kind(StrEnum):
    """What a seal accounts for."""

    GENESIS = "GENESIS"
    EVENT = "EVENT"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"
    GAP = "GAP"
    HEARTBEAT = "HEARTBEAT"


class Reason(StrEnum):
    """Why a raw record was rejected, or why offsets hold no event."""

    NONE = "NONE"
    UNDECODABLE = "UNDECODABLE"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    TOO_LARGE = "TOO_LARGE"
    CONTRACT = "CONTRACT"
    NOT_AUTHENTIC = "NOT_AUTHENTIC"
    NOT_ENTITLED = "NOT_ENTITLED"
    WRONG_REGION = "WRONG_REGION"
    SEQUENCE_WILD = "SEQUENCE_WILD"
    UNPROCESSABLE = "UNPROCESSABLE"
    EXPIRED = "EXPIRED"
    NOT_DATA = "NOT_DATA"

    @property
    def label(self) -> str:
        """The printed form: `not-authentic`."""
        return self.value.lower().replace("_", "-")


class LogClass(StrEnum):
    """The five classes of the policy, and NONE for what is not an event."""

    SECURITY = "SECURITY"
    OPERATIONAL = "OPERATIONAL"
    COMPLIANCE = "COMPLIANCE"
    ADMIN = "ADMIN"
    DEBUG = "DEBUG"
    NONE = "NONE"


class Route(IntFlag):
    """The outputs that a seal was sent to."""

    ARCHIVE = 1
    HOT = 2
    SIEM = 4
    QUARANTINE = 8


@dataclass(frozen=True, slots=True)
class Seal:
    """One seal; field for field `seal.avsc`. Times are integers, UTC."""

    prev: bytes
    content_digest: bytes
    scope: bytes
    kind: Kind
    reason: Reason
    log_class: LogClass
    signed: bool
    routes: Route
    seq: int
    source_offset: int
    source_count: int
    sealed_at_us: int
    retain_until_ms: int
    chain: str
    version: int = VERSION

    @property
    def next_offset(self) -> int:
        """The first raw offset that this seal and those before it do not account for."""
        return self.source_offset + self.source_count


@dataclass(frozen=True, slots=True)
class Signature:
    """An Ed25519 signature and the id (SHA-256 of the public key) of the key that made it."""

    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What a seal's content digest covers; erased or expired as one."""

    salt: bytes
    policy: bytes
    content_schema: bytes
    event_id: bytes
    content: bytes

    def digest(self) -> bytes:
        """32 bytes: SHA-256 over context line, salt, policy, schema, event id and content."""
        return content_digest(self.salt, self.policy, self.content_schema, self.event_id, self.content)


def content_digest(salt: bytes, policy: bytes, content_schema: bytes, event_id: bytes, content: bytes) -> bytes:
    """As `Content.digest`."""
    return hashlib.sha256(b"".join((_CONTENT_CONTEXT, salt, policy, content_schema, event_id, content))).digest()


@dataclass(frozen=True, slots=True)
class SealedEvent:
    """A seal's exact bytes, its content and its signature, as they travel on the topics."""

    seal: bytes
    content: Content
    signature: Signature | None


SEAL = Codec(packaged("seal"))
SEALED_EVENT = Codec(packaged("sealed_event"))
SEAL_NOTE = Codec(packaged("seal_note"))


def leaf_hash(seal: bytes) -> bytes:
    """RFC 6962 leaf hash of a seal's exact bytes; `prev` of the next seal."""
    return hashlib.sha256(b"\x00" + seal).digest()


def seal_message(leaf: bytes) -> bytes:
    """The message that a sealer signs for a leaf hash."""
    return _SEAL_CONTEXT + leaf


def scope_key(disclosure_key: bytes, tenant: str, chain: str) -> bytes:
    """The key that shows, when released, that none of one tenant's seals of one chain is missing."""
    name = tenant.encode()
    return hmac.digest(disclosure_key, len(name).to_bytes(4, "big") + name + chain.encode(), "sha256")


def scope(key: bytes, seq: int) -> bytes:
    """16 bytes: whose seal this is, to holders of `scope_key`; noise to others."""
    return hmac.digest(key, seq.to_bytes(8, "big"), "sha256")[:16]


def encode_seal(seal: Seal) -> bytes:
    """The exact bytes of a seal.

    Raises:
        EvidenceError: longer than 65,535 bytes.
    """
    data = SEAL.encode(
        {
            "prev": seal.prev,
            "content_digest": seal.content_digest,
            "scope": seal.scope,
            "version": seal.version,
            "kind": seal.kind,
            "reason": seal.reason,
            "log_class": seal.log_class,
            "signed": seal.signed,
            "routes": int(seal.routes),
            "seq": seal.seq,
            "source_offset": seal.source_offset,
            "source_count": seal.source_count,
            "sealed_at": seal.sealed_at_us,
            "retain_until": seal.retain_until_ms,
            "chain": seal.chain,
        }
    )
    if len(data) > MAX_SEAL_SIZE:
        raise EvidenceError(f"seal of {len(data)} bytes; at most {MAX_SEAL_SIZE}")
    return data


def decode_seal(data: bytes) -> Seal:
    """The seal of strict bytes.

    Raises:
        EvidenceError: not a seal, not canonical, of another version, or longer than 65,535 bytes.
    """
    seal = _read_at_once(data)
    return _decode_by_schema(data) if seal is None else seal


def _decode_by_schema(data: bytes) -> Seal:
    """The oracle: what the schema and the strict codec say. `_read_at_once` accepts nothing that this refuses."""
    if len(data) > MAX_SEAL_SIZE:
        raise EvidenceError(f"seal of {len(data)} bytes; at most {MAX_SEAL_SIZE}")
    value = SEAL.decode(data)
    if value["version"] != VERSION:
        raise EvidenceError(f"seal version {value['version']}; this verifier knows {VERSION}")
    if not 0 <= value["routes"] <= int(Route.ARCHIVE | Route.HOT | Route.SIEM | Route.QUARANTINE):
        raise EvidenceError("unknown route bits")
    if min(value["seq"], value["source_offset"], value["source_count"]) < 0:
        raise EvidenceError("negative seq, source offset or count")
    return Seal(
        prev=value["prev"],
        content_digest=value["content_digest"],
        scope=value["scope"],
        kind=Kind(value["kind"]),
        reason=Reason(value["reason"]),
        log_class=LogClass(value["log_class"]),
        signed=value["signed"],
        routes=Route(value["routes"]),
        seq=value["seq"],
        source_offset=value["source_offset"],
        source_count=value["source_count"],
        sealed_at_us=value["sealed_at"],
        retain_until_ms=value["retain_until"],
        chain=value["chain"],
    )


def seal_words(kind: Kind, reason: Reason, log_class: LogClass, routes: Route, *, signed: bool) -> bytes:
    """What stands in a seal between its digests and its numbers: version, kind, reason, class, whether it is signed, routes."""
    words = (VERSION * 2, _BYTES[kind], _BYTES[reason], _CLASS_BYTES[log_class], int(signed), int(routes) * 2)
    return bytes(words)


class SealWriter:
    """The bytes of one chain's seals of one moment, as `encode_seal` gives them, sooner; that is the oracle.

    Args:
        chain: its name.
        sealed_at_us: what all these seals state.

    Attributes:
        chain, sealed_at: as they stand in a seal.
    """

    __slots__ = ("_untils", "chain", "sealed_at")

    def __init__(self, chain: str, sealed_at_us: int) -> None:
        name = chain.encode()
        self.chain = _varint(len(name)) + name
        self.sealed_at = _varint(sealed_at_us)
        self._untils: dict[int, bytes] = {}

    def until(self, retain_until_ms: int) -> bytes:
        """How a seal states it."""
        until = self._untils.get(retain_until_ms)
        if until is None:
            until = self._untils[retain_until_ms] = _varint(retain_until_ms)
        return until

    def seal(
        self,
        prev: bytes,
        content_digest: bytes,
        scope: bytes,
        words: bytes,
        seq: int,
        source_offset: int,
        source_count: int,
        retain_until_ms: int,
    ) -> bytes:
        """One seal; `words` as `seal_words` gives them.

        Raises:
            EvidenceError: longer than 65,535 bytes, or a number that no seal can state.
        """
        until = self._untils.get(retain_until_ms) or self.until(retain_until_ms)
        numbers = (_varint(seq), _varint(source_offset), _varint(source_count), self.sealed_at, until)
        data = b"".join((SEAL.header, prev, content_digest, scope, words, *numbers, self.chain))
        if len(data) > MAX_SEAL_SIZE:
            raise EvidenceError(f"seal of {len(data)} bytes; at most {MAX_SEAL_SIZE}")
        return data


def signature_bytes(signature: Signature) -> bytes:
    """What a signed sealed event ends with."""
    return b"".join((b"\x02", signature.key_id, signature.value))


def sealed_event_bytes(
    seal: bytes,
    salt: bytes,
    policy: bytes,
    content_schema: bytes,
    event_id: bytes,
    content: bytes,
    signature: Signature | None,
) -> bytes:
    """As `encode_sealed_event`, sooner."""
    attested = b"\x00" if signature is None else signature_bytes(signature)
    sizes = _varint(len(seal)), _varint(len(content))
    return b"".join((SEALED_EVENT.header, sizes[0], seal, salt, policy, content_schema, event_id, sizes[1], content, attested))


_SMALL = tuple(bytes([n << 1]) if n < 64 else bytes([n << 1 & 0x7F | 0x80, n >> 6]) for n in range(8192))


def _varint(value: int) -> bytes:
    """Avro's zigzag varint of a number that is not negative, of at most 63 bits."""
    if 0 <= value < 8192:
        return _SMALL[value]
    if not 0 <= value < 1 << 63:
        raise EvidenceError("a number in a seal that is negative, or of more than 63 bits")
    return _SMALL[value & 0x3F | 0x40][:1] + _rest(value >> 6)


def _rest(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_BYTES: dict[str, int] = {symbol: 2 * index for symbols in (Kind, Reason) for index, symbol in enumerate(symbols)}
_CLASS_BYTES = {log_class: 2 * index for index, log_class in enumerate(LogClass)}
_KINDS = {2 * index: kind for index, kind in enumerate(Kind)}  # by the byte that Avro writes for the symbol
_REASONS = {2 * index: reason for index, reason in enumerate(Reason)}
_CLASSES = {2 * index: log_class for index, log_class in enumerate(LogClass)}
_ROUTES = {2 * value: Route(value) for value in range(16)}
_SIGNED = (False, True)
_FIXED = 96  # bytes up to `seq`: header, three digests, and six fields that take one byte each in any seal that is one


def _read_at_once(data: bytes) -> Seal | None:
    """The seal, read field by field at the offsets that the layout gives; None for whatever is not plainly one.

    A third of the time that the schema's way takes. Each byte is looked at: shortest varints, known symbols, no sign, valid
    UTF-8, nothing left over.
    """
    if len(data) > MAX_SEAL_SIZE or data[:10] != SEAL.header or len(data) <= _FIXED or data[90] != 2 * VERSION:
        return None
    numbers: list[int] = []
    value = shift = 0
    position = _FIXED
    try:
        kind, reason, log_class = _KINDS[data[91]], _REASONS[data[92]], _CLASSES[data[93]]
        signed, routes = _SIGNED[data[94]], _ROUTES[data[95]]
        while len(numbers) < 6:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte & 0x80:
                shift += 7
                if shift > 63:
                    return None  # more than a long
                continue
            if value & 1 or (shift and not byte) or value >> 64:
                return None  # negative, over-long, or too large
            numbers.append(value >> 1)
            value = shift = 0
        seq, source_offset, source_count, sealed_at_us, retain_until_ms, length = numbers
        if position + length != len(data):
            return None
        chain = data[position:].decode()
    except (KeyError, IndexError, UnicodeDecodeError):
        return None
    return Seal(
        data[10:42], data[42:74], data[74:90], kind, reason, log_class, signed, routes,
        seq, source_offset, source_count, sealed_at_us, retain_until_ms, chain,
    )  # fmt: skip


def encode_sealed_event(event: SealedEvent) -> bytes:
    """The bytes of a sealed event as produced to the output topics."""
    content = event.content
    signature = event.signature
    return SEALED_EVENT.encode(
        {
            "seal": event.seal,
            "salt": content.salt,
            "policy": content.policy,
            "content_schema": content.content_schema,
            "event_id": content.event_id,
            "content": content.content,
            "signature": None if signature is None else {"key_id": signature.key_id, "value": signature.value},
        }
    )


def decode_sealed_event(data: bytes) -> SealedEvent:
    """The sealed event of strict bytes.

    Raises:
        EvidenceError: not a sealed event, or not canonical.
    """
    value = SEALED_EVENT.decode(data)
    signature = value["signature"]
    return SealedEvent(
        seal=value["seal"],
        content=content_of(value),
        signature=None if signature is None else Signature(signature["key_id"], signature["value"]),
    )


def row_of(seq: int, content: Content) -> dict[str, Any]:
    """A content as a row; see `content_of`."""
    return {
        "seq": seq,
        "salt": content.salt,
        "policy": content.policy,
        "content_schema": content.content_schema,
        "event_id": content.event_id,
        "content": content.content,
    }


def content_of(row: dict[str, Any]) -> Content:
    """The five fields of a content, from any record that carries them by their names."""
    return Content(row["salt"], row["policy"], row["content_schema"], row["event_id"], row["content"])


def encode_note(**fields: object) -> bytes:
    """The bytes of a SealNote; fields left out are null."""
    return SEAL_NOTE.encode(fields)
