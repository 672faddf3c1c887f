"""`make faults`: a plan of faults on sealers and brokers under load; the counts are in the last line.

    python -m tests.campaign [--seed N] [--shard 1/4] [--state DIR] [--rate 120] [--kills 40 --zombies 20 …]

A shard does its part of the plan on a cluster of its own. With --state, what another run or another shard has done in that
folder is neither done again nor forgotten. Exit status 0 only if nothing was lost, doubled or forked, every zombie was
refused, and every recovery took 30 s at most. A slow recovery ends nothing; whatever else does not hold ends the shard.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from infra.report import Reporter
from sealtrail.errors import SealtrailError
from tests.campaign.cluster import UnfitError
from tests.campaign.lines import Ledger, summary
from tests.campaign.plan import Counts, plan, shard_of
from tests.campaign.shard import run

SWITCH_S = 0.0002  # every byte between sealers and brokers waits for the relays' thread, which shares this process
FOLDER = Path(".sealtrail-faults")


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="what the plan follows from")
    parser.add_argument("--shard", default="1/1", help="k/n: every n-th fault of the plan, from the k-th on")
    parser.add_argument("--state", type=Path, help="folder of what was done; default: a new one")
    parser.add_argument("--rate", type=float, default=120.0, help="events a second")
    for name, count in {"kills": 40, "zombies": 20, "rebalances": 20, "network": 40, "brokers": 5}.items():
        parser.add_argument(f"--{name}", type=int, default=count)
    given = parser.parse_args()
    shard, shards = (int(part) for part in given.shard.split("/"))
    if not 1 <= shard <= shards:
        parser.error("--shard: k/n with k from 1 to n")
    report = Reporter()
    sys.setswitchinterval(SWITCH_S)
    try:
        ledger = Ledger(given.state or FOLDER / time.strftime("%Y%m%d-%H%M%S"))
        counts = Counts(given.kills, given.zombies, given.rebalances, given.network, given.brokers)
        ledger.begin(given.seed, counts, given.rate)
        mine = shard_of(plan(given.seed, counts), shard, shards)
        report.line(f"seed {given.seed}: {len(mine)} faults; what is done is noted in {ledger.folder}")
        run(mine, (shard, shards), ledger, given.rate, report)
    except (SealtrailError, UnfitError) as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    lines = ledger.lines()
    print(summary(lines))
    complete = {fault.number for fault in mine} <= {line.number for line in lines}
    return 0 if complete and not any(line.problem or line.slow for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
