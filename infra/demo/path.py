"""The first half of the demo: events in, segments out, counted at both ends."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from auditor.archive import ArchiveReader
from auditor.commands.emit import emit_github
from infra.artifacts import github_payloads
from infra.demo.session import Session
from kafkaio.transaction import Ends
from producers.audit import AuditProducer
from producers.generate import generated_payloads, shapes_of
from producers.github import GithubConnector
from producers.github.files import webhooks
from schemas.catalogue import topic_name
from sealtrail.errors import TransientError
from sealtrail.layout import CHAINS
from sealtrail.seal import decode_seal
from sealtrail.segment import decode_segment
from sinks.archive.assembly import publish_documents

REAL_TENANT = "octo"
TENANTS = ("acme", "globex", "initech")
SEED = 20_261_123
ARCHIVE_S = 180.0  # until the last event must be in a segment


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What went in, as Kafka acknowledged it and as its log shows; and how fast it came through."""

    real: int
    generated: int
    acknowledged: int
    raw_end: int
    seconds: float
    an_event: bytes


def run_path(session: Session, generated: int) -> PathFacts:
    """Run sealer and sink, hand all events over, and wait until the archive has them."""
    report = session.report
    published = publish_documents(session.settings("publisher"))
    report.line(f"documents for a stranger in the archive: {len(published.written)} new, {published.present} there already")
    session.start("sealer")
    session.start("sink-archive")
    index = github_payloads().read_bytes()
    real = list(webhooks(index, None))
    report.line(f"{len(real)} real GitHub webhooks, then {generated:,} generated ones of {len(TENANTS)} tenants")
    started = time.monotonic()
    first = emit_github(session.settings("github"), real, REAL_TENANT, "demo")
    acknowledged, an_event = _generate(session, json.loads(index), generated)
    report.line(f"{first.acknowledged + acknowledged:,} records acknowledged by Kafka after {time.monotonic() - started:.1f} s")
    raw_end = _raw_end(session)
    _await_archive(session, raw_end)
    seconds = time.monotonic() - started
    report.line(f"all of them archived after {seconds:.1f} s")
    return PathFacts(len(real), generated, first.acknowledged + acknowledged, raw_end, seconds, an_event)


def _generate(session: Session, index: object, count: int) -> tuple[int, bytes]:
    """Emit generated payloads; returns what Kafka acknowledged, and the id of one admin change among them."""
    settings = session.settings("loadgen")
    producers = {tenant: AuditProducer(settings, "loadgen", f"demo-{tenant}") for tenant in TENANTS}
    connectors = {tenant: GithubConnector(producer) for tenant, producer in producers.items()}
    an_event = b""
    payloads = generated_payloads(shapes_of(index), SEED, count, TENANTS)
    with _progress() as bar:
        task = bar.add_task("emitted", total=count)
        for number, (tenant, hook, payload) in enumerate(payloads):
            event_id = connectors[tenant].handle(hook, payload, tenant)
            if not an_event and hook == "member":
                an_event = event_id
            if number % 500 == 0:
                bar.update(task, completed=number)
                session.check_alive()
        bar.update(task, completed=count)
    for producer in producers.values():
        producer.close(60.0)
    return sum(producer.counts.acknowledged for producer in producers.values()), an_event


def _raw_end(session: Session) -> int:
    """How many records the raw topic holds, from its own ends: an idempotent producer leaves no holes."""
    settings = session.settings("admin")
    ends, topic = Ends(settings), topic_name(settings.topic_prefix, "audit.raw")
    return sum(ends.high([(topic, p) for p in range(ends.partition_count(topic))]).values())


def _await_archive(session: Session, expected: int) -> None:
    """Return when the segments of all chains account for `expected` raw offsets."""
    reader = ArchiveReader(session.settings("reader"))
    deadline = time.monotonic() + ARCHIVE_S
    with _progress() as bar:
        task = bar.add_task("archived", total=expected)
        while True:
            done = _archived(reader, session.chain_prefix)
            bar.update(task, completed=done)
            if done >= expected:
                return
            session.check_alive()
            if time.monotonic() > deadline:
                log = session.log("sink-archive")
                raise TransientError(f"only {done:,} of {expected:,} raw offsets are archived; see {log}")
            time.sleep(1.0)


def _archived(reader: ArchiveReader, prefix: str) -> int:
    """Raw offsets that the last segment of each chain says are accounted for."""
    last = {}
    for stored in reader.list(CHAINS + prefix):
        if not stored.is_marker:
            last[stored.key.rpartition("/")[0]] = stored
    total = 0
    for stored in last.values():
        seals = decode_segment(reader.read(stored.key, stored.version)).seals
        total += decode_seal(seals[-1]).next_offset
    return total


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty())
