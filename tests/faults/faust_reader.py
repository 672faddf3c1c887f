"""A Faust app that prints the size of each record it is handed.

    python -m tests.faults.faust_reader stock|mended CONFIG COUNT

Ends once it saw COUNT records in a row without another one for two seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import faust

from processors.detect.app import new_app, raw_topic
from processors.detect.driver import CommittedApp
from schemas.settings import Settings

QUIET_S = 2.0


def main(driver: str, config: str, count: int) -> None:
    """Read `audit.siem` from its beginning, in a group of its own process's settings; commits nothing."""
    settings = Settings.load(Path(config))
    with tempfile.TemporaryDirectory() as folder:
        app = new_app(settings, Path(folder), faust.App if driver == "stock" else CommittedApp)
        seen: list[int] = []

        @app.agent(raw_topic(app, settings, "audit.siem"), name="reader")
        async def reader(stream: Any) -> None:
            async for event in stream.noack().events():
                seen.append(len(event.value))  # noqa: PERF401 - the stream has no end

        @app.task  # type: ignore[untyped-decorator]
        async def end() -> None:
            before = -1
            while len(seen) < count or len(seen) != before:
                before = len(seen)
                await asyncio.sleep(QUIET_S)
            print(*seen, flush=True)
            os._exit(0)

        worker = faust.Worker(app, loglevel="WARN", redirect_stdouts=False, stdout=sys.stderr, workdir=Path.cwd())
        worker.execute_from_commandline()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
