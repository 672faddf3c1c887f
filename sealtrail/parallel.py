"""Verification of several chains at once, a process each: chains depend on each other only when all is concluded.

Processes are forked: what opens contents cannot be sent. So call it from a process with one thread, and give a function that
opens the source: a connection must not be shared.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_int64
from multiprocessing.sharedctypes import Synchronized

from sealtrail.contents import archived_contents
from sealtrail.documents import Documents
from sealtrail.errors import UndecidedError
from sealtrail.extent import Extent
from sealtrail.report import Report
from sealtrail.source import Source
from sealtrail.verify import WHOLE, ChainResult, Plan, Progress, Trust, carry_out, conclude, plan, verify_chain

LOOK_S = 0.2

_FORK = multiprocessing.get_context("fork")


class _Work:
    """What a worker needs, as it was when it was forked."""

    def __init__(self, made: Plan, open_source: Callable[[], Source]) -> None:
        self.made, self.open_source = made, open_source
        self.segments: Synchronized[int] = _FORK.Value(c_int64, 0)
        self.seals: Synchronized[int] = _FORK.Value(c_int64, 0)

    def add(self, segments: int, seals: int) -> None:
        """Count what one worker has verified."""
        with self.segments.get_lock():
            self.segments.value += segments
        with self.seals.get_lock():
            self.seals.value += seals


_work: _Work | None = None


def verify_in_processes(
    open_source: Callable[[], Source],
    trust: Trust,
    *,
    jobs: int,
    prefix: str = "",
    extent: Extent = WHOLE,
    started: Callable[[int], None] = lambda segments: None,
    progress: Progress | None = None,
) -> Report:
    """As `verify_archive`, `jobs` chains at a time.

    Args:
        open_source: called once in this process and once in each worker.
        started: called with the number of segments, before the first one is verified.
        progress: called in this process.

    Raises:
        UndecidedError: see `verify_archive`; or a worker died.
    """
    global _work
    source = open_source()
    made = plan(source, trust, prefix, extent)
    started(made.segments)
    if jobs < 2 or len(made.parts) < 2:
        return carry_out(source, made, progress)
    _work = _Work(made, open_source)
    try:
        with ProcessPoolExecutor(min(jobs, len(made.parts)), mp_context=_FORK) as pool:
            futures = [pool.submit(_verify, chain) for chain in made.parts]
            _watch(futures, _work, progress)
            results = [_result(future) for future in futures]
    finally:
        _work = None
    return conclude(source, made, results)


def _verify(chain: str) -> ChainResult:
    """In a worker."""
    if _work is None:
        raise AssertionError("forked before there was work")
    source = _work.open_source()
    contents = archived_contents(source, Documents(source), _work.made.trust.openers)
    return verify_chain(source, _work.made, chain, contents, _work.add)


def _watch(futures: list[Future[ChainResult]], work: _Work, progress: Progress | None) -> None:
    """Until all are done, hand on what the workers counted."""
    told = (0, 0)
    waiting: set[Future[ChainResult]] = set(futures)
    while waiting:
        _, waiting = wait(waiting, LOOK_S, FIRST_COMPLETED)
        now = (work.segments.value, work.seals.value)
        if progress is not None and now != told:
            progress(now[0] - told[0], now[1] - told[1])
            told = now


def _result(future: Future[ChainResult]) -> ChainResult:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UndecidedError(f"a process that verified a chain ended: {error}") from error
