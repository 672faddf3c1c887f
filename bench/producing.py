"""What `emit()` costs, and how fast an application can state events, on a real broker.

    python -m bench.producing [--events N] [--rounds N]

Three contestants send the same events, alternately, to topics of one partition on one broker:

    plain      fastavro encodes a finished event (dicts: its own record, then the event), confluent_kafka produces it:
               acks=all, idempotent, lz4, one report of delivery for each event, no headers
    emitter    `AuditProducer.emit` of the draft: completed, checked, redacted, encoded, numbered, authenticated, produced
               likewise, with the headers that the trail asks for
    spool      the same, with a spool on this disk: fsynced before it is produced

A round ends when the broker has acknowledged everything. Their ratio is what the trail's promises cost an application. CPU
is that of the whole process, the client library's threads included: on a machine with other work it is the steadier figure.
The time of a single `emit()` is taken at a pace of 1,000 a second, as an application would call it. The events are the
329 real webhook payloads' mappings, over and over.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

from confluent_kafka import KafkaError, Message, Producer

from infra.artifacts import github_payloads
from infra.places import Ports
from infra.report import Reporter
from infra.stack import Stack
from kafkaio.admin import provision
from kafkaio.client import client_config
from kafkaio.producer import LINGER_MS, QUEUE_RECORDS
from producers.audit import AuditProducer
from producers.generate import generated_payloads, shapes_of
from producers.github.mapping import GITHUB, draft_of
from producers.memory import MemoryBroker
from schemas import catalogue
from schemas.catalogue import RAW, topic_name
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings

PACE_S = 0.001
EMIT_ROUND = 3_000  # emit() calls whose time is taken, one by one
BUCKET = "bench"


def main() -> None:
    """Print a table of the rounds, their medians and ratio, and what a single emit() takes."""
    parser = argparse.ArgumentParser(prog="python -m bench.producing", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=30_000, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with _broker() as (folder, plain, ours):
        drafts = _drafts(asked.events)
        events = _finished(ours, drafts)
        size = statistics.mean(len(_encoded(event)) for event in events)
        print(f"{len(drafts)} events of {size:.0f} B on the mean, {asked.rounds} rounds, alternately")
        print("plain: fastavro + confluent_kafka, acks=all, idempotent, lz4, a delivery report each, no headers")
        spooled = ours.model_copy(update={"spool": folder / "spool"})
        contestants: dict[str, Callable[[], None]] = {
            "plain": partial(_plain, plain, events),
            "emitter": partial(_emitter, ours, drafts),
            "spool": partial(_emitter, spooled, drafts),
        }
        figures: dict[str, list[float]] = {name: [] for name in contestants}
        burnt: dict[str, list[float]] = {name: [] for name in contestants}
        _plain(plain, events[:2000])  # each once, unmeasured: imports, connections, the topics' first segments
        _emitter(ours, drafts[:2000])
        _emitter(spooled, drafts[:2000])
        gc.freeze()  # the drafts are the benchmark's; looking through them again and again is no contestant's work
        for number in range(asked.rounds):
            for name, run in contestants.items():
                cpu, began = time.process_time(), time.perf_counter()
                run()
                rate, each = asked.events / (time.perf_counter() - began), (time.process_time() - cpu) / asked.events * 1e6
                figures[name].append(rate)
                burnt[name].append(each)
                print(f"round {number + 1}  {name:8} {rate:9,.0f} events/s  {each:6.1f} us of CPU each")
        for name, settings in (("emitter", ours), ("spool", spooled)):
            took = sorted(_single(settings, drafts[:EMIT_ROUND]))
            print(
                f"emit() alone at 1,000/s, {name}: p50 {took[len(took) // 2]:.0f} us, p99 {took[len(took) * 99 // 100]:.0f} us"
            )
        for name in ("emitter", "spool"):
            ratios = [ours / plain for ours, plain in zip(figures[name], figures["plain"], strict=True)]
            cpu = statistics.median(burnt[name]) / statistics.median(burnt["plain"])
            print(
                f"{name} {statistics.median(figures[name]):,.0f} events/s, plain {statistics.median(figures['plain']):,.0f}: "
                f"{statistics.median(ratios):.2f} x plain (least {min(ratios):.2f}, most {max(ratios):.2f}); CPU {cpu:.2f} x"
            )


@contextmanager
def _broker() -> Iterator[tuple[Path, Settings, Settings]]:
    """A folder, in it a stack of its own on free ports, and two deployments with one raw partition each."""
    with tempfile.TemporaryDirectory() as made_folder:
        folder = Path(made_folder)
        stack = Stack(folder / "state", ports=Ports.free(), buckets=(BUCKET,), raw_partitions=1, report=Reporter(quiet=True))
        try:
            stack.up(search=False)
            made = []
            for name in ("plain", "ours"):
                given = {"topic_prefix": f"{name}.", "deployment": name}
                provision(stack.settings("admin", **given), catalogue.load(), raw_partitions=1)
                made.append(stack.settings("github", **given))
            yield folder, made[0], made[1]
        finally:
            stack.reset()


def _drafts(count: int) -> list[dict[str, object]]:
    shapes = shapes_of(json.loads(github_payloads(Reporter(quiet=True)).read_text()))
    drafts = [
        draft_of(hook, payload, tenant).draft for tenant, hook, payload in generated_payloads(shapes, 1, count, ("acme",))
    ]
    for draft in drafts:  # as a connector has it: the value of its own record
        extension = cast("dict[str, bytes]", draft["extension"])
        draft["extension"] = {"schema": GITHUB.sha256, "value": GITHUB.decode_body(extension["payload"])}
    return drafts


def _finished(settings: Settings, drafts: list[dict[str, object]]) -> list[dict[str, Any]]:
    """The same events as they leave the emitter, in a dict each; the extension's value is one too."""
    broker = MemoryBroker()
    with AuditProducer(settings, "github", "finished", producer_factory=broker.connect) as emitter:
        for draft in drafts:
            emitter.emit(draft)
    events = [AUDIT_EVENT.decode(record.value) for record in broker.records]
    events = [event for event in events if event["event_type"] != "EMITTER"]
    for event in events:
        event["extension"]["value"] = GITHUB.decode_body(event["extension"].pop("payload"))
    return events


def _encoded(event: dict[str, Any]) -> bytes:
    """By fastavro: its extension's value, then the event."""
    extension = event["extension"]
    extension["payload"] = GITHUB.encode_body(extension["value"])
    return AUDIT_EVENT.encode(event)


def _plain(settings: Settings, events: list[dict[str, Any]]) -> None:
    failed: list[KafkaError] = []

    def report(error: KafkaError | None, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer(
        {
            **client_config(settings),
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": LINGER_MS,
            "queue.buffering.max.messages": QUEUE_RECORDS,
            "on_delivery": report,
        }
    )
    topic = topic_name(settings.topic_prefix, RAW)
    for event in events:
        value = _encoded(event)
        while True:
            try:
                producer.produce(topic, value, b"github/plain")
            except BufferError:
                producer.poll(0.1)
            else:
                break
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed


def _emitter(settings: Settings, drafts: list[dict[str, object]]) -> None:
    with AuditProducer(settings, "github", "one") as emitter:
        for draft in drafts:
            emitter.emit(draft)
        assert emitter.await_broker(60)


def _single(settings: Settings, drafts: list[dict[str, object]]) -> list[float]:
    """Microseconds of each emit()."""
    took = []
    with AuditProducer(settings, "github", "one") as emitter:
        due = time.perf_counter()
        for draft in drafts:
            while (began := time.perf_counter()) < due:
                time.sleep(due - began)
            emitter.emit(draft)
            took.append((time.perf_counter() - began) * 1e6)
            due += PACE_S
    return took


if __name__ == "__main__":
    main()
