"""A sealer in a process of its own that dies or stops at a chosen moment.

`python -m tests.faults.sealer_process CONFIG FLAGS FAULT`

FLAGS: JSON of settings over the file. FAULT: JSON of {"step", "number", "when": "before" | "after", "act": "kill" | "stop",
"partition"}, or null. Steps are the calls on the chain's transactional producer, counted from 0 over transactions that
carry raw records: begin, produce, flush, send_offsets, commit. Production code knows nothing of this: the chain's producer
is wrapped where the sealer takes it from its fence factory.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from kafkaio.transaction import ChainProducer, Placement, Progress
from processors.assembly import pipeline_of
from processors.sealer import Sealer
from schemas.settings import Settings

MIN_RECORDS = 3  # outputs of a transaction that counts: not a heartbeat or GENESIS alone
_STEPS = {
    "begin_transaction": "begin",
    "produce": "produce",
    "flush": "flush",
    "send_offsets_to_transaction": "send_offsets",
    "commit_transaction": "commit",
}


@dataclass
class Fault:
    """Where this process ends, or stops until SIGCONT."""

    step: str
    number: int
    when: str = "after"
    act: str = "kill"
    partition: int | None = None
    seen: int = 0

    def reached(self, step: str, when: str) -> None:
        """Count a step of a transaction that counts, and act when it is the one."""
        if (step, when) != (self.step, self.when):
            return
        if self.seen == self.number:
            print(f"fault: {self.act} {when} {step}", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL if self.act == "kill" else signal.SIGSTOP)
        self.seen += 1


class _FaultyClient:
    """librdkafka's producer, with the fault between two calls."""

    def __init__(self, inner: Any, fault: Fault) -> None:
        self._inner = inner
        self._fault = fault
        self.counts = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        step = _STEPS.get(name)
        if step is None or not self.counts:
            return found

        def call(*args: Any, **named: Any) -> Any:
            self._fault.reached(step, "before")
            result = found(*args, **named)
            self._fault.reached(step, "after")
            return result

        return call


class FaultyChainProducer(ChainProducer):
    """A chain's producer that reaches the fault on its way through a commit."""

    def __init__(self, settings: Settings, transactional_id: str, fault: Fault) -> None:
        super().__init__(settings, transactional_id)
        self._client = _FaultyClient(self._producer, fault)
        self._producer: Any = self._client

    def begin(self, placements: Sequence[Placement], progress: Progress, sealed_at_ms: int) -> None:  # type: ignore[override]
        """As the real one."""
        self._client.counts = sum(len(p.values) for p in placements) >= MIN_RECORDS
        super().begin(placements, progress, sealed_at_ms)


def main(config: str, flags: str, fault: str) -> None:
    """Run until SIGTERM."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = Settings.load(Path(config), **json.loads(flags))
    planned = json.loads(fault)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def fence(settings: Settings, identifier: str) -> ChainProducer:
        if planned is None:
            return ChainProducer(settings, identifier)
        if planned.partition is not None and not identifier.endswith(f"/{planned.partition}"):
            return ChainProducer(settings, identifier)
        return FaultyChainProducer(settings, identifier, planned)

    planned = None if planned is None else Fault(**planned)
    Sealer(settings, pipeline_of(settings), lambda: time.time_ns() // 1000, fence).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
