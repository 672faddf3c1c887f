"""Loading an edited policy: in the archive before it is in force, in the trail before and after, taken up by what runs."""

from __future__ import annotations

import json
import os
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from auditor.archive import ArchiveReader
from auditor.cli import build
from auditor.commands.verify import verify_store
from auditor.policy import Authority, difference, load
from kafkaio.reader import PartitionReader
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.policy import DAY_MS, Policy
from schemas.policy_files import PolicyFiles, install
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ConfigError
from sealtrail.layout import CHAINS, policy_pair_key
from sealtrail.seal import Kind, LogClass, Seal, decode_seal, decode_sealed_event
from sealtrail.segment import decode_segment
from sinks.archive.assembly import publish_documents
from tests.conftest import BUCKETS, RAW_PARTITIONS, Deployment, wait_until
from tests.pipeline import draft, processes

BUCKET = BUCKETS[3]  # shared with nothing that leaves damage
Event = dict[str, Any]


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A copy of the packaged policy to edit."""
    folder = tmp_path / "edited"
    with resources.as_file(resources.files("schemas") / "policy") as packaged:
        shutil.copytree(packaged, folder)
    return folder


def edit(folder: Path, old: str, new: str, place: str = "base.toml") -> None:
    path = folder / place
    text = path.read_text("utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), "utf-8")


OPERATIONAL = "retention = { archive_days = 366, hot_days = 90 }"
LONGER = "retention = { archive_days = 400, hot_days = 60 }"


def files_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text("utf-8") for p in sorted(folder.rglob("*.toml"))}


# -- the files


def test_a_version_is_taken_up_whole_and_earlier_ones_are_still_known(tmp_path: Path, edited: Path) -> None:
    link, now = tmp_path / "policy", [0.0]
    install(link, Policy.load(edited), files_of(edited))
    policies = PolicyFiles(link, lambda: now[0])
    first = policies.current()
    edit(edited, OPERATIONAL, OPERATIONAL.replace("366", "100"))
    install(link, Policy.load(edited), files_of(edited))
    assert policies.current() is first, "looked at too early"
    now[0] = 2.0
    second = policies.current()
    assert second.classes[LogClass.OPERATIONAL].archive_days == 100
    for policy in (first, second):
        assert policies.has(policy.notes()[1]) and policies.of(policy.notes()[1]) is policy
    started_later = PolicyFiles(link)
    assert started_later.has(first.notes()[1]) and started_later.longest_ms == first.longest_ms
    assert not policies.has(bytes(32)) and policies.of(bytes(32)) is second
    install(link, Policy.load(edited), files_of(edited))
    assert len([*(tmp_path / "policy.versions").iterdir()]) == 2


def test_a_broken_version_is_refused_and_the_one_before_stays_in_force(tmp_path: Path, edited: Path) -> None:
    link, now = tmp_path / "policy", [0.0]
    install(link, Policy.load(edited), files_of(edited))
    policies = PolicyFiles(link, lambda: now[0])
    first = policies.current()
    broken = tmp_path / "policy.versions" / "broken"
    broken.mkdir()
    (broken / "base.toml").write_text("version = 1")
    link.unlink()
    link.symlink_to(broken)
    now[0] = 2.0
    assert policies.current() is first
    now[0] = 4.0
    assert policies.current() is first


def test_a_plain_folder_is_not_moved_and_is_read_once(tmp_path: Path, edited: Path) -> None:
    with pytest.raises(ConfigError, match="no link"):
        install(edited, Policy.load(edited), files_of(edited))
    now = [0.0]
    policies = PolicyFiles(edited, lambda: now[0])
    first = policies.current()
    edit(edited, OPERATIONAL, LONGER)
    now[0] = 5.0
    assert policies.current() is first


# -- the difference


def test_the_difference_names_each_change_by_file_and_path(edited: Path) -> None:
    before = Policy.load()
    edit(edited, OPERATIONAL, LONGER)
    edit(edited, 'name = "login"\nclass = "security"', 'name = "login"\nclass = "admin"')
    (edited / "tenants" / "acme.toml").write_text(
        'version = 1\ntenant = "acme"\n[retention.debug]\narchive_days = 20\nhot_days = 7\n'
    )
    found = {(c.scope, c.path): (c.before, c.after, c.retained) for c in difference(before, Policy.load(edited))}
    assert found == {
        ("base", "/classes/operational/retention/archive_days"): (366, 400, "operational"),
        ("base", "/classes/operational/retention/hot_days"): (90, 60, None),
        ("base", "/rules/login/class"): ("security", "admin", None),
        ("tenant/acme", "/retention/debug/archive_days"): (None, 20, "debug"),
        ("tenant/acme", "/retention/debug/hot_days"): (None, 7, None),
        ("tenant/acme", "/tenant"): (None, "acme", None),
        ("tenant/acme", "/version"): (None, 1, None),
    }
    assert difference(before, Policy.load()) == ()


# -- end to end


def publisher(deployment: Deployment, link: Path) -> Settings:
    return deployment.settings("publisher", policy=link, person="j.doe", archive_bucket=BUCKET)


def sealed(deployment: Deployment) -> list[tuple[Seal, Event]]:
    topic = topic_name(deployment.topic_prefix, "audit.archive")
    found = []
    with PartitionReader(deployment.settings("admin")) as reader:
        for partition in range(RAW_PARTITIONS):
            for record in reader.read_all(topic, partition):
                one = decode_sealed_event(record.value or b"")
                seal = decode_seal(one.seal)
                if seal.kind is Kind.EVENT:
                    found.append((seal, {**AUDIT_EVENT.decode(one.content.content), "policy": one.content.policy}))
    return found


def named(deployment: Deployment, name: str) -> list[tuple[Seal, Event]]:
    return [(seal, event) for seal, event in sealed(deployment) if event["event_name"] == name]


def test_an_edited_retention_is_stated_published_and_taken_up_by_what_runs(
    deployment: Deployment, tmp_path: Path, edited: Path
) -> None:
    deployment = Deployment(deployment.stack, deployment.name, deployment.topic_prefix, BUCKET)
    link = tmp_path / "policy"
    install(link, Policy.load(edited), files_of(edited))
    first = Policy.load(link)
    publish_documents(publisher(deployment, link))
    with processes(deployment, ("sealer", "sink-archive"), tmp_path, policy=str(link)):
        chat = AuditProducer(deployment.settings("chat"), "chat", "one")
        chat.emit(draft(0))
        wait_until(lambda: named(deployment, "chat.message.delivered"), what="the first event")
        edit(edited, OPERATIONAL, LONGER.replace("400", "9000"))  # beyond everything that was known before
        emitter = AuditProducer(publisher(deployment, link), "publisher", "one")
        authority = Authority("j.doe", "the auditors asked", "CHG-12", "a.smith")
        done = load(publisher(deployment, link), edited, authority, emitter)
        second = Policy.load(link)
        assert [*ArchiveReader(deployment.settings("verifier")).list(policy_pair_key(second.notes()[1]))]
        again = load(publisher(deployment, link), edited, authority, emitter)
        assert (len(done.events), again.events, again.changes) == (2, (), ())
        emitter.close(60)

        def taken_up() -> bool:
            chat.emit(draft(0))
            hashes = {event["policy"] for _, event in named(deployment, "chat.message.delivered")}
            return second.notes()[1] in hashes

        wait_until(taken_up, what="the new policy in the seals")
        chat.close(60)
        for seal, event in named(deployment, "chat.message.delivered"):
            days = {first.notes()[1]: 366, second.notes()[1]: 9000}[event["policy"]]
            assert 0 <= seal.retain_until_ms - seal.sealed_at_us // 1000 - days * DAY_MS <= DAY_MS
        count = len(sealed(deployment))
        prefix = f"{deployment.settings('sealer').authority}/{deployment.name}/"
        wait_until(lambda: archived_events(deployment, prefix) >= count, what="all in the archive")
    ((intent_seal, _),) = named(deployment, "policy.load.intended")
    ((seal, changed),) = named(deployment, "policy.retention.changed")
    assert seal.log_class is LogClass.COMPLIANCE and seal.signed and intent_seal.seq < seal.seq
    assert changed["changes"] == [{"op": "REPLACE", "path": "/retention_days", "before": "366", "after": "9000"}]
    assert (changed["ticket"], changed["object"]["id"]) == ("CHG-12", "base/operational")
    assert changed["actor"]["id"].startswith("hmac_") and changed["approver"].startswith("hmac_")
    ((_, others),) = named(deployment, "policy.rules.changed")
    assert [change["path"] for change in others["changes"]] == ["/base/classes/operational/retention/hot_days"]
    report = verify_store(deployment.settings("verifier"), prefix, [], show_progress=False)
    assert not report.findings, report.findings[:3]


def test_a_load_that_died_after_it_was_in_force_is_stated_by_the_next_one(
    deployment: Deployment, tmp_path: Path, edited: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "policy"
    authority = Authority("j.doe", "")
    install(link, Policy.load(edited), files_of(edited))
    edit(edited, OPERATIONAL, LONGER)
    with AuditProducer(publisher(deployment, link), "publisher", "one") as emitter:
        with monkeypatch.context() as patch:
            patch.setattr("auditor.policy._stated", dies)
            with pytest.raises(KeyboardInterrupt):
                load(publisher(deployment, link), edited, authority, emitter)
        assert Policy.load(link).classes[LogClass.OPERATIONAL].archive_days == 400
        done = load(publisher(deployment, link), edited, authority, emitter)
        assert [change.after for change in done.changes] == [400, 60] and len(done.events) == 2
        assert load(publisher(deployment, link), edited, authority, emitter).events == ()


def dies(*_: object) -> None:
    raise KeyboardInterrupt


def archived_events(deployment: Deployment, prefix: str) -> int:
    reader = ArchiveReader(deployment.settings("verifier"))
    segments = [decode_segment(reader.read(o.key, o.version)) for o in reader.list(f"{CHAINS}{prefix}") if not o.is_marker]
    return sum(decode_seal(seal).kind is Kind.EVENT for segment in segments for seal in segment.seals)


def test_the_commands_say_what_would_change_and_what_is_in_force(deployment: Deployment, tmp_path: Path, edited: Path) -> None:
    link = tmp_path / "policy"
    environment = {
        "SEALTRAIL_TOPIC_PREFIX": deployment.topic_prefix, "SEALTRAIL_POLICY": str(link), "SEALTRAIL_PERSON": "j.doe",
        "SEALTRAIL_ARCHIVE_BUCKET": BUCKET, "PATH": os.environ["PATH"],
    }  # fmt: skip
    config = str(deployment.stack.role_file("publisher"))

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(build(), ["policy", *arguments, "--config", config], env=environment)

    assert invoke("load", str(edited)).exit_code == 0
    edit(edited, OPERATIONAL, LONGER)
    dry = invoke("load", str(edited), "--dry-run", "--json")
    assert dry.exit_code == 0 and len(json.loads(dry.stdout)["changes"]) == 2
    before = json.loads(invoke("show", "--json").stdout)
    assert before["classes"]["OPERATIONAL"]["archive_days"] == 366
    assert before["classes"]["SECURITY"]["readers"]["auditor"] == ["audit"]
    assert before["classes"]["SECURITY"]["revealers"] == {"security-analyst": ["incident-response", "forensics"]}
    shown = invoke("show").stdout
    assert "read by operator (operations)\n" in shown and "revealed by nobody" in shown
    assert "revealed by security-analyst (incident-response, forensics)" in shown
    assert invoke("load", str(edited), "--reason", "asked", "--ticket", "CHG-1").exit_code == 0
    after = json.loads(invoke("show", "--json").stdout)
    assert after["classes"]["OPERATIONAL"]["archive_days"] == 400 and after["policy"] != before["policy"]
    edit(edited, "archive_days = 400", "archive_days = -1")
    broken = invoke("load", str(edited))
    assert broken.exit_code == 3 and "archive_days" in broken.stderr
    assert json.loads(invoke("show", "--json").stdout) == after
    environment["SEALTRAIL_POLICY"] = ""
    assert invoke("load", str(tmp_path / "nowhere")).exit_code == 3
