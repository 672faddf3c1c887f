"""A SIEM sink in a process of its own that kills itself: `python -m tests.faults.siem_sink CONFIG FLAGS`.

It dies when the collector has acknowledged and the offsets are not committed. FLAGS: JSON of settings over the file.
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
from sinks.delivery import Destination, Item, Outcome
from sinks.siem.assembly import destination_of, open_sink


class Deadly:
    """Dies with the first acknowledgement."""

    def __init__(self, inner: Destination) -> None:
        self._inner = inner

    def deliver(self, items: Sequence[Item]) -> list[Outcome]:
        """Deliver, and do not live to tell."""
        self._inner.deliver(items)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("alive")

    def close(self) -> None:
        """Nothing to do."""
        self._inner.close()


def main(config: str, flags: str) -> None:
    """Run until the fault."""
    settings = Settings.load(Path(config), **json.loads(flags))
    open_sink(settings, destination=Deadly(destination_of(settings))).run(threading.Event())


if __name__ == "__main__":
    main(*sys.argv[1:])
