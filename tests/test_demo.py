"""The demonstration in full on the session's stack, with less traffic: the acceptance test of the whole product (CTL-4)."""

from __future__ import annotations

import pytest

from infra.demo import STORES, perform
from infra.demo.session import Session
from infra.report import Reporter
from infra.stack import Stack
from tests.conftest import BUCKETS

BUCKET = BUCKETS[3]  # shared with nothing that leaves damage
MESSAGES = 1_500  # enough that each kind of act, a refusal and a debug step are among them


@pytest.mark.slow
def test_six_scenarios_are_recorded_searchable_immutable_and_in_the_siem_where_they_belong(search_stack: Stack) -> None:
    with Session(search_stack, Reporter(quiet=True)) as session:
        session.set(archive_bucket=BUCKET)
        checks, rows = perform(session, MESSAGES)
    assert [row.name for row in rows] == [
        "data export", "retention edit", "connector off", "failed delivery", "legal hold", "silence of a source",
    ]  # fmt: skip
    for row in rows:
        for store, cell in zip(STORES, row.cells, strict=True):
            assert cell.good, f"{row.name}, {store}: {cell.seen}"
    assert not [f"{check.claim}: {check.measured}" for check in checks.all if not check.good]
