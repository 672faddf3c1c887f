"""Steps 11 and 12 for one segment: the contents that it refers to, and the locks on the objects.

A content counts as read only if its object has the SHA-256 that the segment states, its frame opens,
and its digest is that in its seal. What cannot be opened for want of a key is UNDECIDED, never VALID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from sealtrail.documents import Documents
from sealtrail.emitters import Emitters, run_of
from sealtrail.errors import EvidenceError, UndecidedError
from sealtrail.layout import CONTENTS, lock_date_ms
from sealtrail.report import FindingKind, Step, Verdict
from sealtrail.seal import DEPLOYMENT_TENANT, SEAL_NOTE, ZERO_EVENT_ID, Content, Kind, Seal, decode_seal
from sealtrail.segment import Frame, Open, Reference, Segment, decode_frames, open_frame
from sealtrail.source import MissingObjectError, Source, StoredObject

Openers = Mapping[bytes, Open]
Find = Callable[[FindingKind, Step, int, int, str, str], None]
Say = Callable[[str], None]


class Contents(Protocol):
    """What knows the contents of one chain's seals, wherever they lie. Findings and caveats go to whom it was made for."""

    def check(self, segment: Segment, stored: StoredObject, by_seq: Mapping[int, Seal], span: range) -> dict[int, Verdict]:
        """A verdict for each seal of a segment whose content was given and no finding touches.

        Args:
            by_seq: the seals that are what they should be.
            span: the seqs that the segment should hold.
        """

    def originals(self, segment: Segment) -> None:
        """Second pass: hand what duplicates repeat to the emitters' check again; findings were made in the first."""


ContentsOf = Callable[[Emitters, Find, Say], Contents]
"""Makes what checks one chain's contents: it counts numbers in these emitters and says there what it finds."""


def archived_contents(source: Source, documents: Documents, openers: Openers) -> ContentsOf:
    """Contents as an archive holds them: objects that the segments name, opened with the tenants' keys."""
    return partial(ContentsCheck, source, documents, openers)


@dataclass(frozen=True, slots=True)
class _Row:
    """A content as it was found: what it is bound to in its frame."""

    content: Content
    tenant: str
    log_class: str
    where: str


@dataclass(slots=True)
class _Found:
    """What the objects of one segment gave."""

    rows: dict[int, _Row] = field(default_factory=dict)
    unopened: bool = False  # some could not be read for want of a key or of an answer
    failed: list[tuple[FindingKind, Reference, str]] = field(default_factory=list)  # objects that gave nothing
    miscounted: list[tuple[Reference, int]] = field(default_factory=list)  # and how many rows they hold


class ContentsCheck:
    """Checks the contents of one chain's segments, and hands events and notes to the emitters' check."""

    def __init__(
        self, source: Source, documents: Documents, openers: Openers, emitters: Emitters, find: Find, say: Say
    ) -> None:
        self._source = source
        self._documents = documents
        self._openers = openers
        self._emitters = emitters
        self._find = find
        self._say = say

    def check(self, segment: Segment, stored: StoredObject, by_seq: Mapping[int, Seal], span: range) -> dict[int, Verdict]:
        """Steps 11 and 12 of a segment; see `Contents`."""
        found = _Found()
        for reference in segment.contents:
            self._object(segment, reference, by_seq, span, found)
        absent = [seq for seq in sorted(by_seq) if seq not in found.rows]
        explained = self._failed(segment, found, by_seq, absent)
        verdicts: dict[int, Verdict] = {}
        for seq in sorted(by_seq):
            row = found.rows.get(seq)
            verdict: Verdict | None = Verdict.UNDECIDED
            if row is not None:
                verdict = self._content(by_seq[seq], row)
            elif not found.unopened and seq not in explained:
                self._find(FindingKind.MISSING, 11, seq, 1, stored.key, "no content for this seal")
                verdict = None
            if verdict is not None:
                verdicts[seq] = verdict
        for reference, rows in found.miscounted if not absent else ():
            detail = f"holds {rows} contents where the segment states {reference.rows}"
            self._find(FindingKind.ALTERED, 11, segment.first_seq, 1, reference.name, detail)
        self._lock_segment(stored, by_seq)
        return verdicts

    def originals(self, segment: Segment) -> None:
        """See `Contents`."""
        seals = {}
        for data in segment.seals:
            try:
                seal = decode_seal(data)
            except EvidenceError:
                continue
            seals[seal.seq] = seal
        for reference in segment.contents:
            try:
                data = self._source.read(reference.name, reference.version)
                if hashlib.sha256(data).digest() != reference.sha256:
                    continue
                frames = decode_frames(data)
            except (EvidenceError, UndecidedError):
                continue
            for frame in frames:
                self._originals_of(frame, seals)

    def _originals_of(self, frame: Frame, seals: Mapping[int, Seal]) -> None:
        opener = self._openers.get(frame.key_id)
        if opener is None:
            return
        try:
            rows = open_frame(frame, opener)
        except EvidenceError:
            return
        for seq, content in rows:
            seal = seals.get(seq)
            if seal is None or seal.content_digest != content.digest():
                continue
            try:
                if seal.kind is Kind.EVENT:
                    event = self._documents.codec(content.content_schema).decode(content.content)
                    self._emitters.original(seq, *run_of(event), event["event_id"])
                elif seal.kind is Kind.REJECTED:
                    self._emitters.original_note(seq, content.content)
            except (EvidenceError, UndecidedError):
                continue

    def _object(self, segment: Segment, reference: Reference, by_seq: Mapping[int, Seal], span: range, found: _Found) -> None:
        """Add the contents of one object to what was found."""
        try:
            data = self._source.read(reference.name, reference.version)
            if hashlib.sha256(data).digest() != reference.sha256 or len(data) != reference.size:
                raise EvidenceError("not the bytes that the segment states")
            frames = decode_frames(data)
        except MissingObjectError:
            found.failed.append((FindingKind.MISSING, reference, "a contents object is not there"))
            return
        except UndecidedError as error:
            self._say(f"{reference.name}: {error}")
            found.unopened = True
            return
        except EvidenceError as error:
            found.failed.append((FindingKind.ALTERED, reference, str(error)))
            return
        opened, rows = True, 0
        mine: list[Seal] = []
        for frame in frames:
            contents = self._frame(segment, reference, frame, found)
            opened = opened and contents is not None
            for seq, content in contents or ():
                if seq in found.rows or seq not in span:
                    detail = "a second content for this seal" if seq in span else "a content without a seal in its segment"
                    self._find(FindingKind.INSERTED, 11, seq, 1, reference.name, detail)
                    continue
                rows += 1
                found.rows[seq] = _Row(content, frame.tenant, frame.log_class, reference.name)
                if seq in by_seq:
                    mine.append(by_seq[seq])
        if opened and rows != reference.rows:
            found.miscounted.append((reference, rows))
        if not opened:
            self._say("locks of contents that were not opened were checked against the date in their names only")
        self._lock_contents(reference, segment.first_seq, mine)

    def _frame(self, segment: Segment, reference: Reference, frame: Frame, found: _Found) -> list[tuple[int, Content]] | None:
        """A frame's contents; None if it could not be opened, for whatever reason."""
        if (frame.chain, frame.first_seq) != (segment.chain, segment.first_seq):
            detail = f"a frame of {frame.chain} from seq {frame.first_seq}"
            found.failed.append((FindingKind.INSERTED, reference, detail))
            return None
        opener = self._openers.get(frame.key_id)
        if opener is None:
            self._say(f"contents of tenant {frame.tenant} were not opened: no key {frame.key_id.hex()[:16]}… was given")
            found.unopened = True
            return None
        try:
            return open_frame(frame, opener)
        except EvidenceError as error:
            found.failed.append((FindingKind.ALTERED, reference, f"frame of tenant {frame.tenant}: {error}"))
            return None

    def _failed(self, segment: Segment, found: _Found, by_seq: Mapping[int, Seal], absent: list[int]) -> set[int]:
        """Findings for objects that gave nothing, at the first seal that lacks its content and is of their class and date, or
        of their class, or any; those seals.
        """
        explained: set[int] = set()
        for kind, reference, detail in found.failed:
            log_class = reference.name.removeprefix(CONTENTS).partition("/")[0]
            of_class = [seq for seq in absent if by_seq[seq].log_class.lower() == log_class]
            of_date = [seq for seq in of_class if by_seq[seq].retain_until_ms == lock_date_ms(reference.name)]
            lacking = of_date or of_class or absent
            seq = lacking[0] if lacking else segment.first_seq
            self._find(kind, 11, seq, max(reference.rows, 1), reference.name, detail)
            explained.update(lacking)
        return explained

    def _content(self, seal: Seal, row: _Row) -> Verdict | None:
        """Step 11, one content: its digest, its place, and its numbers. None: a finding speaks of it."""
        content = row.content
        try:
            if content.digest() != seal.content_digest:
                raise EvidenceError("its content is not what the seal states")
            if row.log_class != seal.log_class.lower():
                raise EvidenceError(f"its content lies in a frame of class {row.log_class}")
            tenant = self._note(seal, content) if seal.kind is not Kind.EVENT else self._event(seal, content)
            if tenant != row.tenant:
                raise EvidenceError(f"its content lies in the frame of tenant {row.tenant}")
        except UndecidedError as error:
            self._say(str(error))
            return Verdict.UNDECIDED
        except EvidenceError as error:
            self._find(FindingKind.ALTERED, 11, seal.seq, 1, row.where, str(error))
            return None
        return Verdict.VALID

    def _note(self, seal: Seal, content: Content) -> str:
        if content.content_schema != SEAL_NOTE.sha256 or content.event_id != ZERO_EVENT_ID:
            raise EvidenceError("its content is a note of an unknown form")
        note = SEAL_NOTE.decode(content.content)
        self._emitters.note(seal, note)
        if seal.kind is Kind.GENESIS:
            if note["resumes"] is not None:
                self._say(f"{seal.chain} goes on from {note['resumes']['chain']}: the operator's signature was not checked")
            elif seal.source_offset:
                self._say(f"{seal.chain} begins at raw offset {seal.source_offset}: nothing speaks of those before it")
        return DEPLOYMENT_TENANT

    def _event(self, seal: Seal, content: Content) -> str:
        event = self._documents.codec(content.content_schema).decode(content.content)
        if not isinstance(event, dict) or event.get("event_id") != content.event_id:
            raise EvidenceError("the event id outside the event is another")
        problem = self._documents.policy_problem(content.policy)
        if problem:
            self._say(f"class and retention cannot be traced to their policy: {problem}")
        self._emitters.event(seal, event)
        return str(event.get("tenant"))

    def _lock_contents(self, reference: Reference, first_seq: int, seals: list[Seal]) -> None:
        """Step 12: the object must be locked until the last of its seals may expire, and as its name says."""
        seq = min((s.seq for s in seals), default=first_seq)
        until_ms = max((s.retain_until_ms for s in seals), default=0)
        self._lock(reference.name, reference.version, seq, max(until_ms, lock_date_ms(reference.name)))

    def _lock_segment(self, stored: StoredObject, by_seq: Mapping[int, Seal]) -> None:
        if by_seq:
            self._lock(stored.key, stored.version, min(by_seq), max(s.retain_until_ms for s in by_seq.values()))

    def _lock(self, key: str, version: str, seq: int, until_ms: int) -> None:
        try:
            lock = self._source.lock(key, version)
        except MissingObjectError:
            return  # said where it was read
        except UndecidedError as error:
            self._say(f"lock of {key}: {error}")
            return
        if lock is None:
            self._say("locks were not checked: a copy does not carry them")
        elif lock.mode != "COMPLIANCE" or lock.until_ms < until_ms:
            stated = f"{lock.mode or 'no lock'} until {lock.until_ms} ms; expected COMPLIANCE until at least {until_ms} ms"
            self._find(FindingKind.WRONG_LOCK, 12, seq, 1, key, stated)
