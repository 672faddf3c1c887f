"""What a report must say of an edit, and whether it says that and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sealtrail.report import ChainReport, Report, Verdict
from tests.archives import Archive
from tests.tamper.targets import ChainFound, Damage
from tests.test_tamper import RECORD_STEPS, span


@dataclass(frozen=True, slots=True)
class Edit:
    """An archive with its damages, by chain; the kinds that these are of; and what somebody kept.

    Args:
        kept: by chain, how many seals the earlier checkpoint covers.
    """

    archive: Archive
    damages: Mapping[str, Damage]
    kinds: Mapping[str, str]
    kept: Mapping[str, int]

    def __str__(self) -> str:
        done = "; ".join(f"{chain}: {self.kinds[chain]}: {damage.what}" for chain, damage in self.damages.items())
        return f"{done}; kept {dict(self.kept)}"

    @property
    def expected(self) -> Counter[ChainFound]:
        """All that must be found."""
        return Counter(f for chain, d in self.damages.items() for f in (*d.found, *_by_kept(chain, d, self.kept.get(chain, 0))))


def problem(edit: Edit, report: Report, lengths: Mapping[str, int]) -> str | None:
    """What is wrong with a report on an edit; None if nothing is.

    Args:
        lengths: by chain, how many seals there were.
    """
    found = Counter((f.chain, str(f.kind), f.seq, f.count) for f in report.findings)
    if report.good:
        return f"GOOD; expected {_listed(edit.expected)}"
    lacking, more = edit.expected - found, found - edit.expected
    if lacking or more:
        wrong = sorted({edit.kinds.get(chain, "another chain") for chain, *_ in lacking + more})
        return f"{', '.join(wrong)}: not found {_listed(lacking)}; found beside {_listed(more)}"
    for chain in report.chains:
        damage, length = edit.damages.get(chain.chain), lengths[chain.chain]
        most = length - len(_named(report, chain, length))
        if chain.verdicts[Verdict.VALID] > most and not (damage and damage.copied):
            return f"{chain.verdicts[Verdict.VALID]} records of {chain.chain} VALID; at most {most} can be"
    return None


def _by_kept(chain: str, damage: Damage, kept: int) -> tuple[ChainFound, ...]:
    """What a checkpoint of so many seals shows beside."""
    if damage.end is not None and kept > damage.end:
        # Of a chain that is gone the report names no number of seals.
        return ((chain, "TRUNCATED", damage.end, kept - damage.end if damage.end else 1),)
    if damage.fork is not None and kept > damage.fork:
        return ((chain, "FORKED", 0, kept),)
    return ()


def _named(report: Report, chain: ChainReport, length: int) -> set[int]:
    """Seqs of records that findings name."""
    named = (span(f.seq, f.count) for f in report.findings if f.chain == chain.chain and f.step in RECORD_STEPS)
    return {seq for seqs in named for seq in seqs if seq < length}


def _listed(found: Counter[ChainFound]) -> list[ChainFound]:
    elements: Iterable[ChainFound] = found.elements()
    return sorted(elements, key=str)
