"""The detector: Faust agents over sealed events, activity and matches.

    audit.siem ─────► rules ──┐
    audit.activity ─► rules ──┴─► audit.detect-matches ─► windows ─► findings ┐
                  └─► silence, gaps, leaks ───────────────────► findings ─────┴─► audit.raw, through the Emitter

What holds, whatever dies when:
1. A record is acknowledged, by hand, after everything that it causes is on the brokers: its matches, or its findings. Faust's
   own acknowledgement also covers a record whose agent was cancelled or failed; ours does not.
2. The state is the log: windows, silence, leaks are rebuilt by reading back before the first record of a partition is handled.
   There is no table and no changelog that could be behind, or be overwritten by a process that lost its partition.
3. Findings follow from the set of records alone (`windows`, `silence`), and have the same id whenever they are found again.
   So a kill repeats some at most, and loses none.
4. After a rebalance, records between the last one handled and the next one that comes are read from the log and handled.
5. What cannot be read becomes a dead letter. What cannot be done now is tried again for ever; other partitions of the same
   agent wait meanwhile, and nothing is acknowledged.

Not here: rules and time (`rules`, `windows`, `silence`, `leaks`), what Faust is started with (`app`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog
from prometheus_client import Counter

from kafkaio.dead import DeadLetters, Letter
from kafkaio.reader import PartitionReader
from keystore import Keystore
from processors.activity import decode_activity
from processors.detect.finding import Draft, of_alarm, of_leak, of_windows
from processors.detect.leaks import LeakWatch
from processors.detect.records import Matched, decode_event, matches_of_activity, matches_of_event
from processors.detect.rules import Rules
from processors.detect.silence import ChainWatch
from processors.detect.windows import Windows
from schemas.emitter import Emitter
from schemas.policy_files import PolicyFiles
from schemas.registry import Registry
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, EvidenceError, TransientError
from sealtrail.seal import DEPLOYMENT_TENANT

MATCHES = Counter("sealtrail_detect_matches_total", "Matches of a rule that were written.", ["rule"])
FINDINGS = Counter("sealtrail_detect_findings_total", "Findings stated and acknowledged; repeats included.", ["rule"])
DEAD = Counter("sealtrail_detect_dead_letters_total", "Records given up.", ["reason"])

ACTIVITY_BACK = 20_000  # records of activity that are read back: above an hour of the busiest chain
AGAIN_S, AGAIN_MOST_S = 0.5, 30.0
ACKNOWLEDGED_S = 5.0  # between two looks at an acknowledgement that does not come
TENANT_HASH = "tenant-hash-"

_LOG = structlog.get_logger("processors.detect")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Read:
    """One record, and where it stood."""

    topic: str
    partition: int
    offset: int
    value: bytes


class Stating(Emitter, Protocol):
    """An emitter that says when what it was given is safe."""

    def await_broker(self, timeout_s: float) -> bool: ...


@dataclass(slots=True)
class _Lane:
    """How far a partition was handled, in which generation of the group."""

    generation: int = -1
    next: int = -1  # -1: nothing yet


Send = Callable[[bytes, bytes], Awaitable[None]]  # key, value of a match: returns once the brokers have it
Handle = Callable[[Read], Awaitable[None]]
Load = Callable[[Read], None]


class Detector:
    """What the agents do with a record.

    Args:
        settings: of role detect.
        emitter: states findings.
        send: writes a match.
    """

    def __init__(self, settings: Settings, rules: Rules, registry: Registry, emitter: Stating, send: Send) -> None:
        self._settings = settings
        self._rules = rules
        self._registry = registry
        self._emitter = emitter
        self._send = send
        self._keystore = Keystore.open(settings.keys)
        self._reader = PartitionReader(settings)
        self._letters = DeadLetters(settings)
        self._one = ThreadPoolExecutor(1, "detect")  # the reader and the letters are for one thread
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._windows: dict[int, Windows] = {}
        self._watches: dict[tuple[int, str], ChainWatch] = {}
        self._leaks: dict[tuple[int, str], LeakWatch] = {}
        self._policy = PolicyFiles(settings.policy)

    async def follow(
        self, record: Read, generation: int, handle: Handle, load: Load | None = None, back: int | None = None
    ) -> None:
        """Handle one record, after whatever of its partition comes before it.

        Args:
            generation: of the consumer group; a new one may have skipped records.
            load: takes a record into the state without stating anything; for topics that have a state.
            back: how many offsets to read back at most for it; None: all.
        """
        lane = self._lanes.setdefault((record.topic, record.partition), _Lane())
        if lane.generation != generation:
            await self._catch_up(lane, record, handle, load, back)
            lane.generation = generation
        await self._surely(record, handle)
        lane.next = max(lane.next, record.offset + 1)

    async def event(self, record: Read) -> None:
        """A sealed event: write what the rules match."""
        seal, event = decode_event(record.value, self._registry)
        await self._write(matches_of_event(self._rules, seal, event))

    async def activity(self, record: Read) -> None:
        """Counts of a transaction: write what the rules match, state who is silent and who let what through."""
        found = decode_activity(record.value)
        await self._write(matches_of_activity(self._rules, found))
        watch = self._watch(record.partition, found["chain"])
        for alarm in watch.due(found):
            await self._state(of_alarm(self._key(DEPLOYMENT_TENANT), alarm, found["chain"]), alarm.kind)
        leaks = self._leaks_of(record.partition, found["chain"])
        for leaked in leaks.due(found):
            owner = self._policy.current().owner_of(leaked.source)
            await self._state(of_leak(self._key(DEPLOYMENT_TENANT), leaked, found["chain"], owner), leaked.rule)
        watch.add(found)
        leaks.add(found)

    def load_activity(self, record: Read) -> None:
        """Take it into the state."""
        found = decode_activity(record.value)
        self._watch(record.partition, found["chain"]).add(found)
        self._leaks_of(record.partition, found["chain"]).add(found)

    async def match(self, record: Read) -> None:
        """A match: state what it makes true."""
        matched = Matched.decode(record.value)
        windows = self._windows_of(record.partition)
        for found in windows.due(matched.rule, matched.group, matched.match):
            await self._state(of_windows(self._key(matched.group[0]), found), found.rule.name)
        windows.add(matched.rule, matched.group, matched.match)

    def load_match(self, record: Read) -> None:
        """Take it into the state."""
        matched = Matched.decode(record.value)
        self._windows_of(record.partition).add(matched.rule, matched.group, matched.match)

    def close(self) -> None:
        """End connections."""
        self._one.submit(self._letters.close)
        self._one.submit(self._reader.close)
        self._one.shutdown()

    # -- before a record

    async def _catch_up(self, lane: _Lane, record: Read, handle: Handle, load: Load | None, back: int | None) -> None:
        if lane.next >= 0:
            for one in await self._persistently(lambda: list(self._between(record, lane.next))):
                await self._surely(one, handle)
                lane.next = one.offset + 1
        elif load is not None:
            first = 0 if back is None else max(0, record.offset - back)
            loaded = await self._persistently(lambda: self._load(record, first, load))
            _LOG.info("state read back", topic=record.topic, partition=record.partition, records=loaded)

    async def _persistently(self, do: Callable[[], T]) -> T:
        found: list[T] = []

        async def once() -> None:
            found.append(await self._blocking(do))

        await self._again(once)
        return found[-1]

    def _load(self, record: Read, first: int, load: Load) -> int:
        number = 0
        for one in self._between(record, first):
            try:
                load(one)
            except EvidenceError:
                continue  # it was given up when its turn came
            number += 1
        return number

    def _between(self, record: Read, first: int) -> Iterator[Read]:
        """Data records before `record`, from `first` or what is left of it."""
        first = max(first, self._reader.bounds(record.topic, record.partition).first)
        for found in self._reader.between(record.topic, record.partition, first, record.offset):
            if found.value is not None:
                yield Read(record.topic, record.partition, found.offset, found.value)

    # -- doing

    async def _surely(self, record: Read, handle: Handle) -> None:
        """Handle it, however long that takes; what can never be handled becomes a dead letter."""
        try:
            await self._again(lambda: handle(record))
        except (EvidenceError, ContractError) as error:
            await self._give_up(record, "undecodable" if isinstance(error, EvidenceError) else "unstatable", str(error))
        except Exception as error:
            _LOG.exception("record cannot be processed", topic=record.topic, offset=record.offset)
            await self._give_up(record, "unprocessable", type(error).__name__)

    async def _give_up(self, record: Read, reason: str, detail: str) -> None:
        letter = Letter(reason, detail, record.topic, record.partition, record.offset, record.value)
        await self._persistently(lambda: self._letters.put(letter))
        DEAD.labels(reason).inc()
        _LOG.error("record given up", topic=record.topic, partition=record.partition, offset=record.offset, reason=reason)

    async def _again(self, do: Callable[[], Awaitable[None]]) -> None:
        """Until it is done: a dependency that is away comes back."""
        wait_s = AGAIN_S
        while True:
            try:
                await do()
            except (TransientError, OSError) as error:
                _LOG.warning("detector waits", reason=str(error), retry_in_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(AGAIN_MOST_S, wait_s * 2)
            else:
                return

    async def _blocking(self, do: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._one, do)

    async def _write(self, matches: Iterator[Matched]) -> None:
        for matched in list(matches):
            await self._send(matched.key, matched.encode())
            MATCHES.labels(matched.rule).inc()

    async def _state(self, draft: Draft, rule: str) -> None:
        """State a finding, and wait until it is acknowledged."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._emitter.emit, draft)
        while not await loop.run_in_executor(None, self._emitter.await_broker, ACKNOWLEDGED_S):
            await asyncio.sleep(AGAIN_S)  # it sends again until Kafka has it, and says why Kafka refuses
        FINDINGS.labels(rule).inc()
        _LOG.warning("finding", rule=rule, id=draft["object"]["id"], tenant=draft["tenant"])

    # -- state

    def _windows_of(self, partition: int) -> Windows:
        return self._windows.setdefault(partition, Windows(self._rules.by_name))

    def _watch(self, partition: int, chain: str) -> ChainWatch:
        key = (partition, chain)
        if key not in self._watches:
            silence_us, tick_us = (int(s * 1e6) for s in (self._settings.silence_s, 2 * self._settings.heartbeat_s))
            self._watches[key] = ChainWatch(silence_us, tick_us)
        return self._watches[key]

    def _leaks_of(self, partition: int, chain: str) -> LeakWatch:
        return self._leaks.setdefault((partition, chain), LeakWatch())

    def _key(self, tenant: str) -> bytes:
        try:
            return self._keystore.secret(TENANT_HASH + tenant)
        except ConfigError:
            raise ContractError("tenant", "the detector holds no hash key of that tenant") from None
