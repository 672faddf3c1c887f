"""Legal holds on a real archive: what is held cannot be deleted, and every half-done hold is completed by doing it again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from auditor.archive import ArchiveReader
from auditor.cli import build
from auditor.commands.hold import opened
from auditor.holds.holding import Holder, check, lift, place
from auditor.holds.registry import HOLD, Registry
from infra.stack import Stack
from kafkaio.reader import PartitionReader
from producers.audit import AuditProducer
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ContractError, EvidenceError, TransientError
from sealtrail.hold import HOLDS, Scope
from sealtrail.layout import CHAINS
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from sealtrail.segment import decode_frames, decode_segment
from sinks.archive.assembly import publish_documents
from tests.conftest import BUCKETS, RAW_PARTITIONS, Deployment, new_deployment, wait_until
from tests.pipeline import draft, processes

BUCKET = BUCKETS[3]  # shared with nothing that leaves damage


@dataclass
class Archived:
    """A deployment whose events are in the archive."""

    deployment: Deployment
    events: int

    def settings(self, role: str = "holds", **flags: Any) -> Settings:
        return self.deployment.settings(role, **({"person": "j.doe"} if role == "holds" else {}), **flags)

    @contextmanager
    def holder(self) -> Iterator[Holder]:
        with opened(self.settings()) as holder:
            yield holder

    def frames(self, tenant: str) -> int:
        """Frames of a tenant in the archive now."""
        reader = ArchiveReader(self.settings("verifier"))
        prefix = f"{CHAINS}{self.settings().authority}/{self.deployment.name}/"
        segments = [decode_segment(reader.read(o.key, o.version)) for o in reader.list(prefix)]
        objects = [reference for segment in segments for reference in segment.contents]
        frames = [frame for o in objects for frame in decode_frames(reader.read(o.name, o.version))]
        return sum(frame.tenant == tenant for frame in frames)

    def stated(self) -> list[dict[str, Any]]:
        """The hold events that are sealed."""
        topic = topic_name(self.deployment.topic_prefix, "audit.archive")
        found = []
        with PartitionReader(self.deployment.settings("admin")) as reader:
            for partition in range(RAW_PARTITIONS):
                for record in reader.read_all(topic, partition):
                    sealed = decode_sealed_event(record.value or b"")
                    if decode_seal(sealed.seal).kind is Kind.EVENT:
                        found.append(AUDIT_EVENT.decode(sealed.content.content))
        return [event for event in found if event["event_type"] == "HOLD"]


@pytest.fixture(scope="module")
def archived(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archived]:
    deployment = new_deployment(stack, bucket=BUCKET)
    publish_documents(deployment.settings("publisher"))
    made = Archived(deployment, 60)
    with processes(deployment, ("sealer", "sink-archive"), tmp_path_factory.mktemp("holds")):
        with AuditProducer(deployment.settings("chat"), "chat", "one") as emitter:
            for number in range(made.events):
                emitter.emit(draft(number))
        wait_until(lambda: made.frames("acme") >= 4, what="frames of four classes in the archive")
        yield made


@pytest.fixture
def matter(request: pytest.FixtureRequest) -> str:
    """A name of this test alone."""
    return f"m-{abs(hash(request.node.name)) % 10**9}-{time.time_ns() % 10**9}"


def client(settings: Settings) -> Any:
    assert settings.archive_access_key and settings.archive_secret_key
    return boto3.client(
        "s3",
        endpoint_url=settings.archive_endpoint,
        verify=str(settings.archive_ca),
        region_name="us-east-1",
        aws_access_key_id=settings.archive_access_key.get_secret_value(),
        aws_secret_access_key=settings.archive_secret_key.get_secret_value(),
    )


def test_a_hold_copies_the_frames_in_scope_and_no_others_under_legal_hold(archived: Archived, matter: str) -> None:
    with archived.holder() as holder:
        done = place(holder, matter, Scope("acme", ("admin", "security")), "a claim", "LEGAL-1")
        state = check(holder, holder.registry.all()[matter])
    assert done.frames == done.copied > 0
    assert (state.state, state.frames, state.problems) == ("IN FORCE", done.frames, [])
    reader = ArchiveReader(archived.settings("verifier"))
    copies = list(reader.list(f"{HOLDS}{matter}/frames/"))
    assert len(copies) == done.frames
    for copy in copies:
        (frame,) = decode_frames(reader.read(copy.key, copy.version))
        assert frame.tenant == "acme" and frame.log_class in ("admin", "security")
        lock = reader.lock(copy.key, copy.version)
        assert lock is not None and lock.legal_hold
    wait_until(lambda: [e for e in archived.stated() if e["object"]["id"] == matter], what="the event sealed")
    (event,) = [e for e in archived.stated() if e["object"]["id"] == matter]
    assert (event["event_name"], event["tenant"], event["ticket"]) == ("hold.placed", "acme", "LEGAL-1")
    assert event["actor"]["id"].startswith("hmac_") and "a claim" not in str(event)


@pytest.mark.parametrize("role", ["holds", "sink-archive", "prober", "admin"])
def test_nobody_deletes_what_is_held(archived: Archived, matter: str, role: str) -> None:
    with archived.holder() as holder:
        place(holder, matter, Scope("globex"), "", None)
    reader = ArchiveReader(archived.settings("verifier"))
    copy = next(iter(reader.list(f"{HOLDS}{matter}/frames/")))
    s3 = client(archived.settings(role))
    with pytest.raises(ClientError):
        s3.delete_object(Bucket=BUCKET, Key=copy.key, VersionId=copy.version)
    assert reader.read(copy.key, copy.version)
    if role == "admin":  # who may delete: an unlocked object beside it goes
        made = s3.put_object(Bucket=BUCKET, Key=f"{HOLDS}{matter}/control", Body=b"x")["VersionId"]
        s3.delete_object(Bucket=BUCKET, Key=f"{HOLDS}{matter}/control", VersionId=made)
        assert not list(reader.list(f"{HOLDS}{matter}/control"))


def test_placing_again_changes_nothing_and_adds_what_was_archived_since(archived: Archived, matter: str) -> None:
    scope = Scope("initech")
    with archived.holder() as holder:
        first = place(holder, matter, scope, "", None)
        again = place(holder, matter, scope, "", None)
        assert again.copied == again.frames - first.frames  # the first one's own event may have been archived meanwhile
        with AuditProducer(archived.deployment.settings("chat"), "chat", "two") as emitter:
            emitter.emit({**draft(0), "tenant": "initech"})
        wait_until(lambda: archived.frames("initech") > again.frames, what="another frame")
        more = place(holder, matter, scope, "", None)
    assert more.frames > again.frames
    assert more.copied == more.frames - again.frames


def test_a_scope_without_anything_is_a_hold_of_nothing_and_is_in_force(archived: Archived, matter: str) -> None:
    with archived.holder() as holder:
        done = place(holder, matter, Scope("octo"), "", None)
        assert check(holder, holder.registry.all()[matter]).state == "IN FORCE"
    assert done.frames == 0


def test_the_time_of_a_scope_decides(archived: Archived, matter: str) -> None:
    now_us = time.time_ns() // 1000
    with archived.holder() as holder:
        assert place(holder, f"{matter}-a", Scope("acme", (), now_us + 10**9), "", None).frames == 0
        assert place(holder, f"{matter}-b", Scope("acme", (), None, now_us), "", None).frames > 0


class Dying:
    """A part of a holder that dies at its nth call of a method, before or after it has its effect."""

    def __init__(self, inner: Any, method: str, number: int, *, after: bool) -> None:
        self._inner, self._method, self._left, self._after = inner, method, number, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._method:
            return found

        def call(*args: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise TransientError("died before")
            result = found(*args, **named)
            if self._left == 0:
                raise TransientError("died after")
            return result

        return call


DEATHS: list[tuple[str, str, int]] = [
    ("registry", "write", 1),
    ("store", "put", 1),
    ("store", "put", 3),
    ("emitter", "emit", 1),
    ("registry", "write", 2),
]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("part", "method", "number"), DEATHS)
def test_a_hold_that_died_anywhere_is_partial_and_doing_it_again_completes_it(
    archived: Archived, matter: str, part: str, method: str, number: int, after: bool
) -> None:
    scope = Scope("acme", ("operational",))
    with archived.holder() as holder:
        dying: Any = Dying(getattr(holder, part), method, number, after=after)
        with pytest.raises(TransientError, match="died"):
            place(replace(holder, **{part: dying}), matter, scope, "", None)
        known = holder.registry.all().get(matter)
        if known is not None and known.state == "PLACING":
            assert check(holder, known).state == "PARTIAL"
        done = place(holder, matter, scope, "", None)
        state = check(holder, holder.registry.all()[matter])
    assert (state.state, state.frames) == ("IN FORCE", done.frames)
    reader = ArchiveReader(archived.settings("verifier"))
    assert len(list(reader.list(f"{HOLDS}{matter}/frames/"))) == done.frames  # and no second version


def test_a_lifted_hold_holds_nothing_keeps_its_copies_and_is_recorded(archived: Archived, matter: str) -> None:
    with archived.holder() as holder:
        done = place(holder, matter, Scope("acme"), "", None)
        dying: Any = Dying(holder.store, "set_legal_hold", 1, after=True)
        with pytest.raises(TransientError):
            lift(replace(holder, store=dying), matter, "", None)
        assert check(holder, holder.registry.all()[matter]).state == "PARTIAL"
        assert lift(holder, matter, "settled", "LEGAL-2") == done.frames
        assert check(holder, holder.registry.all()[matter]).state == "LIFTED"
        for act in (lambda: lift(holder, matter, "", None), lambda: place(holder, matter, Scope("acme"), "", None)):
            with pytest.raises(ContractError, match="lifted"):
                act()
    reader = ArchiveReader(archived.settings("verifier"))
    copies = list(reader.list(f"{HOLDS}{matter}/frames/"))
    assert len(copies) == done.frames
    locks = [reader.lock(copy.key, copy.version) for copy in copies]
    assert not any(lock is not None and lock.legal_hold for lock in locks)
    wait_until(
        lambda: [e for e in archived.stated() if e["object"]["id"] == matter and e["event_name"] == "hold.lifted"],
        what="the event sealed",
    )


def test_a_frame_under_two_holds_stays_held_when_one_is_lifted(archived: Archived, matter: str) -> None:
    with archived.holder() as holder:
        place(holder, f"{matter}-a", Scope("acme"), "", None)
        place(holder, f"{matter}-b", Scope("acme"), "", None)
        lift(holder, f"{matter}-a", "", None)
        assert check(holder, holder.registry.all()[f"{matter}-b"]).state == "IN FORCE"


def test_a_hold_taken_off_behind_its_back_is_found(archived: Archived, matter: str) -> None:
    with archived.holder() as holder:
        place(holder, matter, Scope("acme"), "", None)
        copy = next(iter(holder.reader.list(f"{HOLDS}{matter}/frames/")))
        holder.store.set_legal_hold(copy.key, copy.version, on=False)
        state = check(holder, holder.registry.all()[matter])
        assert state.state == "DAMAGED" and state.problems == [f"{copy.key}: is not under legal hold"]
        place(holder, matter, Scope("acme"), "", None)  # puts it back
        assert check(holder, holder.registry.all()[matter]).state == "IN FORCE"


def test_an_archive_that_is_not_what_its_segment_says_is_not_answered_as_held(archived: Archived, matter: str) -> None:
    class Altered:
        """A store that gives other bytes of contents than were put there."""

        def __init__(self, inner: ArchiveReader) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def read(self, key: str, version: str) -> bytes:
            data = self._inner.read(key, version)
            return data[:-1] + bytes([data[-1] ^ 1]) if key.startswith("contents/") else data

    with archived.holder() as holder:
        altered: Any = Altered(holder.reader)
        with pytest.raises(EvidenceError, match="not the bytes that its segment names"):
            place(replace(holder, reader=altered), matter, Scope("acme"), "", None)
        assert check(holder, holder.registry.all()[matter]).state == "PARTIAL"


@pytest.mark.parametrize("name", ["A", "a/b", "", "x" * 64])
def test_a_wrong_name_is_refused_before_anything_is_written(archived: Archived, name: str) -> None:
    with archived.holder() as holder:
        before = holder.registry.all()
        with pytest.raises(ContractError, match="matter"):
            place(holder, name, Scope("acme"), "", None)
        assert holder.registry.all() == before


def test_another_scope_under_the_same_name_and_lifting_what_is_not_there_are_refused(archived: Archived, matter: str) -> None:
    with archived.holder() as holder:
        place(holder, matter, Scope("octo"), "", None)
        with pytest.raises(ContractError, match="another scope"):
            place(holder, matter, Scope("acme"), "", None)
        with pytest.raises(ContractError, match="not in force"):
            lift(holder, f"{matter}-none", "", None)


def test_a_record_that_cannot_be_read_stops_everybody_who_would_conclude_from_it(stack: Stack) -> None:
    deployment = new_deployment(stack, bucket=BUCKET)
    settings = deployment.settings("holds")
    with Registry(settings) as registry:
        assert registry.all() == {}
        write: Callable[..., None] = _write_raw
        write(settings, b"not avro")
        with pytest.raises(EvidenceError, match="offset 0"):
            registry.all()


def _write_raw(settings: Settings, value: bytes) -> None:
    from kafkaio.producer import IdempotentProducer

    producer = IdempotentProducer(settings, topic_name(settings.topic_prefix, "audit.holds"), "x", lambda *_: None)
    assert producer.produce(value, ()) and not producer.flush(30)


def test_the_records_schema_holds_no_value_of_an_event() -> None:
    names = {field["name"] for field in json.loads(HOLD.text)["fields"]}
    assert names == {"matter", "tenant", "classes", "from", "to", "state", "at", "ticket", "manifest", "event_id"}


def test_the_commands_place_list_and_lift(archived: Archived, matter: str, tmp_path: Path) -> None:
    config = tmp_path / "holds.toml"
    lines = archived.deployment.stack.role_file("holds").read_text().splitlines()
    lines = [line for line in lines if not line.startswith(("archive_bucket", "person"))]
    lines += [f'topic_prefix = "{archived.deployment.topic_prefix}"', f'deployment = "{archived.deployment.name}"']
    config.write_text("\n".join([*lines, f'archive_bucket = "{BUCKET}"', 'person = "j.doe"']))
    run, common = CliRunner(), ["--config", str(config)]
    placed = run.invoke(build(), ["hold", "place", matter, "--tenant", "acme", "--class", "admin", "--json", *common])
    assert placed.exit_code == 0 and json.loads(placed.stdout)["frames"] > 0
    listed = run.invoke(build(), ["hold", "list", *common])
    assert f"{matter:<32} IN FORCE" in listed.stdout
    wrong = run.invoke(build(), ["hold", "place", matter, "--tenant", "acme", "--class", "secret", *common])
    assert wrong.exit_code == 1 and "there are admin" in wrong.stderr
    lifted = run.invoke(build(), ["hold", "lift", matter, *common])
    assert lifted.exit_code == 0 and "is lifted" in lifted.stderr
