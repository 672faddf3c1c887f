"""`make spooltest`: 1,000 crashes, a cut at each of the last 4,096 bytes, full disks, failed fsyncs; counts on the last line.

python -m tests.spooling [--crashes 1000] [--seed 1]
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields

import structlog

from tests.spooling.life import Tally, many_lives
from tests.spooling.planted import PLANTED
from tests.spooling.truncation import cut_every


def main() -> int:
    """0 only if nothing was lost, invented or out of order, and each planted mistake was found out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crashes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    missed = []
    for name, plant in PLANTED.items():
        with plant():
            found = not many_lives(options.seed, options.crashes).good
        print(f"a spool that {name}: {'found out' if found else 'NOT FOUND OUT'}")
        missed += [] if found else [name]
    cuts = cut_every()
    tally = many_lives(options.seed, options.crashes)
    for wrong in tally.wrong:
        print(f"wrong: {wrong}")
    print(", ".join(f"{field.name} {getattr(tally, field.name)}" for field in fields(Tally) if field.name != "wrong"))
    print(
        f"{tally.crashes} crashes, "
        f"{cuts.cuts} truncations ({cuts.said} into acknowledged records, each said; {cuts.wrong} wrong), "
        f"{tally.enospc} ENOSPC, {tally.sync_failures} fsync failures, {tally.hours_away} hours without a broker, "
        f"{tally.acknowledged} records acknowledged, lost {tally.lost}, out of order {tally.out_of_order}"
    )
    return 0 if tally.good and not cuts.wrong and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
