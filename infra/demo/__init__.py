"""`sealtrail demo`: real events through the whole path, six scenarios performed, every claim put to the test.

329 real webhooks and 20,000 chat messages, each really sent, go from connectors through Kafka and the sealer into archive,
hot search and SIEM. Then six acts are performed, and the record of each is followed into every store. At the end the archive
is verified, attacked and tampered with. Each run has topics, chains and indices of its own on the local stack, so counts are
exact. Exit status 0 only if every check holds.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.table import Table

from infra.demo.checks import Check, Checks
from infra.demo.follow import Follower, Row
from infra.demo.path import run_path, start_all
from infra.demo.proof import run_proof
from infra.demo.scenarios import scenarios
from infra.demo.session import Session
from infra.demo.stores import check_stores, drain
from infra.demo.trail import Trail
from infra.report import Reporter
from infra.stack import DEFAULT_STATE, Stack
from sealtrail.errors import SealtrailError

MESSAGES = 20_000
MEMORY_MIB = 5120
STORES = ("recorded", "searchable", "immutable", "in the SIEM")


def main(messages: int = MESSAGES) -> None:
    """Run the demo; ends the process with its exit status."""
    report = Reporter()
    started = time.monotonic()
    stack = Stack(DEFAULT_STATE, report=report)
    try:
        stack.up()
        ready = time.monotonic()
        with Session(stack, report) as session:
            checks, rows = perform(session, messages)
            memory = session.peak_memory_mib
    except SealtrailError as error:
        print(f"sealtrail demo: {error}", file=sys.stderr)
        sys.exit(1)
    checks.add(Check("memory of all processes, peak", memory < MEMORY_MIB, f"{memory:,} MiB; bound {MEMORY_MIB:,} MiB"))
    _table(rows)
    _conclude(report, checks, session, ready - started, time.monotonic() - started)
    sys.exit(0 if checks.good else 1)


def perform(session: Session, messages: int) -> tuple[Checks, list[Row]]:
    """Everything between the stack and the table: what was claimed and measured, and a row a scenario."""
    receivers = start_all(session)
    trail = Trail(session.settings("verifier"))
    facts = run_path(session, receivers, trail, messages)
    trail.mark()
    performed = [(one, one.perform(session, receivers, trail)) for one in scenarios()]
    drain(session, receivers, trail)
    session.report.line("every store has everything; each is asked now")
    follower = Follower(session, receivers)
    rows = [follower.row(one.name, record, siem=one.siem) for one, record in performed]
    control = follower.control()
    checks = Checks()
    for row in rows:
        said = "; ".join(f"{store}: {cell.seen}" for store, cell in zip(STORES, row.cells, strict=True))
        checks.add(Check(f"{row.name} ({row.event_id})", all(cell.good for cell in row.cells), said))
    checks.add(Check("the identity that was refused deletes an object without a lock", control.good, control.seen))
    for check in check_stores(session, receivers, trail, facts).all:
        checks.add(check)
    for check in run_proof(session, performed[1][1].event_id).all:
        checks.add(check)
    return checks, rows


def _table(rows: list[Row]) -> None:
    table = Table("scenario", "its record", *STORES, title="six scenarios, each cell measured on the store")
    for row in rows:
        cells = [f"{'ok' if cell.good else 'FAIL'}  {cell.seen}" for cell in row.cells]
        table.add_row(row.name, f"{row.event_name}\n{row.event_id}", *cells)
    Console(stderr=True, width=150).print(table)


def _conclude(report: Reporter, checks: Checks, session: Session, up_s: float, total_s: float) -> None:
    report.line("")
    for line in checks.lines():
        report.line(line)
    report.line("")
    report.line(f"took {total_s:.0f} s, of which {up_s:.0f} s to bring the stack up")
    report.line(f"archive copy (clean, tampered): {session.folder}")
    report.line(f"look further:  sealtrail verify --chain {session.chain_prefix} --json")
    report.line("the stack still runs; stop it: make down; remove it with its data: make reset")
    report.line("DEMO PASSED" if checks.good else "DEMO FAILED")
