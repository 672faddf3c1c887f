"""Sealers as people start them, whose way to the brokers leads through the relays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from infra.pki import Authority
from schemas.settings import PREFIX
from tests.conftest import wait_until

STOP_S = 60.0
BATCH_MS = 250  # fewer transactions than in production: three brokers share a small machine with everything else
QUIET_S = 3600.0  # no heartbeats: what is sealed while nobody emits would be a moving end of the trail


class SealerProcess:
    """One `sealtrail run sealer`, with its log."""

    def __init__(self, config: Path, flags: Mapping[str, str], log: Path) -> None:
        self.log = log
        settings = {**flags, "heartbeat_s": str(QUIET_S), "batch_ms": str(BATCH_MS)}
        environment = {**os.environ, **{PREFIX + name.upper(): value for name, value in settings.items()}}
        with log.open("ab") as output:
            command = [sys.executable, "-m", "auditor", "run", "sealer", "--config", str(config)]
            self._child = subprocess.Popen(command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        self.pid = self._child.pid

    @property
    def lives(self) -> bool:
        """Stopped or not."""
        return self._child.poll() is None

    def says(self, *words: str) -> int:
        """How many lines of its log hold all the words."""
        return sum(all(word in line for word in words) for line in self.log.read_text("utf-8", "replace").splitlines())

    def kill(self) -> None:
        """kill -9, and wait for its end; harmless when it has come."""
        self._child.kill()
        self._child.wait(STOP_S)

    def wake(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def leave(self) -> int:
        """SIGTERM; its exit status."""
        self._child.terminate()
        return self._child.wait(STOP_S)


class Sealers:
    """Those that run, each with a certificate of its own: all say `sealer`, and their numbers differ.

    Attributes:
        unasked: exit statuses of those that ended by themselves.
    """

    def __init__(self, config: Path, flags: Mapping[str, str], authority: Authority, folder: Path, logs: Path) -> None:
        """`folder`: of the certificates."""
        self._config, self._flags, self._authority, self._folder, self._logs = config, flags, authority, folder, logs
        self._count = 0
        self._by_serial: dict[int, int] = {}
        self.running: list[SealerProcess] = []
        self.unasked: list[int | None] = []

    def pids(self) -> list[int]:
        """Of all."""
        return [sealer.pid for sealer in list(self.running)]

    def start(self) -> SealerProcess:
        """One more."""
        self._count += 1
        name = f"sealer-{self._count}"
        tls = self._authority.issue(self._folder / name, "sealer")
        flags = {**self._flags, "kafka_certificate": str(tls.certificate), "kafka_key": str(tls.key)}
        made = SealerProcess(self._config, flags, self._logs / f"{name}.log")
        self._by_serial[x509.load_pem_x509_certificate(tls.certificate.read_bytes()).serial_number] = made.pid
        self.running.append(made)
        return made

    def sender(self, serial: int) -> int | None:
        """The process whose certificate has this number."""
        return self._by_serial.get(serial)

    def by_pid(self, pid: int | None) -> SealerProcess | None:
        """Which it is."""
        return next((sealer for sealer in self.running if sealer.pid == pid), None)

    def buried(self, sealer: SealerProcess) -> None:
        """One that was killed, or told to leave, is none of these any more."""
        wait_until(lambda: not sealer.lives, deadline_s=STOP_S, what="the end of a sealer")
        self.running.remove(sealer)

    def leave(self, sealer: SealerProcess) -> None:
        """One of them ends in order."""
        status = sealer.leave()
        self.buried(sealer)
        if status:
            self.unasked.append(status)

    def restore(self, count: int) -> None:
        """So many, as whoever watches over processes would have them: what has ended is started again."""
        for sealer in [s for s in self.running if not s.lives]:
            self.unasked.append(sealer.leave())
            self.running.remove(sealer)
        while len(self.running) > count:
            self.leave(self.running[0])
        while len(self.running) < count:
            self.start()

    def end(self) -> None:
        """Of all, whatever state they are in."""
        for sealer in self.running:
            sealer.kill()
        self.running.clear()
