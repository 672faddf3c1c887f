"""One run of the demo: its own topics and chains, its sealer and sink as processes, their memory watched."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

from infra.report import Reporter
from infra.stack import Stack
from kafkaio.admin import provision
from schemas import catalogue
from schemas.settings import PREFIX, Settings
from sealtrail.errors import TransientError

HEARTBEAT_S = 2.0  # 15 s in production; the demo wants its last segments soon
SEGMENT_S = 5.0  # 30 s in production
STOP_S = 20.0
SAMPLE_S = 1.0


class Session:
    """A context: topics made on entry, processes ended on exit."""

    def __init__(self, stack: Stack, report: Reporter) -> None:
        self.stack = stack
        self.report = report
        self.name = f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder = stack.places.state / "demo" / self.name
        self.peak_memory_mib = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: list[IO[bytes]] = []
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch_memory, daemon=True)
        self._flags = {
            "topic_prefix": f"{self.name}.",
            "deployment": self.name,
            "heartbeat_s": HEARTBEAT_S,
            "segment_seconds": SEGMENT_S,
            "accept_weak_store": True,
        }

    @property
    def chain_prefix(self) -> str:
        """What the names of this run's chains begin with."""
        return f"{self.settings('verifier').authority}/{self.name}/"

    def settings(self, role: str) -> Settings:
        """A role's settings, for this run's topics and chains."""
        return self.stack.settings(role, **self._flags)

    def start(self, role: str) -> None:
        """Run `sealtrail run ROLE` as a process, its log under the stack's logs."""
        path = self.log(role)
        handle = path.open("wb")
        self._logs.append(handle)
        environment = {**os.environ, **{PREFIX + k.upper(): str(v) for k, v in self._flags.items()}}
        command = [sys.executable, "-m", "auditor", "run", role, "--config", str(self.stack.role_file(role))]
        self._processes[role] = subprocess.Popen(command, env=environment, stdout=handle, stderr=handle)
        self.report.line(f"{role} runs (pid {self._processes[role].pid}, log {path})")

    def check_alive(self) -> None:
        """Raise TransientError, with the log's path, when one of the processes has ended."""
        for role, running in self._processes.items():
            if running.poll() is not None:
                raise TransientError(f"{role} ended with status {running.returncode}; see {self.log(role)}")

    def log(self, role: str) -> Path:
        """Where a process of this run writes its log."""
        return self.stack.places.logs / f"{self.name}-{role}.log"

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
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
        self._done.set()
        self._watcher.join()

    def _watch_memory(self) -> None:
        while not self._done.wait(SAMPLE_S):
            pids = [s.pid for s in self.stack.status() if s.pid] + [p.pid for p in self._processes.values()]
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
