"""`sealtrail demo`: real events through the whole path, then every claim put to the test.

329 real webhooks and 20,000 generated ones of the same shapes go from producers through Kafka and the
sealer into the archive; then the archive is verified, attacked and tampered with. Each run has topics
and chains of its own on the local stack, so counts are exact. Exit status 0 only if every check holds.
"""

from __future__ import annotations

import sys
import time

from infra.demo.checks import Check, Checks
from infra.demo.path import run_path
from infra.demo.proof import run_proof
from infra.demo.session import Session
from infra.report import Reporter
from infra.stack import DEFAULT_STATE, Stack
from sealtrail.errors import SealtrailError

GENERATED = 20_000


def main(generated: int = GENERATED) -> None:
    """Run the demo; ends the process with its exit status."""
    report = Reporter()
    started = time.monotonic()
    stack = Stack(DEFAULT_STATE, report=report)
    try:
        stack.up()
        ready = time.monotonic()
        with Session(stack, report) as session:
            facts = run_path(session, generated)
            checks = run_proof(session, facts)
            memory = session.peak_memory_mib
    except SealtrailError as error:
        print(f"sealtrail demo: {error}", file=sys.stderr)
        sys.exit(1)
    checks.add(Check("memory of all processes, peak", memory < 4096, f"{memory:,} MiB; bound 4,096 MiB"))
    _conclude(report, checks, session, ready - started, time.monotonic() - started)
    sys.exit(0 if checks.good else 1)


def _conclude(report: Reporter, checks: Checks, session: Session, up_s: float, total_s: float) -> None:
    report.line("")
    for check in checks.all:
        report.line(f"{'ok  ' if check.good else 'FAIL'}  {check.claim}: {check.measured}")
    report.line("")
    report.line(f"took {total_s:.0f} s, of which {up_s:.0f} s to bring the stack up")
    report.line(f"archive copy (clean, tampered): {session.folder}")
    report.line(f"look further:  sealtrail verify --chain {session.chain_prefix} --json")
    report.line("the stack still runs; stop it: make down; remove it with its data: make reset")
    report.line("DEMO PASSED" if checks.good else "DEMO FAILED")
