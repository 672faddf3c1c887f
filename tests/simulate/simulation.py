"""One seed: a few sealers on simulated brokers, stepped one after the other through faults, then through calm.

A process is at a point whenever it sends a request or has its answer. There it may be killed (its state is lost), suspended (a
zombie: the others go on, and later it does), or another may take a turn first. A process that waits lets the others run.
One thread: who runs inside another's call returns before it does.

After the storm everything must be sealed, and no chain go back to the fence any more.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog

from kafkaio.testing import Cluster, Fate, SimulatedLibrary, TopicSpec, Verdict
from kafkaio.transaction import ChainProducer
from processors.chain_loop import Phase
from processors.records import RawRecord
from processors.recovery import Topics
from processors.sealer import Sealer
from sealtrail.errors import ConfigError
from tests.simulate.ledger import Ledger
from tests.simulate.stage import GARBAGE, LARGE, RAW_PARTITIONS, Stage, seeded
from tests.simulate.weather import Weather
from tests.test_pipeline import NOW_S, NOW_US

STORM_S = 40.0
CALM_S = 150.0  # above every time-out, one after the other: session, transaction, patience, two fences
HANGING_S = 600.0  # each chain waits 30 s for what hangs on a partition that chains share, and none of its process seals then
QUIET_S = 12.0  # above two heartbeats
SHARED_PARTITIONS = 2
MIN_RECORDS, MAX_RECORDS = 20, 60
OVERHEAD = 600  # bytes of a sealed record above its event

Trace = Callable[[str], None]


class Killed(BaseException):
    """Raised through a sealer's frames: what it held in memory is gone."""


class WrongError(BaseException):
    """A process ended with an error, or the trail is wrong; through the frames of whoever was waiting meanwhile."""


class FoundError(Exception):
    """A seed under which the trail is not what it must be; says how to see it again."""

    def __init__(self, seed: int, problem: str) -> None:
        super().__init__(f"seed {seed}: {problem}\nto replay it: python -m tests.simulate --seeds 1 --begin {seed} --trace")
        self.seed = seed
        self.problem = problem


class Process:
    """One sealer, as its clients' `World` and as its `Stop`."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self._simulation = simulation
        self.name = name
        self.alive = True
        self.busy = False  # inside a call of its sealer
        self.asleep_until = 0.0
        self.process: Process = self
        library = SimulatedLibrary(simulation.cluster, self)
        skew_s = simulation.weather.skew_s()
        self.sealer = Sealer(
            simulation.settings,
            simulation.pipeline,
            lambda: NOW_US + int((simulation.cluster.now + skew_s) * 1e6),
            fence=partial(ChainProducer, library=library),
            library=library,
            policies=simulation.policies,
        )

    def turn(self) -> None:
        """One step of its loop."""
        self.busy = True
        try:
            self.sealer.step(self)
        except Killed:
            self._simulation.note(f"{self.name} is dead")
        except ConfigError as error:
            if not self._simulation.weather.outages:
                raise WrongError from error
            self.alive = False  # as it must while it has sealed nothing; it is begun again
            self._simulation.note(f"{self.name} ends: {error}")
        except Exception as error:
            raise WrongError from error
        finally:
            self.busy = False

    def leave(self) -> None:
        """Its end in order."""
        self._simulation.note(f"{self.name} leaves")
        self._simulation.counts["ends in order"] += 1
        with suppress(Killed):
            self.sealer.close()
        self.alive = False

    def at(self, what: str) -> None:
        self._simulation.at(self, what)

    def fate(self, what: str) -> Verdict:
        verdict = self._simulation.weather.fate(what, self._simulation.cluster.now)
        if verdict.fate is not Fate.DONE:
            self._simulation.counts["faults on EndTxn" if what in ("commit", "abort") else "faults"] += 1
            self._simulation.note(f"{self.name} {what}: {verdict.fate.value} {verdict.delay_s:.1f}")
        return verdict

    def wait(self, seconds: float) -> bool:
        self._simulation.wait(self, seconds)
        return not self.alive

    def beside(self, step: Callable[[], None]) -> None:
        self._simulation.begun(Beside(self, step))

    def runs(self) -> bool:
        return self.alive and self.asleep_until <= self._simulation.cluster.now

    def is_set(self) -> bool:
        return not self.alive


class Beside:
    """A step that a process has begun beside its loop: it has its turn like a process."""

    def __init__(self, process: Process, step: Callable[[], None]) -> None:
        self.process = process
        self.busy = False
        self._step = step

    def runs(self) -> bool:
        return self.process.runs()

    def turn(self) -> None:
        """All of it; its loop may have its turn meanwhile."""
        self.busy = True
        with suppress(Killed):
            self._step()


class Simulation:
    """A deployment under one seed.

    Args:
        stage: what all seeds share.
        trace: takes a line for everything that happens; the lines of a seed are always the same.
    """

    def __init__(self, stage: Stage, seed: int, trace: Trace | None = None) -> None:
        self.seed = seed
        self._choice = random.Random(seed)
        self._trace = trace
        self.settings = stage.settings
        self.policies = stage.policies
        self.pipeline = seeded(stage.pipeline, random.Random(seed))
        self.weather = Weather(random.Random(self._choice.random()))
        self._partitions = self._choice.choice(RAW_PARTITIONS)
        self.topics = Topics.of(self.settings)
        self.cluster = Cluster(self._specs(), NOW_S * 1000)
        self.cluster.marker_s = self.weather.marker_s
        self.cluster.coordinator.early = self.weather.early_fence
        self.ledger = Ledger(self.cluster, self.settings, stage.keyring)
        self._most = self._choice.choice((2, 3, 3))  # processes at once
        self.counts: Counter[str] = Counter()
        self._begun = 0
        self._processes: list[Process] = []
        self._beside: list[Beside] = []
        self._load(stage)

    def run(self) -> Counter[str]:
        """The whole seed; what there was in it. Raises FoundError."""
        try:
            while self.cluster.now < STORM_S:
                self._act()
                self._step()
            self._calm_down()
        except (WrongError, AssertionError) as error:
            cause = error.__cause__ or error
            raise FoundError(self.seed, f"at {self.cluster.now:.3f} s: {type(cause).__name__}: {cause}") from cause
        self.counts["transactions"] = len(self.cluster.coordinator.commits)
        refused = self.cluster.coordinator.refused + sum(group.refused for group in self.cluster.groups.values())
        self.counts["refused requests of earlier owners"] = refused
        self.counts["seals"] = self.ledger.kinds().total()
        return self.counts

    def note(self, text: str) -> None:
        """Trace what happened."""
        if self._trace is not None:
            self._trace(f"{self.cluster.now:9.3f} {text}")

    # -- what a process meets

    def at(self, process: Process, what: str) -> None:
        """A point of a process; see the module."""
        self.note(f"{process.name} {what}")
        if not process.alive:
            raise Killed
        weather = self.weather
        if weather.calm:
            return
        drawn = self._choice.random() / (3.0 if what in ("commit", "send offsets", "flushed", "commit answered") else 1.0)
        if drawn < weather.kills:
            self._kill(process)
            raise Killed
        drawn -= weather.kills
        if drawn < weather.pauses:
            self._suspend(process)
            self._pass(process.asleep_until)
        elif drawn - weather.pauses < weather.switches:
            self._turn_of_another()
        if not process.alive:
            raise Killed

    def wait(self, process: Process, seconds: float) -> None:
        """Others run while a process waits."""
        self._pass(self.cluster.now + seconds)
        if not process.alive:
            raise Killed

    def _pass(self, until: float) -> None:
        while self.cluster.now < until:
            if self._choice.random() < 0.4 or not self._turn_of_another():
                self.cluster.advance(min(until - self.cluster.now, 0.5))

    def _turn_of_another(self) -> bool:
        self._beside = [step for step in self._beside if step.process.alive and not step.busy]
        turns: list[Process | Beside] = [*self._processes, *self._beside]
        ready = [turn for turn in turns if not turn.busy and turn.runs()]
        if not ready:
            return False
        turn = self._choice.choice(ready)
        turn.turn()
        self._check(turn.process)
        return True

    def begun(self, step: Beside) -> None:
        """A step that has its turns from now on."""
        self._beside.append(step)

    # -- what happens to processes

    def _act(self) -> None:
        """What befalls the deployment between two turns, when no process is inside a call: mostly nothing."""
        self._processes = [p for p in self._processes if p.alive]
        if not self._processes or (len(self._processes) < self._most and self._choice.random() < 0.1):
            self._begin()
            return
        chosen, weather = self._choice.choice(self._processes), self.weather
        acts: list[tuple[float, Callable[[], None]]] = [
            (0.03 if weather.kills else 0.0, partial(self._kill, chosen)),
            (0.01, chosen.leave),
            (0.02 if weather.pauses else 0.0, partial(self._suspend, chosen)),
            (0.01, self._rebalance),
            (0.01 if weather.outages else 0.0, self._outage),
            (0.02 if weather.trims else 0.0, self._trim),
        ]
        drawn = self._choice.random()
        for weight, act in acts:
            if drawn < weight:
                act()
                return
            drawn -= weight

    def _rebalance(self) -> None:
        self.counts["rebalances"] += 1
        for group in self.cluster.groups.values():
            group.rebalance()

    def _outage(self) -> None:
        self.counts["outages"] += 1
        self.note(f"brokers are away until {self.weather.outage(self.cluster.now):.3f}")

    def _trim(self) -> None:
        log = self._choice.choice(self.cluster.topics[self.topics.raw])
        log.trim(self._choice.randint(log.first, log.end))
        self.note(f"raw/{log.number} begins at {log.first}")

    def _kill(self, process: Process) -> None:
        self.counts["kills"] += 1
        self.note(f"{process.name} is killed")
        process.alive = False

    def _suspend(self, process: Process) -> None:
        self.counts["zombies"] += 1
        process.asleep_until = self.cluster.now + self.weather.suspension_s()
        self.note(f"{process.name} is suspended until {process.asleep_until:.3f}")

    def _begin(self) -> None:
        self._begun += 1
        self._processes.append(Process(self, f"p{self._begun}"))

    def _step(self) -> None:
        if not self._turn_of_another():
            self.cluster.advance(0.2)

    def _check(self, process: Process) -> None:
        try:
            self.ledger.check()
        except Exception as error:
            raise WrongError from error
        stopped = [partition for partition, chain in process.sealer._chains.items() if chain.phase is Phase.STOPPED]
        if stopped:
            raise WrongError from AssertionError(f"{process.name} stopped chains {stopped}")

    # -- the end

    def _calm_down(self) -> None:
        """Faults end; everybody that lives goes on. All must be sealed, and stay so without another fence."""
        self.weather.calm = True
        self.note("calm")
        for process in self._processes:
            process.asleep_until = min(process.asleep_until, self.cluster.now)
        for partition in range(self._partitions):  # records that a consumer never got are missed once another one comes
            self._arrive(partition, RawRecord(0, b"k", GARBAGE, (), 0))
        limit_s = HANGING_S if self.weather.loses_markers else CALM_S
        until, quiet_since, fences = self.cluster.now + limit_s, self.cluster.now, -1
        while self.cluster.now - quiet_since < QUIET_S:
            left = self.ledger.unsealed()
            assert self.cluster.now < until, f"not at rest after {limit_s:.0f} s without faults; {left} unsealed"
            self._processes = [p for p in self._processes if p.alive]
            if not self._processes:
                self._begin()
            self._step()
            if fences != self.cluster.coordinator.fences or left:
                fences, quiet_since = self.cluster.coordinator.fences, self.cluster.now
        self.cluster.advance(20)  # what is late lands, markers arrive
        self.ledger.check()
        self.ledger.check_readable()

    # -- the deployment and its load

    def _specs(self) -> dict[str, TopicSpec]:
        t = self.topics
        outputs = LARGE + OVERHEAD if self.weather.small_outputs else 3 << 20
        own = [t.archive, t.sources, t.subject_keys, t.activity]
        return {
            t.raw: TopicSpec(self._partitions),
            **{topic: TopicSpec(self._partitions, outputs) for topic in own},
            **{topic: TopicSpec(SHARED_PARTITIONS, outputs) for topic in (t.hot, t.siem)},
            t.quarantine: TopicSpec(SHARED_PARTITIONS),
        }

    def _load(self, stage: Stage) -> None:
        """Records of each run, in order, at their times; some again, some later, some that are none."""
        count = self._choice.randint(MIN_RECORDS, MAX_RECORDS)
        times = sorted(self._choice.uniform(0, STORM_S) for _ in range(count))
        runs = [(p, run) for p in range(self._partitions) for run in stage.runs[self._partitions, p]]
        sent: list[list[RawRecord]] = [[] for _ in runs]
        held: list[list[RawRecord]] = [[] for _ in runs]
        numbers = [0] * len(runs)
        for time_s in times:
            chosen = self._choice.randrange(len(runs))
            partition, run = runs[chosen]
            drawn = self._choice.random()
            if drawn < 0.06 and sent[chosen]:
                record = self._choice.choice(sent[chosen])
            elif drawn < 0.10 and held[chosen]:
                record = held[chosen].pop()
            elif drawn < 0.14:
                self.cluster.later(time_s, partial(self._no_data, partition))
                continue
            elif drawn < 0.18:
                self.cluster.later(time_s, partial(self._arrive, partition, RawRecord(0, b"k", GARBAGE, (), 0)))
                continue
            elif numbers[chosen] < len(run):
                record = run[numbers[chosen]]
                numbers[chosen] += 1
                if record is not run[0] and self._choice.random() < 0.05:
                    held[chosen].append(record)
                    continue
            else:
                continue
            sent[chosen].append(record)
            self.cluster.later(time_s, partial(self._arrive, partition, record))

    def _arrive(self, partition: int, record: RawRecord) -> None:
        self.cluster.append(self.topics.raw, partition, record.key, record.value, dict(record.headers))

    def _no_data(self, partition: int) -> None:
        """An offset of the raw topic that holds no record: what somebody wrote in a transaction and aborted."""
        self.cluster.partition(self.topics.raw, partition).mark(self.cluster.now_ms(), 1, 0, commit=False)


def quiet() -> None:
    """Seeds by the thousand: what the sealers log is not shown."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
