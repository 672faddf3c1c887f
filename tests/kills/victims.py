"""The processes that are killed, each in a thread of its own: at random moments first, then inside an act of its own.

A process that was started must have got something done before it is killed again; otherwise killing it shows nothing.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from infra.demo.session import Session
from infra.receivers.hec import HecReceiver
from sealtrail.errors import TransientError

PROGRESS_S = 120.0  # a group member that was killed keeps its partitions for 10 s; the machine may be loaded
DIES_S = 180.0
LOOK_S = 0.2
AT_ONCE_S = 3.0  # a random kill comes within so many seconds of work

_KILLED = -signal.SIGKILL


@dataclass(frozen=True, slots=True)
class Fault:
    """Where a process is killed inside an act. One of: a module that kills itself there, or `arm`, which has it killed."""

    name: str
    module: tuple[str, ...] = ()
    arm: Callable[[Session, str], None] | None = None


@dataclass(frozen=True, slots=True)
class Victim:
    """A process. done: a number that rises with what it gets done; step: by how much, for it to be at work."""

    role: str
    done: Callable[[], int]
    step: int
    faults: tuple[Fault, ...]


def sealer_fault(step: str, when: str) -> Fault:
    """Killed before or after one call of a transaction with records, the third such."""
    fault = json.dumps({"step": step, "number": 2, "when": when})
    return Fault(f"{when} {step}", ("tests.faults.sealer_process", "CONFIG", "{}", fault))


def archive_fault(prefix: str, fault: str) -> Fault:
    """Killed before or after a PUT."""
    when = fault.removeprefix("killed-")
    return Fault(
        f"{when} a PUT below {prefix}", ("tests.faults.archive_sink", "CONFIG", "{}", json.dumps([[prefix, 1, fault]]))
    )


def inside_request(collector: HecReceiver) -> Fault:
    """Killed when the collector has read a request and not answered."""

    def arm(session: Session, name: str) -> None:
        pid = session.pid(name)

        def kill(_: list[dict[str, Any]]) -> None:
            collector.fault = lambda _: None
            os.kill(pid, signal.SIGKILL)

        collector.fault = kill

    return Fault("inside request", arm=arm)


class Killer:
    """Kills one victim as often as planned, and leaves it running. `killed`: what was done, in words."""

    def __init__(self, session: Session, victim: Victim, random: Random, times: int) -> None:
        self.killed: list[str] = []
        self.failure: BaseException | None = None
        self._session, self._victim, self._random, self._times = session, victim, random, times
        self._thread = threading.Thread(target=self._work, name=f"kills-{victim.role}")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait until it is through. Raises what went wrong."""
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    def _work(self) -> None:
        try:
            for _ in range(self._times):
                self._at_work()
                time.sleep(self._random.uniform(0, AT_ONCE_S))  # any moment will do
                self._killed("at random", self._session.end(self._victim.role, kill=True))
                self._session.run(self._victim.role)
            for fault in self._victim.faults:
                self._at_work()
                self._inside(fault)
                self._session.run(self._victim.role)
            self._at_work()
        except BaseException as error:
            self.failure = error

    def _inside(self, fault: Fault) -> None:
        role = self._victim.role
        if fault.arm is not None:
            fault.arm(self._session, role)
        else:
            self._session.end(role)
            config = str(self._session.stack.role_file(role))
            words = [config if word == "CONFIG" else word for word in fault.module]
            self._session.spawn(role, [sys.executable, "-m", *words])
        self._killed(fault.name, self._session.wait(role, DIES_S))

    def _killed(self, how: str, status: int) -> None:
        if status != _KILLED:
            raise TransientError(f"{self._victim.role} ended with status {status} instead of being killed {how}")
        self.killed.append(how)
        self._session.report.line(f"{self._victim.role} killed {how}")

    def _at_work(self) -> None:
        """Return when the process has got something done since now."""
        before, deadline = self._victim.done(), time.monotonic() + PROGRESS_S
        while self._victim.done() < before + self._victim.step:
            if time.monotonic() > deadline:
                log = self._session.log(self._victim.role)
                raise TransientError(f"{self._victim.role} got nothing done in {PROGRESS_S:.0f} s; see {log}")
            time.sleep(LOOK_S)
