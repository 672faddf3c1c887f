"""The main path without its servers: microseconds of CPU a record for `Pipeline.seal_batch`, on one thread.

    [SEALTRAIL_NATIVE=false] python -m bench.sealing [BATCHES] [RECORDS]

To compare two states of the code, run both alternately, for instance with `farm-bench` or a shell loop over two work trees.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from infra import keys
from infra.places import Places
from processors.assembly import pipeline_of
from processors.pipeline import ChainState
from processors.records import Batch, RawRecord
from tests.test_pipeline import NOW_S, NOW_US, Speaker, World, fresh

MESSAGE = {"stage": "DELIVERED", "type": "direct", "recipient_group": None, "recipient_count": 3}


def main(batches: int = 9, records: int = 2000) -> None:
    """Print the median, the least and the most of `batches` batches of fresh numbers of one run."""
    with tempfile.TemporaryDirectory() as folder:
        places = Places(Path(folder))
        keys.ensure(places, datetime.fromtimestamp(NOW_S, UTC))
        world = World(places, None, b"")  # type: ignore[arg-type]  # completed below
        pipeline = pipeline_of(world.settings("sealer"), clock=lambda: float(NOW_S))
        speaker = world.speaker()
        state: ChainState = fresh()
        figures = []
        for batch in range(batches + 1):
            first = batch * records
            made = [record_of(speaker, number)._replace(offset=number) for number in range(first, first + records)]
            started = time.thread_time()
            state, outputs = pipeline.seal_batch(state, Batch(tuple(made)), NOW_US)
            figures.append((time.thread_time() - started) / records * 1e6)
            assert len(outputs.archive) == records
    figures = figures[1:]  # the first one warms up
    print(f"{statistics.median(figures):.1f} us of CPU a record (least {min(figures):.1f}, most {max(figures):.1f})")


def record_of(speaker: Speaker, number: int) -> RawRecord:
    """Every other one a message of its own."""
    if number % 2:
        return speaker.record(number, event_type="MESSAGE", message=MESSAGE, correlation_id=f"m-{number}")
    return speaker.record(number)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
