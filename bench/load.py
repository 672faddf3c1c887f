"""Load at a rate that does not depend on how the trail keeps up: real raw records, by a schedule.

    python -m bench.load CONFIG FLAGS PARTITIONS RATE SECONDS

A process of its own, so that it competes with what is measured for the machine alone. CONFIG and FLAGS (JSON) are the
settings of a source. After SECONDS, or at SIGTERM, it waits for the broker and prints JSON: how many events there were, and
how late they were handed over, by the schedule.

Records are what `AuditProducer` sends: numbered, with session and MAC, acks=all, one run a partition. Their contents were
checked, redacted and encoded before, once; each has an id of its own. So an event costs the machine some 15 µs instead of the
emitter's 40 to 90.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from bench.peers.supply import AWAIT_S, SOURCE, TENANTS, drafts, instance_on
from producers.audit import Admitted, AuditProducer
from producers.uuid7 import Uuid7
from schemas.settings import Settings
from sealtrail.errors import TransientError

TICK_S = 0.005  # what is due is handed over so often
DRAFTS = 2_000  # different events, over and over
FLOOD = 2_000  # events handed over at once when there is no schedule
ID_SIZE = 16


@dataclass(frozen=True, slots=True)
class Lag:
    """How many events were handed over in how many seconds, and how late the oldest one of a tick was, in milliseconds."""

    events: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Load:
    """Emitters of one source, one for each raw partition. Made by `Load.begun`."""

    def __init__(self, emitters: list[AuditProducer]) -> None:
        self._emitters = emitters
        self._uuid7 = Uuid7(time.time_ns, os.urandom)
        self._admitted: Iterator[Admitted] = cycle([emitters[0].admit(draft) for draft in drafts(0.0, DRAFTS)])
        self._turn = 0

    @classmethod
    @contextmanager
    def begun(cls, settings: Settings, partitions: int) -> Iterator[Load]:
        """Connected emitters; on leaving, the broker has everything."""
        with ExitStack() as stack:
            names = [instance_on(partition, partitions) for partition in range(partitions)]
            emitters = [stack.enter_context(AuditProducer(settings, SOURCE, name, TENANTS)) for name in names]
            load = cls(emitters)
            yield load
            load.settle()

    def flood(self, events: int) -> None:
        """Hand over so many, as fast as they are taken."""
        for first in range(0, events, FLOOD):
            self._hand_over(min(FLOOD, events - first))

    def at_rate(self, rate: float, seconds: float, stop: threading.Event) -> Lag:
        """Hand over `rate` events a second: each when the schedule says so, however late those before it were."""
        began = time.monotonic()
        handed, lags = 0, list[float]()
        while not stop.is_set():
            now = time.monotonic() - began
            if now >= seconds:
                break
            due = int(now * rate) - handed
            if due > 0:
                lags.append(now - handed / rate)
                self._hand_over(due)
                handed += due
            stop.wait(max(0.0, TICK_S - (time.monotonic() - began - now)))
        took = time.monotonic() - began
        lags.sort()
        return Lag(handed, took, *(_of(lags, share) * 1e3 for share in (0.5, 0.99, 1.0)))

    def settle(self) -> None:
        """Wait until the broker has everything. Raises TransientError."""
        for emitter in self._emitters:
            if not emitter.await_broker(AWAIT_S):
                raise TransientError("the broker did not take the load in time")

    def _hand_over(self, events: int) -> None:
        """Evenly over the emitters, whoever is next taking one more."""
        count = len(self._emitters)
        for number in range(min(events, count)):
            share = len(range(number, events, count))
            self._emitters[(self._turn + number) % count].hand_over([self._fresh(a) for a in islice(self._admitted, share)])
        self._turn = (self._turn + events) % count

    def _fresh(self, admitted: Admitted) -> Admitted:
        """The same event with an id of its own."""
        event_id = self._uuid7()
        before = event_id + admitted.prepared.before[ID_SIZE:]
        return Admitted(event_id, admitted.prepared._replace(before=before))


def _of(ordered: list[float], share: float) -> float:
    """The value below which this share of them lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def main(config: str, flags: str, partitions: str, rate: str, seconds: str) -> None:
    """Run to the end, or until SIGTERM; print the lag."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = Settings.load(Path(config), **json.loads(flags))
    with Load.begun(settings, int(partitions)) as load:
        lag = load.at_rate(float(rate), float(seconds), stop)
    print(json.dumps(asdict(lag)))


if __name__ == "__main__":
    main(*sys.argv[1:])
