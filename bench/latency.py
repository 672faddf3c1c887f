"""From a raw record's append to its sealed event being visible, under a steady load: p50, p99, the longest.

    python -m bench.latency [--rate R | --share S] [--seconds N] [--json FILE]

1. The sealer's maximum: a flood that is on the raw topic before it begins. The load is half of that unless told otherwise.
2. Under load, from a process of its own and by a schedule that waits for nobody (`bench.load`). A consumer of the archive
   topic, read_committed, in a tight loop, notes when it gets each record.
3. When all is sealed, the outputs are read and checked, and each event of the measured time is looked up by its raw offset.

A time is from the raw record's append, as the broker states it (LogAppendTime, in whole milliseconds), to the moment the
consumer has it. It has two parts: until the sealer's time in the seal, and from there on, which is the transaction. Broker,
sealer and consumer have one clock here, that of the machine. What the emitter's gathering adds before the append is not in it.
Bytes a record of each topic's log are stated too: small transactions compress less well than those of a flood.

Takes about two and a half minutes. Exit status 1: p99 is above --bound-ms.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench.ground import Deployment, Ground, Row, add_load, figures_as_json, keep, lag_of, parser_of
from kafkaio.client import client_config
from kafkaio.reader import PartitionReader

NAME = "bench.latency"
DRAIN = 2_000  # records taken at once when there are some


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one record: from append to seal, from seal to visible."""

    waited: float
    committed: float

    @property
    def whole(self) -> float:
        """From append to visible."""
        return self.waited + self.committed


class Visible:
    """When a read-committed consumer got each record of the archive topic.

    seen: by partition, offsets, and microseconds since 1970.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._topic = deployment.topics.archive
        self._partitions = deployment.partitions
        self._consumer = Consumer(
            {
                **client_config(deployment.settings("admin")),
                "group.id": f"{deployment.name}-visible",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,  # of an idle topic; what is committed ends the wait
            }
        )
        self.seen = [(array("q"), array("q")) for _ in range(deployment.partitions)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="visible")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the context lasts."""
        self._consumer.assign([TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in range(self._partitions)])
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()
            self._consumer.close()

    def _work(self) -> None:
        consumer, seen = self._consumer, self.seen
        while not self._stop.is_set():
            first = consumer.poll(0.1)
            if first is None:
                continue
            rest = consumer.consume(DRAIN, 0)
            now = time.time_ns() // 1000
            for message in (first, *rest):
                partition, offset = message.partition(), message.offset()
                if message.error() is None and partition is not None and offset is not None:
                    offsets, times = seen[partition]
                    offsets.append(offset)
                    times.append(now)


def times_of(
    rows: Sequence[Row], appended_ms: Sequence[int], seen: tuple[Sequence[int], Sequence[int]], from_ms: float
) -> list[Times]:
    """Of the events whose raw records were appended from `from_ms` on (since 1970).

    Args:
        rows: of one partition, as checked.
        appended_ms: by raw offset.
        seen: archive offsets, and when each was visible, in microseconds.
    """
    when = dict(zip(*seen, strict=True))
    found = []
    for row in rows:
        appended = appended_ms[row.source_offset]
        if appended >= from_ms:
            found.append(Times(row.sealed_at_us / 1e3 - appended, (when[row.offset] - row.sealed_at_us) / 1e3))
    return found


def summary(values: Sequence[float]) -> dict[str, float]:
    """p50, p99, p99.9 and the longest."""
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    return {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in at.items()} | {
        "max": ordered[-1]
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; print the figures; 1 when p99 is above the bound."""
    parser = parser_of(NAME, __doc__)
    add_load(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="that are measured")
    parser.add_argument("--before", type=float, default=10.0, help="seconds of load that do not count")
    parser.add_argument("--bound-ms", type=float, default=300.0, help="of p99; above it the exit status is 1")
    asked = parser.parse_args(arguments)
    with Ground.begun() as ground:
        maximum, rate = ground.rate(asked)
        with ground.deployment(asked.partitions) as deployment:
            visible = Visible(deployment)
            with deployment.sealer(asked.processes), visible.watching():
                deployment.await_begun()
                ground.report.line(f"{rate:,.0f} events/s for {asked.before + asked.seconds:.0f} s")
                with deployment.load(rate, asked.before + asked.seconds) as load:
                    lag = lag_of(load)
                deployment.await_sealed()
                time.sleep(1.0)  # the last of it reaches the consumer
            rows = deployment.check()
            times = _times(deployment, rows, visible, asked.before)
            sizes, resets = deployment.bytes_a_record(lag.events), deployment.resets()
    whole = summary([one.whole for one in times])
    latency = {
        "visible_ms": whole,
        "until_sealed_ms": summary([one.waited for one in times]),
        "transaction_ms": summary([one.committed for one in times]),
    }
    late = whole["p99"] > asked.bound_ms
    for name, values in latency.items():
        print(f"{name:16}  " + "  ".join(f"{key} {value:7.1f}" for key, value in values.items()))
    print(f"{len(times):,} events at {rate:,.0f}/s; load late by p99 {lag.p99_ms:.1f} ms, at most {lag.max_ms:.1f} ms")
    print(f"chains went back to the fence: {dict(resets) or 'never'}")
    print("bytes a record on disk: " + ", ".join(f"{topic} {size:.0f}" for topic, size in sizes.items()))
    print(f"p99 is {'above' if late else 'within'} the bound of {asked.bound_ms:.0f} ms")
    found: dict[str, object] = {"rate": rate, "events": len(times), "lag": lag, "latency": latency, "bytes_a_record": sizes}
    keep(NAME, asked, {"maximum": maximum and figures_as_json(maximum), **found, "resets": resets})
    return int(late)


def _times(deployment: Deployment, rows: dict[int, list[Row]], visible: Visible, before_s: float) -> list[Times]:
    """All events of the measured time, over the partitions."""
    topic = deployment.topics.raw
    with PartitionReader(deployment.settings("sealer")) as reader:
        raw = [[record.timestamp_ms for record in reader.read_all(topic, number)] for number in range(deployment.partitions)]
    begin = min(times[0] for times in raw) + before_s * 1e3
    return [one for partition, found in rows.items() for one in times_of(found, raw[partition], visible.seen[partition], begin)]


if __name__ == "__main__":
    sys.exit(main())
