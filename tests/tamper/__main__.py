"""`make tamper`: an archive is damaged in every bit of one segment and in 10,000 ways at random; each must be found.

    python -m tests.tamper [--sample N] [--begin BIT] [--edits N] [--seed N] [--jobs N]

Part one flips single bits of a segment of 1,000 seals; part two edits an archive of several chains. Every miss is printed
with what was done and what was found. Exit status 0 only if there is none.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.tamper.edits import Edits
from tests.tamper.flips import Flips
from tests.tamper.trials import Tally, Trial, run


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.tamper", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--sample", type=int, default=1, help="flip every N-th bit only, N odd to meet all bits of a byte; 0: none"
    )
    parser.add_argument("--begin", type=int, default=0, help="the first bit, to go on where a run was ended")
    parser.add_argument("--edits", type=int, default=10_000, help="edits at random")
    parser.add_argument("--seed", type=int, default=1, help="of the edits")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    given = parser.parse_args()
    tallies = []
    if given.sample:
        flips = Flips()
        tallies.append(_part(flips, range(given.begin, len(flips), given.sample), given.jobs))
    if given.edits:
        tallies.append(_part(Edits(given.seed), range(given.edits), given.jobs))
    tried, found = sum(t.tried for t in tallies), sum(t.found for t in tallies)
    print(f"tamper: {tried} tried, {found} found")
    return 0 if tried == found else 1


def _part(trial: Trial, numbers: range, jobs: int) -> Tally:
    started = time.monotonic()
    tally = run(trial, numbers, jobs)
    print(f"{trial.what}: {tally.tried:,} tried, {tally.found:,} found, in {time.monotonic() - started:,.0f} s", flush=True)
    return tally


if __name__ == "__main__":
    sys.exit(main())
