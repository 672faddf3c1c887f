"""`make kills`: sealer, three sinks and detector killed (kill -9) under load, at random and inside their acts.

    python -m tests.kills [--rate 240] [--times 3] [--seed N]

Each process is killed `--times` times at random, then inside each act that it has: a transaction, a PUT, a bulk, a request,
a finding that is stated and not committed. Then every store is counted against what Kafka acknowledged, and the findings
against those of a detector that nobody killed. Exit status 0 only if every check holds.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

from auditor.archive import ArchiveReader
from infra.demo.checks import Check, Checks
from infra.demo.path import Receivers, await_sealed, raw_end, start_all
from infra.demo.session import Session
from infra.demo.stores import drain
from infra.demo.trail import Trail
from infra.report import Reporter
from infra.stack import DEFAULT_STATE, Stack
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from schemas.search_names import alias
from sealtrail.errors import SealtrailError
from sealtrail.layout import CHAINS
from sinks.search.assembly import search_client
from tests.faults.store import Fault as StoreFault
from tests.kills import reference
from tests.kills.load import Load
from tests.kills.tally import tally
from tests.kills.victims import Fault, Killer, Victim, archive_fault, inside_request, sealer_fault

SILENCE_S = 15.0  # a killed source is found while the others are being killed
ABANDONED = "abandoned"


def victims(session: Session, receivers: Receivers) -> list[Victim]:
    """The five processes, how each shows that it is at work, and where it is killed."""

    def written(topic: str) -> int:
        settings = session.settings("admin")
        ends, full = Ends(settings), topic_name(settings.topic_prefix, topic)
        return sum(ends.high([(full, p) for p in range(ends.partition_count(full))]).values())

    reader = ArchiveReader(session.settings("reader"))
    settings = session.settings("sink-search")
    index, name = search_client(settings), alias(settings.topic_prefix)

    def documents() -> int:
        index.indices.refresh(index=name, ignore_unavailable=True)  # there is none before the first document
        return int(index.count(index=name, ignore_unavailable=True)["count"])

    def segments() -> int:
        return sum(1 for _ in reader.list(CHAINS + session.chain_prefix))

    transaction = (("produce", "after"), ("send_offsets", "after"), ("commit", "before"), ("commit", "after"))
    puts = (("contents/", StoreFault.KILLED_AFTER), ("chains/", StoreFault.KILLED_BEFORE), ("chains/", StoreFault.KILLED_AFTER))
    bulks = ("inside-bulk", "after-bulk")
    return [
        Victim("sealer", lambda: written("audit.archive"), 100, tuple(sealer_fault(*where) for where in transaction)),
        Victim("sink-archive", segments, 2, tuple(archive_fault(prefix, fault) for prefix, fault in puts)),
        Victim("sink-search", documents, 50, tuple(Fault(f, ("tests.faults.search_sink", "CONFIG", "{}", f)) for f in bulks)),
        Victim(
            "sink-siem",
            lambda: len(receivers.hec.got),
            5,
            (inside_request(receivers.hec), Fault("after acknowledgement", ("tests.faults.siem_sink", "CONFIG", "{}"))),
        ),
        Victim(
            "detect",
            lambda: written("audit.detect-matches"),
            5,
            (Fault("after a finding", ("tests.faults.detector", "--config", "CONFIG", "--instance", "one")),),
        ),
    ]


def run(session: Session, rate: float, times: int, seed: int) -> Checks:
    """Load, kills, and the count."""
    report = session.report
    session.set(silence_s=SILENCE_S)
    receivers = start_all(session)
    trail = Trail(session.settings("verifier"))
    checks = Checks()
    with Load(session.settings("loadgen"), rate) as load:
        _abandon(session, receivers)
        planned = victims(session, receivers)
        killers = [Killer(session, victim, Random(f"{seed}/{victim.role}"), times) for victim in planned]
        started = time.monotonic()
        for killer in killers:
            killer.start()
        for killer in killers:
            killer.join()
        seconds = time.monotonic() - started
    kills = sum(len(killer.killed) for killer in killers)
    report.line(f"{kills} kills in {seconds:.0f} s; {len(load.acknowledged):,} events acknowledged meanwhile")
    checks.add(
        Check(
            "each process was killed at random and inside each of its acts",
            all(len(k.killed) == times + len(v.faults) for k, v in zip(killers, planned, strict=True)),
            f"{kills} kills, of which {sum(k.killed.count('at random') for k in killers)} at random",
        )
    )
    _await_detected(session, trail)
    drain(session, receivers, trail)
    for check in tally(session, receivers, trail, load.acknowledged).all:
        checks.add(check)
    checks.add(_findings(session))
    return checks


def _abandon(session: Session, receivers: Receivers) -> None:
    """A connector that falls silent, so that silence is among what must be found."""
    session.start(
        ABANDONED, "emit", "chat", "--receiver", receivers.chat, "--messages", "5", "--idle", "--instance", ABANDONED,
        "--prefix", ABANDONED, role="chat",
    )  # fmt: skip
    session.wait_for_line(ABANDONED, "started")
    time.sleep(2.0)  # its first pulses
    session.end(ABANDONED, kill=True)


def _await_detected(session: Session, trail: Trail) -> None:
    """Everything is sealed, and the detector has read it and said what it had to say of it."""
    await_sealed(session, trail, raw_end(session))
    reference.await_read(session, reference.ends_of(session))


def _findings(session: Session) -> Check:
    """The same set as a detector that nobody kills finds in the same records."""
    killed = reference.sealed_findings(session)
    with Session(session.stack, session.report, "kills-reference") as other:
        other.set(silence_s=SILENCE_S)
        count = reference.copy_inputs(session, other)
        ends = reference.ends_of(other)
        other.run("detect")
        reference.await_read(other, ends)
        peaceful = reference.stated_findings(other)
    silent = f"; {len(peaceful)} stated by a detector in peace over the same {count:,} records"
    return Check(
        "findings are the same set as without kills",
        set(killed) == set(peaceful) != set() and len(peaceful) == len(set(peaceful)),
        f"{len(set(killed))} findings, {len(killed) - len(set(killed))} repeats{silent}",
    )


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=240.0, help="events a second")
    parser.add_argument("--times", type=int, default=3, help="kills at random, a process")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the random moments")
    given = parser.parse_args()
    report = Reporter()
    stack = Stack(DEFAULT_STATE, report=report)
    try:
        stack.up()
        with Session(stack, report, "kills") as session:
            report.line(f"seed {given.seed}, {given.rate:.0f} events/s")
            checks = run(session, given.rate, given.times, given.seed)
    except SealtrailError as error:
        print(f"kills: {error}", file=sys.stderr)
        return 1
    report.line("")
    for line in checks.lines():
        report.line(line)
    report.line("KILLS PASSED" if checks.good else "KILLS FAILED")
    return 0 if checks.good else 1


if __name__ == "__main__":
    sys.exit(main())
