"""What verification says: verdicts a record, findings with their position, and what it cannot rule out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """What is true of one record that no finding touches."""

    VALID = "VALID"
    EXPIRED = "EXPIRED"
    ERASED = "ERASED"
    UNATTESTED = "UNATTESTED"  # no valid signature at or after it
    UNDECIDED = "UNDECIDED"  # its content could not be read: never shown as valid


class FindingKind(StrEnum):
    """What is wrong."""

    ALTERED = "ALTERED"
    MISSING = "MISSING"
    INSERTED = "INSERTED"
    REORDERED = "REORDERED"
    TRUNCATED = "TRUNCATED"
    FORKED = "FORKED"
    HIDDEN = "HIDDEN"
    BAD_SIGNATURE = "BAD-SIGNATURE"
    UNKNOWN_KEY = "UNKNOWN-KEY"
    WRONG_LOCK = "WRONG-LOCK"
    HOLES = "HOLES"
    SEQUENCE_REUSED = "SEQUENCE-REUSED"


OF_SOURCES = frozenset({FindingKind.HOLES, FindingKind.SEQUENCE_REUSED})
"""In step 13: an application lost or reused numbers before the trail had them; no evidence was touched."""


Step = int | str
"""A step of `sealtrail.verify`; of a bundle, also "B1" to "B4" of `sealtrail.bundle`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong and where: `count` records of a chain from `seq` on, or an object of the store.

    `step` is the one that found it.
    """

    kind: FindingKind
    step: Step
    chain: str
    seq: int | None
    count: int
    where: str
    detail: str

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "finding": str(self.kind),
            "step": self.step,
            "chain": self.chain,
            "seq": self.seq,
            "count": self.count,
            "where": self.where,
            "detail": self.detail,
        }


@dataclass(slots=True)
class ChainReport:
    """What was seen of one chain. `records` are raw records: sealed as event, duplicate or rejected."""

    chain: str
    segments: int = 0
    seals: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    raw_offsets: int = 0  # offsets accounted for, gaps included
    gap_offsets: int = 0  # of these, offsets that vanished or held no data
    next_offset: int = 0
    root: str = ""
    checkpoint: str = ""

    @property
    def records(self) -> int:
        """Raw records accounted for one by one."""
        return self.kinds["EVENT"] + self.kinds["DUPLICATE"] + self.kinds["REJECTED"]

    @property
    def raw_records(self) -> int:
        """Raw offsets that held a record when they were sealed: as many as `records`, unless seals were tampered with."""
        return self.raw_offsets - self.gap_offsets

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "chain": self.chain,
            "segments": self.segments,
            "seals": self.seals,
            "records": self.records,
            "raw_records": self.raw_records,
            "raw_offsets": self.raw_offsets,
            "next_offset": self.next_offset,
            "kinds": dict(self.kinds),
            "reasons": dict(self.reasons),
            "verdicts": dict(self.verdicts),
            "root": self.root,
            "checkpoint": self.checkpoint,
        }


@dataclass(slots=True)
class Report:
    """The outcome of a verification. `caveats`: what it could not rule out, in words."""

    chains: list[ChainReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    orphans: int = 0  # contents objects that no segment names

    @property
    def verdicts(self) -> Counter[str]:
        """Over all chains."""
        return sum((c.verdicts for c in self.chains), Counter())

    @property
    def intact(self) -> bool:
        """Nothing was changed since it was sealed: no finding but of what sources left out, and every record settled.

        An archive without a chain is not intact.
        """
        settled = {Verdict.VALID, Verdict.EXPIRED, Verdict.ERASED}
        unsettled = any(v not in settled for v in self.verdicts)
        return bool(self.chains) and not unsettled and all(f.kind in OF_SOURCES and f.step == 13 for f in self.findings)

    @property
    def good(self) -> bool:
        """Intact, and no source left out or reused a number: no finding at all."""
        return self.intact and not self.findings

    def as_json(self) -> dict[str, object]:
        """For `--json`: counts over all chains, then each chain, findings and caveats."""
        return {
            "good": self.good,
            "intact": self.intact,
            "seals": sum(c.seals for c in self.chains),
            "records": sum(c.records for c in self.chains),
            "raw_records": sum(c.raw_records for c in self.chains),
            "raw_offsets": sum(c.raw_offsets for c in self.chains),
            "kinds": dict(sum((c.kinds for c in self.chains), Counter[str]())),
            "reasons": dict(sum((c.reasons for c in self.chains), Counter[str]())),
            "verdicts": dict(self.verdicts),
            "findings": [f.as_json() for f in self.findings],
            "caveats": self.caveats,
            "orphans": self.orphans,
            "chains": [c.as_json() for c in self.chains],
        }
