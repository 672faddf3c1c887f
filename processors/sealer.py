"""The sealer's loop: fetch, seal, commit; one transactional producer a chain (design §6).

A chain on this process is in one of three phases:

    WAITING   not fenced, or in doubt; nothing of it is delivered. Leaves by `_recover`.
    SEALING   fenced, state read from what is committed; batches and heartbeats.
    STOPPED   what is committed contradicts itself, or the clocks do; a person must look.

Every error of a transaction, whatever it was, leads back to WAITING: the producer is discarded, and
state in memory with it. Assignment, doubt, loss and restart share that one path. One chain recovers a
turn, the longest waiting first, so that the group is heard and the other chains seal in between.
Sealing itself is `pipeline`; where a chain stands is `recovery`.

A wrong set-up ends the process while no chain has sealed yet; later it is waited for like any other
trouble: a broker that restarts also says "unknown topic" and "not authorised" for a moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Protocol

import structlog
from prometheus_client import Counter, Gauge

from kafkaio.group import Polled, RawConsumer
from kafkaio.library import LIBRDKAFKA, Library, Stop
from kafkaio.reader import PartitionReader
from kafkaio.transaction import ChainProducer, ClockError, Ends, FencedError, HangingError, Placement, Progress
from processors.chain import ChainHead
from processors.pipeline import ChainState, Pipeline
from processors.records import Batch, Outputs, RawRecord
from processors.recovery import Places, Topics, chain_of, read_state
from schemas.catalogue import topic_name, transactional_prefix
from schemas.policy_files import PolicyFiles
from schemas.settings import Settings
from sealtrail.errors import ConfigError, EvidenceError, SealtrailError, TransientError

MAX_BATCH_BYTES = 16 << 20  # of raw values a transaction; bounds what its outputs need
CONFIGURATION_WAIT_S = 5.0  # what a person must mend need not be asked for each second
CERTIFICATE_WAIT_S = 30.0  # somebody has to certify a key
FENCED_WAIT_S = 4.0  # above the heartbeat interval (2.5 s): by then the group has said whether we still own the chain

_log = structlog.get_logger()
SEALED = Counter("sealtrail_sealer_seals", "Seals committed.", ["kind", "reason"])
LEAKS = Counter("sealtrail_sealer_leaks", "Secrets overwritten and marked fields refused, in sealed records.", ["shape"])
SUBJECT_KEYS = Counter("sealtrail_sealer_subject_keys", "Keys of data subjects made.")
RESETS = Counter("sealtrail_sealer_resets", "Chains that went back to the fence.", ["cause"])
STOPS = Counter("sealtrail_sealer_stops", "Chains stopped until a person has looked.")
CHAINS = Gauge("sealtrail_sealer_chains", "Chains that this process owns and seals.")


class Phase(Enum):
    """See the module."""

    WAITING = "waiting"
    SEALING = "sealing"
    STOPPED = "stopped"


class Committer(Protocol):
    """A fenced producer of one chain: commits whole transactions or raises; after an error it is discarded."""

    def commit(self, placements: Sequence[Placement], progress: Progress, sealed_at_ms: int) -> None:
        """As `ChainProducer.commit`."""

    def abort_on(self, partitions: Sequence[tuple[str, int]]) -> None:
        """As `ChainProducer.abort_on`."""

    def discard(self) -> None:
        """Forget it."""


Fence = Callable[[Settings, str], Committer]


class Chain:
    """One raw partition on this process. All calls come from the sealer's thread."""

    def __init__(self, sealer: Sealer, partition: int) -> None:
        self._sealer = sealer
        self._partition = partition
        self._producer: Committer | None = None
        self._state: ChainState | None = None
        self._places: Places | None = None
        self._sealed_at = 0.0  # monotonic
        self._chunk = sealer.settings.batch_records  # records a transaction takes at most
        self._culprit = -1  # raw offset of a record that cannot be written, found alone
        self._clock_doubted = False
        self.retry_at = 0.0  # monotonic; of a waiting chain
        self.phase = Phase.WAITING
        self._log = _log.bind(partition=partition)

    def take(self, records: Sequence[RawRecord], group: object) -> None:
        """Seal what was fetched of this partition."""
        if self.phase is not Phase.SEALING or self._state is None:
            return  # fetched before a reset; the position is set anew, so it will come again
        fresh = [r for r in records if r.offset >= self._state.head.next_offset]
        try:
            self._confirm_gaps(fresh)
        except TransientError as error:
            self.reset("gap", error)
            return
        for chunk in self._chunks(fresh):
            if self.phase is not Phase.SEALING or not self._seal(chunk, group):
                return

    def tick(self, polled: Polled) -> None:
        """What a sealing chain must look after: a lost position, a heartbeat."""
        if self.phase is not Phase.SEALING:
            return
        if self._partition in polled.out_of_range:
            self._position_gone(polled.group)
        elif self._sealer.monotonic() - self._sealed_at >= self._sealer.settings.heartbeat_s:
            state, pipeline = self._current(), self._sealer.pipeline
            self._commit(*pipeline.heartbeat(state, self._sealer.now_us()), polled.group)

    def drop(self) -> None:
        """The partition is no longer ours: whatever is open is left to the next owner's fence."""
        if self._producer is not None:
            self._producer.discard()
        self._producer = self._state = None
        self.phase = Phase.WAITING

    def recover(self, group: object) -> None:
        """From WAITING to SEALING, or why not: another try later, or STOPPED."""
        sealer = self._sealer
        identifier = f"{transactional_prefix(sealer.settings.deployment)}{sealer.topics.raw}/{self._partition}"
        try:
            # 1. Fence. From here no earlier owner of this chain can commit; a crash changes nothing.
            self._producer = sealer.fence(sealer.settings, identifier)
            chain = chain_of(sealer.settings, sealer.ends, sealer.topics, self._partition)
            self._places = sealer.places(chain, self._partition)
            # 2. and 3. Wait, then read the head; see `recovery`.
            committed = sealer.consumer.committed(self._partition)
            state = read_state(chain, self._places, sealer.ends, sealer.reader, committed)
            self.phase = Phase.SEALING
            if state is None:
                self._log.info("chain begins", chain=chain)
                begun = ChainState(ChainHead(chain))
                uuid, count = sealer.ends.topic_uuid(sealer.topics.raw), sealer.partitions()
                if not self._commit(*sealer.pipeline.genesis(begun, sealer.now_us(), uuid, count), group):
                    return
            else:
                self._state = state
            # 4. Deliver from the head on.
            sealer.consumer.start(self._partition, self._current().head.next_offset)
        except HangingError as error:
            self._log.error("transaction left open by a broker", partitions=error.partitions)
            self._end_hanging(error)
        except TransientError as error:
            self.reset("recovery", error)
        except EvidenceError as error:
            self._stop(error)
        else:
            head = self._current().head
            self._sealed_at = sealer.monotonic()
            sealer.proven = True
            self._log.info("sealing", chain=head.chain, seq=head.seq, next_offset=head.next_offset)

    def _end_hanging(self, error: HangingError) -> None:
        """What the fence should have aborted is aborted once more; then again from the fence."""
        try:
            if self._producer is not None:
                self._producer.abort_on(error.partitions)
        except TransientError as again:
            self.reset("recovery", again)
        else:
            self.reset("recovery", error)

    def _seal(self, records: Sequence[RawRecord], group: object, log_start: int = 0) -> bool:
        """One transaction; whether it is committed."""
        sealer = self._sealer
        refused = len(records) == 1 and records[0].offset == self._culprit
        try:
            state, outputs = sealer.pipeline.seal_batch(
                self._current(), Batch(records, log_start, sealer.partitions()), sealer.now_us(), unprocessable=refused
            )
        except TransientError as error:
            self.reset("keys", error)
            return False
        except Exception as error:  # no record, whatever it does to a step, may stop the next one
            self._halve(records, f"sealing raised {type(error).__name__}")
            return False
        if not self._commit(state, outputs, group, records):
            return False
        self._chunk = min(self._chunk * 2, sealer.settings.batch_records)
        return True

    def _commit(self, state: ChainState, outputs: Outputs, group: object, records: Sequence[RawRecord] = ()) -> bool:
        """Commit outputs and adopt the state, or go back to the fence with neither."""
        places, producer = self._places, self._producer
        if places is None or producer is None:
            raise AssertionError("commit before the fence")
        if not self._sealer.pipeline.sealer.may_seal(state.head.sealed_at_us / 1e6):
            # What is sealed outside the certificate's time can never be archived, and cannot be undone.
            problem = "the sealer's key ended, or its certificate does not cover this time"
            self.reset("certificate", TransientError(problem, CERTIFICATE_WAIT_S))
            return False
        progress = Progress(places.topics.raw, places.partition, state.head.next_offset, group)
        try:
            producer.commit(_placements(places, outputs), progress, state.head.sealed_at_us // 1000)
        except FencedError as error:
            self.reset("fenced", error, FENCED_WAIT_S)
            return False
        except TransientError as error:
            self.reset("transaction", error)
            return False
        except ClockError as error:
            self._doubt_clock(error)
            return False
        except EvidenceError as error:
            self._halve(records, str(error))
            return False
        # Committed: what the topics hold is this state, on whatever process reads it next.
        self._state = state
        self._clock_doubted = False
        self._sealed_at = self._sealer.monotonic()
        for (kind, reason), count in outputs.counts.items():
            SEALED.labels(kind.lower(), reason.label).inc(count)
        SUBJECT_KEYS.inc(len(outputs.subject_keys))
        for shape, count in outputs.leaks.items():
            LEAKS.labels(shape).inc(count)
        return True

    def _halve(self, records: Sequence[RawRecord], problem: str) -> None:
        """What cannot be sealed or written together: smaller transactions until the culprit is alone, then it is refused."""
        smaller = len(records) > 1 or (len(records) == 1 and records[0].offset != self._culprit)
        if len(records) == 1:
            self._culprit = records[0].offset
        self._chunk = max(len(records) // 2, 1)
        # No wait while it gets smaller. If even the refusal cannot be written, nothing is left but to try again.
        self.reset("halved", TransientError(problem, 0.0 if smaller else 1.0))

    def _doubt_clock(self, error: ClockError) -> None:
        """A process that was suspended between sealing and writing looks like one whose clock is wrong: once is no proof."""
        if self._clock_doubted:
            self._stop(error)
        else:
            self._clock_doubted = True
            self.reset("clock", error)

    def _confirm_gaps(self, records: Sequence[RawRecord]) -> None:
        """Where offsets are missing, look again: a gap is sealed only if the log itself has no record there.

        Raises TransientError when it does: what was delivered is not what the log holds.
        """
        expected = self._current().head.next_offset
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
            expected = self._current().head.next_offset
            if start <= expected:
                problem = f"raw offset {expected} is refused, though the log begins at {start}"
                self.reset("position", TransientError(problem))
            elif self._seal((), group, log_start=start):
                self._log.warning("raw records expired unsealed", first=expected, count=start - expected)
                self._sealer.consumer.start(self._partition, start)
        except TransientError as error:
            self.reset("position", error)

    def _chunks(self, records: Sequence[RawRecord]) -> Iterator[Sequence[RawRecord]]:
        start = 0
        while start < len(records):
            limit = min(len(records), start + self._chunk)
            end, size = start + 1, len(records[start].value)
            while end < limit and size + len(records[end].value) <= MAX_BATCH_BYTES:
                size += len(records[end].value)
                end += 1
            yield records[start:end]
            start = end

    def _current(self) -> ChainState:
        if self._state is None:
            raise AssertionError("no state before recovery")
        return self._state

    def reset(self, cause: str, error: SealtrailError, wait_s: float = 0.0) -> None:
        """Back to the fence: nothing in memory is trusted any more."""
        RESETS.labels(cause).inc()
        self._log.warning("chain goes back to the fence", cause=cause, error=str(error))
        self.drop()
        retry_after = error.retry_after_s if isinstance(error, TransientError) else 0.0
        self.retry_at = self._sealer.monotonic() + max(wait_s, retry_after)
        self._sealer.pause(self._partition)

    def _stop(self, error: Exception) -> None:
        STOPS.inc()
        self._log.error("chain stopped; nothing more of it is sealed until this is settled", error=str(error))
        self.drop()
        self.phase = Phase.STOPPED
        self._sealer.pause(self._partition)


class Sealer:
    """All chains that the group gives to this process.

    Args:
        pipeline: compiled steps; shared by all chains.
        fence: makes a chain's producer; fencing is what it does first.
        now_us: UTC microseconds.
        renewed: the pipeline with the keys of now; called between transactions.
        library: whose clients read and place; `fence` makes its own.
        policies: where the policy comes from; default: setting `policy`.
    """

    def __init__(
        self,
        settings: Settings,
        pipeline: Pipeline,
        now_us: Callable[[], int],
        fence: Fence = ChainProducer,
        renewed: Callable[[Pipeline], Pipeline] = lambda pipeline: pipeline,
        library: Library = LIBRDKAFKA,
        policies: PolicyFiles | None = None,
    ) -> None:
        self.settings = settings
        self.pipeline = pipeline
        self.now_us = now_us
        self.fence = fence
        self._renewed = renewed
        self.topics = Topics.of(settings)
        self.monotonic = library.monotonic
        self.ends = Ends(settings, library)
        self.reader = PartitionReader(settings, library)
        self._policies = policies or PolicyFiles(settings.policy, library.monotonic)
        self._noted = ""  # the trouble with the brokers that was logged last
        self.proven = False  # whether a chain of this process ever sealed: rights, names and keys are right
        self._counts: dict[str, int] = {}
        self._chains: dict[int, Chain] = {}
        group = topic_name(settings.topic_prefix, "sealer")
        self.consumer = RawConsumer(settings, self.topics.raw, group, self._assigned, self._revoked, library)

    def run(self, stop: Stop) -> None:
        """Seal until `stop` is set. Raises ConfigError for what no retry mends, while no chain has sealed yet."""
        try:
            while not stop.is_set():
                self.step(stop)
        finally:
            self.close()

    def step(self, stop: Stop) -> None:
        """One turn of `run`, and what it waits after trouble with the brokers."""
        try:
            self._turn(stop)
        except (TransientError, ConfigError) as error:
            if isinstance(error, ConfigError) and not self.proven:
                raise
            _log.error("polling failed; retrying", error=str(error))
            stop.wait(CONFIGURATION_WAIT_S)
        if self.consumer.last_error != self._noted:
            self._noted = self.consumer.last_error
            if self._noted:
                _log.warning("trouble with the brokers; retrying", error=self._noted)

    def close(self) -> None:
        """Leave the group and end the connections; open transactions are left to the next fence."""
        self.consumer.close()
        self.reader.close()
        CHAINS.set(0)

    def _take_up_policy(self) -> None:
        """From the next transaction on; what is sealed names the policy that it was sealed under."""
        before = self._policies.in_force
        policy = self._policies.current()
        if policy is not before:
            self.pipeline = replace(self.pipeline, policy=policy)

    def _turn(self, stop: Stop) -> None:
        """One poll, and what follows from it."""
        self._take_up_policy()
        self.pipeline = self._renewed(self.pipeline)
        polled = self.consumer.poll(self.settings.batch_records, self.settings.batch_ms / 1000)
        for partition, records in polled.records.items():
            if partition in self._chains and not stop.is_set():
                with self._minding(self._chains[partition]) as chain:
                    chain.take(records, polled.group)
        for owned in self._chains.values():
            if not stop.is_set():
                with self._minding(owned) as chain:
                    chain.tick(polled)
        now = self.monotonic()
        due = [c for c in self._chains.values() if c.phase is Phase.WAITING and now >= c.retry_at]
        if due and not stop.is_set():
            with self._minding(min(due, key=lambda c: c.retry_at)) as chain:
                chain.recover(polled.group)
        CHAINS.set(sum(chain.phase is Phase.SEALING for chain in self._chains.values()))

    @contextmanager
    def _minding(self, chain: Chain) -> Iterator[Chain]:
        """A wrong set-up is this chain's trouble, or, while none has sealed yet, the process's end."""
        try:
            yield chain
        except ConfigError as error:
            if not self.proven:
                raise
            chain.reset("configuration", error, CONFIGURATION_WAIT_S)

    def places(self, chain: str, partition: int) -> Places:
        """Where a chain is written: shared topics by the first 4 bytes of SHA-256(chain)."""
        number = int.from_bytes(hashlib.sha256(chain.encode()).digest()[:4], "big")
        topics = self.topics
        shared = [number % self._count(topic) for topic in (topics.hot, topics.siem, topics.quarantine)]
        return Places(topics, partition, *shared)

    def partitions(self) -> int:
        """How many partitions the raw topic has; that never changes."""
        return self._count(self.topics.raw)

    def pause(self, partition: int) -> None:
        """Deliver nothing of a partition until its chain is recovered; one that is gone already needs no pause."""
        if partition not in self._chains:
            return
        try:
            self.consumer.stop(partition)
        except (TransientError, ConfigError) as error:
            _log.info("partition could not be paused; its messages are ignored", partition=partition, error=str(error))

    def _count(self, topic: str) -> int:
        if topic not in self._counts:
            self._counts[topic] = self.ends.partition_count(topic)
        return self._counts[topic]

    def _assigned(self, partitions: list[int]) -> None:
        _log.info("partitions assigned", partitions=sorted(partitions))
        for partition in partitions:
            self._chains[partition] = Chain(self, partition)

    def _revoked(self, partitions: list[int]) -> None:
        _log.info("partitions gone", partitions=sorted(partitions))
        for partition in partitions:
            chain = self._chains.pop(partition, None)
            if chain is not None:
                chain.drop()


def _placements(places: Places, outputs: Outputs) -> list[Placement]:
    topics = places.topics
    values = (
        (topics.archive, places.partition, outputs.archive),
        (topics.hot, places.hot, outputs.hot),
        (topics.siem, places.siem, outputs.siem),
        (topics.quarantine, places.quarantine, outputs.quarantine),
        (topics.activity, places.partition, outputs.activity),
    )
    placements = [Placement(topic, partition, [(None, v) for v in found]) for topic, partition, found in values if found]
    states = ((topics.sources, outputs.sources), (topics.subject_keys, outputs.subject_keys))
    placements += [Placement(topic, places.partition, found) for topic, found in states if found]
    return placements
