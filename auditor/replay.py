"""Forensic replay (CTL-5): the archive topic read again, verified record by record, written nowhere but to who asked.

A `Walk` is one partition's check: bytes, number, link, content digest, signature. A record is *attested* once a valid
signature at or after it vouches for it through the links; so records wait until one comes, which is at latest the last of
their transaction. What is left at the end, or before a broken link, is given as not attested, and so is a record that does
not belong where it stands. Findings name partition, offset and seq.

Nothing here writes to a topic. Not here: who may read (`auditor.access`), the archive in S3 (`sealtrail.verify`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from kafkaio.reader import PartitionReader, Record
from sealtrail.avro import Codec
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.report import FindingKind
from sealtrail.seal import Kind, Seal, SealedEvent, decode_seal, decode_sealed_event, leaf_hash
from sealtrail.signatures import check_signatures


@dataclass(frozen=True, slots=True)
class Replayed:
    """One record: its place on the topic, its seal, its event where it is one, whether a signature vouches for it."""

    partition: int
    offset: int
    seal: Seal
    leaf: bytes
    event: dict[str, Any] | None
    attested: bool
    size: int


@dataclass(frozen=True, slots=True)
class TopicFinding:
    """What is wrong, and where."""

    kind: FindingKind
    partition: int
    offset: int
    chain: str
    seq: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class Range:
    """What is read of each partition: offsets [first, end), and times or numbers within; None for no bound.

    Times are those of sealing, microseconds since 1970; `since` and `from_seq` included, `until` and `to_seq` not.
    """

    first: int | None = None
    end: int | None = None
    since_us: int | None = None
    until_us: int | None = None
    from_seq: int | None = None
    to_seq: int | None = None

    def covers(self, replayed: Replayed) -> bool:
        """Whether a record lies within."""
        seal = replayed.seal
        return (
            (self.since_us is None or seal.sealed_at_us >= self.since_us)
            and (self.from_seq is None or seal.seq >= self.from_seq)
            and not self.over(seal)
        )

    def over(self, seal: Seal) -> bool:
        """Whether this seal and all after it lie behind the range."""
        return (self.until_us is not None and seal.sealed_at_us >= self.until_us) or (
            self.to_seq is not None and seal.seq >= self.to_seq
        )


class Walk:
    """The check of one partition: feed it every record in order, then `finish`; each gives records whose state is settled."""

    def __init__(self, partition: int, keyring: Keyring, codecs: Mapping[bytes, Codec]) -> None:
        self.findings: list[TopicFinding] = []
        self._partition = partition
        self._keyring = keyring
        self._codecs = codecs
        self._next_seq = 0
        self._prev: bytes | None = None
        self._held: list[Replayed] = []
        self._vouched = False  # a signature vouches for `last`, or for one before it that it is linked to
        self._doubted = False  # something is wrong with `last` itself, and was reported
        self.last: Seal | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing waits for a signature."""
        return not self._held

    def take(self, record: Record) -> list[Replayed]:
        """The records that are settled now; usually none, or all since the last signature."""
        try:
            sealed = decode_sealed_event(record.value or b"")
            seal = decode_seal(sealed.seal)
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, record, None, f"not a sealed event: {error}")
            return self._broken()
        leaf = leaf_hash(sealed.seal)
        event = self._event(record, seal, sealed)
        found = Replayed(self._partition, record.offset, seal, leaf, event, False, len(record.value or b""))
        if self._misplaced(record, seal):
            return [found]  # and the chain goes on without it
        settled = [] if self._links(record, seal) else self._broken()
        self._held.append(found)
        self._next_seq, self._prev, self.last = seal.seq + 1, leaf, seal
        given = [] if sealed.signature is None else [(seal.seq, sealed.signature)]
        valid, problems = check_signatures([(0, seal)], [leaf], given, self._keyring)
        for kind, _, detail in problems:
            self._find(kind, record, seal.seq, detail)
        self._doubted = bool(problems)
        if valid:
            settled += [replace(held, attested=True) for held in self._held]
            self._held, self._vouched = [], True
        return settled

    def finish(self) -> list[Replayed]:
        """What no signature vouches for."""
        return self._broken()

    def _misplaced(self, record: Record, seal: Seal) -> bool:
        """Whether a record does not belong here at all: of another chain, or a number that was there.

        That can be told only where a signature has vouched for what was before.
        """
        if self.last is None or not self._vouched or self._begins(seal):
            return False
        if seal.chain != self.last.chain:
            self._find(FindingKind.INSERTED, record, seal.seq, f"of chain {seal.chain}")
        elif seal.seq < self._next_seq:
            self._find(FindingKind.INSERTED, record, seal.seq, f"where {self._next_seq} belongs")
        else:
            return False
        return True

    def _links(self, record: Record, seal: Seal) -> bool:
        """Whether it follows what came before it. One damage is reported once: what only follows from it is not."""
        if self.last is None:
            return True  # where one begins to read, nothing is known of what was before
        if self._begins(seal):
            return False
        problem = self._break(seal, self.last)
        if problem is not None and not self._doubted:
            kind, seq, detail = problem
            self._find(kind, record, seq, detail)
        return problem is None

    def _break(self, seal: Seal, last: Seal) -> tuple[FindingKind, int, str] | None:
        if seal.chain != last.chain or seal.seq < self._next_seq:
            return FindingKind.ALTERED, seal.seq, f"it does not follow {last.chain} {last.seq}, or that was altered"
        if seal.seq > self._next_seq:
            return FindingKind.MISSING, self._next_seq, f"{seal.seq - self._next_seq} seals are not on the topic"
        if self._prev is not None and seal.prev != self._prev:
            return FindingKind.ALTERED, seal.seq, "it does not name its predecessor's leaf hash, or that was altered"
        if seal.sealed_at_us < last.sealed_at_us:
            return FindingKind.ALTERED, seal.seq, "sealed before its predecessor"
        return None

    def _begins(self, seal: Seal) -> bool:
        """Whether another chain begins: the raw topic was made anew."""
        return self.last is not None and seal.chain != self.last.chain and seal.kind is Kind.GENESIS and seal.seq == 0

    def _event(self, record: Record, seal: Seal, sealed: SealedEvent) -> dict[str, Any] | None:
        """The event, decoded; None for other kinds and for a content that is not the one sealed."""
        content = sealed.content
        if content.digest() != seal.content_digest:
            self._find(FindingKind.ALTERED, record, seal.seq, "the content is not what the seal states")
            return None
        codec = self._codecs.get(content.content_schema)
        if seal.kind is not Kind.EVENT or codec is None:
            return None
        try:
            return codec.decode(content.content)
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, record, seal.seq, f"the content cannot be read: {error}")
            return None

    def _broken(self) -> list[Replayed]:
        held, self._held, self._prev, self._vouched = self._held, [], None, False
        return held

    def _find(self, kind: FindingKind, record: Record, seq: int | None, detail: str) -> None:
        self.findings.append(
            TopicFinding(kind, self._partition, record.offset, self.last.chain if self.last else "", seq, detail)
        )


def replay(reader: PartitionReader, topic: str, partition: int, wanted: Range, walk: Walk) -> Iterator[Replayed]:
    """The records of a range of one partition, as the walk settles them.

    Reads on behind a time or number until a signature vouches for the last record. Raises TransientError.
    """
    bounds = reader.bounds(topic, partition)
    first, end = bounds.first, bounds.stable
    if wanted.first is not None:
        first = max(first, wanted.first)
    if wanted.end is not None:
        end = min(end, wanted.end)
    try:
        if wanted.since_us is not None:
            first = max(first, reader.find(topic, partition, wanted.since_us, lambda r: _seal(r).sealed_at_us))
        if wanted.from_seq is not None:
            first = max(first, reader.find(topic, partition, wanted.from_seq, lambda r: _seal(r).seq))
    except EvidenceError:
        pass  # something on the topic is no sealed event: all of it is read, so that the walk meets it
    for record in reader.between(topic, partition, first, end):
        yield from filter(wanted.covers, walk.take(record))
        if walk.settled and walk.last is not None and wanted.over(walk.last):
            break
    yield from filter(wanted.covers, walk.finish())


def _seal(record: Record) -> Seal:
    return decode_seal(decode_sealed_event(record.value or b"").seal)
