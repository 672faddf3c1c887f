"""`make leaktest`: planted values through producer, sealer and sinks, then a byte scan of every store for each of them.

    python -m tests.leaks [--events 10000] [--seed N] [--state DIR]

Exit status 0 only if no planted value is in any store, in clear or encoded; if what a client without redaction let out is on
the raw topic and nowhere else, sealed with marks or refused, and reported; if every tokenised value is sealed as a token that
the tenant's own key leads to; and if the net finds every shape of the corpus and hits fewer than one in a thousand of the
harmless texts. The last line counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from urllib.request import urlopen

from infra.artifacts import github_payloads
from infra.demo.checks import Check, Checks
from infra.demo.path import Receivers, await_sealed, raw_end, start_all
from infra.demo.session import Session
from infra.demo.stores import drain
from infra.demo.trail import Trail
from infra.places import FREE_PORTS, HOST
from infra.report import Reporter
from infra.stack import DEFAULT_STATE, Stack
from kafkaio.reader import PartitionReader, Record
from kafkaio.transaction import Ends
from keystore import Keystore
from processors.detect.finding import LEAK
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.secrets import find, redact
from schemas.settings import Settings
from schemas.tokenized import Tokenized, TokenizedValue
from sealtrail.errors import SealtrailError
from sealtrail.seal import SEAL_NOTE, Kind, decode_seal, decode_sealed_event
from sealtrail.token import SubjectKey, is_token, parse_wrapped_key, token_key_id
from tests.kills import reference
from tests.leaks import benign, rogue
from tests.leaks.forms import CONTEXTS, made
from tests.leaks.plant import SOURCE, Pool, pool
from tests.leaks.scan import Scanner
from tests.leaks.stores import RAW, RAW_DISK, found_by_search, scan_all

PLANTER = "planter"
PLANTING_S = 900.0
RECALL_ROUNDS, BENIGN = 40, 100_000
OUTPUTS = ("metrics", RAW, "topic audit.archive", "topic audit.hot", "topic audit.siem", "topic audit.quarantine",
           "topic audit.activity", "topic audit.sources", "topic audit.subject-keys", RAW_DISK, "disk of audit.archive",
           "archive, as stored", "archive, opened", "index", "HEC collector", "syslog", "logs")  # fmt: skip


class Metered(Session):
    """A session whose processes each have a metrics page. metrics: their ports."""

    def __init__(self, stack: Stack, report: Reporter, kind: str = "leaks") -> None:
        super().__init__(stack, report, kind)
        self.metrics: dict[str, int] = {}

    def run(self, role: str) -> None:
        """As in `Session`."""
        self.metrics[role] = self._free_port()
        self.set(metrics_port=self.metrics[role])
        super().run(role)
        self.set(metrics_port=0)

    def _free_port(self) -> int:
        """One that was free a moment ago, and that no outgoing connection takes meanwhile."""
        for number in Random().sample(FREE_PORTS, len(FREE_PORTS)):
            with contextlib.suppress(OSError), socket.create_server((HOST, number)):
                if number not in self.metrics.values():
                    return number
        raise AssertionError("no free port")


def run(session: Metered, events: int, seed: int) -> tuple[Checks, str]:
    """Plant, wait, scan, compare; what held, and the last line."""
    began = time.time()
    checks, given, leaked = Checks(), pool(seed), rogue.planted(seed)
    receivers = start_all(session)
    trail = Trail(session.settings("verifier"))
    counted = _plant(session, events, seed)
    rogue.let_out(session.settings(SOURCE), seed)
    await_sealed(session, trail, raw_end(session))
    reference.await_read(session, reference.ends_of(session))
    values = [*given.values, *(one.value for one in leaked)]
    scanner = Scanner(values)
    _scan(session, receivers, trail, scanner, began)
    sizes = {store: found.size for store, found in scanner.stores.items()}
    checks.add(
        Check("every store was read", all(sizes.get(s) for s in OUTPUTS), f"{len(sizes)} stores, {scanner.size:,} bytes")
    )
    hits = scanner.hits(given.values)
    plantings = sum(counted[kind] for kind in ("public", "internal", "personal", "content") if kind in counted)
    checks.add(
        Check(
            "no planted value is in any store",
            not hits and counted["accepted"] >= events and counted["refused"] > 0,
            f"{len(given.values):,} values planted {plantings:,} times in {counted['accepted']:,} events; hits: {hits or 0}",
        )
    )
    searched = found_by_search(session, values)
    checks.add(Check("no search finds one", not searched, f"{searched} of {len(values):,} values found"))
    _check_rogue(checks, session, scanner, leaked)
    _check_tokens(checks, session, given, counted["tokenised"])
    _check_corpus(checks)
    total = sum(map(len, hits.values()))
    return checks, (
        f"{len(given.values):,} values planted {plantings:,} times in {counted['accepted']:,} events "
        f"({counted['refused']:,} refused); {scanner.size:,} bytes of {len(sizes)} stores scanned; {total} hits"
    )


def _plant(session: Session, events: int, seed: int) -> dict[str, int]:
    """Run the planter as a process, so that its log is one of those that are scanned; what it counted."""
    result = session.folder / "planted.json"
    command = [sys.executable, "-m", "tests.leaks.plant", str(session.stack.role_file(SOURCE))]
    session.spawn(PLANTER, [*command, "--seed", str(seed), "--count", str(events), "--result", str(result)])
    status = session.wait(PLANTER, PLANTING_S)
    assert status == 0, session.log(PLANTER).read_text()[-3000:]
    counted: dict[str, int] = json.loads(result.read_text())
    return counted


def _scan(session: Metered, receivers: Receivers, trail: Trail, scanner: Scanner, began: float) -> None:
    metrics = dict(session.metrics)
    for role, port in metrics.items():
        _await_page(role, port)
    drained = {role: port for role, port in metrics.items() if role != "detect"}
    with urlopen(f"http://{HOST}:{metrics['detect']}/metrics", timeout=10) as page:
        scanner.scan("metrics", page.read(), "detect")
    drain(session, receivers, trail)
    scan_all(session, receivers, scanner, drained, began)


def _await_page(role: str, port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((HOST, port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, f"no metrics page of {role}"
            time.sleep(0.2)
        else:
            return


def _check_rogue(checks: Checks, session: Session, scanner: Scanner, leaked: tuple[rogue.Planted, ...]) -> None:
    """What was let out is found where it must be; so the scan can fail."""
    raw = scanner.stores[RAW].hits, scanner.stores[RAW_DISK].hits
    checks.add(
        Check(
            "what a client without redaction let out is found on the raw topic",
            all(hits[one.value] > 0 for one in leaked for hits in raw),
            f"{sum(raw[0][one.value] > 0 for one in leaked)} of {len(leaked)} values on the topic, "
            f"{sum(raw[1][one.value] > 0 for one in leaked)} on its disk",
        )
    )
    elsewhere = scanner.hits([one.value for one in leaked], but=(RAW, RAW_DISK))
    checks.add(Check("and nowhere else", not elsewhere, f"{elsewhere or 'nowhere'}"))
    marked, refused, reports = 0, Counter[str](), set()
    for kind, content in _sealed(session):
        if kind is Kind.REJECTED:
            note = SEAL_NOTE.decode(content)
            refused[f"{note['emitter']}: {note['detail']}"] += 1
        if kind is not Kind.EVENT:
            continue
        event = AUDIT_EVENT.decode(content)
        marked += event["emitter"]["instance"] == rogue.INSTANCE and event["redaction"]["status"] == "APPLIED"
        if event["event_name"].startswith("detection.leaked_"):
            report = LEAK.decode_body(event["extension"]["payload"])
            reports.add((report["source"], report["instance"], report["field"], report["shape"], report["owner"]))
    due = {(SOURCE, rogue.INSTANCE, one.field, one.shape, "Head of integrations") for one in leaked}
    sealed_ones = sum(one.sealed for one in leaked)
    checks.add(
        Check(
            "it is sealed with a mark, or refused",
            marked == sealed_ones and refused.total() == len(leaked) - sealed_ones,
            f"{marked} sealed so, {refused.total()} refused: {'; '.join(sorted(refused))}",
        )
    )
    checks.add(
        Check("and told to the source's owner, each once, and nothing else is", reports == due, f"{len(reports)} reports")
    )


def _sealed(session: Session) -> Iterator[tuple[Kind, bytes]]:
    """Kind and content of every seal of the run."""
    for record in _records(session.settings("verifier"), "audit.archive"):
        sealed = decode_sealed_event(record.value or b"")
        yield decode_seal(sealed.seal).kind, sealed.content.content


def _records(settings: Settings, name: str) -> Iterator[Record]:
    """Every committed record of a topic of the run."""
    topic = topic_name(settings.topic_prefix, name)
    with PartitionReader(settings) as reader:
        for partition in range(Ends(settings).partition_count(topic)):
            yield from reader.read_all(topic, partition)


def _check_tokens(checks: Checks, session: Session, given: Pool, planted: int) -> None:
    """What was tokenised is there for whoever may reveal it: planted values too, but for secrets, which are overwritten."""
    settings = session.settings("reader")
    keystore, walk = Keystore.open(settings.keys), Tokenized(packaged_registry())
    keys: dict[bytes, SubjectKey] = {}
    for record in _records(settings, "audit.subject-keys"):
        wrapped = parse_wrapped_key(record.key or b"", record.value or b"")
        keys[wrapped.key_id] = wrapped.open(keystore.opener(f"tenant-subject-{wrapped.tenant}").open)
    values = [value for kind, content in _sealed(session) if kind is Kind.EVENT for value in _values(walk, content)]
    texts = [keys[token_key_id(value.text)].open(value.text) for value in values if is_token(value.text)]
    persons = {text for person in given.persons for text in person}
    found = sum(text in persons for text in texts)
    checks.add(
        Check(
            "every tokenised value is sealed as a token, and its key opens it",
            len(texts) == len(values) >= planted and found > 0 and not any(find(text) for text in texts),
            f"{len(texts):,} of {len(values):,} tokens open under {len(keys):,} keys; {found:,} are of planted persons",
        )
    )


def _values(walk: Tokenized, content: bytes) -> tuple[TokenizedValue, ...]:
    return walk.values(AUDIT_EVENT.decode(content))


def _check_corpus(checks: Checks) -> None:
    """The net by itself: recall over every form in every context, false positives over harmless texts."""
    tried = missed = 0
    for seed in range(RECALL_ROUNDS):
        for form in made(Random(f"recall/{seed}")):
            for context in CONTEXTS:
                tried += 1
                missed += form.secret in redact(context.replace("@", form.text))[0]
    checks.add(Check("the net finds every shape", not missed, f"{tried - missed:,} of {tried:,}"))
    payloads = json.loads(github_payloads(Reporter(quiet=True)).read_bytes())
    total = hits = 0
    for text in benign.texts(Random(1), payloads, BENIGN):
        total += 1
        hits += bool(find(text))
    checks.add(Check("it hits under 0.1 % of harmless texts", hits * 1000 < total, f"{hits} of {total:,}"))


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.leaks", description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE, help="the local stack's folder")
    asked = parser.parse_args()
    report = Reporter()
    stack = Stack(asked.state, report=report)
    try:
        stack.up()
        with Metered(stack, report) as session:
            report.line(f"seed {asked.seed}")
            checks, summary = run(session, asked.events, asked.seed)
    except SealtrailError as error:
        print(f"leaktest: {error}", file=sys.stderr)
        return 1
    report.line("")
    for line in checks.lines():
        report.line(line)
    report.line(f"LEAKTEST {'PASSED' if checks.good else 'FAILED'}: {summary}")
    return 0 if checks.good else 1


if __name__ == "__main__":
    sys.exit(main())
