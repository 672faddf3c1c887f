"""One server process: started in a session of its own, remembered in a file, ended only if it is still the same one.

Rules kept here:
- a process is known by its id *and* its start time, so a recycled id is never taken for ours;
- output goes to one log file per server, and every error names that file;
- a stop is asked for first (SIGTERM) and forced (SIGKILL) only after a stated time.

Not here: what a server needs to start or how its health is asked; see `kafka`, `seaweed` and `opensearch`.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from sealtrail.errors import ConfigError

POLL_S = 0.05
KILL_S = 10.0  # the kernel ends a killed process at once, unless it waits for a disk
START_TOLERANCE_S = 1.0  # psutil derives the start time from ticks of 10 ms and a boot time of whole seconds


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What the pid file says: the process id, and when that process started (seconds since the epoch)."""

    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The running process that this record names, or None when it ended or its id now belongs to another."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > START_TOLERANCE_S:
                return None
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process


def read_record(pid_file: Path) -> ProcessRecord | None:
    """The record in `pid_file`, or None when there is none or it cannot be read (then nothing is known to be ours)."""
    try:
        value = json.loads(pid_file.read_text())
        return ProcessRecord(pid=int(value["pid"]), started=float(value["started"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return None  # a torn write: the process, if any, shows as a taken port


def running(pid_file: Path) -> psutil.Process | None:
    """The process that `pid_file` names, if it still runs."""
    record = read_record(pid_file)
    return record.process() if record else None


def start(
    command: Sequence[str],
    *,
    pid_file: Path,
    log: Path,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> psutil.Process:
    """Start `command` detached, with its output appended to `log`, and write `pid_file`.

    The process leads a session of its own: a Ctrl-C at the terminal or the end of this program does not reach it.
    Raises ConfigError when the program cannot be executed at all.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigError(f"cannot start {command[0]}: {error.strerror}") from error
    process = psutil.Process(child.pid)
    started = process.create_time()
    child.returncode = 0  # not ours to wait for: psutil watches it, and Popen must not warn that it outlives us
    partial = pid_file.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": child.pid, "started": started}))
    partial.replace(pid_file)
    return process


def stop(pid_file: Path, *, patience_s: float) -> bool:
    """End the process that `pid_file` names and remove the file. True if there was one to end.

    After `patience_s` without an end it is killed. A record whose process is gone, or is now another, is only removed.
    """
    process = running(pid_file)
    if process is not None:
        children = _children(process)
        _signal(process, kill=False)
        ended = _wait([process], patience_s)
        for member in (*children, *(() if ended else (process,))):
            _signal(member, kill=True)
        _wait([process, *children], KILL_S)
    pid_file.unlink(missing_ok=True)
    return process is not None


def _wait(processes: Sequence[psutil.Process], timeout_s: float) -> bool:
    """Whether all ended within `timeout_s`. Polls: psutil's own wait spins on a process that is not our child."""
    deadline = time.monotonic() + timeout_s
    while any(_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _alive(process: psutil.Process) -> bool:
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        with suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG)  # ours if this program started it; else its parent reaps it
    except psutil.NoSuchProcess:
        pass
    return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if process.is_running():  # psutil compares the start time again
            if kill:
                process.kill()
            else:
                process.terminate()
    except psutil.NoSuchProcess:
        pass  # it ended by itself meanwhile, which is what was wanted


def tail(log: Path, *, lines: int = 3) -> str:
    """The last non-empty lines of `log`, joined by ` | `: enough for one line of an error."""
    try:
        text = log.read_bytes()[-8192:].decode(errors="replace")
    except FileNotFoundError:
        return "no log"
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(kept[-lines:])[:600] or "empty log"


def resident_bytes(process: psutil.Process) -> int:
    """The process's resident memory in bytes, 0 when it ended meanwhile."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
