"""One partition, one chain: read, check, cut, commit. The store is the only memory.

How a segment is committed, and what is true after each step:

    0  documents looked up              nothing was written
    1  contents PUT, one by one         orphans: no segment names them, a verifier reports them as such
    2  segment PUT, If-None-Match: *    the commit. It landed, or another's did, or nothing: the reply may not tell
    3  settle: what is there is read    ours or another's, its seals are those of the topic: the chain goes on from it
       unless step 2 told

A crash before 2 leaves orphans and the chain as it was; a crash after 2 leaves the chain one segment longer. Nothing
else is kept, so a start after a crash, a first start and a partition that moved are the same `_recover`. Two processes
that believe to own the partition race for step 2; one wins, the other adopts.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from kafkaio.reader import PartitionReader, Record
from schemas.policy_files import PolicyFiles
from sealtrail.errors import EvidenceError, SealtrailError, TransientError
from sealtrail.layout import contents_key, is_chain, parse_segment_key, segment_key, segments_prefix
from sealtrail.seal import LogClass, Seal, decode_seal, decode_sealed_event
from sealtrail.segment import Reference, Segment
from sinks.archive import metrics
from sinks.archive.checking import ChainCheck, Entry, Position, TenantOf
from sinks.archive.documents import Documents
from sinks.archive.keys import KeyDesk
from sinks.archive.store import Version
from sinks.archive.writer import (
    SHORTEST_LOCK_MS,
    Cutter,
    Head,
    Limits,
    Lock,
    LockMode,
    LockRules,
    Part,
    build_segment,
    check_adopted,
    contents_object,
    parts_of,
    read_segment,
    same_seals,
    segment_lock,
)

LONGEST_SEGMENT = 200_000  # seals; a cut comes at the first signed seal after 50,000, and the sealer signs every batch
BATCH_RECORDS = 1_000
BATCH_BYTES = 4 << 20  # read at once, a partition
EMPTY_S = 1.0  # looked at again: a topic without a record
PLAN_MS = SHORTEST_LOCK_MS // 2  # a lock that has passed is refused; a plan's locks last at least twice as long
IDLE_S = 0.1  # looked at again: a chain without news

_LOG = structlog.get_logger("sinks.archive")


class Store(Protocol):
    """The bucket, as `store.ArchiveStore` gives it.

    Strongly consistent: what a PUT answered is listed and read by everyone. A PUT that raised TransientError other than
    TakenError may have been written. ConfigError: no right. EvidenceError: a listed version is not there.
    """

    def put(self, key: str, data: bytes, lock: Lock, *, legal_hold: bool = False, if_absent: bool = False) -> str:
        """Write a locked object; its version id."""

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """All versions and markers above `after`, in key order."""

    def read(self, key: str, version: str) -> bytes:
        """One version's bytes."""

    def read_latest(self, key: str) -> bytes | None:
        """The current version's bytes, or None."""

    def exists(self, key: str) -> bool:
        """Whether there is a current version."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What all partitions of a process share. `origin` is `<authority>/<deployment>/`; `clock` gives seconds since 1970."""

    store: Store
    documents: Documents
    keys: KeyDesk
    tenant_of: TenantOf
    policies: PolicyFiles
    limits: Limits
    origin: str
    clock: Callable[[], float]
    random: Callable[[int], bytes]


@dataclass(slots=True)
class _Pending:
    """A segment that is cut and not yet committed; `references` grows as contents land (step 1)."""

    entries: tuple[Entry, ...]
    planned_ms: int = 0
    parts: tuple[Part, ...] = ()
    lock: Lock | None = None
    references: list[Reference] = field(default_factory=list)

    def plan(self, rules: LockRules) -> Lock:
        """Parts and locks, and again when they are so old that a lock may have passed; what landed then is orphaned."""
        if self.lock is None or rules.now_ms - self.planned_ms > PLAN_MS:
            self.planned_ms, self.references = rules.now_ms, []
            self.parts = parts_of(self.entries, rules)
            self.lock = segment_lock(self.entries, rules)
        return self.lock


@dataclass(slots=True)
class _Chain:
    """What is known of the chain between two recoveries."""

    head: Head
    check: ChainCheck
    cutter: Cutter
    unread: deque[Record] = field(default_factory=deque)
    pending: _Pending | None = None


class PartitionArchiver:
    """Archives one partition of the archive topic. One thread; call `step` again and again.

    Memory: the entries of one segment (its limit of content and what follows until a signed seal), one batch, and one
    contents object while it is built.
    """

    def __init__(self, topic: str, partition: int, reader: PartitionReader, tools: Tools) -> None:
        self._topic = topic
        self._partition = partition
        self._reader = reader
        self._tools = tools
        self._chain: _Chain | None = None
        self._label = str(partition)

    def step(self) -> float:
        """Do the next thing; returns after how many seconds to call again (0: at once).

        Raises:
            TransientError: something did not answer. Call again later: nothing is lost, nothing is done twice.
            EvidenceError: the chain or its archive is bad. Do not call again.
            ConfigError: the deployment is set up wrongly.
        """
        chain = self._chain
        if chain is None:
            self._chain = self._recover()
            return 0.0 if self._chain else EMPTY_S
        if chain.pending is not None:
            self._commit(chain, chain.pending)
            return 0.0
        try:
            return 0.0 if self._collect(chain) else IDLE_S
        except SealtrailError:
            self._chain = None  # records of this batch may be lost to us: find the position anew
            raise

    def close(self) -> None:
        """End the connection to the brokers. What is pending is read again by whoever comes next."""
        self._reader.close()

    # -- reading

    def _collect(self, chain: _Chain) -> bool:
        """Check and collect until a segment is cut or the batch is used up; False when there was nothing to read."""
        if not chain.unread:
            chain.unread.extend(self._reader.read(BATCH_RECORDS, BATCH_BYTES, 0.0))
            if not chain.unread:
                return False
        while chain.unread:
            cut = chain.cutter.push(chain.check(_value(chain.unread.popleft())))
            if cut is not None:
                chain.pending = _Pending(cut)
                break
        return True

    def _recover(self) -> _Chain | None:
        """The chain as the store knows it, and the reader behind its last archived seal; None: the topic is empty."""
        bounds = self._reader.bounds(self._topic, self._partition)
        first = self._reader.first_record(self._topic, self._partition, bounds.first, bounds.stable)
        if first is None:
            return None
        seal, _ = _seal_of(first)
        name = seal.chain
        if not (is_chain(name) and name.startswith(self._tools.origin) and name.endswith(f"/{self._partition}")):
            raise EvidenceError(f"{self._topic}/{self._partition}: chain {name} does not belong here")
        found = self._last_segment(name, seal.seq)
        head = Head(Position(name)) if found is None else self._read(name, found)
        self._position(head)
        metrics.NEXT_SEQ.labels(self._label).set(head.position.next_seq)
        _LOG.info("chain recovered", chain=name, next_seq=head.position.next_seq, first_in_topic=seal.seq)
        return self._chain_from(head)

    def _chain_from(self, head: Head) -> _Chain:
        check = ChainCheck(head.position, self._tools.keys.sealer, self._tools.tenant_of)
        return _Chain(head, check, Cutter(self._tools.limits))

    def _last_segment(self, chain: str, first_in_topic: int) -> Version | None:
        """The chain's last segment. A listing of versions: what is hidden or doubled must show.

        Begins so far before the topic's first seq that the segment which holds it is listed.
        """
        start = max(0, first_in_topic - max(LONGEST_SEGMENT, 4 * self._tools.limits.seals))
        after = segment_key(chain, start - 1) if start else ""
        last: Version | None = None
        for version in self._tools.store.versions(segments_prefix(chain), after):
            parse_segment_key(version.key)
            if version.is_marker:
                raise EvidenceError(f"{version.key}: hidden by a delete marker")
            if last is not None and last.key == version.key:
                raise EvidenceError(f"{version.key}: has a second version")
            last = version
        return last

    def _read(self, chain: str, version: Version) -> Head:
        _, first_seq = parse_segment_key(version.key)
        return self._checked(self._tools.store.read(version.key, version.version), chain, first_seq)[1]

    def _checked(self, data: bytes, chain: str, first_seq: int) -> tuple[Segment, Head]:
        """A segment's bytes, checked."""
        return read_segment(data, chain, first_seq, self._tools.keys.archive())

    def _position(self, head: Head) -> None:
        """Start reading behind the head. The last archived seal, if still in the topic, must be the topic's."""
        next_seq = head.position.next_seq
        archived = f"archived up to seq {next_seq - 1}" if head.last_seal else "nothing archived"
        where = head.position.chain
        wanted = next_seq - 1 if head.last_seal else next_seq
        offset = self._reader.find(self._topic, self._partition, wanted, lambda record: _seal_of(record)[0].seq)
        stable = self._reader.bounds(self._topic, self._partition).stable
        record = self._reader.first_record(self._topic, self._partition, offset, stable)
        if record is None:
            raise EvidenceError(f"{where}: {archived}, the topic ends before it")
        seal, data = _seal_of(record)
        if head.last_seal and seal.seq == wanted:
            if data != head.last_seal:
                raise EvidenceError(f"{where} seq {wanted}: the archive holds another seal than the topic")
            self._reader.start(self._topic, self._partition, record.offset + 1)
        elif seal.seq == next_seq:
            self._reader.start(self._topic, self._partition, record.offset)
        else:
            raise EvidenceError(f"{where}: {archived}, the topic goes on with seq {seal.seq}")

    # -- writing

    def _commit(self, chain: _Chain, pending: _Pending) -> None:
        """Steps 0 to 3 of the module's table; called again with the same `pending` after a TransientError."""
        tools = self._tools
        name, first_seq = chain.head.position.chain, chain.head.position.next_seq
        lock = self._plan(pending)
        signer = tools.keys.signer()
        tools.documents.require(pending.entries, signer.key_id)
        for part in pending.parts[len(pending.references) :]:
            pending.references.append(self._put_contents(part, name, first_seq))
        # Contents are there and named by nothing: a crash here leaves them as orphans.
        data = build_segment(chain.head, pending.entries, pending.references, signer.public, signer.sign, int(tools.clock()))
        segment, head = self._checked(data, name, first_seq)  # before it is locked for years: it reads back
        key = segment_key(name, first_seq)
        adopted = False
        try:
            tools.store.put(key, data, lock, if_absent=True)
        except TransientError as error:
            there = self._landed(key)
            if there is None:
                raise  # nothing landed yet; if it still does, the next try is refused and finds it
            adopted = there != data
            _LOG.warning("segment was in place", chain=name, first_seq=first_seq, ours=not adopted, reason=str(error))
            segment, head = self._checked(there, name, first_seq)
            check_adopted(segment, chain.head)
        # A segment is in place: the chain has grown, whoever wrote it.
        self._settle(chain, pending, segment, head, adopted=adopted)

    def _plan(self, pending: _Pending) -> Lock:
        """The segment's lock. One too long for our policy is bad evidence, unless a newer policy than ours sealed it."""
        tools = self._tools
        try:
            return pending.plan(LockRules(self._mode_of, tools.policies.longest_ms, int(tools.clock() * 1000)))
        except EvidenceError as error:
            if all(tools.policies.has(entry.content.policy) for entry in pending.entries):
                raise
            raise TransientError(f"{error}; it was sealed under a policy that this sink does not have", 30.0) from error

    def _mode_of(self, log_class: LogClass) -> LockMode:
        return LockMode(self._tools.policies.lock_mode(log_class))

    def _put_contents(self, part: Part, chain: str, first_seq: int) -> Reference:
        tools = self._tools
        data = contents_object(part, chain, first_seq, tools.keys.tenant_data, tools.random)
        attempt = tools.random(8).hex()  # a try that got no reply may have landed: never two under one name
        key = contents_key(part.log_class, part.lock.until_ms, chain, first_seq, attempt)
        version = tools.store.put(key, data, part.lock)
        metrics.BYTES.labels(self._label).inc(len(data))
        return Reference(key, version, hashlib.sha256(data).digest(), len(data), part.rows)

    def _landed(self, key: str) -> bytes | None:
        """The segment that is in place after a PUT whose outcome is not known, or None."""
        found = list(self._tools.store.versions(key))
        if not found:
            return None
        if len(found) > 1 or found[0].is_marker:
            raise EvidenceError(f"{key}: has {len(found)} versions, or a delete marker")
        return self._tools.store.read(key, found[0].version)

    def _settle(self, chain: _Chain, pending: _Pending, segment: Segment, head: Head, *, adopted: bool) -> None:
        """Go on from the segment that is in place: the same for our own, a resent one and another writer's."""
        same = same_seals(pending.entries, segment)
        metrics.NEXT_SEQ.labels(self._label).set(head.position.next_seq)
        if adopted:
            metrics.ADOPTIONS.labels(self._label).inc()
        else:
            metrics.SEGMENTS.labels(self._label).inc()
            metrics.SEALS.labels(self._label).inc(len(segment.seals))
        _LOG.info(
            "segment archived",
            chain=segment.chain,
            first_seq=segment.first_seq,
            seals=len(segment.seals),
            contents=len(segment.contents),
            adopted=adopted,
        )
        if same:
            chain.head, chain.pending = head, None
        else:
            self._chain = None  # cut elsewhere, with other limits: find the position behind it


def _value(record: Record) -> bytes:
    if record.value is None:
        raise EvidenceError(f"archive topic: tombstone at offset {record.offset}")
    return record.value


def _seal_of(record: Record) -> tuple[Seal, bytes]:
    data = decode_sealed_event(_value(record)).seal
    return decode_seal(data), data
