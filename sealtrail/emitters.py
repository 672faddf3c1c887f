"""Step 13: the emitters' numbers, over one chain's contents.

Each run counts what it handed over from 0. From the events and notes in chain order it follows which
numbers were sealed, whether the run was opened by its source's certified key, and which duplicates
were not repetitions of the same event. It holds one range list a run, and one event id a duplicate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.report import FindingKind
from sealtrail.seal import SEAL_NOTE, Kind, Reason, Seal
from sealtrail.session import RUN_SESSION, epoch_time_s, verify_session

OPEN_EVENT = "emitter.open"
CLOSE_EVENT = "emitter.close"

T = TypeVar("T")
RunKey = tuple[str, bytes]  # source/instance, epoch


@dataclass(frozen=True, slots=True)
class EmitterFinding:
    """What is wrong with a run's numbers, noticed at a seal."""

    kind: FindingKind
    seq: int
    count: int
    detail: str


@dataclass(slots=True)
class _Run:
    high: int = -1
    holes: list[tuple[int, int]] = field(default_factory=list)
    first_seq: int = 0
    opened: bool = False
    closed: bool = False


class Emitters:
    """Follows every run of one chain; feed it contents in chain order, then ask `finish`."""

    def __init__(self, chain: str, keyring: Keyring) -> None:
        self._chain = chain
        self._keyring = keyring
        self._runs: dict[RunKey, _Run] = {}
        self._findings: list[EmitterFinding] = []
        self.partitions: int | None = None
        self.repeated: dict[tuple[RunKey, int], list[tuple[int, bytes]]] = {}  # -> (seq of the duplicate, event id)

    @property
    def runs(self) -> dict[RunKey, int]:
        """Every run that was seen, and the seq of its first record here."""
        return {key: run.first_seq for key, run in self._runs.items()}

    @property
    def open_runs(self) -> int:
        """Runs that did not say that they ended."""
        return sum(not run.closed for run in self._runs.values())

    def event(self, seal: Seal, event: dict[str, Any]) -> None:
        """An EVENT whose content was read.

        Raises:
            EvidenceError: it does not name its run and number as an event of the contract does.
        """
        key, number = run_of(event)
        run = self._number(key, number, seal.seq)
        if event.get("event_name") == OPEN_EVENT and number == 0:
            self._opening(run, key, seal, event)
        if event.get("event_name") == CLOSE_EVENT:
            run.closed = True

    def note(self, seal: Seal, note: dict[str, Any]) -> None:
        """A DUPLICATE's or REJECTED's SealNote: its number counts as seen. A GENESIS says how many chains there are."""
        if seal.kind is Kind.GENESIS:
            self.partitions = note["partitions"]
        key = _run_of_note(note)
        if key is None:
            return
        if seal.kind is Kind.DUPLICATE:
            self.repeated.setdefault((key, note["number"]), []).append((seal.seq, note["event_id"]))
        elif seal.reason is not Reason.SEQUENCE_WILD:
            self._number(key, note["number"], seal.seq)

    def original(self, sealed_at: int, key: RunKey, number: int, event_id: bytes) -> None:
        """Second pass: the record, sealed as seq `sealed_at`, that a duplicate repeated, or did not."""
        for seq, repeated_id in self.repeated.get((key, number), ()):
            if repeated_id != event_id:
                detail = f"number {number} of {key[0]} was used for another event, sealed at {sealed_at}"
                self._findings.append(EmitterFinding(FindingKind.SEQUENCE_REUSED, seq, 1, detail))

    def original_note(self, sealed_at: int, content: bytes) -> None:
        """Second pass: a REJECTED whose note says which event it was."""
        note = SEAL_NOTE.decode(content)
        key = _run_of_note(note)
        if key is not None and note["event_id"] is not None:
            self.original(sealed_at, key, note["number"], note["event_id"])

    def finish(self, *, complete: bool) -> tuple[list[EmitterFinding], int]:
        """All findings, in chain order, and how many could not be decided.

        Args:
            complete: every content of the chain was read. If not, a number that was not seen, or an opening,
                may be in what was not read.
        """
        unseen: list[EmitterFinding] = []
        for (name, epoch), run in self._runs.items():
            for first, last in run.holes:
                detail = f"{name} epoch {epoch.hex()}: numbers {first} to {last} were never sealed"
                unseen.append(EmitterFinding(FindingKind.HOLES, run.first_seq, last - first + 1, detail))
            if not run.opened:
                detail = f"{name} epoch {epoch.hex()}: no opening signed by its source"
                unseen.append(EmitterFinding(FindingKind.BAD_SIGNATURE, run.first_seq, 1, detail))
        for (key, number), duplicates in self.repeated.items():
            run_ = self._runs.get(key)
            if run_ is None or number > run_.high:
                detail = f"number {number} of {key[0]} was sealed as a duplicate only"
                unseen.append(EmitterFinding(FindingKind.HOLES, duplicates[0][0], 1, detail))
        findings = self._findings + (unseen if complete else [])
        return sorted(findings, key=lambda f: f.seq), 0 if complete else len(unseen)

    def _number(self, key: RunKey, number: int, seq: int) -> _Run:
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = _Run(first_seq=seq)
        if number > run.high:
            if number > run.high + 1:
                run.holes.append((run.high + 1, number - 1))
            run.high = number
            return run
        for index, (first, last) in enumerate(run.holes):
            if first <= number <= last:
                run.holes[index : index + 1] = [r for r in ((first, number - 1), (number + 1, last)) if r[0] <= r[1]]
                return run
        detail = f"number {number} of {key[0]} was sealed before"
        self._findings.append(EmitterFinding(FindingKind.INSERTED, seq, 1, detail))
        return run

    def _opening(self, run: _Run, key: RunKey, seal: Seal, event: dict[str, Any]) -> None:
        extension = event.get("extension")
        if not isinstance(extension, dict) or extension.get("schema") != RUN_SESSION.sha256:
            return
        try:
            header = RUN_SESSION.header + _of_type(bytes, extension.get("payload"))
            session = verify_session(header, self._keyring, epoch_time_s(key[1]))
            if not self._chain.startswith(f"{session.audience}."):
                raise EvidenceError("it speaks to another topic or deployment")
            if (session.run.key, session.run.epoch) != key:
                raise EvidenceError("it opens another run")
            if not self._keyring.counts(session.key_id, self._chain, seal.seq):
                raise EvidenceError("its source's key ended before")
        except EvidenceError as error:
            self._findings.append(EmitterFinding(FindingKind.BAD_SIGNATURE, seal.seq, 1, f"opening of {key[0]}: {error}"))
        run.opened = True  # or said above, once


def run_of(event: dict[str, Any]) -> tuple[RunKey, int]:
    """The run that an event names, and its number.

    Raises:
        EvidenceError: the event has no such fields: its schema is not one of the contract's.
    """
    emitter = event.get("emitter")
    if not isinstance(emitter, dict):
        raise EvidenceError("an event without its emitter")
    source, instance = _of_type(str, emitter.get("source")), _of_type(str, emitter.get("instance"))
    return (f"{source}/{instance}", _of_type(bytes, emitter.get("epoch"))), _of_type(int, emitter.get("seq"))


def _run_of_note(note: dict[str, Any]) -> RunKey | None:
    if note["emitter"] is None or note["epoch"] is None or note["number"] is None:
        return None
    return note["emitter"], note["epoch"]


def _of_type(kind: type[T], value: object) -> T:
    if not isinstance(value, kind):
        raise EvidenceError(f"an event whose emitter or opening has {type(value).__name__} for {kind.__name__}")
    return value
