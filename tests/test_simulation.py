"""Sealers on simulated brokers: many seeds, each through faults, kills and zombies, with one invariant after every step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.simulate.planted import PLANTED, find
from tests.simulate.seeds import run, stage
from tests.simulate.simulation import FoundError, Simulation, quiet
from tests.simulate.stage import Stage

SEEDS = 500


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What thousands of sealers log is not shown; the next module's is."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def shared() -> Stage:
    return stage()


@pytest.mark.slow
def test_under_no_seed_is_a_record_lost_doubled_or_forked_and_all_come_to_rest() -> None:
    counts, found = run(0, SEEDS)
    assert not found, "\n".join(found)
    assert counts["seeds"] == SEEDS
    rare = ("kills", "zombies", "rebalances", "faults", "faults on EndTxn")
    assert all(counts[what] > SEEDS / 4 for what in rare), counts


@pytest.mark.slow
@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_planted_in_the_loop_is_found(shared: Stage, mistake: str) -> None:
    assert find(shared, mistake, range(SEEDS)), "not found"


@pytest.mark.parametrize("seed", [1, 7, 30])
def test_a_seed_has_one_history(shared: Stage, seed: int) -> None:
    histories: list[list[str]] = [[], []]
    for history in histories:
        Simulation(shared, seed, history.append).run()
    assert histories[0] == histories[1]
    assert len(histories[0]) > 200


def test_a_failure_says_its_seed_and_how_to_see_it_again(shared: Stage) -> None:
    error = find(shared, "commit outcome guessed: committed", range(SEEDS))
    assert error
    assert f"python -m tests.simulate --seeds 1 --begin {error.seed} --trace" in str(error)


def test_an_end_that_lands_again_in_the_next_transaction_is_more_than_a_client_without_kip_890_can_withstand(
    shared: Stage,
) -> None:
    """Not a promise: what the loop relies on (ADR 19), and that the checker would see it."""

    def torn(seed: int) -> bool:
        simulation = Simulation(shared, seed)
        simulation.weather.ends_land_again = True
        try:
            simulation.run()
        except FoundError:
            return True
        return False

    assert any(torn(seed) for seed in range(SEEDS))
