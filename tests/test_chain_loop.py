"""What a chain keeps of what was fetched for it, and what it seals ahead.

A gap in offsets is believed only when the log itself has nothing there. What is sealed ahead is begun as it is, sealed again,
or forgotten; it is never half of what was fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kafkaio.group import Polled
from kafkaio.transaction import Progress
from processors.chain import ChainHead
from processors.chain_loop import MAX_BATCH_BYTES, Chain, Phase
from processors.pipeline import ChainState
from processors.records import Batch, Outputs, RawRecord
from processors.sealer import Sealer
from sealtrail.errors import TransientError


class Log:
    """What a sealer gives a chain: a clock, and a raw partition of which these offsets have a record."""

    def __init__(self, offsets: set[int]) -> None:
        self._offsets = offsets
        self.looked: list[tuple[int, int]] = []
        self.settings = SimpleNamespace(batch_records=4)
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


# -- sealed ahead


class Steps:
    """A pipeline: what it seals is its state's head with the next offset; it may raise."""

    def __init__(self) -> None:
        self.authenticate = SimpleNamespace(changes=0)
        self.sealer = SimpleNamespace(may_seal=lambda time_s: True)
        self.sealed: list[list[int]] = []
        self.error: Exception | None = None

    def seal_batch(self, state: Any, batch: Batch, now_us: int, *, unprocessable: bool) -> tuple[Any, Outputs]:
        if self.error:
            raise self.error
        offsets = [r.offset for r in batch.records]
        assert offsets[0] == state.head.next_offset, "a batch on another state than the one before it leads to"
        self.sealed.append(offsets)
        return ChainState(replace(state.head, next_offset=offsets[-1] + 1)), Outputs()


class Producer:
    """A chain's producer: transactions end when a test says so, or fail."""

    def __init__(self) -> None:
        self.begun: list[int] = []  # the raw position that each commits
        self.done = False
        self.error: Exception | None = None

    def begin(self, placements: object, progress: Progress, sealed_at_ms: int) -> None:
        self.begun.append(progress.next_offset)
        self.done = False

    def ended(self, wait_s: float = 0.0) -> bool:
        if self.error:
            raise self.error
        return self.done

    def discard(self) -> None:
        """Nothing is held here."""


class Working:
    """A chain that seals batches of four, with a transaction of four records under way, and eight more fetched."""

    def __init__(self, fetched: int = 12) -> None:
        self.log = Log(set())
        self.steps, self.producer, self.now = Steps(), Producer(), 0.0
        started: list[int] = []
        self.started = started
        more = {
            "pipeline": self.steps, "partitions": lambda: 1, "now_us": lambda: 0, "interval_s": lambda: 0.1,
            "monotonic": lambda: self.now, "consumer": SimpleNamespace(start=lambda partition, offset: started.append(offset)),
        }  # fmt: skip
        self.sealer = SimpleNamespace(**{**vars(self.log), **more, "pause": lambda partition: None, "proven": True})
        self.sealer.settings = SimpleNamespace(batch_records=4, heartbeat_s=5.0)
        self.chain = Chain(cast(Sealer, self.sealer), 0)
        self.chain.phase, self.chain._producer = Phase.SEALING, cast(Any, self.producer)
        self.chain._state, self.chain._places = ChainState(ChainHead("chain")), cast(Any, PLACES)
        self.chain.take([record(offset) for offset in range(fetched)])
        self.turn()

    def turn(self) -> None:
        self.chain.turn(Polled({}, frozenset(), None))

    def end(self) -> None:
        """The transaction is committed, and the chain has its turn."""
        self.producer.done = True
        self.turn()


TOPICS = ("raw", "archive", "hot", "siem", "quarantine", "activity", "sources", "subject_keys")
PLACES = SimpleNamespace(topics=SimpleNamespace(**dict.fromkeys(TOPICS, "t")), partition=0, hot=0, siem=0, quarantine=0)


def test_a_full_batch_is_sealed_while_a_transaction_is_under_way_and_begun_when_that_is_committed() -> None:
    at = Working()
    at.turn()
    at.turn()
    assert at.steps.sealed == [[0, 1, 2, 3], [4, 5, 6, 7]], "one ahead, and no more"
    assert at.producer.begun == [4]
    at.end()
    assert at.producer.begun == [4, 8]
    at.turn()
    at.end()
    at.end()
    assert at.steps.sealed == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert at.producer.begun == [4, 8, 12]
    assert not at.started, "nothing had to be fetched again"


def test_what_does_not_fill_a_batch_is_not_sealed_ahead() -> None:
    at = Working(fetched=7)
    at.turn()
    assert at.steps.sealed == [[0, 1, 2, 3]]


def test_what_was_sealed_ahead_goes_with_the_transaction_that_it_was_sealed_on() -> None:
    at = Working()
    at.turn()
    at.producer.error = TransientError("no answer", 0.0)
    at.turn()
    assert at.chain.phase is Phase.WAITING
    assert at.chain._ahead is None and not at.chain._fetched


def _policy_changes(at: Working) -> None:
    at.sealer.pipeline = Steps()


def _certificates_change(at: Working) -> None:
    at.steps.authenticate.changes += 1


def _it_is_old(at: Working) -> None:
    at.now += 60


@pytest.mark.parametrize("change", [_policy_changes, _certificates_change, _it_is_old])
def test_what_was_sealed_ahead_under_other_keys_or_long_ago_is_fetched_and_sealed_again(
    change: Callable[[Working], None],
) -> None:
    at = Working()
    at.turn()
    change(at)
    at.end()
    assert at.producer.begun == [4] and at.started == [4]
    at.chain.take([record(offset) for offset in range(4, 12)])
    at.turn()
    assert at.producer.begun == [4, 8] and at.sealer.pipeline.sealed[-1] == [4, 5, 6, 7]


def test_a_batch_that_cannot_be_sealed_ahead_is_left_as_it_was_and_tried_once_a_transaction() -> None:
    at = Working()
    at.steps.error = TransientError("keys away", 0.0)
    at.turn()
    at.steps.error = None
    at.turn()
    assert [r.offset for r in at.chain._fetched] == list(range(4, 12))
    assert at.chain._fetched_bytes == 8
    at.end()
    assert at.producer.begun == [4, 8]
    at.turn()
    assert at.steps.sealed == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_a_chain_that_is_held_forgets_what_it_sealed_ahead() -> None:
    at = Working()
    at.turn()
    at.now += 1.5
    at.chain.hold_if_slow()
    assert at.chain._ahead is None
    at.end()
    assert at.started == [4] and at.producer.begun == [4]
