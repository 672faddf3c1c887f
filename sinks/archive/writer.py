"""Cutting a chain into segments and building their objects: values in, bytes out. I/O is not handled here.

- Cuts depend on records alone: the same chain gives the same cuts, however it is read. A cut comes at the first signed
  seal at or after a limit; heartbeats alone wait for the idle limit.
- Ciphertexts, attempts and checkpoint times differ between two writers of one segment. Its seals do not: that is what
  a writer compares before it adopts what another wrote.
- Contents lie together by (class, lock date); within an object, one frame a tenant.
- No lock beyond the clock + the longest retention + a day, and a day for rounding: a compliance lock cannot be undone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sealtrail.certificate import Certificate
from sealtrail.checkpoint import Checkpoint, Sign, parse_checkpoint, sign_checkpoint, verify_checkpoint
from sealtrail.errors import EvidenceError
from sealtrail.layout import DAY_MS
from sealtrail.merkle import Frontier
from sealtrail.note import ED25519, NoteKey, parse_note
from sealtrail.seal import ZERO_DIGEST, Kind, LogClass, decode_seal, leaf_hash
from sealtrail.segment import (
    Reference,
    Segment,
    check_references,
    decode_segment,
    encode_frames,
    encode_segment,
    seal_frame,
    sign_statement,
    statement_text,
    verify_statement,
)
from sinks.archive.checking import Entry, Position

LOCK_SLACK_MS = 2 * DAY_MS  # one day of clocks that disagree, one of rounding up to the UTC day
SHORTEST_LOCK_MS = 3_600_000  # a store refuses a lock that has passed: a content that expires within the hour gets a day
_PREV = slice(10, 42)  # `prev` in a seal's bytes: the first field after the 10-byte header


class LockMode(StrEnum):
    """S3 Object Lock modes."""

    COMPLIANCE = "COMPLIANCE"
    GOVERNANCE = "GOVERNANCE"


@dataclass(frozen=True, slots=True)
class Lock:
    """How an object is locked, and until when (ms since 1970, a UTC midnight)."""

    mode: LockMode
    until_ms: int


@dataclass(frozen=True, slots=True)
class Limits:
    """When a segment is cut: seals, bytes of content, record time; record time of heartbeats alone."""

    seals: int
    content_bytes: int
    record_time_us: int
    idle_time_us: int


class Cutter:
    """Collects a chain's entries from a segment's first one and says when the segment is complete."""

    __slots__ = ("_bytes", "_entries", "_idle", "_limits")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries: list[Entry] = []
        self._bytes = 0
        self._idle = True

    def push(self, entry: Entry) -> tuple[Entry, ...] | None:
        """The segment's entries if `entry` ends one; the next entry then begins another."""
        self._entries.append(entry)
        self._bytes += len(entry.content.content)
        self._idle = self._idle and entry.seal.kind is Kind.HEARTBEAT
        if not (entry.seal.signed and self._due(entry)):
            return None
        cut = tuple(self._entries)
        self._entries, self._bytes, self._idle = [], 0, True
        return cut

    def _due(self, entry: Entry) -> bool:
        limits = self._limits
        elapsed = entry.seal.sealed_at_us - self._entries[0].seal.sealed_at_us
        if self._idle:
            return elapsed >= limits.idle_time_us
        return len(self._entries) >= limits.seals or self._bytes >= limits.content_bytes or elapsed >= limits.record_time_us


@dataclass(frozen=True, slots=True)
class Part:
    """What goes into one contents object: entries of one class and lock, by tenant, in order of seq."""

    log_class: str
    lock: Lock
    tenants: tuple[tuple[str, tuple[Entry, ...]], ...]

    @property
    def rows(self) -> int:
        """How many contents."""
        return sum(len(entries) for _, entries in self.tenants)


@dataclass(frozen=True, slots=True)
class LockRules:
    """What decides a lock: the policy's mode per class, its longest retention, and this process's clock."""

    mode_of: Callable[[LogClass], LockMode]
    longest_ms: int
    now_ms: int

    def lock(self, mode: LockMode, retain_until_ms: int, what: str) -> Lock:
        """The lock for something to be kept until then.

        Raises:
            EvidenceError: later than any policy of this deployment can mean.
        """
        latest = self.now_ms + self.longest_ms + LOCK_SLACK_MS
        if retain_until_ms > latest:
            raise EvidenceError(f"{what}: retain_until {retain_until_ms} is beyond {latest}, the longest lock that is allowed")
        return Lock(mode, max(retain_until_ms, up_to_day(self.now_ms + SHORTEST_LOCK_MS)))


def up_to_day(time_ms: int) -> int:
    """The first UTC midnight at or after a time."""
    return -(-time_ms // DAY_MS) * DAY_MS


def parts_of(entries: Iterable[Entry], rules: LockRules) -> tuple[Part, ...]:
    """The contents objects of a segment, in a fixed order.

    Raises:
        EvidenceError: an entry asks for a lock that is refused.
    """
    groups: dict[tuple[str, int], tuple[Lock, dict[str, list[Entry]]]] = {}
    for entry in entries:
        seal = entry.seal
        lock = rules.lock(rules.mode_of(seal.log_class), seal.retain_until_ms, f"{seal.chain} seq {seal.seq}")
        _, tenants = groups.setdefault((seal.log_class.lower(), lock.until_ms), (lock, {}))
        tenants.setdefault(entry.tenant, []).append(entry)
    return tuple(
        Part(log_class, lock, tuple((name, tuple(tenants[name])) for name in sorted(tenants)))
        for (log_class, _), (lock, tenants) in sorted(groups.items())
    )


def segment_lock(entries: Sequence[Entry], rules: LockRules) -> Lock:
    """The segment's lock: as long as the longest retention asks, and as long as any content in it. Same errors."""
    last = entries[-1].seal
    longest = up_to_day(-(-last.sealed_at_us // 1000) + rules.longest_ms)
    until = max(longest, *(entry.seal.retain_until_ms for entry in entries))
    return rules.lock(LockMode.COMPLIANCE, until, f"{last.chain} segment that ends with seq {last.seq}")


def contents_object(
    part: Part, chain: str, first_seq: int, public_of: Callable[[str], bytes], random: Callable[[int], bytes]
) -> bytes:
    """The bytes of one contents object.

    Args:
        public_of: the X25519 data key of a tenant, 32 bytes; may raise.
    """
    return encode_frames(
        seal_frame(
            [(entry.seal.seq, entry.content) for entry in entries],
            chain=chain,
            first_seq=first_seq,
            log_class=part.log_class,
            tenant=tenant,
            public=public_of(tenant),
            random=random,
        )
        for tenant, entries in part.tenants
    )


@dataclass(frozen=True, slots=True)
class Head:
    """A chain as archived so far: where it stands, its Merkle frontier and the last segment's SHA-256."""

    position: Position
    frontier: tuple[bytes, ...] = ()
    segment_digest: bytes = ZERO_DIGEST
    last_seal: bytes = b""


def build_segment(
    head: Head, entries: Sequence[Entry], references: Sequence[Reference], public: bytes, sign: Sign, time_s: int
) -> bytes:
    """The segment that continues `head`, with checkpoint and statement of the archive's key.

    The tree is grown from the frontier whose root the previous checkpoint was checked to state (`read_segment`), so
    what is signed always extends it.

    Raises:
        EvidenceError: the entries do not continue the head, or the store gave a version that a reference cannot carry.
    """
    check_references(references)
    position = head.position
    if entries[0].seal.seq != position.next_seq or entries[0].seal.prev != position.prev:
        raise EvidenceError(
            f"{position.chain}: segment would begin with seq {entries[0].seal.seq}, expected {position.next_seq}"
        )
    chain, first = position.chain, position.next_seq
    frontier = Frontier(first, head.frontier)
    for entry in entries:
        frontier.append(entry.leaf)
    text = statement_text(chain, first, len(entries), head.segment_digest, references)
    return encode_segment(
        Segment(
            chain=chain,
            first_seq=first,
            frontier=head.frontier,
            seals=tuple(entry.data for entry in entries),
            signatures=tuple((e.seal.seq, e.signature) for e in entries if e.signature is not None),
            contents=tuple(references),
            checkpoint=sign_checkpoint(Checkpoint(chain, frontier.size, frontier.root()), public, sign, time_s),
            statement=sign_statement(text, chain, public, sign),
        )
    )


def read_segment(data: bytes, chain: str, first_seq: int, archive_keys: Sequence[Certificate]) -> tuple[Segment, Head]:
    """A segment object's bytes, checked, and the head that it makes. For what we wrote and what another wrote alike.

    Checked: place, continuity of `prev`, the root against the checkpoint, and checkpoint and statement against a
    certified archive key. Not: that `previous` is the digest of the segment before, which a verifier checks.

    Raises:
        EvidenceError: any of that is wrong.
    """
    where = f"{chain} segment {first_seq}"
    try:
        segment = decode_segment(data)
        if (segment.chain, segment.first_seq) != (chain, first_seq) or not segment.seals:
            raise EvidenceError(f"holds {len(segment.seals)} seals of {segment.chain} from {segment.first_seq}")
        frontier = Frontier(first_seq, segment.frontier)
        prev = b""
        for data_of_seal in segment.seals:
            if prev and data_of_seal[_PREV] != prev:
                raise EvidenceError(f"seals do not chain at {frontier.size}")
            prev = leaf_hash(data_of_seal)
            frontier.append(prev)
        last = decode_seal(segment.seals[-1])
        if (last.chain, last.seq) != (chain, segment.next_seq - 1):
            raise EvidenceError(f"ends with seq {last.seq} of {last.chain}")
        _check_notes(segment, frontier, archive_keys)
    except EvidenceError as error:
        raise EvidenceError(f"{where}: {error}") from error
    position = Position(chain, segment.next_seq, prev, last.sealed_at_us)
    return segment, Head(position, frontier.hashes, hashlib.sha256(data).digest(), segment.seals[-1])


def _check_notes(segment: Segment, frontier: Frontier, archive_keys: Sequence[Certificate]) -> None:
    note = segment.checkpoint.encode()
    stated, parsed = parse_checkpoint(note)
    ids = {signature.key_id for signature in parsed.signatures}
    for certificate in archive_keys:
        if not certificate.speaks_for(segment.chain):
            continue
        if NoteKey(segment.chain, ED25519, certificate.public).key_id not in ids:
            continue
        signed = verify_checkpoint(note, certificate.public)
        if not certificate.covers(signed.time_s):
            raise EvidenceError("checkpoint of an archive key that was not valid then")
        if stated != Checkpoint(segment.chain, frontier.size, frontier.root()):
            raise EvidenceError("checkpoint is of another tree than the seals make")
        verify_statement(segment, _previous(segment.statement), certificate.public)
        return
    raise EvidenceError("checkpoint of no certified archive key")


def _previous(statement: str) -> bytes:
    for line in parse_note(statement.encode()).text.split("\n"):
        name, _, value = line.partition(" ")
        if name == "previous":
            try:
                return bytes.fromhex(value)
            except ValueError as error:
                raise EvidenceError("statement whose previous is not hexadecimal") from error
    raise EvidenceError("statement without previous")


def check_adopted(segment: Segment, head: Head) -> None:
    """Check that a segment which is in place continues `head`: its own frontier and `previous` are not taken on trust.

    Raises:
        EvidenceError: it was signed over another tree, or after another segment.
    """
    if segment.frontier != head.frontier or _previous(segment.statement) != head.segment_digest:
        raise EvidenceError(f"{segment.chain} segment {segment.first_seq}: in place, but it continues another archive")


def same_seals(entries: Sequence[Entry], segment: Segment) -> bool:
    """Whether a segment holds exactly the seals that were read from the topic; False when it was cut elsewhere.

    Raises:
        EvidenceError: it holds another seal at a seq that was read: the chain has forked.
    """
    for entry, archived in zip(entries, segment.seals, strict=False):
        if entry.data != archived:
            raise EvidenceError(f"{segment.chain} seq {entry.seal.seq}: the archive holds another seal than the topic")
    return len(entries) == len(segment.seals)
