"""Seeds one after the other, in this process or in several."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context

from tests.simulate.simulation import FoundError, Simulation, quiet
from tests.simulate.stage import Stage, set_up

CHUNK = 50  # seeds that a worker takes at once


@cache
def stage() -> Stage:
    """This process's."""
    return set_up()


def run(begin: int, end: int, *, trace: bool = False) -> tuple[Counter[str], list[str]]:
    """Seeds in [begin, end): what there was in them, and what was found."""
    counts, found = Counter[str](), list[str]()
    for seed in range(begin, end):
        try:
            counts += Simulation(stage(), seed, print if trace else None).run()
            counts["seeds"] += 1
        except FoundError as error:
            found.append(str(error))
    return counts, found


def run_all(begin: int, seeds: int, jobs: int) -> tuple[Counter[str], list[str]]:
    """The same in several processes; what is found is printed at once."""
    counts, found = Counter[str](), list[str]()
    starts = range(begin, begin + seeds, CHUNK)
    with ProcessPoolExecutor(jobs, get_context("spawn"), quiet) as workers:
        for done in as_completed([workers.submit(run, start, min(start + CHUNK, begin + seeds)) for start in starts]):
            more, problems = done.result()
            counts += more
            found += problems
            for problem in problems:
                print(problem, flush=True)
    return counts, found
