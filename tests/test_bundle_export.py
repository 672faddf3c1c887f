"""Exporting a bundle from a trail that runs: who may, what is recorded, what leaves, and a stranger who checks it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from auditor.archive import ArchiveReader
from auditor.cli import build
from auditor.commands.export import run_bundle
from infra.stack import Stack
from kafkaio.reader import PartitionReader
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.bundle import DISCLOSURE, FILTER, MANIFEST
from sealtrail.disclosed import Filter, decode_filter, decode_keys, decode_records
from sealtrail.errors import ConfigError, ContractError
from sealtrail.layout import CHAINS
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from sealtrail.segment import decode_segment
from sinks.archive.assembly import publish_documents
from tests.bundles import unpacked
from tests.conftest import BUCKETS, RAW_PARTITIONS, Deployment, new_deployment, wait_until
from tests.pipeline import TENANTS, draft, processes

EACH = 24
APPROVED = ("audit", "REQ-7", "A. Boss")
PLANTED = "planted-for-{}-alone"


@dataclass
class Trail:
    """A deployment that runs, and what was handed over to it."""

    deployment: Deployment
    events: dict[bytes, dict[str, Any]] = field(default_factory=dict)

    def settings(self, **flags: Any) -> Settings:
        return self.deployment.settings("reader", **{"reader_role": "auditor", "person": "j.doe", **flags})

    def export(self, wanted: Filter, file: Path, *by: str, **flags: Any) -> dict[str, Any]:
        purpose, *approval = by or APPROVED
        return run_bundle(self.settings(**flags), wanted, purpose, file, *approval)

    def where(self, tenant: str, *types: str, **fields: Any) -> set[bytes]:
        """Ids of what was handed over of a tenant, of these types."""
        return {
            event_id
            for event_id, made in self.events.items()
            if made["tenant"] == tenant and made["event_type"] in types and all(made[n] == v for n, v in fields.items())
        }

    def archived(self) -> int:
        """How many raw records are in segments."""
        reader = ArchiveReader(self.settings())
        seals = [
            decode_seal(seal)
            for stored in reader.list(f"{CHAINS}{self.settings().authority}/{self.deployment.name}/")
            for seal in decode_segment(reader.read(stored.key, stored.version)).seals
        ]
        return sum(seal.kind is Kind.EVENT for seal in seals)

    def stated(self) -> list[dict[str, Any]]:
        """The reader's own events, in order."""
        found = []
        topic = topic_name(self.deployment.topic_prefix, "audit.archive")
        with PartitionReader(self.deployment.settings("admin")) as reader:
            for partition in range(RAW_PARTITIONS):
                for record in reader.read_all(topic, partition):
                    sealed = decode_sealed_event(record.value or b"")
                    if decode_seal(sealed.seal).kind is Kind.EVENT:
                        found.append(AUDIT_EVENT.decode(sealed.content.content))
        return [e for e in found if e["event_name"].startswith("trail.")]


@pytest.fixture(scope="module")
def trail(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trail]:
    made = Trail(new_deployment(stack, bucket=BUCKETS[3]))
    publish_documents(made.deployment.settings("publisher"))
    with processes(made.deployment, ("sealer", "sink-archive"), tmp_path_factory.mktemp("bundles")):
        for instance in ("one", "two", "three"):
            with AuditProducer(made.deployment.settings("chat"), "chat", instance) as emitter:
                for number in range(EACH * len(TENANTS) // 3):
                    event = draft(number)
                    event["object"] = {"type": "room", "id": PLANTED.format(event["tenant"])}
                    made.events[emitter.emit(event)] = event
        wait_until(lambda: made.archived() >= len(made.events), what="the events in the archive")
        yield made


def disclosed(file: Path) -> set[bytes]:
    """Event ids of the records in a bundle."""
    files = unpacked(file.read_bytes())
    return {c.event_id for name, data in files.items() if name.startswith("records/") for _, c in decode_records(data)}


def stranger(trail: Trail, file: Path) -> tuple[int, dict[str, Any]]:
    """What `python -m sealtrail` says of it."""
    command = [sys.executable, "-m", "sealtrail", str(file), "--root", str(trail.settings().root_vkey), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, json.loads(done.stdout)


def test_a_bundle_of_one_tenant_is_checked_by_a_stranger_and_holds_nothing_of_another(trail: Trail, tmp_path: Path) -> None:
    file = tmp_path / "acme.bundle"
    before = len(trail.stated())
    done = trail.export(Filter("acme"), file)
    data = file.read_bytes()
    assert disclosed(file) >= trail.where("acme", "MESSAGE", "ADMIN", "AUTHENTICATION")
    assert not disclosed(file) & {
        e for tenant in ("globex", "initech") for e in trail.where(tenant, "MESSAGE", "ADMIN", "OTHER")
    }
    assert PLANTED.format("acme").encode() in data
    for tenant in ("globex", "initech"):
        assert PLANTED.format(tenant).encode() not in data and tenant.encode() not in b"".join(
            member for name, member in unpacked(data).items() if not name.startswith(("policies/", "glossary/"))
        )
    status, report = stranger(trail, file)
    assert status == 0 and report["good"] and report["verdicts"] == {"VALID": done["records"]}
    assert report["bundle"]["export"] == done["access"] and report["bundle"]["signed_by"] == trail.settings().authority
    assert file.stat().st_mode & 0o777 == 0o600 and [path.name for path in tmp_path.iterdir()] == [file.name]
    wait_until(lambda: len(trail.stated()) == before + 2, what="what was exported")
    asked, completed = trail.stated()[before:]
    assert (asked["event_name"], asked["event_type"], asked["effect"], asked["ticket"]) == (
        "trail.exported", "EXPORT", "ATTEMPTED", "REQ-7",
    )  # fmt: skip
    assert str(UUID(bytes=asked["event_id"])) == done["access"] and asked["object"]["type"] == "bundle"
    assert (completed["event_name"], completed["causation_id"]) == ("trail.export_completed", asked["event_id"])
    assert (completed["content_ref"]["size"], completed["content_ref"]["media_type"]) == (len(data), "application/x-tar")
    assert completed["object"] == {"type": "rows", "id": str(done["records"])}


def test_classes_correlation_actor_and_time_narrow_it_and_an_actor_is_stored_hashed(trail: Trail, tmp_path: Path) -> None:
    wanted = {
        Filter("globex", ("admin",)): trail.where("globex", "ADMIN"),
        Filter("globex", ("operational",), correlation="lineage-1"): trail.where(
            "globex", "MESSAGE", correlation_id="lineage-1"
        ),
        Filter("globex", ("admin", "operational"), actor="u-1"): {
            e for e in trail.where("globex", "MESSAGE", "ADMIN") if trail.events[e]["actor"]["id"] == "u-1"
        },
        Filter("globex", ("admin",), None, time.time_ns() // 1000 - 86_400_000_000): set(),
        Filter("globex", ("admin",), time.time_ns() // 1000 - 86_400_000_000, None): trail.where("globex", "ADMIN"),
    }
    for number, (asked, events) in enumerate(wanted.items()):
        file = tmp_path / f"{number}.bundle"
        trail.export(asked, file)
        assert disclosed(file) == events, asked
        status, report = stranger(trail, file)
        assert status == 0, report
        stored = decode_filter(unpacked(file.read_bytes())[FILTER])
        assert stored.classes == asked.classes and (stored.actor or "hmac_").startswith("hmac_")
        assert b"u-1" not in file.read_bytes() or asked.actor is None


def test_what_may_not_be_exported_is_not_in_it_and_the_filter_says_which_classes_are(trail: Trail, tmp_path: Path) -> None:
    file = tmp_path / "initech.bundle"
    done = trail.export(Filter("initech"), file, "audit")  # without approval
    assert done["classes"] == ["operational"] and {"admin", "security", "compliance", "debug"} == set(done["left_out"])
    assert disclosed(file) == trail.where("initech", "MESSAGE")
    assert decode_filter(unpacked(file.read_bytes())[FILTER]).classes == ("operational",)
    assert stranger(trail, file)[0] == 0


@pytest.mark.parametrize(
    ("wanted", "by", "flags", "why"),
    [
        (Filter("acme", ("admin",)), ("audit",), {}, "nothing of this without --ticket and --approver"),
        (Filter("acme", ("debug",)), ("audit",), {}, "may see nothing of these classes for 'audit'"),
        (Filter("acme", ("debug",)), APPROVED, {}, "may see nothing of these classes for 'audit'"),
        (Filter("acme", ("debug",)), ("operations",), {"reader_role": "operator"}, "its classes never leave"),
        (Filter("acme"), ("curiosity", "T", "A"), {}, "may see nothing for 'curiosity'"),
        (Filter("acme"), APPROVED, {"reader_tenant": "globex"}, "may see nothing of this tenant for 'audit'"),
    ],
)
def test_a_refusal_is_recorded_and_there_is_no_file(
    trail: Trail, wanted: Filter, by: tuple[str, ...], flags: dict[str, str], why: str, tmp_path: Path
) -> None:
    before = len(trail.stated())
    with pytest.raises(ContractError, match=f"{why}.*; the refusal is recorded as"):
        trail.export(wanted, tmp_path / "no.bundle", *by, **flags)
    (event,) = trail.stated()[before:]
    assert (event["event_name"], event["result"], event["authorization"]["decision"]) == ("trail.exported", "DENIED", "DENY")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("tenant", "scope"), [("nobody", "tenant:nobody"), ("no@body", "tenant:hmac_")])
def test_a_refusal_is_recorded_without_the_tenants_hash_key_too(trail: Trail, tenant: str, scope: str, tmp_path: Path) -> None:
    before = len(trail.stated())
    with pytest.raises(ContractError, match=r"nothing of this tenant.*; the refusal is recorded as"):
        trail.export(Filter(tenant, actor="u-1"), tmp_path / "no.bundle", *APPROVED, reader_tenant="acme")
    (event,) = trail.stated()[before:]
    assert (event["result"], event["tenant"], event["object"]["type"]) == ("DENIED", "@deployment", "bundle")
    assert event["object"]["id"].startswith("hmac_") and any(s.startswith(scope) for s in event["authorization"]["scopes"])


def test_only_the_tenants_disclosure_keys_leave(trail: Trail, tmp_path: Path) -> None:
    keys = {}
    for tenant in ("acme", "globex"):
        trail.export(Filter(tenant, ("operational",)), tmp_path / tenant)
        keys[tenant] = decode_keys(unpacked((tmp_path / tenant).read_bytes())[DISCLOSURE])
    assert keys["acme"].keys() == keys["globex"].keys() and len(keys["acme"]) == RAW_PARTITIONS
    assert not set(keys["acme"].values()) & set(keys["globex"].values())


def test_a_file_that_cannot_be_written_and_a_tenant_without_keys_are_said_so(trail: Trail, tmp_path: Path) -> None:
    before = len(trail.stated())
    for file in (tmp_path / "no" / "x.bundle", tmp_path, Path("/"), tmp_path / ("x" * 256)):
        with pytest.raises(ConfigError, match="--bundle"):
            trail.export(Filter("acme", ("operational",)), file)
    with pytest.raises(ConfigError, match="tenant"):
        trail.export(Filter("nobody"), tmp_path / "x.bundle")
    trail.export(Filter("acme", ("operational",)), tmp_path / ("x" * 255))
    first, *more = trail.stated()[before:]  # of those that could not be written nothing was stated
    assert first["event_name"] == "trail.exported" and {event["event_name"] for event in more} <= {"trail.export_completed"}
    assert [path.name for path in tmp_path.iterdir()] == ["x" * 255]


def test_the_commands_export_and_verify(trail: Trail, tmp_path: Path) -> None:
    config = tmp_path / "reader.toml"
    lines = trail.deployment.stack.role_file("reader").read_text().splitlines()
    lines = [line for line in lines if "archive_bucket" not in line]
    lines += [f'topic_prefix = "{trail.deployment.topic_prefix}"', f'deployment = "{trail.deployment.name}"']
    config.write_text("\n".join([*lines, f'archive_bucket = "{trail.deployment.bucket}"']))
    run, file = CliRunner(), str(tmp_path / "acme.bundle")
    common = ["--config", str(config), "--json"]
    words = ["export", "--bundle", file, "--tenant", "acme", "--purpose", "audit", "--class", "operational", *common]
    done = run.invoke(build(), [*words, "--from", "2020-01-01"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["records"] == len(trail.where("acme", "MESSAGE"))
    assert run.invoke(build(), [*words, "--class", "admin"]).exit_code == 5  # the one is there, the other needs approval
    for wrong in (["--to", "2019-01-01", "--from", "2020-01-01"], ["--class", "secret"], ["--correlation", "a b"]):
        assert run.invoke(build(), [*words, *wrong]).exit_code == 1
    for usage in ([], ["--tiles", "a", "--bundle", "b"], ["--bundle", "b", "--tenant", "acme"]):
        assert run.invoke(build(), ["export", *usage, *common]).exit_code == 2
    root = ["--root", str(trail.settings().root_vkey)]
    good = run.invoke(build(), ["verify", file, *root, "--json"])
    assert good.exit_code == 0 and json.loads(good.stdout)["bundle"]["filter"]["tenant"] == "acme"
    assert run.invoke(build(), ["verify", file, "--config", str(config)]).exit_code == 0  # the root that the settings name
    assert run.invoke(build(), ["verify", file, *root, "--from", "2020-01-01"]).exit_code == 2
    assert run.invoke(build(), ["verify", str(config), *root]).exit_code == 3
    data = Path(file).read_bytes()
    assert data[:8] == MANIFEST.encode()
    Path(file).write_bytes(data.replace(PLANTED.format("acme").encode(), PLANTED.format("acmE").encode(), 1))
    assert run.invoke(build(), ["verify", file, *root]).exit_code == 1
