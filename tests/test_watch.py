"""Verification that never ends: what is found is said, once; what is good is kept; and its own age is watched."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from auditor.archive import ArchiveReader
from auditor.watch import Age, Kept, Times, Watch, completed, finding_id, overdue, stated
from infra.stack import Stack
from kafkaio.reader import PartitionReader
from processors.detect.finding import FINDING
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.contract import Contract
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT, packaged_registry
from sealtrail.errors import TransientError, UndecidedError
from sealtrail.layout import CHAINS as SEGMENTS
from sealtrail.report import Finding, FindingKind, Report
from sealtrail.seal import Kind, LogClass, Route, decode_seal, decode_sealed_event
from sealtrail.source import StoredObject
from sealtrail.verify import Trust
from sinks.archive.assembly import publish_documents
from tests.archives import CHAINS, ROOT, TENANTS, Archive, built, openers
from tests.conftest import BUCKETS, RAW_PARTITIONS, Deployment, new_deployment, wait_until
from tests.pipeline import draft, processes
from tests.sealed import uuid7
from tests.test_access import client

FAST = Times(0.05, 0.2)


@dataclass
class Said:
    """An emitter that keeps what it is given."""

    drafts: list[dict[str, Any]] = field(default_factory=list)
    away: int = 0

    def emit(self, draft: Mapping[str, object]) -> bytes:
        if self.away:
            self.away -= 1
            raise TransientError("full", 0.01)
        self.drafts.append(dict(draft))
        return bytes(16)

    def close(self, timeout_s: float = 0) -> None:
        pass

    def named(self, name: str) -> list[dict[str, Any]]:
        return [d for d in list(self.drafts) if d["event_name"] == f"verification.{name}"]

    def findings(self) -> list[str]:
        rules = [FINDING.decode_body(d["extension"]["payload"])["rule"] for d in self.named("finding")]
        return [rule.removeprefix("verification.") for rule in rules]


class Live:
    """A source whose archive is exchanged under the reader, and that may be away."""

    def __init__(self, archive: Archive) -> None:
        self.archive, self.away = archive, False

    def list(self, prefix: str) -> Iterator[StoredObject]:
        if self.away:
            raise UndecidedError("no answer")
        return self.archive.list(prefix)

    def read(self, key: str, version: str) -> bytes:
        return self.archive.read(key, version)

    def lock(self, key: str, version: str) -> Any:
        return self.archive.lock(key, version)


@contextmanager
def watching(source: Live, folder: Path, said: Said, times: Times = FAST) -> Iterator[Watch]:
    watch = Watch(source, Trust(ROOT, openers(*TENANTS)), "", said, Kept(folder), times)
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            watch.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield watch
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive() and not failures


def shorter(segments: int) -> Archive:
    """The archive when chain 0 had only so many segments."""
    b = built()
    return b.archive.without(*(b.key(n) for n in range(segments, 5)))


def test_what_is_good_is_said_at_the_end_of_each_cycle_and_kept(tmp_path: Path) -> None:
    said = Said()
    with watching(Live(built().archive), tmp_path, said):
        wait_until(lambda: len(said.named("completed")) >= 2, what="two cycles")
    assert not said.findings()
    assert {d["result"] for d in said.drafts} == {"SUCCESS"}
    assert set(Kept(tmp_path).all) == set(CHAINS)
    assert Kept(tmp_path).all[CHAINS[0]].decode() == built().segment(4).checkpoint


def test_what_is_new_is_verified_in_a_round_without_waiting_for_the_cycle(tmp_path: Path) -> None:
    said, source = Said(), Live(shorter(3))
    with watching(source, tmp_path, said, Times(0.05, 3600)):
        wait_until(lambda: said.named("completed"), what="the first cycle")
        b = built()
        source.archive = b.edited(4, lambda s: replace(s, seals=s.seals[:-1]))
        wait_until(said.findings, what="the finding")
    assert said.findings() == ["truncated"] and len(said.named("completed")) == 1


def test_damage_to_what_was_verified_before_is_found_within_a_cycle_and_said_once(tmp_path: Path) -> None:
    said, source = Said(), Live(built().archive)
    with watching(source, tmp_path, said) as watch:
        wait_until(lambda: said.named("completed"), what="a good cycle")
        source.archive = built().edited(1, lambda s: replace(s, seals=(*s.seals[:2], s.seals[1], *s.seals[3:])))
        wait_until(said.findings, what="the finding")
        before = len(said.named("completed"))
        wait_until(lambda: len(said.named("completed")) > before + 1, what="two cycles more")
        assert not watch.age.overdue()
    assert len(said.findings()) == 1
    assert said.named("completed")[-1]["result"] == "FAILURE"


def test_a_tail_that_is_cut_is_found_by_the_next_life_of_the_process(tmp_path: Path) -> None:
    with watching(Live(built().archive), tmp_path, first := Said()):
        wait_until(lambda: first.named("completed"), what="a good cycle")
    with watching(Live(shorter(4)), tmp_path, said := Said()):
        wait_until(said.findings, what="the finding")
    assert set(said.findings()) == {"truncated"}
    assert Kept(tmp_path).all[CHAINS[0]].decode() == built().segment(4).checkpoint, "what is kept never goes back"


def test_a_damaged_chain_is_not_kept_and_the_other_one_is(tmp_path: Path) -> None:
    source = Live(built().edited(4, lambda s: replace(s, seals=s.seals[:-1])))
    with watching(source, tmp_path, said := Said()):
        wait_until(lambda: said.named("completed"), what="a cycle")
    assert CHAINS[0] not in Kept(tmp_path).all and CHAINS[1] in Kept(tmp_path).all


def test_a_store_that_is_away_is_no_finding_and_is_waited_for(tmp_path: Path) -> None:
    said, source = Said(), Live(built().archive)
    source.away = True
    with watching(source, tmp_path, said):
        wait_until(lambda: said.named("overdue"), what="a word about its age")
        source.away = False
        wait_until(lambda: said.named("completed"), what="a cycle")
    assert not said.findings()


def test_an_emitter_that_takes_nothing_is_waited_for(tmp_path: Path) -> None:
    said = Said(away=5)
    with watching(Live(shorter(3)), tmp_path, said):
        wait_until(lambda: said.named("completed"), what="a cycle")


def test_a_kept_checkpoint_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.checkpoint").write_bytes(b"rubbish")
    with watching(Live(built().archive), tmp_path, said := Said()):
        wait_until(lambda: said.named("completed"), what="a cycle")
    assert not said.findings()


def test_what_is_overdue_is_said_once_until_it_was_completed() -> None:
    now = [0.0]
    age = Age(Times(10, 100), lambda: now[0])
    now[0] = 31.0
    assert age.overdue() == [("round", 31.0)] and age.overdue() == []
    age.completed("round")
    now[0] = 301.0
    assert dict(age.overdue()) == {"round": 270.0, "cycle": 301.0}


FINDING_1 = Finding(FindingKind.ALTERED, 6, CHAINS[0], 7, 1, "chains/a b@c", "words")


@pytest.mark.parametrize(
    ("event", "log_class", "siem"),
    [
        (stated(FINDING_1), LogClass.SECURITY, True),
        (stated(replace(FINDING_1, chain="", seq=None)), LogClass.SECURITY, True),
        (completed(Report(), "audit.example/local/", 3.0), LogClass.COMPLIANCE, False),
        (overdue("cycle", 400.0), LogClass.SECURITY, True),
    ],
)
def test_what_is_said_keeps_the_contract_and_gets_its_class(event: dict[str, Any], log_class: LogClass, siem: bool) -> None:
    whole = {
        "event_id": uuid7(),
        "emitter": {"source": "verifier", "instance": "one", "epoch": uuid7(), "seq": 1},
        "region": "eu-central",
        "occurred_at": 1_790_000_000_000_000,
        "redaction": {"status": "NONE", "policy": "v1", "fields": []},
        "changes": [],
        **event,
    }
    decoded = AUDIT_EVENT.decode(AUDIT_EVENT.encode(whole))
    Contract(packaged_registry(), "eu-central").check(decoded)
    decision = Policy.load().decide(decoded)
    assert (decision.log_class, Route.SIEM in decision.routes) == (log_class, siem)


def test_the_same_finding_has_the_same_id_and_another_has_another() -> None:
    assert finding_id(FINDING_1) == finding_id(replace(FINDING_1, detail="other words"))
    others: list[Callable[[Finding], Finding]] = [
        lambda f: replace(f, kind=FindingKind.MISSING),
        lambda f: replace(f, seq=8),
        lambda f: replace(f, count=2),
        lambda f: replace(f, where="elsewhere"),
        lambda f: replace(f, chain=CHAINS[1]),
        lambda f: replace(f, step=7),
    ]
    assert len({finding_id(FINDING_1), *(finding_id(change(FINDING_1)) for change in others)}) == 7


# -- on real parts


def sealed(deployment: Deployment) -> list[dict[str, Any]]:
    """What the verifier said and the sealer sealed."""
    topic, found = topic_name(deployment.topic_prefix, "audit.archive"), []
    with PartitionReader(deployment.settings("admin")) as reader:
        for partition in range(RAW_PARTITIONS):
            for record in reader.read_all(topic, partition):
                event = decode_sealed_event(record.value or b"")
                if decode_seal(event.seal).kind is Kind.EVENT:
                    found.append(AUDIT_EVENT.decode(event.content.content))
    return [event for event in found if event["event_name"].startswith("verification.")]


def test_a_hidden_segment_of_the_real_archive_becomes_a_sealed_finding_within_a_cycle(stack: Stack, tmp_path: Path) -> None:
    deployment = new_deployment(stack, bucket=BUCKETS[2])
    publish_documents(deployment.settings("publisher"))
    fast = {"verify_new_s": "1", "verify_cycle_s": "2", "verifier_state": str(tmp_path / "kept")}
    with processes(deployment, ("sealer", "sink-archive", "verifier"), tmp_path, **fast):
        with AuditProducer(deployment.settings("chat"), "chat", "one") as emitter:
            for number in range(12):
                emitter.emit(draft(number))
        prefix = f"{deployment.settings('verifier').authority}/{deployment.name}/"
        reader = ArchiveReader(deployment.settings("reader"))
        segment = wait_until(lambda: next(iter(reader.list(SEGMENTS + prefix)), None), what="a segment")
        wait_until(lambda: [e for e in sealed(deployment) if e["result"] == "SUCCESS"], what="a good cycle")
        assert not [e for e in sealed(deployment) if e["event_name"] == "verification.finding"]
        client(stack, "admin").delete_object(Bucket=BUCKETS[2], Key=segment.key)  # a delete marker: the version stays
        found = wait_until(
            lambda: [e for e in sealed(deployment) if e["event_name"] == "verification.finding"], what="the finding"
        )
    said = FINDING.decode_body(found[0]["extension"]["payload"])
    assert (said["rule"], {g["field"]: g["value"] for g in said["group"]}["where"]) == ("verification.hidden", segment.key)
    assert found[0]["emitter"]["source"] == "verifier"


@pytest.mark.parametrize("flags", [{"verifier_state": ""}, {"root_vkey": ""}])
def test_a_setting_that_is_missing_is_named(stack: Stack, flags: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "verifier.toml"
    lines = stack.role_file("verifier").read_text().splitlines()
    config.write_text("\n".join(line for line in lines if line.split(" ")[0] not in flags) + "\n")
    command = [sys.executable, "-m", "auditor", "run", "verifier", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3 and next(iter(flags)) in done.stderr
