"""The sealer under a steady load for half an hour: memory must not grow, nor descriptors.

    python -m bench.endurance [--minutes N] [--rate R | --share S] [--json FILE]

The load is half of the sealer's maximum, which is measured first (`bench.latency` has the same two steps). Once a second
resident memory, descriptors and threads of the sealer's processes are noted, summed; over all, their processor time. The slope
of memory is that of the least-squares line through all samples after the first --before minutes, in MiB per ten minutes.
Descriptors are constant if the most of the second half of those samples is not above the most of the first.

The broker keeps the newest 64 MiB of each log; some GiB of disk are needed between two of its looks. At the end all must be
sealed, and what the archive topic still holds is checked.

Takes --minutes and about two more. Exit status 1: a bound is broken, or the sealer did not keep up.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from bench.ground import Ground, add_load, figures_as_json, keep, lag_of, parser_of
from bench.peers.watch import StalledError, cpu_s, tree_of

NAME = "bench.endurance"
SAMPLE_S = 1.0
MIB = 1 << 20
TEN_MINUTES_S = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Of all processes of the sealer together, `at_s` after the first sample."""

    at_s: float
    memory_mib: float
    descriptors: int
    threads: int


class Watch:
    """Takes samples of a process tree in a thread of its own, until it is told to stop."""

    def __init__(self, process: psutil.Process) -> None:
        self.samples: list[Sample] = []
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="endurance")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        began = time.monotonic()
        while not self._stop.wait(SAMPLE_S):
            with suppress(psutil.NoSuchProcess):
                self.samples.append(sample_of(self._process, time.monotonic() - began))


def sample_of(process: psutil.Process, at_s: float) -> Sample:
    """A sample now. Raises psutil.NoSuchProcess when one of the processes has just ended."""
    memory = descriptors = threads = 0
    for member in tree_of(process):
        memory += member.memory_info().rss
        descriptors += member.num_fds()
        threads += member.num_threads()
    return Sample(at_s, memory / MIB, descriptors, threads)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the least-squares line through these (x, y); 0 for fewer than two."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


def grown(values: Sequence[int]) -> bool:
    """Whether the most of the second half is above the most of the first."""
    half = len(values) // 2
    return bool(half) and max(values[half:]) > max(values[:half])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; print the figures; 1 when a bound is broken."""
    parser = parser_of(NAME, __doc__)
    add_load(parser)
    parser.add_argument("--minutes", type=float, default=30.0, help="of load")
    parser.add_argument("--before", type=float, default=6.0, help="of these minutes, how many do not count")
    parser.add_argument("--bound-mib", type=float, default=1.0, help="of the slope, in MiB per ten minutes")
    asked = parser.parse_args(arguments)
    if asked.before >= asked.minutes:
        parser.error("--before: less than --minutes")
    with Ground.begun() as ground:
        maximum, rate = ground.rate(asked)
        with ground.deployment(asked.partitions) as deployment:
            deployment.keep_little()
            with deployment.sealer(asked.processes) as sealer:
                deployment.await_begun()
                ground.report.line(f"{rate:,.0f} events/s for {asked.minutes:g} minutes")
                watch = Watch(sealer)
                spent = cpu_s(sealer)
                watch.start()
                try:
                    with deployment.load(rate, asked.minutes * 60) as load:
                        lag = lag_of(load)
                    spent = cpu_s(sealer) - spent
                    if not sealer.is_running():
                        raise StalledError("it ended")
                    began = time.monotonic()
                    deployment.await_sealed()
                    behind_s = time.monotonic() - began
                finally:
                    watch.stop()
            checked, resets = sum(map(len, deployment.check(whole=False).values())), deployment.resets()
    counted = [one for one in watch.samples if one.at_s >= asked.before * 60]
    if not counted:
        raise SystemExit("no samples")
    steep = slope([(one.at_s / TEN_MINUTES_S, one.memory_mib) for one in counted])
    more = grown([one.descriptors for one in counted])
    figures: dict[str, object] = {
        "slope_mib_per_10_minutes": steep,
        "memory_mib": _range([one.memory_mib for one in counted]),
        "descriptors": _range([one.descriptors for one in counted]),
        "threads": _range([one.threads for one in counted]),
        "descriptors_grew": more,
        "cpu_us_each": spent / lag.events * 1e6,
        "behind_s": behind_s,
        "events": lag.events,
        "checked": checked,
        "resets": dict(resets),
    }
    for name, value in figures.items():
        print(f"{name:26} {value}")
    minutes = [one for number, one in enumerate(watch.samples) if not number % 60]
    rest: dict[str, object] = {
        "maximum": maximum and figures_as_json(maximum),
        "rate": rate,
        "lag": lag,
        "each_minute": minutes,
    }
    keep(NAME, asked, {**figures, **rest})
    broken = steep >= asked.bound_mib or more
    print(f"{lag.events:,} events at {rate:,.0f}/s; bounds {'broken' if broken else 'kept'}")
    return int(broken)


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"least": min(values), "most": max(values)}


if __name__ == "__main__":
    sys.exit(main())
