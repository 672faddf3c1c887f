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
from contextlib import ExitStack
from pathlib import Path

from infra.report import Reporter
from sealtrail.errors import SealtrailError
from tests.campaign.acts import Campaign
from tests.campaign.cluster import Cluster
from tests.campaign.lines import Ledger, summary
from tests.campaign.load import Load, Positions
from tests.campaign.plan import Counts, Fault, plan, shard_of
from tests.campaign.relay import Relays
from tests.campaign.sealers import Sealers

PARTITIONS = 6  # of the raw topic: two chains for each of three sealers
FOLDER = Path(".sealtrail-faults")


def run(faults: list[Fault], shard: tuple[int, int], ledger: Ledger, rate: float, report: Reporter) -> bool:
    """Do what is not done of these, until something does not hold; whether all does."""
    done = {line.number for line in ledger.lines()}
    left = [fault for fault in faults if fault.number not in done]
    if not left:
        return True
    folder = ledger.folder / f"cluster-{shard[0]}-of-{shard[1]}-{time.time_ns():x}"
    cluster = Cluster(folder, PARTITIONS, report)
    good = False
    try:
        with ExitStack() as held:
            cluster.up()
            cluster.await_whole()
            sealers = Sealers(cluster.role_file("sealer"), cluster.flags([n.relay for n in cluster.nodes]), folder / "logs")
            held.callback(sealers.end)
            ports = [(node.relay, node.proxied) for node in cluster.nodes]
            relays = held.enter_context(Relays(ports, cluster.tls("broker"), cluster.tls("sealer"), sealers.pids))
            load = held.enter_context(Load(cluster, PARTITIONS, rate))
            positions = held.enter_context(Positions(cluster, PARTITIONS))
            campaign = Campaign(cluster, relays, sealers, load, positions, report)
            for count, fault in enumerate(left, 1):
                line = campaign.run(fault)
                ledger.add(*shard, line)
                took = "no recovery" if line.recovery_s is None else f"recovery {line.recovery_s:.1f} s"
                report.line(
                    f"{count}/{len(left)} {line.kind}: {line.what}; {took}; {line.fenced} chains fenced, {line.moved} moved; {line.records} records"
                    + (f"; refused by {line.refused}" if line.refused else "")
                    + (f"; PROBLEM: {line.problem}" if line.problem else "")
                )
                if line.problem:
                    report.line(f"the trail is not trusted any more; logs are in {folder}")
                    return False
            good = True
    finally:
        cluster.down(remove=good)
    return good


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
    try:
        ledger = Ledger(given.state or FOLDER / time.strftime("%Y%m%d-%H%M%S"))
        counts = Counts(given.kills, given.zombies, given.rebalances, given.network, given.brokers)
        ledger.begin(given.seed, counts, given.rate)
        mine = shard_of(plan(given.seed, counts), shard, shards)
        report.line(f"seed {given.seed}: {len(mine)} faults; what is done is noted in {ledger.folder}")
        run(mine, (shard, shards), ledger, given.rate, report)
    except SealtrailError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    lines = ledger.lines()
    print(summary(lines))
    complete = {fault.number for fault in mine} <= {line.number for line in lines}
    return 0 if complete and not any(line.problem or line.slow for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
