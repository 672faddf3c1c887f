"""One command in several processes: started, watched, started again, ended together.

What holds:
1. Each process is this program executed anew, never a fork of it: librdkafka's threads do not survive one.
2. A process that ends is started again, whatever its status: after a wait that doubles from `first_wait_s` to `last_wait_s`,
   and begins anew with one that has run for `ran_s`. Counted and logged.
3. No restart mends a wrong set-up: a process that ends with that status ends all, with that status.
4. When all are to end, each is asked by SIGTERM, and killed after `grace_s`.
5. None outlives this process, however that dies. Each has the reading end of a pipe as its stdin, and only this process has
   the writing end. When it closes, a process ends as if it had been asked; after ORPHAN_S the kernel ends it. The pipe does
   this on every system and in order, where PR_SET_PDEATHSIG would be Linux's alone.

It knows nothing of what the processes do. Which sealer has which partition is the consumer group's business, and that no two
have the same one the fence's (`processors.sealer`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog
from prometheus_client import Counter, Gauge

from auditor.console import EXIT_CONFIGURATION
from schemas.settings import Settings
from sealtrail.errors import ConfigError

LOOK_S = 0.1  # between two looks at the processes
ORPHAN_S = 30  # for a process whose parent is gone to end in order; whole seconds, as alarm() takes them
LAST_PORT = 65_535

_log = structlog.get_logger()
RUNNING = Gauge("sealtrail_processes_running", "Processes of this command that run.")
RESTARTS = Counter("sealtrail_processes_restarts", "Processes that ended by themselves and were started again.", ["process"])


@dataclass(frozen=True, slots=True)
class Times:
    """How long `Processes` waits; see the module."""

    first_wait_s: float = 0.5
    last_wait_s: float = 30.0
    ran_s: float = 60.0  # above the last wait: what ends sooner each time is not well
    grace_s: float = 25.0  # below the 30 s after which Kubernetes kills; what is killed in a commit loses nothing


@dataclass(slots=True)
class _Place:
    """What is known of the process with this number, from 1 on."""

    number: int
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # monotonic
    start_at: float = 0.0  # not before
    wait_s: float = 0.0  # the last one


class Processes:
    """`count` processes of one command. One thread; nothing else may wait for children.

    Args:
        command: each process's is followed by its number, from 1 on.
    """

    def __init__(self, command: Sequence[str], count: int, times: Times | None = None) -> None:
        self._command = tuple(command)
        self._times = times or Times()
        self._places = [_Place(number) for number in range(1, count + 1)]
        self.status = 0

    def run(self, stop: threading.Event) -> None:
        """Keep them running until `stop` is set, or one finds the set-up wrong; then end all. `status`: what to exit with."""
        try:
            while not stop.is_set() and not self.status:
                for place in self._places:
                    self._look_at(place)
                RUNNING.set(sum(place.child is not None for place in self._places))
                stop.wait(LOOK_S)
        finally:
            self._end()

    def _look_at(self, place: _Place) -> None:
        """Start it if it is due; take note if it has ended."""
        if place.child is None:
            if time.monotonic() >= place.start_at:
                self._start(place)
            return
        status = place.child.poll()
        if status is None:
            return
        _forget(place)
        if status == EXIT_CONFIGURATION:
            _log.error("process found the set-up wrong; all end", number=place.number)
            self.status = status
            return
        RESTARTS.labels(str(place.number)).inc()
        wait_s = self._delay(place)
        _log.error("process ended; started again", number=place.number, status=_named(status), wait_s=wait_s)

    def _start(self, place: _Place) -> None:
        place.started_at = time.monotonic()
        try:
            place.child = subprocess.Popen([*self._command, str(place.number)], stdin=subprocess.PIPE)
        except OSError as error:  # no memory or no process to be had: both may come back
            wait_s = self._delay(place)
            _log.error("process not started; tried again", number=place.number, problem=error.strerror, wait_s=wait_s)
        else:
            _log.info("process started", number=place.number, pid=place.child.pid)

    def _delay(self, place: _Place) -> float:
        """Note when it may be started again; in how many seconds."""
        now, times = time.monotonic(), self._times
        well = now - place.started_at >= times.ran_s
        place.wait_s = times.first_wait_s if well or not place.wait_s else min(place.wait_s * 2, times.last_wait_s)
        place.start_at = now + place.wait_s
        return place.wait_s

    def _end(self) -> None:
        """Ask all that run, wait, kill what is left."""
        living = [(place, place.child) for place in self._places if place.child is not None]
        for _, child in living:
            child.terminate()
        deadline = time.monotonic() + self._times.grace_s
        for place, child in living:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _log.error("process killed; it did not end in time", number=place.number, waited_s=self._times.grace_s)
                child.kill()
                child.wait()
            _forget(place)
        RUNNING.set(0)


def _forget(place: _Place) -> None:
    child, place.child = place.child, None
    if child is not None and child.stdin is not None:
        with suppress(BrokenPipeError):
            child.stdin.close()


def _named(status: int) -> str:
    """An exit status, or the signal's name."""
    if status >= 0:
        return str(status)
    with suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def this_command() -> list[str]:
    """How this process was started: the same interpreter, options and arguments."""
    return [sys.executable, *sys.orig_argv[1:]]


def end_with_parent(stop: threading.Event) -> None:
    """For a process that `Processes` started: `stop` is set when the parent is gone, and the process ends in any case."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1):
                pass  # nothing is ever written; no byte means that the other end is closed
        signal.alarm(ORPHAN_S)  # by the kernel, whatever this process is in the middle of
        _log.error("parent process gone; ending")
        stop.set()

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def check_ports(settings: Settings, count: int) -> None:
    """Raise ConfigError when there is no metrics port for each process."""
    if settings.metrics_port and settings.metrics_port + count > LAST_PORT:
        raise ConfigError(f"setting metrics_port: {count} processes need the {count} ports after it; the last is {LAST_PORT}")


def of_process(settings: Settings, number: int) -> Settings:
    """The settings of one of several processes: its metrics page is `number` ports further on."""
    if not settings.metrics_port:
        return settings
    return settings.model_copy(update={"metrics_port": settings.metrics_port + number})
