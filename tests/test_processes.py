"""One command in several processes: what dies is replaced, what is misconfigured ends all, and nothing outlives the parent."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from prometheus_client import REGISTRY

from auditor.console import EXIT_CONFIGURATION
from auditor.processes import Processes, Times, _named, of_process
from infra.places import Ports
from schemas.settings import Settings
from sealtrail.seal import Kind
from tests.conftest import Deployment, new_deployment, wait_until
from tests.trail import all_sealed, check_trail, emitters, load_draft

PARTITIONS = 4
QUICK = Times(first_wait_s=0.05, last_wait_s=0.2, ran_s=60.0, grace_s=1.0)

# What stands in for a process of the pipeline: says its number, then does as it was told.
CHILD = """
import os, signal, sys, threading, time
how, folder, number = sys.argv[1:]
with open(f"{folder}/{number}", "a") as said:
    said.write(f"{os.getpid()}\\n")
if how == "dies":
    sys.exit(1)
if how == "misconfigured" and number == "2":
    sys.exit(3)
if how == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
stop = threading.Event()
if how == "good":
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    from auditor.processes import end_with_parent
    end_with_parent(stop)
while not stop.wait(0.05):
    pass
"""
PARENT = """
import signal, sys, threading
from auditor.processes import Processes
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
Processes(sys.argv[2:], int(sys.argv[1])).run(stop)
"""


def child(how: str, folder: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, how, str(folder)]


def started(folder: Path, number: int) -> list[int]:
    """Process ids under which this number was started so far, in order."""
    path = folder / str(number)
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Until:
    """A stop that is set once a condition holds; looked at as often as `Processes` waits for it."""

    def __init__(self, condition: Any) -> None:
        self._condition = condition
        self._deadline = time.monotonic() + 60
        self.waits = 0

    def is_set(self) -> bool:
        assert time.monotonic() < self._deadline
        return bool(self._condition())

    def wait(self, timeout_s: float) -> None:
        self.waits += 1
        time.sleep(timeout_s)


def run(processes: Processes, condition: Any) -> None:
    processes.run(Until(condition))  # type: ignore[arg-type]  # asks no more of an Event


def test_each_process_gets_a_number_and_all_end_when_asked(tmp_path: Path) -> None:
    processes = Processes(child("good", tmp_path), 3, QUICK)
    run(processes, lambda: all(started(tmp_path, number) for number in (1, 2, 3)))
    assert [len(started(tmp_path, number)) for number in (1, 2, 3, 4)] == [1, 1, 1, 0]
    assert not any(lives(pid) for number in (1, 2, 3) for pid in started(tmp_path, number))
    assert processes.status == 0


def test_one_that_dies_is_started_again_counted_and_ever_later(tmp_path: Path) -> None:
    began = time.monotonic()
    before = REGISTRY.get_sample_value("sealtrail_processes_restarts_total", {"process": "1"}) or 0.0
    run(Processes(child("dies", tmp_path), 1, QUICK), lambda: len(started(tmp_path, 1)) >= 5)
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.2 + 0.2, "the waits double, up to the last one"
    after = REGISTRY.get_sample_value("sealtrail_processes_restarts_total", {"process": "1"}) or 0.0
    assert after - before >= 4


def test_waits_begin_anew_with_a_process_that_has_run_for_long(tmp_path: Path) -> None:
    times = Times(first_wait_s=0.01, last_wait_s=3600.0, ran_s=0.0)
    run(Processes(child("dies", tmp_path), 1, times), lambda: len(started(tmp_path, 1)) >= 12)


def test_one_that_was_killed_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    killed: list[int] = []

    def replaced() -> bool:
        pids = started(tmp_path, 2)
        if pids and not killed and started(tmp_path, 1):
            killed.append(pids[0])
            os.kill(pids[0], signal.SIGKILL)
        return len(pids) == 2

    run(Processes(child("good", tmp_path), 2, QUICK), replaced)
    assert len(started(tmp_path, 1)) == 1


def test_a_wrong_set_up_ends_all_with_its_status(tmp_path: Path) -> None:
    processes = Processes(child("misconfigured", tmp_path), 3, QUICK)
    run(processes, lambda: False)
    assert processes.status == EXIT_CONFIGURATION
    assert not any(lives(pid) for number in (1, 2, 3) for pid in started(tmp_path, number))
    assert len(started(tmp_path, 2)) == 1


def test_one_that_does_not_end_when_asked_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    run(Processes(child("stubborn", tmp_path), 2, QUICK), lambda: started(tmp_path, 1) and started(tmp_path, 2))
    assert time.monotonic() - began < 30
    assert not any(lives(pid) for number in (1, 2) for pid in started(tmp_path, number))


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    made: list[bool] = []

    def now_it_is_there() -> bool:
        if not made:
            made.append(True)
            return False
        if not program.exists():
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c \'{CHILD}\' good "{tmp_path}" "$1"\n')
            program.chmod(0o755)
        return bool(started(tmp_path, 1))

    run(Processes([str(program)], 1, QUICK), now_it_is_there)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked", "killed"])
def test_nothing_outlives_the_parent(tmp_path: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, "2", *child("good", tmp_path)])
    try:
        wait_until(lambda: started(tmp_path, 1) and started(tmp_path, 2), what="both processes")
        parent.send_signal(number)
        assert parent.wait(60) == (0 if number == signal.SIGTERM else -number)
        pids = [*started(tmp_path, 1), *started(tmp_path, 2)]
        wait_until(lambda: not any(lives(pid) for pid in pids), deadline_s=60, what="their end")
    finally:
        parent.kill()
        parent.wait()


def test_each_process_has_a_metrics_page_of_its_own_or_none() -> None:
    assert of_process(Settings.load(metrics_port=9100), 3).metrics_port == 9103
    assert of_process(Settings.load(), 3).metrics_port == 0


def test_a_line_of_a_processs_log_has_its_number_and_is_one_write() -> None:
    """A datagram is one write."""
    program = "import structlog; from auditor.console import log_to_stderr; log_to_stderr(process=2); "
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.settimeout(60)
        command = [sys.executable, "-c", program + "structlog.get_logger().info('sealing', partition=1)"]
        assert subprocess.run(command, stderr=theirs.fileno(), check=False).returncode == 0
        line = ours.recv(65_536)
    assert line.endswith(b"\n")
    said = json.loads(line)
    assert (said["process"], said["event"], said["partition"]) == (2, "sealing", 1)


def test_a_status_is_named_by_its_signal() -> None:
    assert [_named(status) for status in (0, 3, -9, -250)] == ["0", "3", "SIGKILL", "signal 250"]


def sealtrail(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "auditor", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_settings_that_do_not_do_for_all_processes_are_refused_before_any_starts(tmp_path: Path) -> None:
    empty = tmp_path / "sealer.toml"
    empty.touch()
    ports = sealtrail("run", "sealer", "--config", str(empty), "--processes", "4", SEALTRAIL_METRICS_PORT="65532")
    assert ports.returncode == EXIT_CONFIGURATION and "setting metrics_port" in ports.stderr
    assert "process started" not in ports.stderr
    # These each process finds out for itself: the first that does ends all, and is not started again.
    missing = sealtrail("run", "sealer", "--config", str(empty), "--processes", "2")
    assert missing.returncode == EXIT_CONFIGURATION and "the set-up wrong" in missing.stderr
    assert missing.stderr.count("process started") == 2
    assert sealtrail("run", "sealer", "--config", str(empty), "--processes", "0").returncode == 2


# -- sealers


class SealerProcesses:
    """`sealtrail run sealer --processes N`, with its log."""

    def __init__(self, deployment: Deployment, log: Path, count: int, **settings: object) -> None:
        given = {"topic_prefix": deployment.topic_prefix, "deployment": deployment.name, **settings}
        config = str(deployment.stack.role_file("sealer"))
        self._log = log
        with log.open("ab") as output:
            self.parent = subprocess.Popen(
                [sys.executable, "-m", "auditor", "run", "sealer", "--processes", str(count), "--config", config],
                env={**os.environ, **{f"SEALTRAIL_{name.upper()}": str(value) for name, value in given.items()}},
                stdout=output,
                stderr=output,
            )

    def lines(self, event: str) -> list[dict[str, Any]]:
        """What was logged under this name."""
        logged = [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]
        return [line for line in logged if line["event"] == event]

    def pids(self) -> dict[int, int]:
        """Process ids by number, as started last."""
        return {line["number"]: line["pid"] for line in self.lines("process started")}

    def sealing(self) -> set[int]:
        """Partitions that were taken up by a process that is the last of its number."""
        alive = set(self.pids())
        return {line["partition"] for line in self.lines("sealing") if line["process"] in alive}


@contextmanager
def sealers(deployment: Deployment, log: Path, count: int, **settings: object) -> Iterator[SealerProcesses]:
    made = SealerProcesses(deployment, log, count, **settings)
    try:
        yield made
    finally:
        pids = list(made.pids().values())
        made.parent.kill()
        made.parent.wait()
        wait_until(lambda: not any(lives(pid) for pid in pids), deadline_s=60, what="the sealers' end")


def emit(deployment: Deployment, count: int) -> int:
    """Events on every partition; how many records that made."""
    with emitters(deployment, PARTITIONS) as made:
        for number in range(count):
            for emitter in made:
                emitter.emit(load_draft(number))
    return sum(emitter.counts.acknowledged for emitter in made)


def seals_on_page(port: int) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("sealtrail_sealer_seals_total"))


@pytest.mark.servers
def test_two_processes_share_the_partitions_and_seal_each_record_once_though_one_is_killed(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    deployment = new_deployment(request.getfixturevalue("stack"), raw_partitions=PARTITIONS)
    port = Ports.free().kafka
    with sealers(deployment, tmp_path / "log", 2, metrics_port=port) as made:
        wait_until(lambda: made.sealing() == set(range(PARTITIONS)), what="all chains begun")
        # The group gives each process half: the second to join takes two partitions over.
        wait_until(lambda: {line["process"] for line in made.lines("sealing")} == {1, 2}, what="both processes at work")
        acknowledged = emit(deployment, 50)
        wait_until(lambda: all_sealed(deployment, PARTITIONS), what="all sealed")
        by_process = [seals_on_page(port + number) for number in (1, 2)]
        assert all(by_process) and sum(by_process) >= acknowledged + PARTITIONS
        assert seals_on_page(port) == 0, "the parent's page tells of processes"
        first = made.pids()
        os.kill(first[2], signal.SIGKILL)
        acknowledged += emit(deployment, 50)
        wait_until(lambda: all_sealed(deployment, PARTITIONS), what="all sealed after the kill")
        wait_until(lambda: made.pids()[2] != first[2] and lives(made.pids()[2]), what="a new process")
        assert made.pids()[1] == first[1]
        (ended,) = made.lines("process ended; started again")
        assert (ended["number"], ended["status"]) == (2, "SIGKILL")
        wait_until(lambda: len({line["pid"] for line in made.lines("process started")}) == 3, what="three in all")
        acknowledged += emit(deployment, 50)
        wait_until(lambda: all_sealed(deployment, PARTITIONS), what="all sealed by the old and the new one")
        made.parent.terminate()
        assert made.parent.wait(60) == 0
        assert not any(lives(pid) for pid in made.pids().values())
    counts = check_trail(deployment, PARTITIONS)
    assert counts.raw == acknowledged == counts.of(Kind.EVENT)
    assert counts.of(Kind.DUPLICATE) == 0


@pytest.mark.servers
def test_sealers_whose_parent_is_killed_leave_the_group_in_order_and_end(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    deployment = new_deployment(request.getfixturevalue("stack"), raw_partitions=PARTITIONS)
    with sealers(deployment, tmp_path / "log", 2) as made:
        wait_until(lambda: made.sealing() == set(range(PARTITIONS)), what="all chains begun")
        acknowledged = emit(deployment, 20)
        pids = made.pids()
        made.parent.kill()
        wait_until(lambda: not any(lives(pid) for pid in pids.values()), deadline_s=60, what="their end")
        assert len(made.lines("parent process gone; ending")) == 2
        assert {p for line in made.lines("partitions gone") for p in line["partitions"]} == set(range(PARTITIONS))
    with sealers(deployment, tmp_path / "again", 1) as made:
        wait_until(lambda: all_sealed(deployment, PARTITIONS), what="all sealed by the next")
        made.parent.terminate()
        assert made.parent.wait(60) == 0
    counts = check_trail(deployment, PARTITIONS)
    assert counts.raw == acknowledged == counts.of(Kind.EVENT)
