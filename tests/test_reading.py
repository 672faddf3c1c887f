"""Reading the trail on real parts: what is found, what is not shown, and that no reading stays unrecorded."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from auditor import access as access_module
from auditor.access import Act
from auditor.cli import build
from auditor.commands.prove import run_prove
from auditor.commands.replay import Wanted, run_replay
from auditor.commands.search import run_search
from auditor.commands.show import run_show
from auditor.query import index as asking
from auditor.replay import Range
from infra.stack import Stack
from kafkaio.client import client_config
from kafkaio.reader import PartitionReader
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from schemas.search_names import alias
from schemas.settings import Settings
from sealtrail.errors import ConfigError, ContractError, TransientError, UndecidedError
from sealtrail.layout import DAY_MS, segment_key
from sealtrail.report import FindingKind
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from sinks.archive.assembly import publish_documents
from sinks.archive.store import ArchiveStore
from sinks.archive.writer import Lock, LockMode
from sinks.search.assembly import search_client
from tests.conftest import RAW_PARTITIONS, Deployment, new_deployment, wait_until
from tests.pipeline import TENANTS, draft, processes

DAY_NS = DAY_MS * 1_000_000
EACH = 24  # events a tenant
ROLES = ("sealer", "sink-archive", "sink-search")
REPLAYED = Act("trail.replayed", "range", "all", "archive-topic")


@dataclass
class Read:
    """A deployment that runs, what was handed over to it, and how its reader asks."""

    deployment: Deployment
    events: dict[str, dict[str, Any]] = field(default_factory=dict)  # drafts by event id

    def settings(self, **flags: Any) -> Settings:
        return self.deployment.settings("reader", **{"reader_role": "auditor", "person": "j.doe", **flags})

    @property
    def chains(self) -> str:
        """What the names of its chains begin with: the bucket is shared with tests that put damage into theirs."""
        return f"{self.settings().authority}/{self.deployment.name}/"

    def search(self, query: str, purpose: str = "audit", tenant: str = "", **more: Any) -> dict[str, Any]:
        settings = self.settings(**more.pop("flags", {}))
        return run_search(settings, query, purpose, tenant, **{"limit": 1000, **more})

    def ids(self, query: str, **more: Any) -> set[str]:
        return {document["event"]["id"] for document in self.search(query, **more)["documents"]}

    def where(self, **fields: Any) -> set[str]:
        """Ids of the drafts with these fields."""
        return {e for e, draft in self.events.items() if all(draft.get(name) == value for name, value in fields.items())}

    def sealed(self, name: str = "") -> list[dict[str, Any]]:
        """Every sealed event of the trail's own reader, in order of its number."""
        topic = topic_name(self.deployment.topic_prefix, "audit.archive")
        found = []
        with PartitionReader(self.deployment.settings("admin")) as reader:
            for partition in range(RAW_PARTITIONS):
                for record in reader.read_all(topic, partition):
                    sealed = decode_sealed_event(record.value or b"")
                    if decode_seal(sealed.seal).kind is Kind.EVENT:
                        found.append(AUDIT_EVENT.decode(sealed.content.content))
        return [e for e in found if e["event_name"].startswith("trail.") and e["event_name"].startswith(name)]


@pytest.fixture(scope="module")
def trail(search_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    deployment = new_deployment(search_stack)
    publish_documents(deployment.settings("publisher"))
    with processes(deployment, ROLES, tmp_path_factory.mktemp("reading")):
        made = Read(deployment)
        with AuditProducer(deployment.settings("chat"), "chat", "one") as emitter:
            for number in range(EACH * len(TENANTS)):
                made.events[str(UUID(bytes=emitter.emit(draft(number))))] = draft(number)
        shown = made.where(event_name="chat.message.delivered")
        wait_until(lambda: shown <= made.ids("event:chat.message.*"), what="the events in hot search")
        yield made


# -- search


@pytest.fixture
def without_shard(trail: Read) -> Iterator[Callable[[], None]]:
    """An index of the trail's own whose one shard no node takes, as one that is just made; the function given has it taken."""
    client, name = search_client(trail.settings()), f"{alias(trail.deployment.topic_prefix)}-late"
    like = next(iter(client.indices.get_mapping(index=alias(trail.deployment.topic_prefix)).values()))
    nowhere = {"index.number_of_shards": 1, "index.number_of_replicas": 0, "index.routing.allocation.require.rack": "none"}
    body = {**like, "settings": nowhere, "aliases": {alias(trail.deployment.topic_prefix): {}}}
    client.indices.create(index=name, body=body, params={"wait_for_active_shards": "0"})
    freely = {"index.routing.allocation.require.rack": None}
    yield lambda: client.indices.put_settings(index=name, body=freely)
    client.indices.delete(index=name)
    client.close()


def test_a_search_that_not_every_shard_answers_shows_nothing(
    trail: Read, without_shard: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "STARTING_S", 0.3)
    with pytest.raises(TransientError, match="OpenSearch does not answer a query: search_phase_execution_exception"):
        trail.ids("event:chat.message.*")


def test_a_search_waits_for_a_shard_that_starts(trail: Read, without_shard: Callable[[], None]) -> None:
    starting = threading.Timer(1, without_shard)
    starting.start()
    assert trail.ids("event:chat.message.*") >= trail.where(event_name="chat.message.delivered")
    starting.join()


def test_a_search_finds_by_each_of_its_fields_and_by_words(trail: Read) -> None:
    assert trail.ids("event:chat.permission.*") == trail.where(event_name="chat.permission.granted")
    assert trail.ids("ticket:CHG-7 tenant:acme") == trail.where(ticket="CHG-7", tenant="acme")
    assert trail.ids("outcome:failure class:security source:chat") == trail.where(event_name="chat.login.failed")
    assert trail.ids("correlation:lineage-3 -class:security") == {
        e for e in trail.where(correlation_id="lineage-3") if trail.events[e]["event_type"] in ("MESSAGE", "ADMIN")
    }
    assert trail.ids("permission messenger") == trail.where(event_name="chat.permission.granted")
    first = next(iter(trail.where(event_name="chat.message.delivered")))
    assert trail.ids(f"id:{first}") == {first}
    assert trail.ids("source:chat after:2020-01-01 before:2020-02-01") == set()
    assert len(trail.ids("source:chat event:chat.* after:2020-01-01")) == EACH * len(TENANTS) * 3 // 4


def test_an_actor_is_found_by_its_name_although_only_its_hash_is_stored(trail: Read) -> None:
    found = trail.search("actor:u-1 event:chat.message.*", tenant="globex")["documents"]
    wanted = {e for e in trail.where(tenant="globex", event_type="MESSAGE") if trail.events[e]["actor"]["id"] == "u-1"}
    assert {d["event"]["id"] for d in found} == wanted
    assert not any("u-1" in json.dumps(d) for d in found)
    hashed = found[0]["user"]["id"]
    assert trail.ids(f"actor:{hashed} event:chat.message.*") == wanted  # another tenant's u-1 has another hash


def test_a_tenants_query_returns_no_other_tenants_document(trail: Read) -> None:
    for query in ("", "tenant:globex,initech,acme", "-tenant:acme", "chat", "event:chat.*"):
        documents = trail.search(query, tenant="acme")["documents"]
        assert {d["organization"]["id"] for d in documents} <= {"acme"}, query
    assert trail.ids("tenant:globex", tenant="acme") == set()
    assert trail.ids("event:chat.message.*", flags={"reader_tenant": "initech"}) == trail.where(
        tenant="initech", event_type="MESSAGE"
    )


def test_a_reader_of_one_tenant_is_refused_another_and_that_is_recorded(trail: Read) -> None:
    before = len(trail.sealed())
    with pytest.raises(ContractError, match="of this tenant"):
        trail.search("", tenant="globex", flags={"reader_tenant": "acme"})
    (event,) = trail.sealed()[before:]
    assert (event["result"], event["authorization"]["decision"], event["tenant"]) == ("DENIED", "DENY", "globex")


def test_a_reader_without_a_tenants_hash_key_is_refused_it_and_that_is_recorded(trail: Read) -> None:
    before = len(trail.sealed())
    with pytest.raises(ContractError, match=r"of this tenant.*; the refusal is recorded as"):
        trail.search("actor:u-1", tenant="nobody", flags={"reader_tenant": "acme"})
    (event,) = trail.sealed()[before:]
    assert (event["event_name"], event["result"], event["tenant"]) == ("trail.searched", "DENIED", "@deployment")
    assert "tenant:nobody" in event["authorization"]["scopes"] and event["object"]["id"].startswith("hmac_")


def test_only_the_classes_that_the_policy_gives_a_role_for_a_purpose_are_shown(trail: Read) -> None:
    answer = trail.search("source:chat")
    assert {d["sealtrail"]["class"] for d in answer["documents"]} == {"operational", "admin", "security"}
    assert answer["left_out"] == ["debug"]
    operator = trail.search("source:chat", "operations", flags={"reader_role": "operator"})
    assert {d["sealtrail"]["class"] for d in operator["documents"]} == {"operational", "debug"}
    assert trail.ids("class:debug") == set()


def test_a_search_is_an_event_sealed_before_the_first_row(trail: Read) -> None:
    before = len(trail.sealed())
    answer = trail.search("actor:u-1 secret-word", tenant="acme", ticket="INC-9")
    (event,) = trail.sealed()[before:]
    assert str(UUID(bytes=event["event_id"])) == answer["access"]
    assert (event["event_name"], event["event_type"], event["tenant"], event["result"]) == (
        "trail.searched", "ACCESS", "acme", "SUCCESS",
    )  # fmt: skip
    assert event["actor"]["id"].startswith("hmac_") and event["object"]["id"].startswith("hmac_")
    assert {"role:auditor", "purpose:audit", "class:admin", "field:actor", "field:words"} <= set(
        event["authorization"]["scopes"]
    )
    text = json.dumps(event, default=lambda value: value.hex())
    assert not [word for word in ("u-1", "secret-word", "j.doe") if word in text]


@pytest.mark.parametrize(("role", "purpose"), [("auditor", "curiosity"), ("nobody", "audit"), ("operator", "audit")])
def test_a_role_or_purpose_that_the_policy_does_not_know_is_refused_and_recorded(trail: Read, role: str, purpose: str) -> None:
    before = len(trail.sealed())
    with pytest.raises(ContractError, match="the refusal is recorded as"):
        trail.search("", purpose, flags={"reader_role": role})
    (event,) = trail.sealed()[before:]
    assert (event["event_name"], event["result"]) == ("trail.searched", "DENIED")


@pytest.mark.parametrize("name", ["reader_role", "person", "keys", "search_endpoint"])
def test_a_reader_that_is_not_set_up_is_told_which_setting_is_missing(trail: Read, name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        trail.search("", flags={name: ""})


def test_an_unknown_tenant_is_a_clear_error(trail: Read) -> None:
    with pytest.raises((ConfigError, ContractError), match="tenant"):
        trail.search("actor:u-1", tenant="nobody")


def test_without_a_sealer_nothing_is_shown(search_stack: Stack, monkeypatch: pytest.MonkeyPatch, trail: Read) -> None:
    monkeypatch.setattr(access_module, "SEALED_S", 1.0)
    idle = Read(new_deployment(search_stack))
    with pytest.raises(TransientError, match="so nothing is shown; does the sealer run"):
        idle.search("")
    with pytest.raises(TransientError, match="nothing is shown"):
        run_show(idle.settings(), UUID(next(iter(trail.events))), "audit")
    out = io.StringIO()
    with pytest.raises(TransientError, match="nothing is shown"):
        run_replay(idle.settings(), "audit", REPLAYED, Range(), Wanted(), None, out)
    assert not out.getvalue()


def test_a_search_server_that_is_away_is_said_so(trail: Read) -> None:
    with pytest.raises(TransientError, match="OpenSearch does not answer"):
        trail.search("", flags={"search_endpoint": "http://127.0.0.1:1"})


# -- export


def test_an_export_is_an_event_before_and_after_and_the_file_is_whole(trail: Read, tmp_path: Path) -> None:
    before = len(trail.sealed())
    answer = trail.search("source:chat", output=tmp_path / "rows.csv", ticket="REQ-1", approver="a.boss")
    rows = list(csv.DictReader((tmp_path / "rows.csv").open(newline="")))
    assert {row["event_id"] for row in rows} == trail.ids("source:chat")
    assert answer["shown"] == len(rows) and not answer["documents"]
    assert (tmp_path / "rows.csv").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]
    wait_until(lambda: len(trail.sealed("trail.export")) > 0, what="the export's completion sealed")
    asked, completed, *_ = trail.sealed()[before:]
    assert (asked["event_type"], asked["effect"], asked["ticket"]) == ("EXPORT", "ATTEMPTED", "REQ-1")
    assert (completed["event_name"], completed["effect"]) == ("trail.export_completed", "EFFECTIVE")
    assert completed["causation_id"] == asked["event_id"]
    assert completed["content_ref"]["size"] == (tmp_path / "rows.csv").stat().st_size
    assert completed["object"] == {"type": "rows", "id": str(len(rows))}


def test_what_needs_approval_is_not_exported_without_and_debug_never(trail: Read, tmp_path: Path) -> None:
    answer = trail.search("source:chat", output=tmp_path / "rows.jsonl")
    exported = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {d["sealtrail"]["class"] for d in exported} == {"operational"}
    assert {"admin", "security", "debug"} <= set(answer["left_out"])
    operator = trail.search(
        "", "operations", output=tmp_path / "two", ticket="T", approver="A", flags={"reader_role": "operator"}
    )
    assert "debug" in operator["left_out"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(trail: Read, tmp_path: Path) -> None:
    before = len(trail.sealed())
    event_id = UUID(next(iter(trail.events)))
    for file in (tmp_path / "no" / "rows.jsonl", tmp_path, tmp_path / ("x" * 256)):
        with pytest.raises(ConfigError, match="--output"):
            trail.search("", output=file)
        with pytest.raises(ConfigError, match="--output"):
            run_replay(trail.settings(), "audit", REPLAYED, Range(), Wanted(), None, file)
        with pytest.raises(ConfigError, match="--output"):
            run_prove(trail.settings(), event_id, "audit", file, trail.chains, "REQ-9", "A. Boss")
    assert not list(tmp_path.iterdir())
    trail.search("")
    assert [event["event_type"] for event in trail.sealed()[before:]] == ["ACCESS"]  # of those exports none was stated


# -- show


def shown_of(settings: Settings, event_id: str, purpose: str = "audit") -> dict[str, Any]:
    """What show gives once the record is archived."""

    def once() -> dict[str, Any] | None:
        try:
            return run_show(settings, UUID(event_id), purpose)
        except TransientError:  # sealed, and not archived yet
            return None

    return wait_until(once, what="the record in the archive")


def test_show_finds_a_record_through_hot_search_or_without_it(trail: Read) -> None:
    event_id = next(iter(trail.where(event_name="chat.permission.granted", tenant="acme")))
    shown = shown_of(trail.settings(), event_id)
    assert shown["event"]["event_id"] == event_id
    assert set(shown["verified"].values()) == {"ok"} and "named alike in hot search" in shown["verified"]
    assert shown["elsewhere"]["hot_search"].startswith(alias(trail.deployment.topic_prefix))
    assert shown["archived"]["lock"]["mode"] == "COMPLIANCE"
    assert shown["elsewhere"]["siem"].startswith("routed")
    alone = run_show(trail.settings(search_endpoint="http://127.0.0.1:1"), UUID(event_id), "audit", trail.chains)
    assert alone is not None
    assert alone["seal"] == shown["seal"] and alone["elsewhere"]["hot_search"] == "not found"


def test_a_proof_is_an_export_that_a_stranger_checks_with_what_lies_beside_it(trail: Read, tmp_path: Path) -> None:
    event_id = next(iter(trail.where(event_name="chat.permission.granted", tenant="globex")))
    shown_of(trail.settings(), event_id)
    file = tmp_path / "proofs" / "granted.tlog-proof"
    file.parent.mkdir()
    with pytest.raises(ContractError, match="may not see this record"):  # class admin leaves with approval only
        run_prove(trail.settings(), UUID(event_id), "audit", file, trail.chains)
    before = len(trail.sealed())
    done = run_prove(trail.settings(), UUID(event_id), "audit", file, trail.chains, "REQ-9", "A. Boss")
    assert done is not None and done["seq"] < done["size"]
    wait_until(lambda: len(trail.sealed()) == before + 2, what="what was exported")
    asked, completed = trail.sealed()[before:]
    assert (asked["event_name"], asked["event_type"], asked["object"]["id"]) == ("trail.proved", "EXPORT", event_id)
    assert (completed["event_name"], completed["content_ref"]["size"]) == ("trail.export_completed", file.stat().st_size)
    command = [sys.executable, "-m", "sealtrail", str(file), "--root", str(trail.settings().root_vkey), "--json"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert UUID(json.loads(checked.stdout)["event"]["event_id"]) == UUID(event_id)
    assert run_prove(trail.settings(), UUID(int=7), "audit", file, trail.chains, "REQ-9", "A. Boss") is None


def test_show_of_a_class_that_one_may_not_see_is_refused_and_recorded(trail: Read) -> None:
    event_id = next(iter(trail.where(event_name="chat.debug.trace")))
    shown_of(trail.settings(reader_role="operator"), event_id, "operations")
    before = len(trail.sealed())
    with pytest.raises(ContractError, match="may not see this record"):
        run_show(trail.settings(), UUID(event_id), "audit")
    allowed, refused = trail.sealed()[before:]
    assert (allowed["result"], refused["result"], refused["object"]["id"]) == ("SUCCESS", "DENIED", event_id)


def test_show_of_what_is_not_there_is_none_and_recorded(trail: Read) -> None:
    before = len(trail.sealed())
    assert run_show(trail.settings(), UUID(int=7), "audit", trail.chains) is None
    assert [event["event_name"] for event in trail.sealed()[before:]] == ["trail.shown"]


def test_show_says_when_it_could_not_read_all_that_it_had_to(trail: Read) -> None:
    store = ArchiveStore(trail.deployment.settings("sink-archive"))
    chain = f"{trail.chains}audit.raw.00000000.0/0"
    store.put(segment_key(chain, 0), b"x" * 100, Lock(LockMode.GOVERNANCE, (time.time_ns() // DAY_NS + 1) * DAY_MS))
    with pytest.raises(UndecidedError, match="1 segments cannot be read"):
        run_show(trail.settings(), UUID(int=7), "audit", trail.chains)
    event_id = next(iter(trail.where(event_name="chat.message.delivered")))
    away = trail.settings(search_endpoint="http://127.0.0.1:1")
    found = wait_until(lambda: run_show(away, UUID(event_id), "audit", trail.chains), what="the record")
    assert found["event"]["event_id"] == event_id


# -- replay


def replayed(trail: Read, wanted: Range | None = None, events: Wanted | None = None, **flags: Any) -> list[dict[str, Any]]:
    out = io.StringIO()
    outcome = run_replay(trail.settings(**flags), "audit", REPLAYED, wanted or Range(), events or Wanted(), None, out)
    assert not outcome.findings
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert outcome.given == len(lines)
    return lines


def test_a_replay_gives_every_record_that_may_be_seen_attested(trail: Read) -> None:
    lines = replayed(trail)
    events = {line["event"]["event_id"] for line in lines if line["event"]}
    assert {e for e in trail.events if trail.events[e]["event_type"] != "OTHER"} <= events
    assert not trail.where(event_name="chat.debug.trace") & events
    assert {line["seal"]["kind"] for line in lines} >= {"GENESIS", "EVENT", "HEARTBEAT"}
    assert all(line["attested"] for line in lines)


def test_a_replay_by_tenant_source_correlation_time_and_offset_gives_those_alone(trail: Read) -> None:
    acme = replayed(trail, events=Wanted(tenant="acme", source="chat"))
    assert {line["event"]["event_id"] for line in acme} == {
        e for e in trail.where(tenant="acme") if trail.events[e]["event_type"] != "OTHER"
    }
    lineage = replayed(trail, events=Wanted(correlation="lineage-2"))
    assert {line["event"]["correlation_id"] for line in lineage} == {"lineage-2"}
    now_us = time.time_ns() // 1000
    assert not replayed(trail, Range(since_us=now_us + 3_600_000_000))
    everything = {line["seal"]["leaf_hash"] for line in replayed(trail, Range(until_us=now_us))}
    middle = now_us - 1_000_000
    parts = [replayed(trail, Range(until_us=middle)), replayed(trail, Range(since_us=middle, until_us=now_us))]
    halves = [{line["seal"]["leaf_hash"] for line in part} for part in parts]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == everything


def test_a_dry_run_counts_and_gives_nothing(trail: Read) -> None:
    outcome = run_replay(trail.settings(), "audit", REPLAYED, Range(), Wanted(tenant="globex", source="chat"))
    assert outcome.given == EACH * 3 // 4 == outcome.tenants["globex"]
    assert outcome.not_shown["debug"] == EACH // 4


def test_a_replay_finds_a_forged_record_on_the_topic(search_stack: Stack, tmp_path: Path) -> None:
    read = Read(new_deployment(search_stack))
    topic = topic_name(read.deployment.topic_prefix, "audit.archive")
    with processes(read.deployment, ("sealer",), tmp_path):
        with AuditProducer(read.deployment.settings("chat"), "chat", "one") as emitter:
            emitter.emit(draft(0))
        run_replay(read.settings(), "audit", REPLAYED, Range(), Wanted())
    with PartitionReader(read.deployment.settings("admin")) as reader:
        last = {p: list(reader.read_all(topic, p)) for p in range(RAW_PARTITIONS)}
    partition = next(p for p, records in last.items() if len(records) > 2)
    forged = bytearray(last[partition][-1].value or b"")
    forged[-70] ^= 1
    settings = read.deployment.settings("sealer")
    producer = Producer({**client_config(settings), "transactional.id": f"{read.deployment.name}/forger"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, bytes(forged), partition=partition)
    producer.commit_transaction(30)
    with processes(read.deployment, ("sealer",), tmp_path):
        outcome = run_replay(read.settings(), "audit", REPLAYED, Range(), Wanted())
    assert [(f.partition, f.offset > last[partition][-1].offset) for f in outcome.findings] == [(partition, True)]
    assert outcome.findings[0].kind in (FindingKind.INSERTED, FindingKind.ALTERED)


# -- the commands


def test_the_commands_say_what_they_did_on_stderr_and_give_rows_on_stdout(trail: Read, tmp_path: Path) -> None:
    config = tmp_path / "reader.toml"
    lines = [
        line for line in trail.deployment.stack.role_file("reader").read_text().splitlines() if "archive_bucket" not in line
    ]
    lines += [f'topic_prefix = "{trail.deployment.topic_prefix}"', f'deployment = "{trail.deployment.name}"']
    config.write_text("\n".join([*lines, f'archive_bucket = "{trail.deployment.bucket}"']))
    run = CliRunner()
    common = ["--purpose", "audit", "--config", str(config)]
    found = run.invoke(build(), ["search", "ticket:CHG-7", *common, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["total"] == len(trail.where(ticket="CHG-7"))
    assert "access recorded as" in found.stderr
    wrong = run.invoke(build(), ["search", "tikcet:CHG-7", *common])
    assert wrong.exit_code == 1 and "did you mean ticket?" in wrong.stderr
    assert run.invoke(build(), ["replay", *common, "--from-offset", "3"]).exit_code == 2
    dry = run.invoke(build(), ["replay", *common, "--dry-run", "--json", "--tenant", "acme", "--source", "chat"])
    assert dry.exit_code == 0 and json.loads(dry.stdout)["tenants"] == {"acme": EACH * 3 // 4}
    assert run.invoke(build(), ["show", "nonsense", *common]).exit_code == 2
    event_id = next(iter(trail.where(ticket="CHG-7")))
    shown_of(trail.settings(), event_id)
    shown = run.invoke(build(), ["show", event_id, *common])
    assert shown.exit_code == 0 and "hot_search" in shown.stdout
