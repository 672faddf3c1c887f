"""The loop of every sink that delivers: at least once, pausing instead of dropping.

    read → decode → deliver → dead letters of what is refused for good → commit the offset

- Each partition is a lane. A lane reads on only when all it has read is delivered or a dead letter, so its committed
  offset never passes a record that the destination may not have. Repeats carry the same ids; destinations tell them.
- Unreachable, too busy, closed: the lane waits, longer each time up to `LONGEST_WAIT_S`, and for ever. Other lanes go on
  unless it is the destination itself that does not answer.
- What cannot be read, or is refused for good, becomes a dead letter; its offset is committed after the letter is
  acknowledged. An exception in a destination is halved down to its record.
- A wrong set-up (rights, no such broker certificate) ends `run` with a ConfigError.

Not here: what a destination is told (`sinks.search`, `sinks.siem`), Kafka (`kafkaio.delivery`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import structlog

from kafkaio.dead import Letter
from kafkaio.delivery import Delivered
from schemas.registry import Registry
from sealtrail.errors import ConfigError, EvidenceError, TransientError
from sealtrail.seal import Kind, Seal, SealedEvent, decode_seal, decode_sealed_event, leaf_hash
from sinks import metrics

LONGEST_WAIT_S = 30.0  # a destination that comes back is in use within half a minute
BATCH_RECORDS = 1000
TURN_S = 0.1  # the longest wait for new records: below what a person notices when stopping
COMMIT_S = 0.5
TROUBLE_S = 10.0  # between two lines of log about the same trouble

_LOG = structlog.get_logger("sinks.delivery")


@dataclass(frozen=True, slots=True)
class Item:
    """A sealed event that was read: its place, its seal, its event as decoded, with the fields of the current schema."""

    record: Delivered
    sealed: SealedEvent
    seal: Seal
    event: dict[str, Any]

    @property
    def leaf(self) -> bytes:
        """The seal's leaf hash, 32 bytes."""
        return leaf_hash(self.sealed.seal)


class State(Enum):
    """What became of one item."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    RETRY = "retry"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item; `reason` is one word, `detail` holds no value of the event."""

    state: State
    reason: str = ""
    detail: str = ""
    status: int | None = None
    after_s: float = 1.0


DELIVERED = Outcome(State.DELIVERED)


def refused(reason: str, detail: str = "", status: int | None = None) -> Outcome:
    """For good: no repetition mends it."""
    return Outcome(State.REFUSED, reason, detail, status)


def retry(reason: str, detail: str = "", status: int | None = None, after_s: float = 1.0) -> Outcome:
    """Not now."""
    return Outcome(State.RETRY, reason, detail, status, after_s)


class Destination(Protocol):
    """Where a sink delivers to."""

    def deliver(self, items: Sequence[Item]) -> Sequence[Outcome]:
        """Hand over `items`; one outcome each, in their order. Returns within four minutes.

        Raises:
            TransientError: the destination does not answer; nothing is known, all of it is repeated.
        """

    def close(self) -> None:
        """End connections."""


class Consumer(Protocol):
    """`kafkaio.delivery.DeliveryConsumer`."""

    last_error: str

    def poll(self, max_records: int, timeout_s: float) -> list[Delivered]: ...
    def commit(self, positions: Mapping[int, int]) -> bool: ...
    def pause(self, partition: int) -> None: ...
    def resume(self, partition: int) -> None: ...
    def close(self) -> None: ...


class Letters(Protocol):
    """`kafkaio.dead.DeadLetters`."""

    def put(self, letter: Letter) -> None: ...
    def close(self) -> None: ...


# Made by the loop, which is told of partitions that go and of offsets that expired.
Connect = Callable[[Callable[[list[int]], None], Callable[[int, int, int], None]], Consumer]


@dataclass(slots=True)
class _Lane:
    """What was read of a partition and is not done; `position` is the next offset to commit once nothing waits."""

    partition: int
    waiting: list[Item] = field(default_factory=list)
    unwanted: list[Letter] = field(default_factory=list)
    position: int = -1
    committed: int = -1
    wake_at: float = 0.0
    failures: int = 0
    paused: bool = False

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.unwanted)

    def safe_position(self) -> int:
        """The first offset that is not done."""
        return min(
            [item.record.offset for item in self.waiting] + [letter.offset for letter in self.unwanted] + [self.position]
        )


class DeliverySink:
    """Delivers one topic's sealed events to a destination.

    Args:
        name: of the sink in metrics and logs.
        topic: full name, for dead letters.
        connect: joins the group.
        monotonic: seconds, for waiting only.
    """

    def __init__(
        self,
        *,
        name: str,
        topic: str,
        registry: Registry,
        connect: Connect,
        destination: Destination,
        letters: Letters,
        batch_records: int = BATCH_RECORDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._topic = topic
        self._registry = registry
        self._connect = connect
        self._destination = destination
        self._letters = letters
        self._batch_records = batch_records
        self._monotonic = monotonic
        self._lanes: dict[int, _Lane] = {}
        self._commit_at = 0.0
        self._quiet_until = 0.0

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; what was delivered by then is committed. Raises ConfigError."""
        self._consumer = self._connect(self._give_up, self._note_expired)
        try:
            while not stop.is_set():
                self._turn()
        finally:
            self._give_up(list(self._lanes))
            self._consumer.close()
            self._destination.close()
            self._letters.close()

    def _turn(self) -> None:
        self._pause_and_resume()
        for record in self._consumer.poll(self._batch_records, 0.0 if self._due() else self._rest_s()):
            self._read(record)
        self._report()
        due = self._due()
        if due:
            self._bury(due)
            self._deliver(due)
        self._commit()

    # ---- reading

    def _read(self, record: Delivered) -> None:
        lane = self._lanes.setdefault(record.partition, _Lane(record.partition))
        lane.position = record.offset + 1
        try:
            lane.waiting.append(self._decode(record))
        except EvidenceError as error:
            lane.unwanted.append(self._letter(record, "undecodable", str(error)))

    def _decode(self, record: Delivered) -> Item:
        sealed = decode_sealed_event(record.value)
        seal = decode_seal(sealed.seal)
        if seal.kind is not Kind.EVENT:
            raise EvidenceError(f"a seal of kind {seal.kind.value}, not an event")
        if sealed.content.digest() != seal.content_digest:
            raise EvidenceError("the content is not the one that was sealed")
        codec = self._registry.by_digest.get(sealed.content.content_schema)
        if codec is None:
            raise EvidenceError(f"content of unknown schema {sealed.content.content_schema.hex()[:16]}")
        return Item(record, sealed, seal, self._registry.as_current(codec.decode(sealed.content.content), codec))

    def _letter(
        self, record: Delivered, reason: str, detail: str, status: int | None = None, item: Item | None = None
    ) -> Letter:
        return Letter(
            reason=reason,
            detail=detail,
            status=status,
            topic=self._topic,
            partition=record.partition,
            offset=record.offset,
            record=record.value,
            chain=item.seal.chain if item else None,
            seq=item.seal.seq if item else None,
            event_id=item.sealed.content.event_id if item else None,
        )

    # ---- delivering

    def _due(self) -> list[_Lane]:
        now = self._monotonic()
        return [lane for lane in self._lanes.values() if lane.busy and now >= lane.wake_at]

    def _deliver(self, lanes: list[_Lane]) -> None:
        """One hand-over of what the lanes wait with, and what became of each item."""
        items = [item for lane in lanes for item in lane.waiting]
        if not items:
            return
        try:
            outcomes = self._hand_over(items)
        except TransientError as error:
            for lane in lanes:
                self._wait(lane, "unreachable", str(error), error.retry_after_s)
            return
        became = {(item.record.partition, item.record.offset): outcome for item, outcome in zip(items, outcomes, strict=True)}
        for lane in lanes:
            self._settle(lane, [(item, became[item.record.partition, item.record.offset]) for item in lane.waiting])
        self._bury(lanes)

    def _hand_over(self, items: list[Item]) -> list[Outcome]:
        """The outcomes; an exception that nobody foresaw costs only the record that causes it."""
        try:
            return list(self._destination.deliver(items))
        except (TransientError, ConfigError):
            raise
        except Exception as error:  # whatever a record does to a destination's code must not stop the next record
            if len(items) == 1:
                _LOG.exception("record cannot be processed", sink=self._name, offset=items[0].record.offset)
                return [refused("unprocessable", type(error).__name__)]
            half = len(items) // 2
            return self._hand_over(items[:half]) + self._hand_over(items[half:])

    def _settle(self, lane: _Lane, became: list[tuple[Item, Outcome]]) -> None:
        lane.waiting = [item for item, outcome in became if outcome.state is State.RETRY]
        for item, outcome in became:
            if outcome.state is State.REFUSED:
                lane.unwanted.append(self._letter(item.record, outcome.reason, outcome.detail, outcome.status, item))
        delivered = sum(outcome.state is State.DELIVERED for _, outcome in became)
        metrics.DELIVERED.labels(self._name).inc(delivered)
        if lane.waiting:
            if delivered:
                lane.failures = 0  # it moves, so it need not wait longer and longer
            first = next(outcome for _, outcome in became if outcome.state is State.RETRY)
            self._wait(lane, first.reason, first.detail, first.after_s)
        else:
            self._awake(lane)

    def _bury(self, lanes: list[_Lane]) -> None:
        """Write the dead letters of lanes; what cannot be written now waits."""
        for lane in lanes:
            while lane.unwanted:
                letter = lane.unwanted[0]
                try:
                    self._letters.put(letter)
                except TransientError as error:
                    self._wait(lane, "dead-letters", str(error), error.retry_after_s)
                    break
                lane.unwanted.pop(0)
                metrics.DEAD_LETTERS.labels(self._name, letter.reason).inc()
                _LOG.error(
                    "record given up",
                    sink=self._name,
                    reason=letter.reason,
                    detail=letter.detail,
                    status=letter.status,
                    partition=letter.partition,
                    offset=letter.offset,
                )
            if not lane.busy:
                self._awake(lane)

    def _wait(self, lane: _Lane, reason: str, detail: str, after_s: float) -> None:
        lane.failures += 1
        wait_s = min(LONGEST_WAIT_S, after_s * float(2 ** min(lane.failures - 1, 10)))
        lane.wake_at = self._monotonic() + wait_s
        metrics.RETRIES.labels(self._name, reason).inc()
        metrics.WAITING.labels(self._name, str(lane.partition)).set(1)
        _LOG.warning(
            "partition waits",
            sink=self._name,
            partition=lane.partition,
            reason=reason,
            detail=detail,
            retry_in_s=round(wait_s, 1),
        )

    def _awake(self, lane: _Lane) -> None:
        if lane.failures:
            _LOG.info("partition goes on", sink=self._name, partition=lane.partition)
        lane.failures, lane.wake_at = 0, 0.0
        metrics.WAITING.labels(self._name, str(lane.partition)).set(0)

    # ---- positions

    def _pause_and_resume(self) -> None:
        """A lane that waits reads nothing more; memory stays bounded by one batch a lane."""
        for lane in self._lanes.values():
            if lane.busy and not lane.paused:
                self._consumer.pause(lane.partition)
                lane.paused = True
            elif lane.paused and not lane.busy:
                self._consumer.resume(lane.partition)
                lane.paused = False

    def _commit(self) -> None:
        now = self._monotonic()
        if now < self._commit_at:
            return
        self._commit_at = now + COMMIT_S
        self._commit_lanes(list(self._lanes.values()))

    def _commit_lanes(self, lanes: list[_Lane]) -> None:
        positions = {lane.partition: lane.safe_position() for lane in lanes if lane.safe_position() > lane.committed}
        if positions and self._consumer.commit(positions):
            for partition, position in positions.items():
                self._lanes[partition].committed = position

    def _give_up(self, partitions: list[int]) -> None:
        """Partitions go to somebody else: what is delivered is committed, what is not is theirs."""
        gone = [self._lanes[partition] for partition in partitions if partition in self._lanes]
        self._commit_lanes(gone)
        for lane in gone:
            del self._lanes[lane.partition]
            metrics.WAITING.labels(self._name, str(lane.partition)).set(0)

    def _note_expired(self, partition: int, first: int, to: int) -> None:
        metrics.EXPIRED.labels(self._name).inc(to - first)
        _LOG.error("records expired before delivery", sink=self._name, partition=partition, first=first, last=to - 1)

    def _report(self) -> None:
        """Log what was said of the brokers, not more often than every `TROUBLE_S`."""
        if self._consumer.last_error and self._monotonic() >= self._quiet_until:
            self._quiet_until = self._monotonic() + TROUBLE_S
            _LOG.warning("brokers do not answer", sink=self._name, reason=self._consumer.last_error)
            self._consumer.last_error = ""

    def _rest_s(self) -> float:
        """How long the loop may wait for records: until the first lane is due."""
        now = self._monotonic()
        return min([TURN_S, *(max(0.0, lane.wake_at - now) for lane in self._lanes.values() if lane.busy)])
