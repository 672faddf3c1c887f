"""Steps 3 to 14 of `verify`, for one chain: state that grows segment by segment.

A finding never stops the walk: where a segment cannot be used, the next one's own claims are taken
up, and its checkpoint vouches for them. One damage gives one finding, at the position where it is:
what only follows from it is not repeated. A segment *agrees* when its seals make the very tree that a
genuine checkpoint states; no record of one that does not is VALID.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

from sealtrail.checkpoint import SignedCheckpoint
from sealtrail.contents import ContentsOf
from sealtrail.emitters import Emitters, RunKey
from sealtrail.errors import EvidenceError, UndecidedError
from sealtrail.keyring import Keyring
from sealtrail.layout import parse_segment_key
from sealtrail.links import Damage, Run, broken_links, place
from sealtrail.marks import Marks
from sealtrail.merkle import Frontier
from sealtrail.report import ChainReport, Finding, FindingKind, Step, Verdict
from sealtrail.seal import ZERO_DIGEST, Kind, Seal, Signature, decode_seal, leaf_hash
from sealtrail.segment import Segment, decode_segment
from sealtrail.signatures import check_signatures, has_valid_signature
from sealtrail.source import MissingObjectError, Source, StoredObject
from sealtrail.sworn import Sworn, sworn

SKEW_S = 60  # sealer and archive may differ by so much


@dataclass(slots=True)
class _Checked:
    """The seals of one segment, decoded where they decode; `positions` are the seqs that they stand for, None: for none."""

    segment: Segment
    key: str
    seals: list[Seal | None]
    leaves: list[bytes]
    positions: list[int | None]
    damages: list[Damage]
    signed: frozenset[int]  # indices whose signature is valid
    bad: set[int]  # positions that a finding touches

    def decoded(self) -> list[tuple[int, Seal]]:
        """Index and seal, where the bytes are a seal of their position."""
        pairs = zip(self.seals, self.positions, strict=True)
        return [(i, s) for i, (s, position) in enumerate(pairs) if s is not None and s.seq == position]


@dataclass(frozen=True, slots=True)
class _Before:
    """The segment before, as it was read, where nothing was found in it."""

    key: str
    first_seq: int
    count: int
    digest: bytes


class ChainVerification:
    """One chain: feed it every segment in order, then `finish`; read `report`, `findings`, `caveats`."""

    def __init__(
        self,
        chain: str,
        source: Source,
        keyring: Keyring,
        contents: ContentsOf,
        trusted: bytes | None,
    ) -> None:
        self.report = ChainReport(chain)
        self.findings: list[Finding] = []
        self.caveats: list[str] = []
        self.named: set[str] = set()
        self._chain = chain
        self._source = source
        self._keyring = keyring
        self._emitters = Emitters(chain, keyring)
        self._contents = contents(self._emitters, self._find, self._say)
        self._next_seq = 0
        self._prev: bytes | None = ZERO_DIGEST
        self._frontier: Frontier | None = Frontier()
        self._before: _Before | None = None
        self._next_offset: int | None = None
        self._sealed_at_us = 0
        self._complete = True  # every record so far was there and read
        self._segments: list[StoredObject] = []
        self._marks = Marks(chain, keyring, trusted)

    @property
    def runs(self) -> dict[RunKey, int]:
        """Every run whose records were read, and the seq of its first one here."""
        return self._emitters.runs

    @property
    def partitions(self) -> int | None:
        """How many chains the raw topic has, if this chain's GENESIS was read."""
        return self._emitters.partitions

    def segment(self, stored: StoredObject, following: int | None) -> None:
        """Check one segment; `following` is the first seq of the next one, if there is one."""
        _, first = parse_segment_key(stored.key)
        self.report.segments += 1
        aside = first < self._next_seq
        self._place(first, stored.key)
        count = (following or first + 1) - first
        try:
            data = self._source.read(stored.key, stored.version)
        except (MissingObjectError, UndecidedError) as error:
            self.caveats.append(f"{stored.key}: {error}")
            if not aside:
                self.report.verdicts[Verdict.UNDECIDED] += count
                self._skip_to(first + count)
            return
        try:  # Step 3
            segment = decode_segment(data)
            if (segment.chain, segment.first_seq) != (self._chain, first):
                raise EvidenceError(f"holds {segment.chain} from seq {segment.first_seq}")
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, 3, first, count, stored.key, f"not the segment of its name: {error}")
            if not aside:
                self._skip_to(first + count)
            return
        self.named |= {r.name for r in segment.contents}
        if not aside:
            self._segments.append(stored)
            self._check(segment, stored, hashlib.sha256(data).digest(), following)

    def begin_at(self, seq: int) -> None:
        """Verify from here on alone: nothing is known of what came before. Call it before the first segment."""
        self._skip_to(seq)

    def finish(self, *, reached_end: bool = True) -> None:
        """What can be said only of the chain as a whole, or of the part that was given.

        Args:
            reached_end: the chain's last segment was given.
        """
        self._second_pass()
        findings, undecided = self._emitters.finish(complete=self._complete)
        for f in findings:  # Step 13
            self._find(f.kind, 13, f.seq, f.count, "emitters", f.detail)
        if undecided:
            self.caveats.append(
                f"{self._chain}: not all of its contents were read, so {undecided} holes or missing openings "
                "in the emitters' numbers were not decided"
            )
        if self._emitters.open_runs:
            self.caveats.append(f"{self._chain}: {self._emitters.open_runs} runs have not said that they ended")
        marked, caveats = self._marks.finish(self._next_seq, reached_end=reached_end)
        self.findings += marked
        self.caveats += caveats
        if self._next_offset is not None:
            self.report.next_offset = self._next_offset

    def _check(self, segment: Segment, stored: StoredObject, digest: bytes, following: int | None) -> None:
        key, first = stored.key, segment.first_seq
        word = sworn(segment, self._keyring)
        self._predecessor(word)
        found_before = len(self.findings)
        seals = [self._decoded(data) for data in segment.seals]
        end = word.end if word.end is not None else self._end(segment, seals, following)
        for p in word.problems:
            self._find(p.kind, p.step, first, end - first, key, p.detail)
        signed = word.checkpoint
        if signed is not None and signed.checkpoint.size != end:
            detail = f"the checkpoint covers {signed.checkpoint.size} seals, but the segment's are {first} to {end - 1}"
            self._find(FindingKind.ALTERED, 10, first, end - first, key, detail)
            signed = None
        checked = self._seals(segment, key, seals, end)
        agrees = self._tree(checked, signed)
        if agrees and signed is not None:
            self._offsets_and_times(checked, signed.time_s)
            self.report.root = signed.checkpoint.root.hex()
            self.report.checkpoint = signed.note
        whole = len(self.findings) == found_before
        damaged = {seq for d in checked.damages if d.kind not in _GONE for seq in _span(d)}
        doubtful = damaged if agrees else damaged | checked.bad
        by_seq = {seal.seq: seal for _, seal in checked.decoded() if seal.seq not in doubtful}
        contents = self._contents.check(segment, stored, by_seq, range(first, end))
        self._verdicts(checked, agrees, contents)
        self._complete &= agrees and len(contents) == len(checked.seals) and set(contents.values()) <= {Verdict.VALID}
        self._before = _Before(key, first, end - first, digest) if whole else None

    def _decoded(self, data: bytes) -> Seal | None:
        """A seal of this chain; None if the bytes are not one."""
        try:
            seal = decode_seal(data)
        except EvidenceError:
            return None
        return seal if seal.chain == self._chain else None

    def _end(self, segment: Segment, seals: list[Seal | None], following: int | None) -> int:
        """The seq after a segment's last one where no genuine statement gives it."""
        if following is not None:
            return following
        last = seals[-1] if seals else None
        if last is not None and last.seq >= segment.first_seq:
            given = dict(segment.signatures).get(last.seq)
            if has_valid_signature(last, leaf_hash(segment.seals[-1]), given, self._keyring):
                return last.seq + 1
        return segment.first_seq + len(seals)

    def _verdicts(self, checked: _Checked, agrees: bool, contents: dict[int, Verdict]) -> None:
        self._count(checked.seals)
        found: Counter[Verdict] = Counter()
        for seal, position, attested in zip(checked.seals, checked.positions, self._attested(checked), strict=True):
            if seal is None or position in checked.bad:
                continue
            if not attested or not agrees:
                found[Verdict.UNATTESTED] += 1
            elif position in contents:
                found[contents[position]] += 1
        self.report.verdicts.update(found)

    def _place(self, first: int, key: str) -> None:
        """Step 4. What begins within another is set aside: the chain goes on with the one that began first."""
        if first > self._next_seq:
            count = first - self._next_seq
            self._find(FindingKind.MISSING, 4, self._next_seq, count, key, "segments before this one are missing")
            self._skip_to(first)
        elif first < self._next_seq:
            count = self._next_seq - first
            self._find(FindingKind.FORKED, 4, first, count, key, "begins before the segment before it ended")

    def _skip_to(self, seq: int) -> None:
        """Go on at `seq` with nothing known of what came before."""
        self._next_seq = seq
        self._prev = self._frontier = self._next_offset = self._before = None
        self._complete = False

    def _predecessor(self, word: Sworn) -> None:
        """Step 5, the digest of the segment before: it is that one which is not as it was."""
        before = self._before
        if word.statement is None or before is None or word.statement.previous == before.digest:
            return
        detail = "not the bytes that the statement of the segment after it names"
        self._find(FindingKind.ALTERED, 5, before.first_seq, before.count, before.key, detail)

    def _seals(self, segment: Segment, key: str, seals: list[Seal | None], end: int) -> _Checked:
        """Steps 6 and 7; `end` is the seq after the last one that the segment should hold."""
        run = Run(seals, [leaf_hash(data) for data in segment.seals], segment.first_seq, end, self._prev)
        given: dict[int, Signature] = dict(segment.signatures)

        def is_signed(index: int) -> bool:
            seal = seals[index]
            return seal is not None and has_valid_signature(seal, run.leaves[index], given.get(seal.seq), self._keyring)

        placed = place(run, is_signed)
        damages = placed.damages
        checked = _Checked(segment, key, seals, list(run.leaves), placed.positions, damages, frozenset(), set())
        checked.signed, problems = check_signatures(checked.decoded(), checked.leaves, segment.signatures, self._keyring)
        damages += broken_links(run, placed.holders, damages, checked.signed)
        for d in sorted(damages, key=lambda d: (d.step, d.seq)):
            self._find(d.kind, d.step, d.seq, d.count, key, d.detail)
        checked.bad = {seq for d in damages if d.kind not in _GONE for seq in _span(d)}
        gone = [_span(d) for d in damages if d.kind in _GONE]
        for kind, seq, detail in problems:
            if seq not in checked.bad and not any(seq in span for span in gone):
                self._find(kind, 7, seq, 1, key, detail)
                checked.bad.add(seq)
        self._next_seq = end
        self._prev = checked.leaves[-1] if checked.leaves else self._prev
        return checked

    def _offsets_and_times(self, checked: _Checked, time_s: int) -> None:
        """Steps 8 and 9, of seals that agree with their checkpoint: else what they say means nothing."""
        late = []
        latest_us = (time_s + SKEW_S) * 1_000_000
        expected, before_us = self._next_offset, self._sealed_at_us
        for seal in checked.seals:
            if seal is None:
                continue  # cannot be: they agree
            problem = _offset_problem(seal, expected)
            if problem is not None:
                self._bad(checked, FindingKind.HOLES, 8, seal.seq, problem)
            expected = seal.source_offset + seal.source_count
            sealed_at_us = seal.sealed_at_us
            if sealed_at_us < before_us:
                self._bad(checked, FindingKind.ALTERED, 9, seal.seq, "sealed before the seal before it")
            before_us = sealed_at_us
            if sealed_at_us > latest_us:
                late.append(seal.seq)
        self._next_offset, self._sealed_at_us = expected, before_us
        if late:
            detail = "sealed later than the checkpoint that covers it"
            self._find(FindingKind.ALTERED, 9, late[0], len(late), checked.key, detail)
            checked.bad |= set(late)

    def _bad(self, checked: _Checked, kind: FindingKind, step: int, seq: int, detail: str) -> None:
        self._find(kind, step, seq, 1, checked.key, detail)
        checked.bad.add(seq)

    def _tree(self, checked: _Checked, signed: SignedCheckpoint | None) -> bool:
        """Step 10: whether these very seals make the tree that a genuine checkpoint states."""
        segment, key = checked.segment, checked.key
        first = segment.first_seq
        tree = self._frontier.copy() if self._frontier is not None else None
        try:
            stated = Frontier(first, segment.frontier)
            if tree is not None and stated.hashes != tree.hashes:
                raise EvidenceError("its frontier is not that of the tree before it")
            tree = stated
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, 10, first, 1, key, str(error))
        roots: dict[int, bytes] = {}
        if tree is not None:
            wanted = self._marks.sizes
            for leaf in (*checked.leaves, None):
                if tree.size in wanted:
                    roots[tree.size] = tree.root()
                if leaf is not None:
                    tree.append(leaf)
            if signed is not None and (signed.checkpoint.size, signed.checkpoint.root) == (tree.size, tree.root()):
                self._frontier = tree
                self._marks.roots.update(roots)
                return True
        if signed is not None and tree is not None and not checked.bad and not checked.damages:
            detail = "these seals are not those that the checkpoint covers"
            self._find(FindingKind.ALTERED, 10, first, self._next_seq - first, key, detail)
            checked.bad |= set(range(first, self._next_seq))
        self._skip_to(self._next_seq)
        return False

    def _attested(self, checked: _Checked) -> list[bool]:
        """For each seal, whether a valid signature at or after it vouches for it through unbroken links."""
        attested = [False] * len(checked.seals)
        vouched = False
        for index in range(len(checked.seals) - 1, -1, -1):
            seal = checked.seals[index]
            vouched = seal is not None and (vouched or index in checked.signed)
            attested[index] = vouched
            before = checked.leaves[index - 1] if index else None
            vouched = vouched and seal is not None and seal.prev == before
        return attested

    def _count(self, stored: list[Seal | None]) -> None:
        seals = [seal for seal in stored if seal is not None]
        self.report.seals += len(stored)
        for kind, count in Counter([seal.kind for seal in seals]).items():
            self.report.kinds[kind.value] += count
        self.report.raw_offsets += sum([seal.source_count for seal in seals])
        for seal in seals:
            if seal.kind is Kind.GAP or seal.kind is Kind.REJECTED:
                self.report.gap_offsets += seal.source_count if seal.kind is Kind.GAP else 0
                self.report.reasons[seal.reason.label] += 1

    def _second_pass(self) -> None:
        """The events that duplicates repeat, read again only where there are duplicates."""
        if not self._emitters.repeated:
            return
        for stored in self._segments:
            try:
                segment = decode_segment(self._source.read(stored.key, stored.version))
            except (EvidenceError, UndecidedError):
                continue  # said in the first pass
            self._contents.originals(segment)

    def _find(self, kind: FindingKind, step: Step, seq: int, count: int, where: str, detail: str) -> None:
        self.findings.append(Finding(kind, step, self._chain, seq, count, where, detail))

    def _say(self, caveat: str) -> None:
        if caveat not in self.caveats:
            self.caveats.append(caveat)


_GONE = frozenset({FindingKind.MISSING, FindingKind.TRUNCATED})


def _span(damage: Damage) -> range:
    return range(damage.seq, damage.seq + damage.count)


def _offset_problem(seal: Seal, expected: int | None) -> str | None:
    """Whether a seal accounts for the raw offsets that its kind and the seal before it ask for."""
    if seal.kind is Kind.EVENT and seal.seq and seal.source_count == 1 and expected in (None, seal.source_offset):
        return None  # nearly all of them
    if (seal.kind is Kind.GENESIS) != (seal.seq == 0):
        return "GENESIS is a chain's first seal, and no other"
    if expected is not None and seal.source_offset != expected:
        return f"accounts for raw offsets from {seal.source_offset}; {expected} is next"
    alone = 0 if seal.kind in (Kind.GENESIS, Kind.HEARTBEAT) else 1
    if seal.source_count != alone and not (seal.kind is Kind.GAP and seal.source_count > 0):
        return f"{seal.kind} accounts for {seal.source_count} offsets"
    return None
