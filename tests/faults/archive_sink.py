"""An archive sink in a process of its own that a fault may kill: `python -m tests.faults.archive_sink CONFIG FLAGS FAULTS`.

FLAGS: JSON of settings over the file. FAULTS: JSON list of [prefix, number, fault].
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path

from schemas.settings import Settings
from sinks.archive.assembly import open_sink
from tests.faults.store import Fault, FaultyStore


def main(config: str, flags: str, faults: str) -> None:
    """Run until SIGTERM."""
    settings = Settings.load(Path(config), **json.loads(flags))
    planned = {(prefix, number): Fault(fault) for prefix, number, fault in json.loads(faults)}
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    open_sink(settings, wrap_store=lambda inner: FaultyStore(inner, planned)).run(stop)


if __name__ == "__main__":
    main(*sys.argv[1:])
