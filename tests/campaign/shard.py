"""A part of a plan, on a cluster of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from infra.report import Reporter
from tests.campaign.acts import Campaign
from tests.campaign.cluster import Cluster
from tests.campaign.lines import Ledger
from tests.campaign.load import Load, Positions
from tests.campaign.plan import Fault
from tests.campaign.relay import Relays
from tests.campaign.sealers import Sealers

PARTITIONS = 6  # of the raw topic: two chains for each of three sealers


def run(
    faults: Sequence[Fault], shard: tuple[int, int], ledger: Ledger, rate: float, report: Reporter, *, warm: bool = True
) -> None:
    """Do what is not done of these, until something does not hold; a line each.

    Args:
        shard: which of how many, for the files.
        warm: the first strikes when the chains keep up with the load; else at once.

    The cluster's folder stays, logs and all, if something did not hold or was slow. Raises UnfitError, whose fault has no line.
    """
    done = {line.number for line in ledger.lines()}
    left = [fault for fault in faults if fault.number not in done]
    if not left:
        return
    folder = ledger.folder / f"cluster-{shard[0]}-of-{shard[1]}-{time.time_ns():x}"
    cluster = Cluster(folder, PARTITIONS, report)
    good = False
    try:
        with ExitStack() as held:
            cluster.up()
            cluster.await_whole()
            flags = cluster.flags([node.relay for node in cluster.nodes])
            folders = (cluster.places.tls, cluster.places.logs)
            sealers = Sealers(cluster.role_file("sealer"), flags, cluster.authority(), *folders)
            held.callback(sealers.end)
            ports = [(node.relay, node.proxied) for node in cluster.nodes]
            relays = held.enter_context(Relays(ports, cluster.tls("broker"), cluster.tls("sealer"), sealers.sender))
            load = held.enter_context(Load(cluster, PARTITIONS, rate))
            positions = held.enter_context(Positions(cluster, PARTITIONS))
            campaign = Campaign(cluster, relays, sealers, load, positions, report)
            if warm:
                campaign.warm()
                report.line("the chains keep up with the load")
            slow = False
            for count, fault in enumerate(left, 1):
                line = campaign.run(fault)
                ledger.add(*shard, line)
                report.line(f"{count}/{len(left)} {line}")
                if line.problem:
                    report.line(f"the trail is not trusted any more; logs are in {folder}")
                    return
                slow = slow or line.slow
            good = not slow
            if slow:
                report.line(f"a recovery was slow; logs are in {folder}")
    finally:
        cluster.down(remove=good)
