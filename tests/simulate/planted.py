"""Mistakes that a sealer's loop must not make, planted one at a time: the simulator must find each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from kafkaio.library import Library
from kafkaio.testing import SimulatedLibrary
from kafkaio.transaction import STABLE_S, ChainProducer, Ends, HangingError, Placement, Progress
from processors import chain_loop, recovery
from processors.chain_loop import Chain
from processors.pipeline import ChainState
from schemas.settings import Settings
from tests.fenced import fenced
from tests.simulate import simulation
from tests.simulate.stage import Stage


class _FencesLate:
    """A chain's producer that fences when it first commits, and waits then."""

    def __init__(self, settings: Settings, transactional_id: str, library: Library) -> None:
        self._settings, self._identifier, self._library = settings, transactional_id, library
        self._inner: ChainProducer | None = None

    def fenced(self, wait_s: float = 0.0) -> bool:
        return True

    def begin(self, placements: Sequence[Placement], progress: Progress, sealed_at_ms: int) -> None:
        if self._inner is None:
            self._inner = fenced(self._settings, self._identifier, self._library)
            self._wait([(p.topic, p.partition) for p in placements])
        self._inner.begin(placements, progress, sealed_at_ms)

    def _wait(self, partitions: list[tuple[str, int]]) -> None:
        ends = Ends(self._settings, self._library)
        high, deadline = ends.high(partitions), self._library.monotonic() + STABLE_S
        while behind := _undecided(ends, high):
            if self._library.monotonic() > deadline:
                raise HangingError(behind)
            self._library.sleep(0.1)

    def ended(self, wait_s: float = 0.0) -> bool:
        return self._inner is not None and self._inner.ended(wait_s)

    def abort_on(self, partitions: Sequence[tuple[str, int]]) -> None:
        if self._inner is not None:
            self._inner.abort_on(partitions)

    def discard(self) -> None:
        if self._inner is not None:
            self._inner.discard()


_undecided = Ends.undecided  # as it is without a mistake


@contextmanager
def head_read_before_fencing() -> Iterator[None]:
    """The head is read first; then the chain is fenced, and what is undecided waited for."""
    with patch.object(simulation, "ChainProducer", _FencesLate), patch.object(Ends, "undecided", lambda *_: []):
        yield


@contextmanager
def undecided_not_waited_for() -> Iterator[None]:
    """The head is read as soon as the fence stands; what it aborts may not show yet, nor what others left open."""
    with patch.object(Ends, "undecided", lambda *_: []):
        yield


def _remembered(causes: frozenset[str], after: bool) -> AbstractContextManager[None]:
    """After these causes of a way back to the fence the state comes from memory: after, or before, what was not committed."""

    @contextmanager
    def planted() -> Iterator[None]:
        begin, reset, recover, read = Chain._begin, Chain.reset, Chain.recover, recovery.read_state
        tried: dict[Chain, ChainState] = {}
        kept: dict[Chain, ChainState] = {}
        recovering: list[Chain] = []

        def remembering_begin(self: Chain, state: ChainState, *rest: Any, **named: Any) -> None:
            tried[self] = state if after else self._state or state
            begin(self, state, *rest, **named)

        def remembering_reset(self: Chain, cause: str, *rest: Any) -> None:
            if cause in causes and self in tried:
                kept[self] = tried[self]
            reset(self, cause, *rest)

        def noted_recover(self: Chain, group: object) -> bool:
            recovering.append(self)
            try:
                return recover(self, group)
            finally:
                recovering.pop()

        def from_memory(*given: Any) -> ChainState | None:
            found = read(*given)
            remembered = kept.pop(recovering[-1], None)
            return found if found is None or remembered is None else remembered

        with (
            patch.object(Chain, "_begin", remembering_begin),
            patch.object(Chain, "reset", remembering_reset),
            patch.object(Chain, "recover", noted_recover),
            patch.object(chain_loop, "read_state", from_memory),
        ):
            yield

    return planted()


def head_not_rewound() -> AbstractContextManager[None]:
    """What the broker refused, or a fence aborted, leaves the head where the transaction would have brought it."""
    return _remembered(frozenset({"fenced", "halved", "clock"}), after=True)


def outcome_guessed_good() -> AbstractContextManager[None]:
    """A commit without an answer counts as committed."""
    return _remembered(frozenset({"transaction"}), after=True)


def outcome_guessed_bad() -> AbstractContextManager[None]:
    """A commit without an answer counts as aborted."""
    return _remembered(frozenset({"transaction"}), after=False)


def one_id_a_process() -> AbstractContextManager[Any]:
    """All chains of a process share a transactional id."""

    def fence(settings: Settings, transactional_id: str, library: SimulatedLibrary) -> ChainProducer:
        return ChainProducer(settings, f"{settings.deployment}/{library.world.name}", library)

    return patch.object(simulation, "ChainProducer", fence)


WRONG_TRAIL = "fork or hole|stopped chains"  # what the checker sees, or the sealer's own cross-check
NO_REST = "not at rest"  # chains of one process outlaw each other; that alone forks nothing, see ADR 19
PLANTED: dict[str, tuple[Callable[[], AbstractContextManager[Any]], str]] = {
    "head read before fencing": (head_read_before_fencing, WRONG_TRAIL),
    "what is undecided not waited for": (undecided_not_waited_for, WRONG_TRAIL),
    "head not rewound after an abort": (head_not_rewound, WRONG_TRAIL),
    "commit outcome guessed: committed": (outcome_guessed_good, WRONG_TRAIL),
    "commit outcome guessed: aborted": (outcome_guessed_bad, WRONG_TRAIL),
    "one transactional id per process instead of per chain": (one_id_a_process, NO_REST),
}


def find(stage: Stage, name: str, seeds: range) -> simulation.FoundError | None:
    """The first of these seeds under which a planted mistake shows itself as it must: by the trail, or by no rest."""
    plant, sign = PLANTED[name]
    with plant():
        for seed in seeds:
            try:
                simulation.Simulation(stage, seed).run()
            except simulation.FoundError as error:
                if re.search(sign, error.problem):
                    return error
    return None
