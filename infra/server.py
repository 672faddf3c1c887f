"""What the servers have in common: how one is started and watched until it answers, and what is said if it does not.

A server is described by its command, its ports and a health check; `bring_up` does the rest, the same way for all.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra import process
from infra.places import HOST, Places
from infra.report import Reporter
from sealtrail.errors import ConfigError, TransientError

POLL_S = 0.1  # a health check costs a few ms; a start takes seconds


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start one server.

    `health` returns None when it answers as it should, or why not (one line). `ports` are listener names and numbers,
    each of which must be free before the start. `prepare` is called before each start. `patience_s` is the time allowed
    for the start, `stop_s` for the end.
    """

    name: str
    command: tuple[str, ...]
    cwd: Path
    ports: Mapping[str, int]
    health: Callable[[], str | None]
    patience_s: float
    stop_s: float
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None


def taken(port: int) -> bool:
    """Whether something already listens on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections in TIME_WAIT do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def answers(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        with socket.create_connection((HOST, port), timeout=1):
            return True
    except OSError:
        return False


def refuse_taken(launch: Launch, places: Places) -> None:
    """Raise ConfigError when another process listens on a port of a server that does not run yet."""
    if process.running(places.pid_file(launch.name)):
        return
    for listener, port in launch.ports.items():
        if taken(port):
            log = places.log(launch.name)
            raise ConfigError(f"{launch.name}: port {port} ({listener}) is taken by another process (log: {log})")


def bring_up(launch: Launch, places: Places, report: Reporter) -> None:
    """Start the server unless it runs already, and return when it is healthy.

    Raises ConfigError when one of its ports is taken, TransientError when it dies or is not healthy in time; both name
    the log. A server that did not become healthy is ended again.
    """
    log = places.log(launch.name)
    pid_file = places.pid_file(launch.name)
    started = time.monotonic()
    if process.running(pid_file):
        problem = _until_healthy(launch, pid_file)
        if problem is None:
            report.line(f"{launch.name} runs already and is healthy")
            return
        report.line(f"{launch.name} runs but is not healthy ({problem}), starting it again")
        process.stop(pid_file, patience_s=launch.stop_s)
    refuse_taken(launch, places)
    launch.prepare()
    process.start(launch.command, pid_file=pid_file, log=log, cwd=launch.cwd, environment=launch.environment)
    problem = _until_healthy(launch, pid_file)
    if problem is not None:
        process.stop(pid_file, patience_s=launch.stop_s)
        raise TransientError(f"{launch.name}: {problem} (log: {log}); it ends: {process.tail(log)}")
    report.line(f"{launch.name} is healthy after {time.monotonic() - started:.1f} s")


def _until_healthy(launch: Launch, pid_file: Path) -> str | None:
    deadline = time.monotonic() + launch.patience_s
    while True:
        problem = launch.health()
        if problem is None:
            return None
        if process.running(pid_file) is None:
            return "ended while starting"
        if time.monotonic() > deadline:
            return f"not healthy after {launch.patience_s:.0f} s: {problem}"
        time.sleep(POLL_S)
