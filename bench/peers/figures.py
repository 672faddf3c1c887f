"""What a run of the benchmark found: a line for each contestant and round, the table of medians, and everything as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import psutil

from bench.peers.contestants import SEALER, Contestant
from bench.peers.supply import Supply
from bench.peers.watch import Figures


@dataclass(frozen=True, slots=True)
class Outcome:
    """One contestant in one round: its figures, what was checked, and the machine's load average just before."""

    figures: Figures
    checked: int
    signed: int
    load: float


def line_of(number: int, entrant: Contestant, outcome: Outcome) -> str:
    """One contestant in one round, as progress shows it."""
    figures = outcome.figures
    return (
        f"round {number + 1}  {entrant.name:8} {figures.rate:9,.0f} records/s  {figures.cpu_us:7.1f} us of CPU each  "
        f"{figures.peak_mib:6.0f} MiB  {figures.records:,} in {figures.seconds:.1f} s; {outcome.checked:,} checked, "
        f"{outcome.signed / max(outcome.checked, 1):.1%} signed; load {outcome.load:.1f}"
    )


def result_of(
    asked: Mapping[str, object], found: Supply, entrants: Sequence[Contestant], outcomes: dict[str, list[Outcome]]
) -> dict[str, object]:
    """Everything, as JSON has it: machine, command, input, and of each contestant medians and rounds."""
    rows: dict[str, object] = {}
    for entrant in entrants:
        figures = [outcome.figures for outcome in outcomes[entrant.name]]
        rows[entrant.name] = {
            "title": entrant.title,
            "rate": statistics.median(one.rate for one in figures),
            "cpu_us": statistics.median(one.cpu_us for one in figures),
            "peak_mib": statistics.median(one.peak_mib for one in figures),
            "sealer_is": _ratio(outcomes, entrant.name, lambda sealer, other: sealer.rate / other.rate),
            "cpu_is": _ratio(outcomes, entrant.name, lambda sealer, other: other.cpu_us / sealer.cpu_us),
            "rounds": [
                {
                    **asdict(one.figures),
                    "rate": one.figures.rate,
                    "checked": one.checked,
                    "signed": one.signed,
                    "load": one.load,
                }
                for one in outcomes[entrant.name]
            ],
        }
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m bench.sealing_peers " + " ".join(sys.argv[1:]),
        "machine": machine(),
        "asked": asked,
        "input": {
            "records": found.records,
            "mean_bytes": found.mean_bytes,
            "signed": found.signed,
            "tokenised": found.tokenised,
            "partitions": len(found.expected),
        },
        "contestants": rows,
    }


def _ratio(outcomes: dict[str, list[Outcome]], name: str, ratio: Callable[[Figures, Figures], float]) -> float | None:
    """Median of what the sealer's figures and this one's give, round by round; None without the sealer."""
    if not outcomes.get(SEALER):
        return None
    pairs = zip(outcomes[SEALER], outcomes[name], strict=True)
    return statistics.median(ratio(sealer.figures, other.figures) for sealer, other in pairs)


def machine() -> dict[str, object]:
    """What a figure depends on."""
    names = [
        line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def table_of(result: dict[str, object]) -> str:
    """The medians, as docs/performance.md has them."""
    rows = [
        "| contestant | records/s | sealer ÷ it | CPU µs each | it ÷ sealer | peak MiB |",
        "|---|---|---|---|---|---|",
    ]
    contestants = cast("dict[str, dict[str, object]]", result["contestants"])
    for row in contestants.values():
        rate, cpu = ("" if row[name] is None else f"{row[name]:.2f}" for name in ("sealer_is", "cpu_is"))
        rows.append(f"| {row['title']} | {row['rate']:,.0f} | {rate} | {row['cpu_us']:.1f} | {cpu} | {row['peak_mib']:.0f} |")
    loads = [one["load"] for row in contestants.values() for one in cast("list[dict[str, float]]", row["rounds"])]
    rows.append(f"\nload average before a run: {min(loads):.1f} to {max(loads):.1f}")
    return "\n".join(rows)
