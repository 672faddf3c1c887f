"""What was done: one JSON line a fault, in a file a shard; and the counts over all of a folder's lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from sealtrail.errors import ConfigError
from tests.campaign.plan import Counts, Kind

RECOVERY_S = 30.0  # in which a chain has to recover


@dataclass(slots=True)
class Line:
    """One fault, noted as it goes.

    recovery_s: from its stroke until every chain is past what was acknowledged then; None: never. fenced, moved: chains that a
    process fenced since, and of them those that another did than before. records: sealed since the line before. refused: who
    refused a zombie's act: "broker", or "itself", which gave its transaction up when it woke; empty: nobody. load: the
    machine's load average, over a minute. problem: what does not hold.
    """

    number: int
    kind: str
    what: str
    on_end_txn: bool
    recovery_s: float | None = None
    fenced: int = 0
    moved: int = 0
    records: int = 0
    refused: str = ""
    lost: int = 0
    duplicated: int = 0
    forks: int = 0
    load: float = 0.0
    problem: str = ""

    def __str__(self) -> str:
        took = "no recovery" if self.recovery_s is None else f"recovery {self.recovery_s:.1f} s"
        words = [
            f"{self.kind}: {self.what}",
            took,
            f"{self.fenced} chains fenced, {self.moved} moved",
            f"{self.records} records",
        ]
        if self.refused:
            words.append(f"refused by {self.refused}")
        if self.problem:
            words.append(f"PROBLEM: {self.problem}")
        return "; ".join(words)

    @property
    def slow(self) -> bool:
        """Whether the recovery took too long."""
        return self.recovery_s is not None and self.recovery_s > RECOVERY_S


class Ledger:
    """The lines in a folder, and the plan that they belong to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def begin(self, seed: int, counts: Counts, rate: float) -> None:
        """Note the plan, or see that it is the one noted. Raises ConfigError."""
        path, wanted = self.folder / "plan.json", {"seed": seed, "rate": rate, **asdict(counts)}
        if not path.exists():
            path.write_text(json.dumps(wanted))
        elif json.loads(path.read_text()) != wanted:
            raise ConfigError(f"{path} notes another plan; choose another folder with --state")

    def add(self, shard: int, shards: int, line: Line) -> None:
        """Append a line; it is whole or not there."""
        with (self.folder / f"faults-{shard}-of-{shards}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")

    def lines(self) -> list[Line]:
        """All lines of all shards, by number. A line that was cut short counts as not written."""
        found = {}
        for path in sorted(self.folder.glob("faults-*.jsonl")):
            for text in path.read_text().splitlines():
                try:
                    line = Line(**json.loads(text))
                except ValueError:
                    continue
                found[line.number] = line
        return [found[number] for number in sorted(found)]


def summary(lines: Iterable[Line]) -> str:
    """The last line of a campaign."""
    given = list(lines)
    kinds = Counter(line.kind for line in given)
    refused = sum(bool(line.refused) for line in given if line.kind == Kind.ZOMBIE)
    ends = sum(line.on_end_txn for line in given if line.kind == Kind.NETWORK)
    slowest = max((line.recovery_s for line in given if line.recovery_s is not None), default=0.0)
    lost, duplicated, forks = (sum(getattr(line, name) for line in given) for name in ("lost", "duplicated", "forks"))
    slow = sum(line.slow for line in given)
    other = sum(bool(line.problem) for line in given)
    return (
        f"faults: {kinds[Kind.KILL]} kills, {kinds[Kind.ZOMBIE]} zombies ({refused} refused), "
        f"{kinds[Kind.REBALANCE]} rebalances, {kinds[Kind.NETWORK]} network ({ends} on EndTxn), "
        f"{kinds[Kind.BROKER]} broker kills; {sum(line.records for line in given):,} records; "
        f"lost {lost}, duplicated {duplicated}, forks {forks}; slowest recovery {slowest:.1f} s"
        + (f"; {slow} recoveries above {RECOVERY_S:.0f} s" if slow else "")
        + (f"; {other} faults with a problem" if other else "")
    )
