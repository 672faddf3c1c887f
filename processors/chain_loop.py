"""One chain on this process: what was fetched of it, its state, and the transaction that is under way (design §6).

A chain is in one of four phases:

    WAITING   in doubt, or new here; nothing of it is delivered. Leaves by `fence`.
    FENCING   its new producer outlaws every earlier owner; then what these left open must be decided. Leaves by `recover`.
    SEALING   fenced, state read from what is committed; batches and heartbeats, one transaction at a time.
    STOPPED   what is committed contradicts itself, or the clocks do; a person must look.

While a transaction is under way the state that it leads to is adopted by nobody: it ends well, and is adopted, or it does
not, and the chain goes back to the fence. Every error of a transaction, whatever it was, leads back to WAITING: the producer is
discarded, and with it what was fetched and the state in memory. Assignment, doubt, loss and restart share that one path.

Not here: which chains there are, and when each has its turn (`sealer`); what a seal is (`pipeline`); where a chain stands
(`recovery`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog
from prometheus_client import Counter

from kafkaio.group import Polled
from kafkaio.transaction import STABLE_S, ClockError, FencedError, HangingError, Placement, Progress
from processors.chain import ChainHead
from processors.pipeline import ChainState
from processors.records import Batch, Counts, Outputs, RawRecord
from processors.recovery import Places, chain_of, read_state
from schemas.catalogue import transactional_prefix
from schemas.settings import Settings
from sealtrail.errors import ConfigError, EvidenceError, SealtrailError, TransientError

if TYPE_CHECKING:
    from processors.sealer import Sealer

MAX_BATCH_BYTES = 16 << 20  # of raw values a transaction; bounds what its outputs need
CONFIGURATION_WAIT_S = 5.0  # what a person must mend need not be asked for each second
CERTIFICATE_WAIT_S = 30.0  # somebody has to certify a key
FENCED_WAIT_S = 4.0  # above the heartbeat interval (2.5 s): by then the group has said whether we still own the chain
UNDECIDED_WAIT_S = 0.1  # between two looks
HELD_S = 1.0  # a transaction that takes longer must not keep the other chains from being read

_offset: Callable[[RawRecord], int] = attrgetter("offset")
_value: Callable[[RawRecord], bytes] = attrgetter("value")
_log = structlog.get_logger("processors.sealer")
SEALED = Counter("sealtrail_sealer_seals", "Seals committed.", ["kind", "reason"])
LEAKS = Counter("sealtrail_sealer_leaks", "Secrets overwritten and marked fields refused, in sealed records.", ["shape"])
SUBJECT_KEYS = Counter("sealtrail_sealer_subject_keys", "Keys of data subjects made.")
RESETS = Counter("sealtrail_sealer_resets", "Chains that went back to the fence.", ["cause"])
STOPS = Counter("sealtrail_sealer_stops", "Chains stopped until a person has looked.")


class Phase(Enum):
    """See the module."""

    WAITING = "waiting"
    FENCING = "fencing"
    SEALING = "sealing"
    STOPPED = "stopped"


class Committer(Protocol):
    """A producer of one chain, fenced first: commits whole transactions or raises; after an error it is discarded."""

    def fenced(self, wait_s: float = 0.0) -> bool:
        """As `ChainProducer.fenced`."""

    def begin(self, placements: Sequence[Placement], progress: Progress, sealed_at_ms: int) -> None:
        """As `ChainProducer.begin`."""

    def ended(self, wait_s: float = 0.0) -> bool:
        """As `ChainProducer.ended`."""

    def abort_on(self, partitions: Sequence[tuple[str, int]]) -> None:
        """As `ChainProducer.abort_on`."""

    def discard(self) -> None:
        """Forget it."""


Fence = Callable[[Settings, str], Committer]


class _Span(NamedTuple):
    """The raw records of a transaction: the first one's offset, and how many."""

    first: int
    records: int


_NOTHING = _Span(0, 0)


@dataclass(frozen=True, slots=True)
class _Transaction:
    """What is being committed, and the state that it leads to; not the records and the values, which memory is soon rid of."""

    state: ChainState
    span: _Span
    counts: Counts
    subject_keys: int
    leaks: Mapping[str, int]


class Chain:
    """One raw partition on this process. All calls come from the sealer's thread."""

    def __init__(self, sealer: Sealer, partition: int) -> None:
        self._sealer = sealer
        self._partition = partition
        self._producer: Committer | None = None
        self._state: ChainState | None = None
        self._name = ""  # of the chain, once it is known where it is written
        self._places: Places | None = None
        self._under_way: _Transaction | None = None
        self._fetched: list[RawRecord] = []  # in offset order, not sealed yet
        self._fetched_bytes = 0
        self._next = 0  # the raw offset after what was fetched
        self._held = False  # not delivered until the transaction under way has ended
        self._begun_at = float("-inf")  # monotonic; of the last transaction
        self._begun_under = 0  # rebalances that had ended by then
        self._disowned = False  # waits for the group's word on who owns it
        self._sealed_at = 0.0  # monotonic
        self._chunk = sealer.settings.batch_records  # records a transaction takes at most
        self._culprit = -1  # raw offset of a record that cannot be written, found alone
        self._clock_doubted = False
        self._expired = False  # the broker does not hold our position
        self._ends: dict[tuple[str, int], int] = {}  # of its outputs, when the fence stood
        self._fenced_at = 0.0  # monotonic
        self.retry_at = 0.0  # monotonic; of a chain that waits, or is not decided yet
        self.phase = Phase.WAITING
        self._log = _log.bind(partition=partition)

    # -- what the sealer asks before it waits for records

    def full(self) -> bool:
        """Whether it has fetched enough for the next transaction while one is under way."""
        enough = len(self._fetched) >= self._sealer.settings.batch_records or self._fetched_bytes >= MAX_BATCH_BYTES
        return self._under_way is not None and enough

    def idle(self) -> bool:
        """Whether it waits for records alone."""
        return self._under_way is None and not self._fetched

    def committing(self) -> bool:
        """Whether a transaction is under way."""
        return self._under_way is not None

    def at_work(self) -> bool:
        """Whether it had a transaction in the last two intervals."""
        return self._sealer.monotonic() - self._begun_at < 2 * self._sealer.interval_s()

    def rest_s(self) -> float:
        """Seconds until its next batch is due, were there records; 0 if it is now."""
        return max(0.0, self._begun_at + self._sealer.interval_s() - self._sealer.monotonic())

    # -- its turn

    def take(self, records: Sequence[RawRecord]) -> None:
        """Keep what was fetched of this partition."""
        if self.phase is not Phase.SEALING or self._held:
            return  # fetched before a reset; the position is set anew, so it will come again
        fresh = records
        if list(map(_offset, records)) != list(range(self._next, self._next + len(records))):
            fresh = [r for r in records if r.offset >= self._next]
            try:
                self._confirm_gaps(fresh)
            except TransientError as error:
                self.reset("gap", error)
                return
        if not fresh:
            return
        self._next = fresh[-1].offset + 1
        self._fetched += fresh
        self._fetched_bytes += _size(fresh)

    def turn(self, polled: Polled) -> None:
        """Adopt what was committed; then begin what is due: a batch, a lost position, a heartbeat."""
        if self._partition in polled.out_of_range:
            self._expired = True
        if self.phase is not Phase.SEALING or not self._settled():
            return
        settings = self._sealer.settings
        if self._fetched:
            if len(self._fetched) >= self._chunk or self._fetched_bytes >= MAX_BATCH_BYTES or not self.rest_s():
                self._seal(self._take_chunk(), polled.group)
        elif self._expired:
            self._expired = False
            self._position_gone(polled.group)
        elif self._sealer.monotonic() - self._sealed_at >= settings.heartbeat_s:
            self._begin(*self._sealer.pipeline.heartbeat(self._current(), self._sealer.now_us()), polled.group)

    def await_end(self, wait_s: float) -> None:
        """Wait for what is under way, at most `wait_s`: the fence, or a transaction, which is adopted if it was committed."""
        try:
            if self.phase is Phase.FENCING and self._producer is not None:
                self._producer.fenced(wait_s)
            else:
                self._settled(wait_s)
        except TransientError as error:
            self.reset("recovery", error)
        except ConfigError as error:
            self.misconfigured(error)

    def hold_if_slow(self) -> None:
        """A transaction takes long, and this chain is full: read it again later, so that the others can be read."""
        if self._sealer.monotonic() - self._begun_at > HELD_S and not self._held:
            self._held = True
            self._forget_fetched()
            self._sealer.pause(self._partition)

    def leave(self, wait_s: float) -> None:
        """The partition goes: wait as `await_end`; whatever is open then is left to the next owner's fence."""
        self.await_end(wait_s)
        if self._under_way is not None:
            self._log.warning("chain left with a transaction open; its next owner finds whether it was committed")
        self.drop()

    def owned(self) -> None:
        """A rebalance has ended, and the chain is still ours: it need not wait for that any more."""
        if self.phase is Phase.WAITING and self._disowned:
            self._disowned, self.retry_at = False, self._sealer.monotonic()

    def drop(self) -> None:
        """Forget the producer, the state and what was fetched; what is open is left to the next fence."""
        if self._producer is not None:
            self._producer.discard()
        self._producer = self._state = self._under_way = None
        self._forget_fetched()
        self._held = self._expired = self._disowned = False
        self.phase = Phase.WAITING

    def fence(self) -> None:
        """From WAITING to FENCING; the fence takes its time beside the others, or, if it cannot be begun, another try later."""
        sealer, topics = self._sealer, self._sealer.topics
        # 1. Fence. Once it stands no earlier owner of this chain can commit; a crash changes nothing.
        identifier = f"{transactional_prefix(sealer.settings.deployment)}{topics.raw}/{self._partition}"
        try:
            self._producer = sealer.fence(sealer.settings, identifier)
        except TransientError as error:
            self.reset("recovery", error)
        else:
            self._places, self._ends, self.phase = None, {}, Phase.FENCING

    def recover(self, group: object) -> bool:
        """From FENCING to SEALING once the fence stands and all is decided, or why not: another try later, or STOPPED.

        Whether it had anything to do; else its turn is another's.
        """
        try:
            if self._producer is None or not self._producer.fenced():
                return False
            genesis = self._recovered()
        except HangingError as error:
            self._log.error("transaction left open by a broker", partitions=error.partitions)
            self._end_hanging(error)
        except TransientError as error:
            self.reset("recovery", error)
        except EvidenceError as error:
            self._stop(error)
        except ConfigError:  # whose owner says what becomes of it; a fence that failed is asked no more
            self.drop()
            raise
        else:
            if genesis is not None:
                # Once GENESIS is committed, a crash changes nothing: the next owner finds it as the head.
                self._log.info("chain begins", chain=genesis[0].head.chain)
                self._held = True
                self._begin(*genesis, group)
        return True

    def _recovered(self) -> tuple[ChainState, Outputs] | None:
        """SEALING, or still FENCING; the seal to begin with, of a chain that has none."""
        sealer, topics = self._sealer, self._sealer.topics
        if self._places is None:
            self._name = chain_of(sealer.settings, sealer.ends, topics, self._partition)
            self._places = sealer.places(self._name, self._partition)
        # 2. Wait until everything written before is decided: other chains' transactions too, on partitions that are shared.
        #    Their owners may have died with this one's; so their fences are not kept waiting meanwhile.
        if not self._ends:
            self._ends, self._fenced_at = sealer.ends.high(self._places.all()), sealer.monotonic()
        if undecided := sealer.ends.undecided(self._ends):
            if sealer.monotonic() - self._fenced_at > STABLE_S:
                raise HangingError(undecided)
            self.retry_at = sealer.monotonic() + UNDECIDED_WAIT_S
            return None
        # 3. Read the head; see `recovery`. Nothing is written here, so a crash changes nothing.
        committed = sealer.consumer.committed(self._partition)
        self._state = read_state(self._name, self._places, sealer.ends, sealer.reader, committed)
        genesis = None
        if self._state is None:
            begun = ChainState(ChainHead(self._name))
            genesis = sealer.pipeline.genesis(begun, sealer.now_us(), sealer.ends.topic_uuid(topics.raw), sealer.partitions())
        self.phase = Phase.SEALING
        if genesis is None:
            self._go_on()
        return genesis

    def _end_hanging(self, error: HangingError) -> None:
        """What the fence should have aborted is aborted once more; then again from the fence."""
        try:
            if self._producer is not None:
                self._producer.abort_on(error.partitions)
        except TransientError as again:
            self.reset("recovery", again)
        else:
            self.reset("recovery", error)

    def reset(self, cause: str, error: SealtrailError, wait_s: float = 0.0) -> None:
        """Back to the fence: nothing in memory is trusted any more."""
        RESETS.labels(cause).inc()
        self._log.warning("chain goes back to the fence", cause=cause, error=str(error))
        self.drop()
        retry_after = error.retry_after_s if isinstance(error, TransientError) else 0.0
        self.retry_at = self._sealer.monotonic() + max(wait_s, retry_after)
        self._sealer.pause(self._partition)

    def misconfigured(self, error: ConfigError) -> None:
        """A wrong set-up, or brokers that say so for a moment."""
        self.reset("configuration", error, CONFIGURATION_WAIT_S)

    # -- one transaction

    def _seal(self, records: Sequence[RawRecord], group: object, log_start: int = 0) -> None:
        """Begin the transaction of these records; or, without any, of what lies below the log start."""
        sealer = self._sealer
        span = _Span(records[0].offset, len(records)) if records else _NOTHING
        refused = span == (self._culprit, 1)
        try:  # the records are taken: whatever fails from here on leads back to the fence, where they are fetched again
            batch = Batch(records, log_start, sealer.partitions())
            state, outputs = sealer.pipeline.seal_batch(self._current(), batch, sealer.now_us(), unprocessable=refused)
        except TransientError as error:
            self.reset("keys", error)
        except Exception as error:  # no record, whatever it does to a step, may stop the next one
            self._halve(span, f"sealing raised {type(error).__name__}")
        else:
            self._begin(state, outputs, group, span)

    def _begin(self, state: ChainState, outputs: Outputs, group: object, span: _Span = _NOTHING) -> None:
        """Begin to commit outputs; until that has ended, the state that they lead to is nobody's."""
        places, producer = self._places, self._producer
        if places is None or producer is None:
            raise AssertionError("commit before the fence")
        if not self._sealer.pipeline.sealer.may_seal(state.head.sealed_at_us / 1e6):
            # What is sealed outside the certificate's time can never be archived, and cannot be undone.
            problem = "the sealer's key ended, or its certificate does not cover this time"
            self.reset("certificate", TransientError(problem, CERTIFICATE_WAIT_S))
            return
        progress = Progress(places.topics.raw, places.partition, state.head.next_offset, group)
        self._begun_at, self._begun_under = self._sealer.monotonic(), self._sealer.rebalances
        self._under_way = _Transaction(state, span, outputs.counts, len(outputs.subject_keys), outputs.leaks)
        try:
            producer.begin(_placements(places, outputs), progress, state.head.sealed_at_us // 1000)
        except SealtrailError as error:
            self._failed(span, error)

    def _settled(self, wait_s: float = 0.0) -> bool:
        """Whether the chain is SEALING with no transaction under way; what has ended is adopted, or leads to the fence."""
        under_way, producer = self._under_way, self._producer
        if under_way is None or producer is None:
            return self.phase is Phase.SEALING
        try:
            if not producer.ended(wait_s):
                return False
            self._adopt(under_way)
        except SealtrailError as error:
            self._failed(under_way.span, error)
        return self.phase is Phase.SEALING

    def _adopt(self, done: _Transaction) -> None:
        """Committed: what the topics hold is this state, on whatever process reads it next."""
        self._state = done.state
        self._under_way = None
        self._clock_doubted = False
        self._sealed_at = self._sealer.monotonic()
        self._chunk = min(self._chunk * 2, self._sealer.settings.batch_records)
        for (kind, reason), count in done.counts.items():
            SEALED.labels(kind.lower(), reason.label).inc(count)
        SUBJECT_KEYS.inc(done.subject_keys)
        for shape, count in done.leaks.items():
            LEAKS.labels(shape).inc(count)
        if self._held:
            self._held = False
            self._go_on()

    def _failed(self, span: _Span, error: SealtrailError) -> None:
        """Whatever became of a transaction, its producer and the state in memory are not trusted."""
        if isinstance(error, FencedError):
            # A rebalance refuses what was begun before it, also of chains that stay. If it has ended, this one stays.
            heard = self._sealer.rebalances != self._begun_under
            self.reset("fenced", error, 0.0 if heard else FENCED_WAIT_S)
            self._disowned = not heard
        elif isinstance(error, TransientError):
            self.reset("transaction", error)
        elif isinstance(error, ClockError):
            self._doubt_clock(error)
        elif isinstance(error, EvidenceError):
            self._halve(span, str(error))
        else:  # a wrong set-up: whose owner says what becomes of it
            self.drop()
            raise error

    def _halve(self, span: _Span, problem: str) -> None:
        """What cannot be sealed or written together: smaller transactions until the culprit is alone, then it is refused."""
        smaller = span.records > 1 or (span.records == 1 and span.first != self._culprit)
        if span.records == 1:
            self._culprit = span.first
        self._chunk = max(span.records // 2, 1)
        # No wait while it gets smaller. If even the refusal cannot be written, nothing is left but to try again.
        self.reset("halved", TransientError(problem, 0.0 if smaller else 1.0))

    def _doubt_clock(self, error: ClockError) -> None:
        """A process that was suspended between sealing and writing looks like one whose clock is wrong: once is no proof."""
        if self._clock_doubted:
            self._stop(error)
        else:
            self._clock_doubted = True
            self.reset("clock", error)

    # -- what was fetched

    def _take_chunk(self) -> Sequence[RawRecord]:
        """Take the records of one transaction from those that were fetched."""
        chunk = self._fetched[: self._chunk]
        if self._fetched_bytes > MAX_BATCH_BYTES:
            sums = accumulate(map(len, map(_value, chunk)))
            del chunk[max(1, sum(one <= MAX_BATCH_BYTES for one in sums)) :]
        del self._fetched[: len(chunk)]
        self._fetched_bytes = self._fetched_bytes - _size(chunk) if self._fetched else 0
        return chunk

    def _confirm_gaps(self, records: Sequence[RawRecord]) -> None:
        """Where offsets are missing, look again: a gap is sealed only if the log itself has no record there.

        Raises TransientError when it does: what was delivered is not what the log holds.
        """
        expected = self._next
        for record in records:
            if record.offset > expected:
                topic = self._sealer.topics.raw
                start = max(expected, self._sealer.ends.start(topic, self._partition))
                found = self._sealer.reader.first_record(topic, self._partition, start, record.offset)
                if found is not None:
                    raise TransientError(f"raw offset {found.offset} was not delivered")
            expected = record.offset + 1

    def _position_gone(self, group: object) -> None:
        """The broker does not hold our position: expired below the log start, or cut beyond its end."""
        try:
            start = self._sealer.ends.start(self._sealer.topics.raw, self._partition)
        except TransientError as error:
            self.reset("position", error)
            return
        expected = self._current().head.next_offset
        if start <= expected:
            problem = f"raw offset {expected} is refused, though the log begins at {start}"
            self.reset("position", TransientError(problem))
            return
        self._log.warning("raw records expired unsealed", first=expected, count=start - expected)
        self._held = True
        self._seal((), group, log_start=start)

    def _go_on(self) -> None:
        """4. Have the partition delivered from the head on."""
        head = self._current().head
        self._forget_fetched()
        self._next = head.next_offset
        self._expired = False
        try:
            self._sealer.consumer.start(self._partition, head.next_offset)
        except TransientError as error:
            self.reset("position", error)
            return
        self._sealed_at = self._sealer.monotonic()
        self._sealer.proven = True
        self._log.info("sealing", chain=head.chain, seq=head.seq, next_offset=head.next_offset)

    def _forget_fetched(self) -> None:
        self._fetched.clear()
        self._fetched_bytes = 0

    def _current(self) -> ChainState:
        if self._state is None:
            raise AssertionError("no state before recovery")
        return self._state

    def _stop(self, error: Exception) -> None:
        STOPS.inc()
        self._log.error("chain stopped; nothing more of it is sealed until this is settled", error=str(error))
        self.drop()
        self.phase = Phase.STOPPED
        self._sealer.pause(self._partition)


def _size(records: Iterable[RawRecord]) -> int:
    """Bytes of their values."""
    return sum(map(len, map(_value, records)))


def _placements(places: Places, outputs: Outputs) -> list[Placement]:
    topics = places.topics
    values = (
        (topics.archive, places.partition, outputs.archive),
        (topics.hot, places.hot, outputs.hot),
        (topics.siem, places.siem, outputs.siem),
        (topics.quarantine, places.quarantine, outputs.quarantine),
        (topics.activity, places.partition, outputs.activity),
    )
    placements = [Placement(topic, partition, found) for topic, partition, found in values if found]
    for topic, states in ((topics.sources, outputs.sources), (topics.subject_keys, outputs.subject_keys)):
        if states:
            placements.append(Placement(topic, places.partition, [v for _, v in states], [k for k, _ in states]))
    return placements
