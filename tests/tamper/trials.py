"""Trying things by number, in one process or several, and counting what was found.

A trial is made before the processes fork, so that each has its own copy of it and of what it remembers by then.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

CHUNK = 50  # trials that a process takes at once: a fraction of a second
PROGRESS_S = 5.0


class Trial(Protocol):
    """One thing to try, by its number; deterministic, so that a miss can be tried again."""

    what: str

    def __call__(self, number: int) -> str | None:
        """None if what was done was found as it must be; else what was done, and what was found."""


@dataclass(slots=True)
class Tally:
    """How many were tried, and how many of these were found as they must be."""

    tried: int = 0
    found: int = 0


_trial: Trial  # of this process, set before it forks


def run(trial: Trial, numbers: Sequence[int], jobs: int) -> Tally:
    """Try all numbers; a progress line on stderr, every miss on stdout."""
    global _trial
    _trial = trial
    tally = Tally()
    started = shown = time.monotonic()
    chunks = (numbers[n : n + CHUNK] for n in range(0, len(numbers), CHUNK))
    gc.collect()
    gc.freeze()  # what is remembered stays: looking through it for rubbish would take a tenth of the time
    gc.disable()  # and what a trial leaves is collected after each chunk
    for size, misses in _outcomes(chunks, jobs):
        tally.tried += size
        tally.found += size - len(misses)
        for miss in misses:
            print(f"MISSED {miss}", flush=True)
        if time.monotonic() - shown > PROGRESS_S or tally.tried == len(numbers):
            shown = time.monotonic()
            _progress(trial.what, tally, len(numbers), shown - started)
    return tally


def _outcomes(chunks: Iterator[Sequence[int]], jobs: int) -> Iterator[tuple[int, list[str]]]:
    if jobs == 1:
        yield from map(_chunk, chunks)
        return
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        yield from pool.imap_unordered(_chunk, chunks)


def _chunk(numbers: Sequence[int]) -> tuple[int, list[str]]:
    misses = [miss for miss in map(_trial, numbers) if miss is not None]
    gc.collect()
    return len(numbers), misses


def _progress(what: str, tally: Tally, total: int, seconds: float) -> None:
    rate = tally.tried / max(seconds, 0.001)
    left = (total - tally.tried) / rate
    counted = f"{tally.tried:,} of {total:,} tried, {tally.found:,} found"
    print(f"{what}: {counted}, {rate:,.0f}/s, {seconds:,.0f} s gone, {left:,.0f} s left", file=sys.stderr, flush=True)
