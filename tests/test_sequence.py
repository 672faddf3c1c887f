"""An emitter's numbers against plain sets: new, in a hole, seen, or one hole too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.sequence import (
    _STATE,
    MAX_HOLES,
    Runs,
    RunState,
    SeenError,
    WildError,
    decode_state,
    encode_state,
    place,
    state_key,
)
from sealtrail.errors import EvidenceError
from sealtrail.session import Run

EPOCH = bytes.fromhex("019aaaaaaaaa7000800000000000000b")
START = RunState(EPOCH)
LARGEST = 2**63 - 1


def ranges(numbers: set[int]) -> list[tuple[int, int]]:
    """The runs of consecutive numbers that are missing below the highest of a set."""
    found: list[tuple[int, int]] = []
    for number in range(max(numbers, default=-1)):
        if number in numbers:
            continue
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def follow(numbers: list[int], limit: int = 200) -> tuple[RunState, set[int]]:
    """Place every number and the oracle's set with it; what is refused changes neither."""
    state, seen = START, set[int]()
    for number in numbers:
        before = state
        if number in seen:
            with pytest.raises(SeenError):
                place(state, number)
        elif len(ranges(seen | {number})) > MAX_HOLES:
            with pytest.raises(WildError):
                place(state, number)
        else:
            state = place(state, number)
            seen.add(number)
        assert before.holes == tuple(before.holes)
        assert list(state.holes) == ranges(seen)
        assert state.high_water == max(seen, default=-1)
    return state, seen


@given(st.lists(st.integers(0, 200), max_size=150))
def test_a_number_is_new_fills_a_hole_or_was_seen_exactly_as_in_a_set_of_numbers(numbers: list[int]) -> None:
    follow(numbers)


@given(st.permutations(range(0, 2 * (MAX_HOLES + 20), 2)), st.lists(st.integers(0, 180), max_size=60))
def test_at_most_64_hole_ranges_open_whatever_the_order(evens: list[int], more: list[int]) -> None:
    state, _ = follow([*evens, *more])
    assert len(state.holes) <= MAX_HOLES


@given(st.permutations(range(60)))
def test_every_order_of_all_numbers_ends_without_holes(numbers: list[int]) -> None:
    state = START
    for number in numbers:
        state = place(state, number)
    assert (state.high_water, state.holes) == (59, ())


def test_the_65th_hole_is_wild_and_changes_nothing() -> None:
    state = START
    for number in range(1, 2 * MAX_HOLES, 2):
        state = place(state, number)
    assert len(state.holes) == MAX_HOLES
    with pytest.raises(WildError):
        place(state, 2 * MAX_HOLES + 1)
    assert place(state, 2 * MAX_HOLES).high_water == 2 * MAX_HOLES  # the next number opens no hole


def test_splitting_a_hole_counts_as_one_more() -> None:
    state = place(START, 10)
    for number in range(13, 13 + 2 * (MAX_HOLES - 1), 2):
        state = place(state, number)
    assert len(state.holes) == MAX_HOLES
    with pytest.raises(WildError):
        place(state, 5)
    assert len(place(state, 0).holes) == len(place(state, 9).holes) == MAX_HOLES  # at an edge it only gets smaller


def test_the_largest_number_is_one_hole_like_any_other() -> None:
    state = place(START, LARGEST)
    assert state.holes == ((0, LARGEST - 1),)
    with pytest.raises(SeenError):
        place(state, LARGEST)
    assert decode_state(encode_state(place(state, 7))).holes == ((0, 6), (8, LARGEST - 1))


@given(st.lists(st.integers(0, 300), max_size=80), st.booleans())
def test_a_state_survives_its_encoding(numbers: list[int], closed: bool) -> None:
    state, _ = follow(numbers)
    state = RunState(state.epoch, state.high_water, state.holes, closed)
    assert decode_state(encode_state(state)) == state


@pytest.mark.parametrize(
    ("high_water", "holes"),
    [
        pytest.param(9, [(5, 6), (1, 2)], id="not-ascending"),
        pytest.param(9, [(1, 4), (3, 5)], id="overlapping"),
        pytest.param(9, [(4, 3)], id="backwards"),
        pytest.param(9, [(7, 9)], id="up-to-the-mark"),
        pytest.param(-1, [(0, 3)], id="above-the-mark"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(high_water: int, holes: list[tuple[int, int]]) -> None:
    value = {
        "epoch": EPOCH,
        "high_water": high_water,
        "holes": [{"first": first, "last": last} for first, last in holes],
        "closed": False,
    }
    with pytest.raises(EvidenceError, match="holes"):
        decode_state(_STATE.encode(value))


def test_states_of_different_chains_and_runs_have_different_keys() -> None:
    run = Run("github", "one", EPOCH)
    others = [Run("github", "two", EPOCH), Run("chat", "one", EPOCH), Run("github", "one", bytes(16))]
    found = {state_key("a/b/c.00000000.0/0", r) for r in (run, *others)} | {state_key("a/b/c.00000000.0/1", run)}
    assert len(found) == 5


keys = st.binary(max_size=1)
states = st.builds(RunState, st.just(bytes(16)), st.integers(0, 9))


@given(st.dictionaries(keys, states, max_size=300), st.lists(st.dictionaries(keys, states, max_size=40), max_size=30))
def test_runs_are_what_a_dict_that_is_copied_each_time_would_be(
    bulk: dict[bytes, RunState], changes: list[dict[bytes, RunState]]
) -> None:
    runs, plain = Runs(bulk), bulk
    earlier: list[tuple[Runs, dict[bytes, RunState]]] = []
    for changed in changes:
        earlier.append((runs, plain))
        runs, plain = runs.with_changed(changed), {**plain, **changed}
        assert list(runs.items()) == list(plain.items()) and len(runs) == len(plain) and runs == plain
        assert all(runs.get(bytes([number])) == plain.get(bytes([number])) for number in range(256))
        assert (b"other" in runs, runs.get(b"other", 7)) == (False, 7)
    assert all(list(before.items()) == list(same.items()) for before, same in earlier), "what was given once never changes"


def test_what_a_transaction_changes_is_not_paid_for_by_all_runs() -> None:
    runs = Runs({number.to_bytes(4, "big"): RunState(bytes(16), number) for number in range(100_000)})
    whole = runs._bulk
    for number in range(500):
        runs = runs.with_changed({number.to_bytes(4, "big"): RunState(bytes(16), number + 1)})
        assert runs._bulk is whole and len(runs._changed) == number + 1
    for number in range(500, 700):
        runs = runs.with_changed({number.to_bytes(4, "big"): RunState(bytes(16), number + 1)})
    assert runs._bulk is not whole and len(runs._changed) < 100 and len(runs) == 100_000
