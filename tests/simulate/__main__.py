"""`make simulate`: sealers on simulated brokers, a seed after the other; a seed that fails says how to see it again.

python -m tests.simulate [--seeds 10000] [--begin 0] [--jobs 2] [--trace] [--planted]

The last line has the counts. --trace prints all that happens, in one process. --planted looks for mistakes planted in the
sealer's loop instead, one after the other.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.simulate.planted import PLANTED, find
from tests.simulate.seeds import run, run_all, stage
from tests.simulate.simulation import quiet


def main() -> int:
    """0 only if every seed is clean, or every planted mistake is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--begin", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--planted", action="store_true")
    options = parser.parse_args()
    quiet()
    if options.planted:
        searched = {name: find(stage(), name, range(options.begin, options.begin + options.seeds)) for name in PLANTED}
        for name, error in searched.items():
            print(f"{name}: {f'seed {error.seed}, {error.problem}' if error else 'NOT FOUND'}")
        return 0 if all(searched.values()) else 1
    began = time.monotonic()
    if options.trace:
        counts, found = run(options.begin, options.begin + options.seeds, trace=True)
        print(*found, sep="\n")
    else:
        counts, found = run_all(options.begin, options.seeds, options.jobs)
    print(f"{len(found)} of {options.seeds} seeds failed, {time.monotonic() - began:.0f} s: ", end="")
    print(", ".join(f"{count} {name}" for name, count in sorted(counts.items())))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
