"""The first part of the demo: receivers and processes up, events in, counted at both ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from auditor.archive import ArchiveReader
from auditor.commands.emit import emit_github
from infra.artifacts import github_payloads
from infra.demo.session import Session
from infra.demo.trail import Trail
from infra.pki import Authority, utc_now
from infra.receivers.hec import TOKEN, HecReceiver
from infra.receivers.syslog import SyslogReceiver
from kafkaio.transaction import Ends
from producers.github.files import webhooks
from schemas.catalogue import topic_name
from sealtrail.errors import TransientError
from sealtrail.layout import CHAINS
from sealtrail.seal import decode_seal
from sealtrail.segment import decode_segment
from sinks.archive.assembly import publish_documents

REAL_TENANT = "octo"
TENANTS = ("acme", "globex", "initech")
SEED = 20_261_124
STORED_S = 240.0  # until the last event must be in a store
LOOK_S = 1.0
PROCESSES = ("sealer", "sink-archive", "sink-search", "sink-siem", "detect")
RECEIVER_RULES = ("--refuse", "0.002", "--busy", "0.01", "--lost", "0.002")


@dataclass(frozen=True, slots=True)
class Receivers:
    """Ours, each standing for somebody else's server. chat: the messenger's address; it is on call as well."""

    chat: str
    hec: HecReceiver
    syslog: SyslogReceiver


@dataclass(frozen=True, slots=True)
class PathFacts:
    """What went in, as Kafka acknowledged it to the connectors."""

    webhooks: int
    messages: int
    delivered: int
    retried: int
    acknowledged: int


def start_all(session: Session) -> Receivers:
    """Receivers and the five processes, and what a stranger needs in the archive."""
    published = publish_documents(session.settings("publisher"))
    report = session.report
    report.line(f"documents for a stranger in the archive: {len(published.written)} new, {published.present} there already")
    report.line("receivers of ours stand for a messenger, a collector (Splunk HEC) and a syslog server (TLS)")
    folder = session.folder / "receivers"
    folder.mkdir()
    tls = Authority(folder / "ca.pem", folder / "ca.key", "the demo's receivers", utc_now()).issue(folder, "siem", server=True)
    hec, syslog = session.hold(HecReceiver(tls)), session.hold(SyslogReceiver(tls))
    session.set(
        siem_hec_url=hec.url,
        siem_hec_token=TOKEN,
        siem_hec_ca=hec.ca,
        siem_syslog_address=syslog.address,
        siem_syslog_ca=syslog.ca,
    )
    chat = session.receiver("chat", *RECEIVER_RULES)
    for role in PROCESSES:
        session.run(role)
    return Receivers(chat, hec, syslog)


def run_path(session: Session, receivers: Receivers, trail: Trail, messages: int) -> PathFacts:
    """Hand all events over, and wait until they are sealed and archived."""
    report = session.report
    real = list(webhooks(github_payloads().read_bytes(), None))
    report.line(
        f"{len(real)} real GitHub webhooks, then {messages:,} chat messages of {len(TENANTS)} tenants, "
        "by as many connectors, each really sent"
    )
    started = time.monotonic()
    first = emit_github(session.settings("github"), real, REAL_TENANT, "demo")
    with ThreadPoolExecutor(len(TENANTS)) as connectors:
        done = list(connectors.map(lambda tenant: _chat(session, receivers, tenant, messages // len(TENANTS) + 1), TENANTS))
    chat = {name: sum(one[name] for one in done) for name in ("messages", "delivered", "retried", "acknowledged")}
    acknowledged = first.acknowledged + chat["acknowledged"]
    emit_s = time.monotonic() - started
    report.line(f"{acknowledged:,} records acknowledged by Kafka after {emit_s:.1f} s")
    records = raw_end(session)
    await_sealed(session, trail, records)
    await_archived(session, records)
    seconds = time.monotonic() - started
    report.line(
        f"all of them sealed and archived after {seconds:.1f} s: {acknowledged / emit_s:,.0f} records/s emitted, "
        f"{records / seconds:,.0f} records/s from first event to last segment"
    )
    return PathFacts(len(real), chat["messages"], chat["delivered"], chat["retried"], acknowledged)


def _chat(session: Session, receivers: Receivers, tenant: str, messages: int) -> dict[str, int]:
    """A connector of one tenant, in a process of its own, to its end; what it counted."""
    counted: dict[str, int] = session.command(
        "emit", "chat", "--receiver", receivers.chat, "--on-call", receivers.chat, "--messages", str(messages),
        "--tenants", tenant, "--seed", str(SEED), "--workers", "4", "--instance", f"demo-{tenant}", "--prefix", tenant,
        "--json", role="chat",
    ).output  # fmt: skip
    return counted


def raw_end(session: Session) -> int:
    """How many records the raw topic holds, from its own ends: an idempotent producer leaves no holes."""
    settings = session.settings("admin")
    ends, topic = Ends(settings), topic_name(settings.topic_prefix, "audit.raw")
    return sum(ends.high([(topic, p) for p in range(ends.partition_count(topic))]).values())


def await_sealed(session: Session, trail: Trail, expected: int) -> None:
    """Return when seals account for `expected` raw offsets."""

    def sealed() -> int:
        trail.refresh()
        return trail.accounted

    wait_for(session, "sealed", sealed, expected)


def await_archived(session: Session, expected: int) -> None:
    """Return when the segments of all chains account for `expected` raw offsets."""
    reader = ArchiveReader(session.settings("reader"))

    def archived() -> int:
        last = {}
        for stored in reader.list(CHAINS + session.chain_prefix):
            if not stored.is_marker:
                last[stored.key.rpartition("/")[0]] = stored
        seals = [decode_segment(reader.read(s.key, s.version)).seals[-1] for s in last.values()]
        return sum(decode_seal(seal).next_offset for seal in seals)

    wait_for(session, "archived", archived, expected)


def wait_for(session: Session, what: str, count: Callable[[], int], expected: int) -> int:
    """Return the count once it is `expected`, or more. Raises TransientError when a process ends, or the time is up."""
    deadline = time.monotonic() + STORED_S
    with session.report.counting(what, expected) as show:
        while True:
            done = count()
            show(done)
            if done >= expected:
                return done
            session.check_alive()
            if time.monotonic() > deadline:
                raise TransientError(f"only {done:,} of {expected:,} are {what}; logs in {session.stack.places.logs}")
            time.sleep(LOOK_S)
