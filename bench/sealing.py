"""The main path without its servers: microseconds of CPU a record for `Pipeline.seal_batch`, on one thread.

    [SEALTRAIL_NATIVE=false] python -m bench.sealing [BATCHES] [RECORDS]

The events are those of `make bench`: GitHub's webhooks, 5 % of them signed by the policy, without logins. To compare two
states of the code, run both alternately, for instance with `farm-bench` or a shell loop over two work trees.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from bench.peers.supply import SOURCE, Draft, drafts
from infra import keys
from infra.places import Places
from processors.assembly import pipeline_of
from processors.pipeline import ChainState
from processors.records import Batch, RawRecord
from producers.drafts import completed
from producers.github.mapping import GITHUB
from schemas.redact import Redactor
from schemas.registry import AUDIT_EVENT, packaged_registry
from tests.test_pipeline import NOW_S, NOW_US, Speaker, World, fresh, uuid7


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
        events = stated(drafts(0.0))
        for batch in range(batches + 1):
            first = batch * records
            made = [record_of(speaker, number, events)._replace(offset=number) for number in range(first, first + records)]
            started = time.thread_time()
            state, outputs = pipeline.seal_batch(state, Batch(tuple(made)), NOW_US)
            figures.append((time.thread_time() - started) / records * 1e6)
            assert len(outputs.archive) == records
    figures = figures[1:]  # the first one warms up
    print(f"{statistics.median(figures):.1f} us of CPU a record (least {min(figures):.1f}, most {max(figures):.1f})")


def stated(made: Iterable[Draft]) -> list[dict[str, Any]]:
    """The drafts as an emitter states them: complete and redacted, in a tenant's region."""
    redact = Redactor(AUDIT_EVENT.text, packaged_registry(), lambda tenant: bytes(32))
    events: list[dict[str, Any]] = []
    for number, draft in enumerate(made):
        given = cast("dict[str, Any]", draft["extension"])
        extension = {"schema": given["schema"], "payload": GITHUB.encode_body(given["value"])}
        event = completed(
            {**draft, "extension": extension},
            event_id=uuid7(number),
            source=SOURCE,
            instance="one",
            region="eu-central",
            now_us=NOW_US,
        )
        events.append(redact(event))
    return events


def record_of(speaker: Speaker, number: int, events: Sequence[dict[str, Any]]) -> RawRecord:
    """The run's opening, or the event whose turn it is."""
    if number == 0:
        return speaker.record(0)
    emitter = speaker.event(number)["emitter"]
    return speaker.record(number, AUDIT_EVENT.encode({**events[number % len(events)], "emitter": emitter}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
