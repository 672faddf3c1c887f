"""The sealer killed, stopped and fenced on real brokers: nothing lost, nothing twice, no fork.

Each scenario has a deployment of its own; some run side by side, because most of their time is the group's session
time-out (10 s), after which a dead sealer's partitions move.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.stack import Stack
from kafkaio import transaction
from kafkaio.group import RawConsumer
from kafkaio.reader import PartitionReader
from kafkaio.transaction import ChainProducer, Ends, Placement, Progress
from schemas.catalogue import topic_name
from sealtrail.errors import EvidenceError, TransientError
from sealtrail.seal import Kind
from tests.conftest import DEADLINE_S, RAW_PARTITIONS, Deployment, new_deployment, wait_until
from tests.fenced import fenced
from tests.trail import TrailCounts, all_sealed, check_trail, emitters, load_draft

PACE_S = 0.02  # between two events of an emitter: some 50 a second, so every transaction carries some
HEARTBEAT_S = 5.0
AT_ONCE = 3  # scenarios: each has one or two processes of its own


class SealerProcess:
    """A sealer that a test may kill, with its log."""

    def __init__(self, deployment: Deployment, log: Path, fault: dict[str, object] | None = None) -> None:
        flags = {
            "topic_prefix": deployment.topic_prefix,
            "deployment": deployment.name,
            "heartbeat_s": HEARTBEAT_S,
        }
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [
                    sys.executable, "-m", "tests.faults.sealer_process",
                    str(deployment.stack.role_file("sealer")), json.dumps(flags), json.dumps(fault),
                ],
                stdout=output,
                stderr=output,
            )  # fmt: skip

    def says(self, *words: str) -> bool:
        """Whether a line of its log holds all the words."""
        return self.counts(*words) > 0

    def counts(self, *words: str) -> int:
        """How many lines of its log hold all the words."""
        return sum(all(word in line for word in words) for line in self.log.read_text().splitlines())

    def wait_killed(self) -> None:
        assert self._child.wait(DEADLINE_S) == -signal.SIGKILL, self.log.read_text()[-2000:]

    def wait_suspended(self) -> None:
        process = psutil.Process(self._child.pid)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, what="SIGSTOP")

    def wake(self) -> None:
        os.kill(self._child.pid, signal.SIGCONT)

    def lives(self) -> bool:
        return self._child.poll() is None

    def stop(self) -> None:
        """Ask it to end, and see that it ends in order."""
        self._child.terminate()
        assert self._child.wait(DEADLINE_S) == 0, self.log.read_text()[-2000:]

    def end(self) -> None:
        """However the test went."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()


@dataclass
class Scene:
    """One scenario: its deployment, its sealers, its load."""

    deployment: Deployment
    folder: Path
    sealers: list[SealerProcess]

    def start(self, fault: dict[str, object] | None = None) -> SealerProcess:
        made = SealerProcess(self.deployment, self.folder / f"{self.deployment.name}-{len(self.sealers)}.log", fault)
        self.sealers.append(made)
        return made

    @contextmanager
    def load(self) -> Iterator[Callable[[], int]]:
        """Events on every partition until the end; gives how many were acknowledged so far. All are, at the end."""
        done = threading.Event()
        with emitters(self.deployment) as made:

            def emit() -> None:
                number = 0
                while not done.wait(PACE_S):
                    for emitter in made:
                        emitter.emit(load_draft(number))
                    number += 1

            thread = threading.Thread(target=emit)
            thread.start()
            try:
                yield lambda: sum(emitter.counts.acknowledged for emitter in made)
            finally:
                done.set()
                thread.join()
        self.acknowledged = sum(emitter.counts.acknowledged for emitter in made)
        assert not any(emitter.counts.waiting for emitter in made)

    def settle(self) -> TrailCounts:
        """Wait until all is sealed, end the sealers, check the trail: every acknowledged event once, nothing else."""
        wait_until(lambda: all_sealed(self.deployment), what="all sealed")
        for sealer in self.sealers:
            if sealer.lives():
                sealer.stop()
        counts = check_trail(self.deployment)
        assert counts.raw == self.acknowledged
        assert counts.of(Kind.EVENT) == self.acknowledged
        assert counts.of(Kind.DUPLICATE) == 0
        return counts


Play = Callable[[Scene], TrailCounts]


def killed(step: str, when: str, number: int = 2) -> Play:
    """Killed at that step under load; another process goes on."""

    def play(scene: Scene) -> TrailCounts:
        first = scene.start({"step": step, "when": when, "number": number})
        with scene.load() as acknowledged:
            first.wait_killed()
            assert first.says(f"fault: kill {when} {step}")
            scene.start()
            before = acknowledged()
            wait_until(lambda: acknowledged() > before + 100, what="load after the kill")
        return scene.settle()

    return play


def suspended(step: str, when: str, *outcomes: str) -> Play:
    """Stopped inside an open transaction until its partition has moved, then woken: refused, and nothing forks."""

    def play(scene: Scene) -> TrailCounts:
        first = scene.start({"step": step, "when": when, "number": 2, "act": "stop", "partition": 0})
        with scene.load():
            first.wait_suspended()
            second = scene.start()
            wait_until(lambda: second.says('"partition": 0', '"event": "sealing"'), what="take-over")
            wait_until(lambda: second.says('"partition": 1', '"event": "sealing"'), what="both")

            def refusals() -> int:
                # Or its answer took longer than a sealer that has lost its partitions waits. Whether it was, the trail says.
                given_up = (*(f'"cause": "{outcome}"' for outcome in outcomes), "left with a transaction open")
                return sum(first.counts(words, '"partition": 0') for words in given_up)

            before = refusals()
            first.wake()
            wait_until(lambda: refusals() > before or not first.lives(), what="refusal")
            assert first.lives(), "a refused sealer ended, instead of going back to the fence"
        return scene.settle()

    return play


REFUSALS = ("fenced", "transaction", "clock")  # causes of a way back to the fence: nothing was committed
PLAYS: dict[str, Play] = {
    "after-begin": killed("begin", "after"),
    "mid-produce": killed("produce", "after", number=7),
    "after-flush": killed("flush", "after"),
    "after-send-offsets": killed("send_offsets", "after"),
    "before-commit": killed("commit", "before", number=3),
    "after-commit": killed("commit", "after"),
    "suspended-after-begin": suspended("begin", "after", *REFUSALS),
    # Its own time for a step may be up when it wakes; then it is in doubt, which leads to the fence as well.
    "suspended-after-flush": suspended("flush", "after", *REFUSALS),
    "suspended-before-commit": suspended("commit", "before", *REFUSALS),
}
Results = dict[str, Future[TrailCounts]]


@pytest.fixture(scope="module")
def results(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Every scenario, a few at a time; a failed one fails its own test only."""
    folder = tmp_path_factory.mktemp("sealers")
    scenes = {name: Scene(new_deployment(stack), folder, []) for name in PLAYS}

    def play(name: str) -> TrailCounts:
        try:
            return PLAYS[name](scenes[name])
        except BaseException as error:
            for sealer in scenes[name].sealers:
                error.add_note(f"{sealer.log.name}:\n{sealer.log.read_text()[-4000:]}")
            raise
        finally:
            for sealer in scenes[name].sealers:
                sealer.end()

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return {name: pool.submit(play, name) for name in PLAYS}


@pytest.mark.parametrize("name", [name for name in PLAYS if not name.startswith("suspended")])
def test_a_sealer_killed_inside_a_transaction_loses_nothing_and_repeats_nothing(results: Results, name: str) -> None:
    assert results[name].result().of(Kind.EVENT) > 100


@pytest.mark.parametrize("name", [name for name in PLAYS if name.startswith("suspended")])
def test_a_suspended_sealer_whose_partition_moved_is_refused_and_forks_nothing(results: Results, name: str) -> None:
    assert results[name].result().of(Kind.EVENT) > 100


# -- the fences by themselves


class Member:
    """A member of the sealers' group that owns every partition."""

    def __init__(self, deployment: Deployment) -> None:
        self._owned: list[int] = []
        raw, group = (topic_name(deployment.topic_prefix, name) for name in ("audit.raw", "sealer"))
        self.consumer = RawConsumer(deployment.settings("sealer"), raw, group, self._owned.extend, self._lose)

    def group(self) -> object:
        """The group's metadata as of a poll that changed nothing."""
        return self.consumer.poll(1, 0.1).group

    def owns(self) -> int:
        self.consumer.poll(1, 0.1)
        return len(self._owned)

    def _lose(self, partitions: list[int]) -> None:
        self._owned = [p for p in self._owned if p not in partitions]


def commit(deployment: Deployment, producer: ChainProducer, group: object, value: bytes = b"v") -> None:
    archive, raw = (topic_name(deployment.topic_prefix, name) for name in ("audit.archive", "audit.raw"))
    producer.commit([Placement(archive, 0, [value])], Progress(raw, 0, 0, group), time.time_ns() // 1_000_000)


def archived(deployment: Deployment) -> list[bytes | None]:
    Ends(deployment.settings("admin")).await_stable([(topic_name(deployment.topic_prefix, "audit.archive"), 0)])
    with PartitionReader(deployment.settings("admin")) as reader:
        return [r.value for r in reader.read_all(topic_name(deployment.topic_prefix, "audit.archive"), 0)]


class Hanging:
    """librdkafka's producer, one of whose steps does not come back."""

    def __init__(self, inner: object, step: str, released: threading.Event) -> None:
        self._inner, self._step, self._released = inner, step, released

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: self._released.wait(60)) if name == self._step else getattr(self._inner, name)


class Losing:
    """librdkafka's producer whose `flush` fails as it does once in some sixty fences: it has lost the reason."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def flush(self, _: float) -> int:
        raise SystemError("<built-in method flush> returned NULL without setting an exception")


def test_an_error_that_the_library_loses_is_in_doubt_and_ends_no_process(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Member(deployment)
    wait_until(lambda: member.owns() == RAW_PARTITIONS, what="membership")
    producer = fenced(deployment.settings("sealer"), f"{deployment.name}/raw/0")
    monkeypatch.setattr(producer, "_producer", Losing(producer._producer))
    with pytest.raises(TransientError, match="lost the reason"):
        commit(deployment, producer, member.group(), b"never")
    with pytest.raises(TransientError):
        producer.abort_on([(topic_name(deployment.topic_prefix, "audit.archive"), 0)])
    producer.discard()
    commit(deployment, fenced(deployment.settings("sealer"), f"{deployment.name}/raw/0"), member.group(), b"now")
    assert archived(deployment) == [b"now"]
    member.consumer.close()


@pytest.mark.parametrize("step", ["send_offsets_to_transaction", "commit_transaction"])
def test_a_step_that_hangs_in_the_library_is_given_up_and_the_chain_goes_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(transaction, "STEP_S", 0.5)
    monkeypatch.setattr(transaction, "GRACE_S", 0.1)
    member, released = Member(deployment), threading.Event()
    wait_until(lambda: member.owns() == RAW_PARTITIONS, what="membership")
    producer = fenced(deployment.settings("sealer"), f"{deployment.name}/raw/0")
    monkeypatch.setattr(producer, "_producer", Hanging(producer._producer, step, released))
    try:
        with pytest.raises(TransientError, match="did not end"):
            commit(deployment, producer, member.group(), b"never")
        producer.discard()
        monkeypatch.setattr(transaction, "STEP_S", 10.0)
        commit(deployment, fenced(deployment.settings("sealer"), f"{deployment.name}/raw/0"), member.group(), b"now")
        assert archived(deployment) == [b"now"]
    finally:
        released.set()
        member.consumer.close()


def test_producers_that_were_thrown_away_leave_no_threads(deployment: Deployment) -> None:
    """In a process of its own: what other tests left running here counts not."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
        places = deployment.stack.places.state
        alone.submit(throw_away_producers, places, deployment.name, deployment.topic_prefix, deployment.bucket).result()


def throw_away_producers(state: Path, *names: str) -> None:
    deployment = Deployment(Stack(state), *names)
    settings, member = deployment.settings("sealer"), Member(deployment)
    wait_until(lambda: member.owns() == RAW_PARTITIONS, what="membership")
    threads = psutil.Process().num_threads
    before = threads()
    for number in range(6):
        producer = fenced(settings, f"{deployment.name}/raw/0")
        if number % 2:
            with pytest.raises(EvidenceError):
                commit(deployment, producer, member.group(), os.urandom(3 << 20))
        else:
            commit(deployment, producer, member.group())
        producer.discard()
    del producer
    wait_until(lambda: threads() <= before + 1, what="the end of the producers' threads")
    member.consumer.close()
