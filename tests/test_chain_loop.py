"""What a chain keeps of what was fetched for it, and until when.

A gap in offsets is believed only when the log itself has nothing there.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from kafkaio.group import Polled
from kafkaio.transaction import FencedError
from processors.chain import ChainHead
from processors.chain_loop import FENCED_WAIT_S, HELD_S, MAX_BATCH_BYTES, Chain, Phase, _Span, _Transaction
from processors.pipeline import ChainState
from processors.records import Counts, RawRecord
from processors.sealer import Sealer
from sealtrail.errors import TransientError


class Log:
    """What a sealer gives a chain: a clock, and a raw partition of which these offsets have a record."""

    def __init__(self, offsets: set[int]) -> None:
        self._offsets = offsets
        self.looked: list[tuple[int, int]] = []
        self.settings = SimpleNamespace(batch_records=4)
        self.rebalances = 0
        self.topics = SimpleNamespace(raw="raw")
        self.ends = SimpleNamespace(start=lambda topic, partition: 0)
        self.reader = SimpleNamespace(first_record=self._first)

    def _first(self, topic: str, partition: int, start: int, end: int) -> Any:
        self.looked.append((start, end))
        found = sorted(offset for offset in self._offsets if start <= offset < end)
        return SimpleNamespace(offset=found[0]) if found else None

    def monotonic(self) -> float:
        return 0.0

    def pause(self, partition: int) -> None:
        """Nothing is fetched here."""


def record(offset: int, size: int = 1) -> RawRecord:
    return RawRecord(offset, b"k", bytes(size), (), 0)


def sealing(log: Log, next_offset: int = 5) -> Chain:
    chain = Chain(cast(Sealer, log), 0)
    chain.phase, chain._next = Phase.SEALING, next_offset
    return chain


@pytest.mark.parametrize(
    ("fetched", "kept", "looked"),
    [
        ([5, 6, 7], [5, 6, 7], []),
        ([3, 4], [], []),
        ([3, 4, 5, 6], [5, 6], []),
        ([5, 8], [5, 8], [(6, 8)]),
        ([7, 8, 12], [7, 8, 12], [(5, 7), (9, 12)]),
        ([], [], []),
    ],
)
def test_what_is_new_is_kept_and_gaps_are_looked_into(
    fetched: list[int], kept: list[int], looked: list[tuple[int, int]]
) -> None:
    log = Log(set(fetched))
    chain = sealing(log)
    chain.take([record(offset) for offset in fetched])
    assert [r.offset for r in chain._fetched] == kept
    assert chain._fetched_bytes == len(kept)
    assert log.looked == looked
    assert chain._next == (kept[-1] + 1 if kept else 5)


@pytest.mark.parametrize("fetched", [[5, 7, 8], [5, 7, 7], [6, 6, 7], [7, 5, 6], [8]])
def test_what_the_log_holds_and_was_not_delivered_sends_the_chain_back_to_the_fence(fetched: list[int]) -> None:
    """Also where a record that came twice makes up for the one that did not come."""
    chain = sealing(Log({5, 6, 7, 8}))
    chain.take([record(offset) for offset in fetched])
    assert chain.phase is Phase.WAITING
    assert not chain._fetched


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [
        ([1, 2, 3], [3]),
        ([1] * 6, [4, 2]),
        ([MAX_BATCH_BYTES, 1, 1], [1, 2]),
        ([MAX_BATCH_BYTES - 1, 1, 1], [2, 1]),
        ([MAX_BATCH_BYTES + 1, 0, MAX_BATCH_BYTES, 0, 1], [1, 3, 1]),
    ],
)
def test_a_transaction_takes_as_many_as_its_bounds_let_it(sizes: list[int], taken: list[int]) -> None:
    chain = sealing(Log(set()), 0)
    chain.take([record(offset, size) for offset, size in enumerate(sizes)])
    chunks = []
    while chain._fetched:
        chunks.append(len(chain._take_chunk()))
    assert chunks == taken
    assert chain._fetched_bytes == 0


# -- while a transaction is under way


class Producer:
    """A chain's producer, whose transaction ends when a test says so, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done, self.error, self.discarded = False, error, False

    def ended(self, wait_s: float = 0.0) -> bool:
        if self.error:
            raise self.error
        return self.done

    def discard(self) -> None:
        self.discarded = True


def committing(log: Log, producer: Producer) -> Chain:
    """A chain whose batch of four is under way, and which has fetched four more."""
    chain = sealing(log, 4)
    chain._producer, done = cast(Any, producer), ChainState(ChainHead("chain", next_offset=4))
    chain._under_way = _Transaction(done, _Span(0, 4), Counts(), 0, {})
    chain._begun_at = log.monotonic() - 2 * HELD_S
    chain.take([record(offset) for offset in range(4, 8)])
    return chain


def test_a_chain_whose_transaction_has_ended_is_not_held_with_one_whose_transaction_hangs() -> None:
    log, hangs, ends = Log(set()), Producer(), Producer()
    hanging, ended = committing(log, hangs), committing(log, ends)
    ends.done = True
    Sealer._poll(cast(Sealer, SimpleNamespace(_chains={0: hanging, 1: ended}, _group=None)))
    assert hanging._held and not hanging._fetched and hanging.committing()
    assert not ended._held and len(ended._fetched) == 4 and not ended.committing()
    assert ended._current().head.next_offset == 4


def test_a_transaction_that_fails_takes_state_and_what_was_fetched_with_it() -> None:
    producer = Producer(TransientError("no answer", 0.0))
    chain = committing(Log(set()), producer)
    chain.turn(Polled({}, frozenset(), None))
    assert chain.phase is Phase.WAITING and producer.discarded
    assert chain._state is None and not chain._fetched and not chain.committing()


@pytest.mark.parametrize("rebalances", [0, 1])
def test_a_chain_that_is_refused_waits_for_the_groups_word_and_no_longer(rebalances: int) -> None:
    """A rebalance refuses what was begun before it, of chains that stay too; it has ended when partitions are assigned."""
    log = Log(set())
    chain = committing(log, Producer(FencedError("ILLEGAL_GENERATION", 0.0)))
    log.rebalances = rebalances
    chain.turn(Polled({}, frozenset(), None))
    assert chain.phase is Phase.WAITING
    assert chain.retry_at == (0.0 if rebalances else FENCED_WAIT_S)
    chain.owned()
    assert chain.retry_at == 0.0


def test_what_else_a_chain_waits_for_is_no_matter_of_the_group() -> None:
    chain = committing(Log(set()), Producer(TransientError("certify the key", 30.0)))
    chain.turn(Polled({}, frozenset(), None))
    chain.owned()
    assert chain.retry_at == 30.0


def test_records_that_were_taken_are_fetched_again_when_the_brokers_do_not_say_how_many_partitions_there_are() -> None:
    def partitions() -> int:
        raise TransientError("no answer", 0.0)

    log = Log(set())
    vars(log)["partitions"] = partitions
    chain = sealing(log, 0)
    chain._state = ChainState(ChainHead("chain"))
    chain.take([record(offset) for offset in range(4)])
    chain.turn(Polled({}, frozenset(), None))
    assert chain.phase is Phase.WAITING
    assert not chain._fetched
