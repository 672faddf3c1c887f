"""One run on the local stack: its own topics, chains, indices and policy, its processes, their memory watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

import psutil

from auditor.policy import read_files
from infra.report import Reporter
from infra.stack import Stack
from kafkaio.admin import provision
from schemas import catalogue
from schemas.policy import Policy
from schemas.policy_files import install
from schemas.settings import PREFIX, Settings
from sealtrail.errors import TransientError

HEARTBEAT_S = 2.0  # 15 s in production; the demo wants its last segments, and a silence, soon
SEGMENT_S = 5.0  # 30 s in production
PULSE_S = 1.0  # 15 s in production
SILENCE_S = 10.0  # 45 s in production
STOP_S = 60.0
COMMAND_S = 300.0
SAMPLE_S = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ended: its status, and its stdout, parsed if it is JSON."""

    status: int
    output: Any


class Session:
    """A context: topics made on entry, processes ended on exit. `kind`: what its name and its folder begin with."""

    def __init__(self, stack: Stack, report: Reporter, kind: str = "demo") -> None:
        self.stack = stack
        self.report = report
        self.name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder = stack.places.state / kind / self.name
        self.policy = self.folder / "policy"
        self.peak_memory_mib = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self._held = ExitStack()
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch_memory, daemon=True)
        self._flags: dict[str, object] = {
            "topic_prefix": f"{self.name}.",
            "deployment": self.name,
            "heartbeat_s": HEARTBEAT_S,
            "segment_seconds": SEGMENT_S,
            "segment_idle_seconds": SEGMENT_S,
            "pulse_s": PULSE_S,
            "silence_s": SILENCE_S,
            "accept_weak_store": True,
            "policy": str(self.policy),
        }

    @property
    def chain_prefix(self) -> str:
        """What the names of this run's chains begin with."""
        return f"{self.settings('verifier').authority}/{self.name}/"

    def settings(self, role: str) -> Settings:
        """A role's settings, for this run's topics and chains."""
        return self.stack.settings(role, **self._flags)

    def set(self, **flags: object) -> None:
        """Settings of every process started from now on."""
        self._flags.update(flags)

    def hold(self, context: AbstractContextManager[T]) -> T:
        """Enter a context that lasts as long as the session."""
        return self._held.enter_context(context)

    # -- processes

    def run(self, role: str) -> None:
        """Run `sealtrail run ROLE` until the end."""
        self.start(role, "run", role, role=role)

    def start(self, name: str, *arguments: str, role: str) -> None:
        """Start a `sealtrail` command under a role's identity; its log lies under the stack's logs."""
        self.spawn(name, self._sealtrail(role, arguments))

    def receiver(self, name: str, *arguments: str) -> str:
        """Start one of our receivers as a process; its address."""
        command = [sys.executable, "-m", f"infra.receivers.{name}", *arguments]
        process = self.spawn(f"receiver-{name}", command, subprocess.PIPE)
        if process.stdout is None:
            raise AssertionError("the pipe was asked for")
        line = process.stdout.readline()
        if not line:
            raise TransientError(f"receiver {name} did not start; see {self.log(f'receiver-{name}')}")
        return str(json.loads(line)["url"])

    def command(self, *arguments: str, role: str, good: tuple[int, ...] = (0,)) -> Ended:
        """Run a `sealtrail` command to its end. Raises TransientError when its status is not good, or it takes too long."""
        with self.log("commands").open("ab") as log:
            command = self._sealtrail(role, arguments)
            log.write(f"$ {' '.join(command[1:])}\n".encode())
            log.flush()
            try:
                done = subprocess.run(
                    command, env=self._environment(), stdout=subprocess.PIPE, stderr=log, timeout=COMMAND_S, check=False
                )
            except subprocess.TimeoutExpired:
                raise TransientError(f"{' '.join(arguments)}: no end within {COMMAND_S:.0f} s") from None
        if done.returncode not in good:
            raise TransientError(f"{' '.join(arguments)}: exit status {done.returncode}; see {self.log('commands')}")
        try:
            return Ended(done.returncode, json.loads(done.stdout))
        except ValueError:
            return Ended(done.returncode, done.stdout.decode(errors="replace"))

    def wait_for_line(self, name: str, text: str) -> None:
        """Return when a process has said something. Raises TransientError when it ends, or says nothing in time."""
        deadline = time.monotonic() + STOP_S
        while text not in self.log(name).read_text("utf-8", "replace"):
            self.check_alive()
            if time.monotonic() > deadline:
                raise TransientError(f"{name} did not say {text!r}; see {self.log(name)}")
            time.sleep(0.1)

    def end(self, name: str, *, kill: bool = False) -> int:
        """End a process started here, in order or at once; its exit status."""
        process = self._processes.pop(name)
        if kill:
            process.kill()
        else:
            process.terminate()
        return process.wait(STOP_S)

    def pid(self, name: str) -> int:
        """Of a process started here."""
        return self._processes[name].pid

    def wait(self, name: str, patience_s: float) -> int:
        """Wait for a process started here to end by itself; its exit status. Raises TransientError when it does not."""
        try:
            status = self._processes[name].wait(patience_s)
        except subprocess.TimeoutExpired:
            raise TransientError(f"{name} did not end within {patience_s:.0f} s; see {self.log(name)}") from None
        del self._processes[name]
        return status

    def check_alive(self) -> None:
        """Raise TransientError, with the log's path, when one of the processes has ended."""
        for name, running in list(self._processes.items()):
            if running.poll() is not None:
                raise TransientError(f"{name} ended with status {running.returncode}; see {self.log(name)}")

    def log(self, name: str) -> Path:
        """Where a process of this run writes its log."""
        return self.stack.places.logs / f"{self.name}-{name}.log"

    def _sealtrail(self, role: str, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "auditor", *arguments, "--config", str(self.stack.role_file(role))]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **{PREFIX + k.upper(): str(v) for k, v in self._flags.items()}}

    def spawn(self, name: str, command: list[str], stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a process in this run's environment, its output added to its log, unless `stdout` is a pipe."""
        path = self.log(name)
        handle = path.open("ab")
        self._logs.append(handle)
        process = subprocess.Popen(
            command,
            env=self._environment(),
            stdout=handle if stdout is None else stdout,
            stderr=handle,
            stdin=subprocess.DEVNULL,
        )
        self._processes[name] = process
        self.report.line(f"{name} runs (pid {process.pid}, log {path})")
        return process

    # -- the context

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        with as_file(files("schemas") / "policy") as packaged:
            install(self.policy, Policy.load(packaged), read_files(packaged))
        made = provision(self.settings("admin"), catalogue.load())
        self.report.line(f"{self.name}: {len(made.topics)} topics and {made.acls} rights of its own")
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for running in self._processes.values():
            running.terminate()
        for running in self._processes.values():
            try:
                running.wait(STOP_S)
            except subprocess.TimeoutExpired:
                running.kill()
        for handle in self._logs:
            handle.close()
        self._held.close()
        self._done.set()
        self._watcher.join()

    def _watch_memory(self) -> None:
        while not self._done.wait(SAMPLE_S):
            pids = [s.pid for s in self.stack.status() if s.pid] + [p.pid for p in list(self._processes.values())]
            total = sum(_resident(pid) for pid in [*pids, os.getpid()])
            self.peak_memory_mib = max(self.peak_memory_mib, total >> 20)


def _resident(pid: int) -> int:
    """Resident bytes of a process and its children; 0 when it has just ended."""
    try:
        own = psutil.Process(pid)
        family = [own] if pid == os.getpid() else [own, *own.children(recursive=True)]
        return sum(int(member.memory_info().rss) for member in family)
    except psutil.NoSuchProcess:
        return 0
