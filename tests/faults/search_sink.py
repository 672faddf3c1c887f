"""A search sink in a process of its own that kills itself: `python -m tests.faults.search_sink CONFIG FLAGS FAULT`.

FLAGS: JSON of settings over the file. FAULT: `inside-bulk`: the bulk request is sent, its answer not read; `after-bulk`: it
was answered, its offsets are not committed.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def _die_before_the_answer() -> None:
    """From now on, whoever waits for the answer to a bulk request dies."""
    put_request, get_response = http.client.HTTPConnection.putrequest, http.client.HTTPConnection.getresponse
    asked: dict[int, str] = {}

    def putrequest(self: http.client.HTTPConnection, method: str, url: str, *args: Any, **named: Any) -> None:
        asked[id(self)] = url
        put_request(self, method, url, *args, **named)

    def getresponse(self: http.client.HTTPConnection) -> http.client.HTTPResponse:
        if "_bulk" in asked.get(id(self), ""):
            os.kill(os.getpid(), signal.SIGKILL)
        return get_response(self)

    http.client.HTTPConnection.putrequest = putrequest  # type: ignore[method-assign]
    http.client.HTTPConnection.getresponse = getresponse  # type: ignore[method-assign]


def main(config: str, flags: str, fault: str) -> None:
    """Run until SIGTERM or the fault."""
    settings = Settings.load(Path(config), **json.loads(flags))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    destination = destination_of(settings)
    if fault == "after-bulk":
        open_sink(settings, destination=Deadly(destination)).run(stop)
    elif fault == "inside-bulk":
        _die_before_the_answer()
        open_sink(settings, destination=destination).run(stop)
    else:
        raise SystemExit(f"no such fault: {fault}")


if __name__ == "__main__":
    main(*sys.argv[1:])
