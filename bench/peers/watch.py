"""A contestant's process while it works: what is visible of its outputs, its processor time, its memory.

A sample every `PERIOD_S`: the last stable offsets of the archive topic, the processor time of the process and everything
that it started, the load of the machine. How many records lay below an offset is known once the outputs were read; then the
rate is what became visible in a window of samples. A contestant is seen from outside alone and reports nothing.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil

PERIOD_S = 0.1
QUIET_S = 1.0  # nothing more became visible for so long, and it could be all: the input has ended
TAIL_S = 5.0  # or it could be all for so long: chains that say that they live are never quiet
BEGUN = 100  # offsets: by fewer a chain may say that it begins, which is no work yet
START_S = 90.0  # nothing more became visible for so long: it hangs


class StalledError(Exception):
    """A contestant ended, or made nothing visible."""


@dataclass(frozen=True, slots=True)
class Sample:
    """At `at_s` (monotonic): last stable offsets by partition, and processor seconds since the start."""

    at_s: float
    stable: tuple[int, ...]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """What is to be measured: `measure_s` seconds, after `warm_s` seconds and `warm_records` records, whichever is later."""

    warm_s: float
    warm_records: int
    measure_s: float


@dataclass(frozen=True, slots=True)
class Seen:
    """A contestant's run.

    Attributes:
        samples: all, in order.
        from_s, to_s: the window, on the samples' clock; the input may have ended before.
        peak_bytes: peak resident memory of the process tree.
        start_s: seconds from the start until something was visible.
    """

    samples: tuple[Sample, ...]
    from_s: float
    to_s: float
    peak_bytes: int
    start_s: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What a contestant did in its window."""

    records: int
    seconds: float
    cpu_us: float  # a record
    peak_mib: float
    start_s: float

    @property
    def rate(self) -> float:
        """Records a second."""
        return self.records / self.seconds


def watch(
    process: psutil.Process,
    stable: Callable[[], tuple[int, ...]],
    records: int,
    window: Window,
    settled: Callable[[], bool] = lambda: True,
) -> Seen:
    """Sample until the window ends, or the input of so many records.

    Args:
        settled: asked before the warm-up begins; False while a group still shares its partitions out.

    Raises StalledError.
    """
    began = time.monotonic()
    samples: list[Sample] = []
    first = settled_at = warm = all_at = 0.0
    moved = began
    while True:
        due = time.monotonic() + PERIOD_S
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            raise StalledError("it ended")
        sample = Sample(time.monotonic(), stable(), cpu_s(process))
        visible = sum(sample.stable)  # with markers: a little more than there are records
        if samples and sample.stable != samples[-1].stable:
            moved = sample.at_s
            first = first or (moved if visible > BEGUN else 0.0)
        if first and not settled_at and settled():
            settled_at = sample.at_s
        if settled_at and not warm and sample.at_s - settled_at >= window.warm_s and visible >= window.warm_records:
            warm = sample.at_s
        samples.append(sample)
        if sample.at_s - moved > START_S:
            raise StalledError(f"nothing more became visible for {START_S:.0f} s")
        if visible >= records:
            all_at = all_at or sample.at_s
        ended = visible >= records and (sample.at_s - moved > QUIET_S or sample.at_s - all_at > TAIL_S)
        if ended or (warm and sample.at_s - warm > window.measure_s):
            begin = warm or sample.at_s
            return Seen(tuple(samples), begin, begin + window.measure_s, peak_bytes(process), first - began)
        time.sleep(max(0.0, due - time.monotonic()))


def figures_of(seen: Seen, places: Mapping[int, Sequence[int]]) -> Figures:
    """The figures of the window, from its first output to its last: a contestant that commits seldom loses nothing by it.

    Args:
        places: offsets of the records that were found in the archive topic, by partition, ascending.

    Raises:
        StalledError: there was no second to measure before the input ended.
    """
    moves = [later for earlier, later in pairwise(seen.samples) if earlier.stable != later.stable]
    window = [sample for sample in moves if seen.from_s <= sample.at_s <= seen.to_s]
    if not window or window[-1].at_s - window[0].at_s < 1.0:
        raise StalledError("no outputs a second apart in the window; more --events, or less --warm")
    one, other = window[0], window[-1]
    records = _below(other, places) - _below(one, places)
    return Figures(
        records=records,
        seconds=other.at_s - one.at_s,
        cpu_us=(other.cpu_s - one.cpu_s) / max(records, 1) * 1e6,
        peak_mib=seen.peak_bytes / (1 << 20),
        start_s=seen.start_s,
    )


def _below(sample: Sample, places: Mapping[int, Sequence[int]]) -> int:
    return sum(bisect_left(places[partition], end) for partition, end in enumerate(sample.stable))


def tree_of(process: psutil.Process) -> list[psutil.Process]:
    """A process and all that it started; none when it has ended."""
    try:
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(process: psutil.Process) -> float:
    """Processor seconds, user and system, of a process, its children, and those that it has waited for."""
    total = 0.0
    for member in tree_of(process):
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_bytes(process: psutil.Process) -> int:
    """The sum of the peaks of resident memory (VmHWM) of a process and its children."""
    total = 0
    for member in tree_of(process):
        try:
            status = Path(f"/proc/{member.pid}/status").read_text()
        except FileNotFoundError:
            continue
        kib = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), "0")
        total += int(kib) << 10
    return total
