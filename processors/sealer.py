"""The sealer: the chains that the group gives to this process, fetched for together and sealed in turns (design §6).

One thread fetches, seals and hands over; the transactions of several chains are on their way at once, each with a producer of
its own (`chain_loop`), and so are fences. One chain that is fenced reads its head a turn, the longest waiting first, so that
the group is heard and the other chains seal in between.

A batch is due when it is full, or `batch_ms` after its chain's last one began: what comes to a chain that rests is sealed at
once. A transaction costs the broker the same however little it holds, so with many chains at work each has its turn less often
(`INTERVAL_S_PER_CHAIN`).

A wrong set-up ends the process while no chain has sealed yet; later it is waited for like any other
trouble: a broker that restarts also says "unknown topic" and "not authorised" for a moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import structlog
from prometheus_client import Gauge

from kafkaio.group import Polled, RawConsumer
from kafkaio.library import LIBRDKAFKA, Library, Stop
from kafkaio.reader import LOOK_WAIT_MS, PartitionReader
from kafkaio.transaction import ChainProducer, Ends
from processors.chain_loop import CONFIGURATION_WAIT_S, Chain, Fence, Phase
from processors.pipeline import Pipeline
from processors.records import RawRecord
from processors.recovery import Places, Topics
from schemas.catalogue import topic_name
from schemas.policy_files import PolicyFiles
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError

INTERVAL_S_PER_CHAIN = 0.0125  # between two transactions of whatever chains: 80 a second, a process
LOOK_S = 0.004  # between two looks whether a transaction has ended
GATHER_S = 0.005  # for records to come together, where one alone would be sealed at once
FULL_LOOK_S = 0.002
FENCING_LOOK_S = 0.02
CLOSE_S = 5.0  # for transactions that are under way at the end

_log = structlog.get_logger()
CHAINS = Gauge("sealtrail_sealer_chains", "Chains that this process owns and seals.")


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
        self.reader = PartitionReader(settings, library, wait_ms=LOOK_WAIT_MS)
        self._policies = policies or PolicyFiles(settings.policy, library.monotonic)
        self._noted = ""  # the trouble with the brokers that was logged last
        self.proven = False  # whether a chain of this process ever sealed: rights, names and keys are right
        self._counts: dict[str, int] = {}
        self._chains: dict[int, Chain] = {}
        self._at_work = 1  # chains that had a transaction lately
        self._group: object = None  # its metadata as of the last poll
        self.rebalances = 0  # of the group, that have ended
        group = topic_name(settings.topic_prefix, "sealer")
        kernel = pipeline.quick.kernel
        read = None if kernel is None else partial(kernel.records, RawRecord)
        self.consumer = RawConsumer(settings, self.topics.raw, group, self._assigned, self._revoked, library, read)

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
        """Leave the group and end the connections; a transaction that does not end soon is left to the next fence."""
        self._leave(list(self._chains.values()))
        self.consumer.close()
        self.reader.close()
        CHAINS.set(0)

    def _leave(self, chains: Sequence[Chain]) -> None:
        """Let these chains end what they have under way, for all together not long."""
        until = self.monotonic() + CLOSE_S
        for chain in chains:
            chain.leave(max(0.0, until - self.monotonic()))

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
        polled = self._poll()
        for partition, records in polled.records.items():
            if partition in self._chains:
                with self._minding(self._chains[partition]) as chain:
                    chain.take(records)
        for owned in list(self._chains.values()):
            if not stop.is_set():
                with self._minding(owned) as chain:
                    chain.turn(polled)
        if not stop.is_set():
            self._recover(polled.group)
        CHAINS.set(sum(chain.phase is Phase.SEALING for chain in self._chains.values()))
        self._at_work = sum(chain.at_work() for chain in self._chains.values())

    def _recover(self, group: object) -> None:
        """All chains that wait begin to fence; of those that do, the one that waits longest comes to its head, if it can."""
        now = self.monotonic()
        for waiting in [c for c in self._chains.values() if c.phase is Phase.WAITING and now >= c.retry_at]:
            with self._minding(waiting) as chain:
                chain.fence()
        fencing = [c for c in self._chains.values() if c.phase is Phase.FENCING and now >= c.retry_at]
        for begun in sorted(fencing, key=lambda c: c.retry_at):
            with self._minding(begun) as chain:
                if chain.recover(group):
                    return

    def _poll(self) -> Polled:
        """What came, after as long a wait as no chain minds. Nothing, while a chain has as much as it may have."""
        sealing = [chain for chain in self._chains.values() if chain.phase is Phase.SEALING]
        full = [chain for chain in sealing if chain.full()]
        if full:
            full[0].await_end(FULL_LOOK_S)
            for chain in full:
                chain.await_end(0.0)
                if chain.full():
                    chain.hold_if_slow()
            return Polled({}, frozenset(), self._group)
        wait_s, gather = self.settings.batch_ms / 1000, False
        for chain in sealing:
            if chain.committing():
                wait_s, gather = min(wait_s, LOOK_S), True
            elif not chain.idle():
                wait_s, gather = min(wait_s, chain.rest_s()), True
        if any(chain.phase is Phase.FENCING for chain in self._chains.values()):
            wait_s = min(wait_s, FENCING_LOOK_S)
        if gather:
            wait_s = min([wait_s, *(max(chain.rest_s(), GATHER_S) for chain in sealing if chain.idle())])
        polled = self.consumer.poll(self.settings.batch_records, wait_s, gather=gather)
        self._group = polled.group
        return polled

    @contextmanager
    def _minding(self, chain: Chain) -> Iterator[Chain]:
        """A wrong set-up is this chain's trouble, or, while none has sealed yet, the process's end."""
        try:
            yield chain
        except ConfigError as error:
            if not self.proven:
                raise
            chain.misconfigured(error)

    def places(self, chain: str, partition: int) -> Places:
        """Where a chain is written: shared topics by the first 4 bytes of SHA-256(chain)."""
        number = int.from_bytes(hashlib.sha256(chain.encode()).digest()[:4], "big")
        topics = self.topics
        shared = [number % self._count(topic) for topic in (topics.hot, topics.siem, topics.quarantine)]
        return Places(topics, partition, *shared)

    def partitions(self) -> int:
        """How many partitions the raw topic has; that never changes."""
        return self._count(self.topics.raw)

    def interval_s(self) -> float:
        """Seconds from the beginning of a chain's transaction to that of its next one, unless a batch is full before."""
        return max(self.settings.batch_ms / 1000, self._at_work * INTERVAL_S_PER_CHAIN)

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
        self.rebalances += 1
        for chain in self._chains.values():
            chain.owned()
        for partition in partitions:
            self._chains[partition] = Chain(self, partition)

    def _revoked(self, partitions: list[int]) -> None:
        _log.info("partitions gone", partitions=sorted(partitions))
        gone = [self._chains.pop(partition) for partition in partitions if partition in self._chains]
        self._leave(gone)
