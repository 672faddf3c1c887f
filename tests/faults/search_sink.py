"""A search sink in a process of its own that kills itself: `python -m tests.faults.search_sink CONFIG FLAGS FAULT`.

FLAGS: JSON of settings over the file. FAULT: `after-bulk`: the bulk request was answered, its offsets are not committed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from schemas.settings import Settings
from sinks.delivery import Item, Outcome
from sinks.search.assembly import destination_of, open_sink
from sinks.search.destination import SearchDestination


class Deadly:
    """Dies with the first answer."""

    def __init__(self, inner: SearchDestination) -> None:
        self._inner = inner

    def deliver(self, items: Sequence[Item]) -> list[Outcome]:
        """Deliver, and do not live to tell."""
        self._inner.deliver(items)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive")

    def close(self) -> None:
        """Nothing to do."""
        self._inner.close()


def main(config: str, flags: str, fault: str) -> None:
    """Run until SIGTERM or the fault."""
    settings = Settings.load(Path(config), **json.loads(flags))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if fault != "after-bulk":
        raise SystemExit(f"no such fault: {fault}")
    open_sink(settings, destination=Deadly(destination_of(settings))).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
