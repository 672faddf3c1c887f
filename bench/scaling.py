"""How the sealer scales: processes and partitions, what a chain costs a process, and what grows with a chain's length.

    python -m bench.scaling [--only processes,chains,growth,stores] [--json FILE]

- **processes**: the maximum with 1, 2 and 4 processes (`run sealer --processes`) on 1, 4, 16 and 64 partitions, with no more
  processes than partitions. Records a second, processor time a record, transactional producers a process. On a machine with two
  cores, broker and processes share them: look at the processor time. Bytes a record of each topic's log, on four partitions.
- **chains**: one process with 1, 4, 16 and 64 chains and no load: memory, threads, descriptors, processor time of heartbeats,
  seconds until all are fenced and sealing. A chain costs what the least-squares line through these says.
- **growth**: see `bench.growth`. **stores**: see `bench.stores`; with S3 and OpenSearch besides Kafka.

Every flood's outputs are checked before its figures count. Takes half an hour: processes 12 minutes, chains 3, growth some 12,
stores 2.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

from bench import growth, stores
from bench.endurance import sample_of, slope
from bench.ground import Deployment, Ground, figures_as_json, keep, parser_of
from bench.peers.watch import cpu_s

NAME = "bench.scaling"
PARTS = ("processes", "chains", "growth", "stores")
EVENTS = 1_300_000  # of a flood: several processes take 6 s of it to share its partitions out
SIZED = 4  # partitions of the flood whose logs are weighed


@dataclass(frozen=True, slots=True)
class Idle:
    """One process with so many chains and no load."""

    chains: int
    memory_mib: float
    threads: int
    descriptors: int
    cpu_ms_per_s: float  # heartbeats and polling
    begun_s: float  # from the start until all chains had sealed their first


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts that are asked for; print a table of each."""
    parser = parser_of(NAME, __doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by comma")
    parser.add_argument("--processes", default="1,2,4", help="by comma")
    parser.add_argument("--partitions", default="1,4,16,64", help="by comma; also the numbers of chains")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds that a process without load is watched")
    parser.add_argument("--rounds", type=int, default=3, help="of growth")
    parser.add_argument("--stored", type=int, default=100_000, help="events that are weighed in S3 and OpenSearch")
    parser.set_defaults(events=EVENTS)
    asked = parser.parse_args(arguments)
    parts = asked.only.split(",")
    if not set(parts) <= set(PARTS):
        parser.error(f"--only: some of {', '.join(PARTS)}")
    found: dict[str, object] = {}
    if set(parts) - {"stores"}:
        with Ground.begun() as ground:
            if "processes" in parts:
                found.update(_processes(ground, asked))
            if "chains" in parts:
                found["chains"] = _chains(ground, asked)
            if "growth" in parts:
                found["growth"] = _growth(ground, asked)
    if "stores" in parts:
        with Ground.begun(stores=True) as ground:
            weights = stores.weigh(ground, asked)
        print("stores: " + ", ".join(f"{name} {value:,.0f}" for name, value in weights.items()))
        found["stores"] = weights
    keep(NAME, asked, found)


def _processes(ground: Ground, asked: Namespace) -> dict[str, object]:
    rows, sizes = [], dict[str, float]()

    def weigh(deployment: Deployment, sealed: int) -> None:
        sizes.update(deployment.bytes_a_record(sealed))

    for partitions in _numbers(asked.partitions):
        for processes in (number for number in _numbers(asked.processes) if number <= partitions):
            load = os.getloadavg()[0]
            measure = weigh if (partitions, processes) == (SIZED, 1) else None
            figures = ground.maximum(asked, partitions, processes, measure=measure)
            rows.append((partitions, processes, load, figures))
    print(f"| partitions | processes | producers a process | records/s | CPU µs each | broker's | peak MiB |\n{'|---' * 7}|")
    for partitions, processes, _, one in rows:
        print(
            f"| {partitions} | {processes} | {partitions / processes:g} | {one.rate:,.0f} | {one.cpu_us:.1f} | "
            f"{one.broker_us:.1f} | {one.peak_mib:.0f} |"
        )
    print("bytes a record on disk: " + ", ".join(f"{topic} {size:.0f}" for topic, size in sizes.items()))
    cells = [
        {"partitions": partitions, "processes": processes, "load": load, **figures_as_json(one)}
        for partitions, processes, load, one in rows
    ]
    return {"processes": cells, "bytes_a_record": sizes}


def _chains(ground: Ground, asked: Namespace) -> dict[str, object]:
    rows = [_idle(ground, chains, asked.idle) for chains in _numbers(asked.partitions)]
    names = [field.name for field in fields(Idle)]
    print(f"| {' | '.join(names)} |\n{'|---' * len(names)}|")
    for row in rows:
        print("| " + " | ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in astuple(row)) + " |")
    each = {
        name: slope([(row.chains, getattr(row, name)) for row in rows]) for name in names if name != "chains" and len(rows) > 1
    }
    print("a chain: " + ", ".join(f"{name} {value:.2f}" for name, value in each.items()))
    return {"idle": rows, "a_chain": each}


def _idle(ground: Ground, chains: int, seconds: float) -> Idle:
    with ground.deployment(chains) as deployment:
        began = time.monotonic()
        with deployment.sealer() as process:
            deployment.await_begun()
            begun_s = time.monotonic() - began
            time.sleep(seconds / 3)
            spent, since = cpu_s(process), time.monotonic()
            time.sleep(seconds)
            each_s = (cpu_s(process) - spent) / (time.monotonic() - since)
            sample = sample_of(process, 0.0)
    made = Idle(chains, sample.memory_mib, sample.threads, sample.descriptors, each_s * 1e3, begun_s)
    ground.report.line(f"{chains} chains: {made.memory_mib:.0f} MiB, {made.threads} threads, {made.descriptors} descriptors")
    return made


def _growth(ground: Ground, asked: Namespace) -> dict[str, object]:
    sealing = growth.sealing(asked.rounds * 5)
    for name, rows in sealing.items():
        for key, row in rows.items():
            print(
                f"sealing {name} {key}: {row['median_us']:.1f} us a record (least {row['least_us']:.1f}), {row['bytes']:.0f} B"
            )
    transactions = growth.transactions(ground, asked)
    for key, rounds in transactions.items():
        rates = ", ".join(f"{one.rate:,.0f}/s {one.cpu_us:.1f} us" for one in rounds)
        print(f"transactions from seq {key} on: {rates}")
    restart = growth.restart(ground)
    for name, took in restart.items():
        print(f"read_state {name}: " + ", ".join(f"{key} {value:.3f} s" for key, value in took.items()))
    flat = {key: [figures_as_json(one) for one in rounds] for key, rounds in transactions.items()}
    return {"sealing": sealing, "transactions": flat, "restart_s": restart}


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    main()
