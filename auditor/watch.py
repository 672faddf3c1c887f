"""Verification that never ends (EVI-6): what is new soon after it comes, all of it again in every cycle.

    round     every `new_s`: of each chain, what came after the checkpoint that was verified last
    cycle     every `cycle_s`: every chain from its beginning, against that checkpoint; rounds go on between its segments

States: per chain, the last checkpoint that verified without a finding, in a folder. It is what makes a deleted tail show, so it
is written only after its chain was found good, and never goes back to a smaller tree. Without the folder the next cycle finds
everything but what was cut before it began; nothing else is kept, so a process that dies loses nothing but time.

A finding is an event, `verification.finding`, signed and for the SIEM: stated once in a life of the process, under an id that
is the same for the same finding. A cycle's end is one too, `verification.completed`. What could not be decided (the store is
away) is no finding: the round is tried again, and its age shows it. `Age` watches that from another thread, and says
`verification.overdue`. A process that is gone altogether falls silent, and detection says so.

It reads, and holds no right to write but events.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

from processors.detect.finding import FINDING
from schemas.emitter import Emitter
from sealtrail.checkpoint import parse_checkpoint
from sealtrail.errors import EvidenceError, TransientError, UndecidedError
from sealtrail.extent import Extent
from sealtrail.report import Finding, Report
from sealtrail.seal import DEPLOYMENT_TENANT
from sealtrail.source import Source
from sealtrail.verify import Trust, verify_archive

OVERDUE = 3  # rounds, or cycles, that may be missed before it is said
LONGEST_WAIT_S = 60.0  # between two tries of a store that is away
AGE_LOOK_S = 1.0

AGE = Gauge("sealtrail_verification_age_seconds", "Since a round, or a cycle, was completed.", ["of"])
FINDINGS = Counter("sealtrail_verification_findings_total", "Findings, each once a process.", ["kind"])
SEALS = Counter("sealtrail_verification_seals_total", "Seals verified.", ["of"])

_LOG = structlog.get_logger("auditor.watch")

Draft = dict[str, Any]


class StoppedError(Exception):
    """Told to stop in the middle of a cycle."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: between two rounds, and between the beginnings of two cycles."""

    new_s: float
    cycle_s: float


class Kept:
    """The last good checkpoint of each chain, a file each in a folder that only this process writes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, bytes] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.checkpoint")):
            try:
                data = path.read_bytes()
                self._known[parse_checkpoint(data)[0].origin] = data
            except (OSError, EvidenceError) as error:
                _LOG.error("a kept checkpoint cannot be read: an earlier cut may not show", file=path.name, problem=str(error))

    @property
    def all(self) -> Mapping[str, bytes]:
        """By chain."""
        return dict(self._known)

    def advance(self, chain: str, note: str) -> None:
        """Keep a chain's checkpoint, unless a larger one is kept."""
        data = note.encode()
        known = self._known.get(chain)
        if known is not None and parse_checkpoint(known)[0].size >= parse_checkpoint(data)[0].size:
            return
        path = self._folder / f"{hashlib.sha256(chain.encode()).hexdigest()[:32]}.checkpoint"
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.replace(path)
        self._known[chain] = data


@dataclass(slots=True)
class Age:
    """When each kind of work was last completed. Threads may share it.

    `watch` says once when something is overdue, and again only after it was completed in between.
    """

    times: Times
    clock: Callable[[], float] = time.monotonic
    _done: dict[str, float] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        now = self.clock()
        self._done = {"round": now, "cycle": now}
        for of in self._done:
            AGE.labels(of).set_function(lambda of=of: self.clock() - self._done[of])  # type: ignore[misc]

    def completed(self, of: str) -> None:
        """One more."""
        self._done[of] = self.clock()
        self._told.discard(of)

    def overdue(self) -> list[tuple[str, float]]:
        """What has become overdue since it was asked, and its age in seconds."""
        allowed = {"round": OVERDUE * self.times.new_s, "cycle": OVERDUE * self.times.cycle_s}
        now, found = self.clock(), []
        for of, done in self._done.items():
            if now - done > allowed[of] and of not in self._told:
                self._told.add(of)
                found.append((of, now - done))
        return found


class Watch:
    """Verifies one archive until told to stop.

    Args:
        source: to read; `trust` without checkpoints: those are `kept`'s.
        prefix: chains whose names begin so.
        emitter: takes what there is to say.
    """

    def __init__(self, source: Source, trust: Trust, prefix: str, emitter: Emitter, kept: Kept, times: Times) -> None:
        self.age = Age(times)
        self._source, self._trust, self._prefix = source, trust, prefix
        self._emitter, self._kept, self._times = emitter, kept, times
        self._told: set[str] = set()
        self._round_at = self._cycle_at = 0.0
        self._failures = 0
        self._stop = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Raises ContractError when the trail refuses what is to be said: a mistake in the set-up."""
        self._stop = stop
        watcher = threading.Thread(target=self._watch_age, name="verification-age", daemon=True)
        watcher.start()
        try:
            while not stop.is_set():
                self._turn()
                stop.wait(max(0.05, min(self._round_at, self._cycle_at) - time.monotonic()))
        except StoppedError:
            return

    def _turn(self) -> None:
        """Whatever is due."""
        try:
            self._round()
            if time.monotonic() >= self._cycle_at:
                began = time.monotonic()
                self._cycle()
                self._cycle_at = began + self._times.cycle_s
            self._failures = 0
        except UndecidedError as error:
            self._failures += 1
            wait_s = min(LONGEST_WAIT_S, self._times.new_s * 2 ** min(self._failures, 6))
            self._round_at = time.monotonic() + wait_s
            self._cycle_at = max(self._cycle_at, self._round_at)
            _LOG.warning("the archive does not answer", reason=str(error), retry_in_s=round(wait_s, 1))

    def _round(self) -> None:
        """What came since, if it is due. Raises UndecidedError."""
        if time.monotonic() < self._round_at:
            return
        self._round_at = time.monotonic() + self._times.new_s
        report = verify_archive(self._source, self._trusting(), prefix=self._prefix, extent=Extent(after_checkpoint=True))
        self._take(report, "round")

    def _cycle(self) -> None:
        """Everything. Raises UndecidedError and StoppedError."""
        began = time.monotonic()

        def between(_: int, __: int) -> None:
            if self._stop.is_set():
                raise StoppedError
            self._round()

        report = verify_archive(self._source, self._trusting(), prefix=self._prefix, progress=between)
        self._take(report, "cycle")
        self._say(completed(report, self._prefix, time.monotonic() - began))

    def _trusting(self) -> Trust:
        return replace(self._trust, checkpoints=self._kept.all)

    def _take(self, report: Report, of: str) -> None:
        """State what was found, keep what was good, and count."""
        for finding in report.findings:
            self._state(finding)
        damaged = {finding.chain for finding in report.findings}
        for chain in report.chains:
            if chain.checkpoint and chain.chain not in damaged:
                self._kept.advance(chain.chain, chain.checkpoint)
        SEALS.labels(of).inc(sum(chain.seals for chain in report.chains))
        self.age.completed(of)

    def _state(self, finding: Finding) -> None:
        identifier = finding_id(finding)
        if identifier in self._told:
            return
        _LOG.error("verification found something", **finding.as_json())
        self._say(stated(finding))
        FINDINGS.labels(str(finding.kind)).inc()
        self._told.add(identifier)

    def _watch_age(self) -> None:
        while not self._stop.wait(AGE_LOOK_S):
            for of, age_s in self.age.overdue():
                _LOG.error("verification is overdue", of=of, age_s=round(age_s))
                with suppress(StoppedError):
                    self._say(overdue(of, age_s))

    def _say(self, draft: Draft) -> None:
        """Hand an event over, however long that takes. Raises StoppedError."""
        while True:
            try:
                self._emitter.emit(draft)
                return
            except TransientError as error:
                _LOG.warning("the emitter takes nothing", reason=str(error))
                if self._stop.wait(error.retry_after_s):
                    raise StoppedError from error


def finding_id(finding: Finding) -> str:
    """64 hex digits; the same for the same finding."""
    parts = (finding.kind, finding.step, finding.chain, finding.seq, finding.count, finding.where)
    return hashlib.sha256(("sealtrail/verification/v1\n" + "\0".join(map(str, parts))).encode()).hexdigest()


def stated(finding: Finding) -> Draft:
    """The event of a finding. It holds positions and names of objects, nothing of a record."""
    identifier, now_us = finding_id(finding), time.time_ns() // 1000
    kind = str(finding.kind).lower()
    where = {"step": str(finding.step), "where": _printable(finding.where)}
    seals = [] if finding.seq is None or not finding.chain else [{"chain": finding.chain, "seq": finding.seq}]
    rests_on = _rests_on(f"verification.{kind}", "critical", where, now_us, now_us, finding.count, seals)
    event = _event("verification.finding", "DETECTION", "FAILURE", ("finding", identifier), rests_on)
    return {**event, "correlation_id": identifier}


def completed(report: Report, prefix: str, seconds: float) -> Draft:
    """The event of a cycle: how much was verified, and whether it was good."""
    now_us = time.time_ns() // 1000
    counts = {
        "chains": str(len(report.chains)),
        "seals": str(sum(chain.seals for chain in report.chains)),
        "records": str(sum(chain.records for chain in report.chains)),
    }
    began_us, rule = now_us - int(seconds * 1e6), "verification.completed"
    rests_on = _rests_on(rule, "informational", counts, began_us, now_us, len(report.findings))
    return _event(rule, "REVIEW", "SUCCESS" if report.good else "FAILURE", ("archive", _printable(prefix)[-256:]), rests_on)


def overdue(of: str, age_s: float) -> Draft:
    """The event of work that was not completed in time."""
    now_us = time.time_ns() // 1000
    rests_on = _rests_on(f"verification.overdue-{of}", "high", {}, now_us - int(age_s * 1e6), now_us, 1)
    return _event("verification.overdue", "DETECTION", "FAILURE", ("verification", of), rests_on)


def _rests_on(
    rule: str,
    level: str,
    said: Mapping[str, str],
    from_us: int,
    to_us: int,
    count: int,
    seals: Sequence[Mapping[str, object]] = (),
) -> Draft:
    """The extension of a finding, as detection's findings have it."""
    values = {
        "rule": rule,
        "rule_digest": bytes(32),
        "level": level,
        "group": [{"field": name, "value": value} for name, value in said.items()],
        "from": from_us,
        "to": to_us,
        "count": count,
        "evidence": list(seals),
    }
    return {"schema": FINDING.sha256, "payload": FINDING.encode_body(values)}


def _event(name: str, event_type: str, result: str, about: tuple[str, str], extension: Draft) -> Draft:
    return {
        "event_name": name,
        "tenant": DEPLOYMENT_TENANT,
        "event_type": event_type,
        "result": result,
        "effect": "EFFECTIVE",
        "source_system": "verifier",
        "target_system": "archive",
        "object": {"type": about[0], "id": about[1]},
        "actor": {"kind": "SYSTEM", "id": "verifier", "display": None},
        "extension": extension,
    }


def _printable(text: str) -> str:
    """As the contract's pattern wants a name: other characters become `?`, a long one loses its beginning."""
    return "".join(c if "!" <= c <= "~" and c != "@" else "?" for c in text)[-512:] or "-"
