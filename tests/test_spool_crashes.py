"""The spool through crashes on a disk that loses what was not fsynced; `make spooltest` does the same for longer."""

from __future__ import annotations

import pytest

from tests.spooling.life import many_lives
from tests.spooling.planted import PLANTED
from tests.spooling.truncation import cut_every


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_is_sent_once_and_in_order_over_many_crashes(seed: int) -> None:
    tally = many_lives(seed, 60)
    assert tally.good, tally
    assert (tally.crashes, tally.lost, tally.out_of_order, tally.invented) == (60, 0, 0, 0)
    met = (tally.power_losses, tally.enospc, tally.sync_failures, tally.torn_tails, tally.hours_away, tally.refused)
    assert all(met), tally  # a harness that meets none of these shows nothing
    assert tally.delivered >= tally.acknowledged > 1000


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_planted_mistake_is_found_out(mistake: str) -> None:
    with PLANTED[mistake]():
        assert not many_lives(1, 300).good


def test_a_cut_file_keeps_what_was_acknowledged_or_says_what_it_does_not() -> None:
    cuts = cut_every(61)
    assert cuts.wrong == 0
    assert cuts.kept == 8 * (cuts.cuts - cuts.said)
    assert cuts.said == cuts.cuts // 2 > 60
