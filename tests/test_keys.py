"""The life of keys: made and certified by the root, followed by newer ones while everything runs, ended at a position."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from auditor.archive import ArchiveReader
from auditor.cli import build
from auditor.commands.verify import verify_store
from auditor.keys import end_of, positions, require_settled
from keystore import Certificates, Keystore, generate, load_keyring, load_root, signer_of, write_private
from keystore.ceremony import Root, next_name, purpose_of
from keystore.file import FileKeystore, copy_private
from processors.assembly import pipeline_of
from processors.keys import SealerKeys
from processors.records import Rejection
from producers.audit import AuditProducer
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.certified import keyring_of
from sealtrail.ending import End, EndReason, parse_end, sign_end
from sealtrail.errors import ConfigError, TransientError
from sealtrail.keyring import Keyring
from sealtrail.layout import CHAINS
from sealtrail.report import Report, Verdict
from sealtrail.seal import Kind, Reason
from sealtrail.segment import Segment, decode_segment, encode_segment
from sealtrail.session import Run, open_run
from sinks.archive.assembly import publish_documents
from sinks.archive.keys import KeyDesk
from tests import archives
from tests.archives import ROOT, Archive, built, mark_of, public_of, verify
from tests.conftest import BUCKETS, Deployment, wait_until
from tests.pipeline import draft, processes
from tests.test_ending import ARCHIVE_END, CHAIN, FIRST, SEALER_END, archive_of, rotated
from tests.trail import all_sealed, check_trail

NOW = 1_790_000_000
OURS = "audit.example/local/"


@dataclass
class Office:
    """A root, a folder of certificates and a sealer's keystore, all made by a test."""

    folder: Path

    def __post_init__(self) -> None:
        self.root = Root.create(self.folder / "root", "audit.example")
        self.certificates = self.folder / "certs"
        self.keys = self.folder / "keys"
        self.certificates.mkdir()
        self.keys.mkdir()
        write_private(self.keys, "disclosure", bytes(32))
        for name in ("sealer", "pipeline", "quarantine"):
            self.make(name, NOW - 100)

    def make(self, name: str, since_s: int, days: int = 30) -> Certificate:
        """A key with its certificate; the quarantine's private half stays elsewhere."""
        private, public = generate(name)
        assert public is not None
        if name != "quarantine":
            write_private(self.keys, name, private)
        made, note = self.root.certify(purpose_of(name).role, "audit.example", public, since_s, days)
        (self.certificates / f"{name}.cert").write_text(note)
        return made

    def end(self, key: Certificate, successor: Certificate, name: str) -> None:
        end = End(key.role, key.key_id, successor.key_id, EndReason.COMPROMISED, NOW, {})
        signer = FileKeystore(str(self.keys)).signer(name)
        (self.certificates / "x.end").write_text(sign_end(end, successor, signer.sign))

    @property
    def settings(self) -> Settings:
        vkey = self.folder / "root" / "root.vkey"
        return Settings(keys=f"file:{self.keys}", certificates=self.certificates, root_vkey=vkey)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


# The root


def test_a_root_is_made_once_for_its_owner_alone_and_certifies_what_the_verifier_accepts(tmp_path: Path) -> None:
    root = Root.create(tmp_path / "root", "audit.example")
    private = tmp_path / "root" / "root.key"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert stat.S_IMODE(private.parent.stat().st_mode) == 0o700
    assert load_root(tmp_path / "root" / "root.vkey") == root.key
    assert private.read_bytes().hex() not in repr(root)
    with pytest.raises(ConfigError, match="cannot write"):
        Root.create(tmp_path / "root", "audit.example")
    made, note = Root.open(tmp_path / "root").certify(Role.SEALER, "audit.example", bytes(32), NOW, 10)
    (tmp_path / "x.cert").write_text(note)
    assert load_keyring(tmp_path, root.key).find(made.key_id, Role.SEALER) == made
    assert (made.not_before_s, made.not_after_s) == (NOW, NOW + 10 * 86_400)
    with pytest.raises(ConfigError, match="unusable"):
        root.certify(Role.SEALER, "two words", bytes(32), NOW)


def test_a_root_whose_halves_do_not_belong_together_is_refused(tmp_path: Path) -> None:
    Root.create(tmp_path / "one", "audit.example")
    Root.create(tmp_path / "two", "audit.example")
    shutil.copy(tmp_path / "two" / "root.vkey", tmp_path / "one" / "root.vkey")
    with pytest.raises(ConfigError, match="vkey of another"):
        Root.open(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "role", "owner"),
    [
        ("sealer", Role.SEALER, None),
        ("sealer@12", Role.SEALER, None),
        ("archive", Role.ARCHIVE, None),
        ("auditor", Role.AUDITOR, None),
        ("pipeline@2", Role.PIPELINE, None),
        ("quarantine", Role.QUARANTINE, None),
        ("source-github@3", Role.SOURCE, "github"),
        ("tenant-data-@deployment", Role.TENANT_DATA, "@deployment"),
        ("tenant-data-@deployment@2", Role.TENANT_DATA, "@deployment"),
        ("tenant-subject-acme", Role.TENANT_SUBJECT, "acme"),
    ],
)
def test_what_a_key_is_for_stands_in_its_name(name: str, role: Role, owner: str | None) -> None:
    purpose = purpose_of(name)
    assert (purpose.role, purpose.owner) == (role, owner)


@pytest.mark.parametrize("name", ["root", "disclosure", "tenant-hash-acme", "sealer@1", "sealer@02", "sealer-2", "painter"])
def test_what_is_not_certified_has_no_purpose(name: str) -> None:
    with pytest.raises(ConfigError):
        purpose_of(name)


def test_a_successor_has_the_next_number(tmp_path: Path) -> None:
    for name in ("sealer", "sealer@2", "sealer@10"):
        write_private(tmp_path, name, bytes(32))
    keystore = FileKeystore(str(tmp_path))
    assert keystore.generations("sealer") == ("sealer@10", "sealer@2", "sealer")
    assert next_name(keystore, "sealer") == next_name(keystore, "sealer@2") == "sealer@11"
    with pytest.raises(ConfigError, match="could have a successor"):
        next_name(keystore, "archive")


# What running processes take up


def test_a_folder_of_certificates_is_read_again_when_it_changed_and_a_bad_file_leaves_what_was_known(office: Office) -> None:
    now = [0.0]
    certificates = Certificates(office.certificates, office.root.key, lambda: now[0])
    first = certificates.current()
    made = office.make("sealer@2", NOW)
    assert certificates.current() is first, "looked at once a second"
    now[0] = 2.0
    second = certificates.current()
    assert second.find(made.key_id, Role.SEALER) == made
    half = office.certificates / "half.cert"
    half.write_text("sealtrail/certificate/v1\n")
    now[0] = 4.0
    assert certificates.current() is second
    half.write_bytes((office.certificates / "sealer.cert").read_bytes())  # its writer has finished
    assert certificates.refreshed() is second, "what could not be used is tried once a second"
    now[0] = 6.0
    assert certificates.current() is not second


def test_a_folder_that_cannot_be_listed_leaves_what_was_known(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = Certificates(office.certificates, office.root.key, lambda: 0.0)
    first = certificates.current()

    def refused(_: Path) -> Any:
        raise OSError(24, "Too many open files")

    office.make("sealer@2", NOW)
    monkeypatch.setattr(Path, "iterdir", refused)
    assert certificates.refreshed() is first
    with pytest.raises(ConfigError, match="Too many open files"):
        load_keyring(office.certificates, office.root.key)


def test_a_certificate_that_comes_while_the_folders_time_stands_still_is_seen(office: Office) -> None:
    certificates = Certificates(office.certificates, office.root.key, lambda: 0.0)
    first, before = certificates.current(), office.certificates.stat()
    made = office.make("sealer@2", NOW)
    os.utime(office.certificates, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert certificates.current() is first, "not looked at"
    second = certificates.refreshed()
    assert second.find(made.key_id, Role.SEALER) == made
    assert certificates.refreshed() is second


def test_the_archive_sink_knows_a_sealers_new_key_at_once(office: Office) -> None:
    """A sealer may look a moment earlier than the sink: a seal by a key that is certified must not stop a partition."""
    certificates = Certificates(office.certificates, office.root.key, lambda: 0.0)
    desk = KeyDesk(certificates, FileKeystore(str(office.keys)), OURS, lambda: NOW)
    made, archive = office.make("sealer@2", NOW - 10), office.make("archive", NOW - 10)
    assert desk.sealer(made.key_id) == made
    second = office.make("archive@2", NOW - 5)
    assert set(desk.archive()) == {archive, second}
    assert desk.sealer(bytes(32)) is None


def test_one_signs_with_the_newest_key_that_is_certified_fits_and_did_not_end(office: Office) -> None:
    keystore: Keystore = FileKeystore(str(office.keys))

    def newest() -> bytes:
        keyring = load_keyring(office.certificates, office.root.key)
        return signer_of(keystore, "sealer", Role.SEALER, keyring, NOW, lambda c: c.speaks_for(OURS))[1].key_id

    first = newest()
    write_private(office.keys, "sealer@2", generate("sealer@2")[0])
    assert newest() == first, "not certified"
    third = office.make("sealer@3", NOW - 10)
    assert newest() == third.key_id
    fourth = office.make("sealer@4", NOW + 100)
    assert newest() == third.key_id, "its time has not come"
    fifth = office.make("sealer@5", NOW - 5)
    assert newest() == fifth.key_id
    office.end(fifth, fourth, "sealer@4")
    with pytest.raises(ConfigError, match=r"x\.end"):
        newest()  # made before its successor was certified
    (office.certificates / "x.end").unlink()
    office.end(third, fifth, "sealer@5")
    assert newest() == fifth.key_id


def test_a_private_half_that_cannot_be_used_leaves_the_one_before_in_use(office: Office) -> None:
    keyring = load_keyring(office.certificates, office.root.key)
    (office.keys / "sealer@2.key").write_bytes(b"")
    found = signer_of(FileKeystore(str(office.keys)), "sealer", Role.SEALER, keyring, NOW, lambda c: c.speaks_for(OURS))
    assert found[0].public == FileKeystore(str(office.keys)).signer("sealer").public


def test_a_key_is_given_to_another_holder_once_and_never_replaces_one(office: Office, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        copy_private(office.keys, other, "sealer")
    assert (other / "sealer.key").read_bytes() == (office.keys / "sealer.key").read_bytes()
    write_private(other, "pipeline", bytes(range(32)))
    with pytest.raises(ConfigError, match="holds another"):
        copy_private(office.keys, other, "pipeline")
    assert [*other.glob(".*")] == [], "nothing is left half written"


@dataclass
class Running:
    """A sealer's keys with clocks of their own."""

    office: Office
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.keys = SealerKeys(self.office.settings, lambda: NOW + self.seconds, lambda: self.seconds)
        self.pipeline = pipeline_of(self.office.settings, self.keys)

    def look(self) -> None:
        self.seconds += 2
        self.pipeline = self.keys.renewed(self.pipeline)


def test_a_sealer_takes_up_newer_keys_between_transactions(office: Office) -> None:
    running = Running(office)
    before = running.pipeline
    assert running.keys.renewed(before) is before
    running.look()
    assert running.pipeline is before, "nothing changed"
    second, opener = office.make("sealer@2", NOW - 10), office.make("pipeline@2", NOW - 10)
    running.look()
    assert running.pipeline.sealer.certificate == second != before.sealer.certificate
    assert opener.key_id in running.pipeline.authenticate._openers and len(running.pipeline.authenticate._openers) == 2
    assert running.pipeline.sealer.may_seal(NOW)


def test_a_key_whose_time_comes_later_is_taken_up_when_it_comes(office: Office) -> None:
    running = Running(office)
    second = office.make("sealer@2", NOW + 5)
    running.look()
    assert running.pipeline.sealer.certificate != second
    running.seconds = 10
    running.look()
    assert running.pipeline.sealer.certificate == second


def test_one_purpose_without_a_key_does_not_keep_the_others_from_being_renewed(office: Office) -> None:
    running = Running(office)
    (office.certificates / "quarantine.cert").unlink()
    second = office.make("sealer@2", NOW - 10)
    running.look()
    assert running.pipeline.sealer.certificate == second


def test_nothing_is_sealed_with_a_key_that_ended(office: Office) -> None:
    running = Running(office)
    first = running.pipeline.sealer.certificate
    second = office.make("sealer@2", NOW - 10)
    office.end(first, second, "sealer@2")
    private = (office.keys / "sealer@2.key").rename(office.folder / "elsewhere.key")
    running.look()
    assert not running.pipeline.sealer.may_seal(NOW), "its key ended, and it has no other"
    private.rename(office.keys / "sealer@2.key")
    running.look()
    assert running.pipeline.sealer.certificate == second and running.pipeline.sealer.may_seal(NOW)


def opening(office: Office, pipeline: bytes) -> bytes:
    """The session header of a run of source chat, opened to a pipeline key."""
    private, public = generate("source-chat")
    assert public is not None
    _, note = office.root.certify(Role.SOURCE, "chat", public, NOW - 100)
    (office.certificates / "source-chat.cert").write_text(note)
    write_private(office.keys, "source-chat", private)
    signer = FileKeystore(str(office.keys)).signer("source-chat")
    run = Run("chat", "one", (NOW * 1000).to_bytes(6, "big") + bytes(10))
    return open_run(run, "audit.example/local/audit.raw", bytes(32), pipeline, public, signer.sign)


def test_a_run_opened_to_a_certified_key_that_is_not_here_yet_waits_and_any_other_is_refused(office: Office) -> None:
    running = Running(office)
    ours = running.pipeline.authenticate
    private, public = generate("pipeline@2")
    assert public is not None
    header = opening(office, public)
    running.look()
    assert "not this sealer's" in str(ours._verify(header, NOW))
    _, note = office.root.certify(Role.PIPELINE, "audit.example", public, NOW - 10)
    (office.certificates / "pipeline@2.cert").write_text(note)
    running.look()
    with pytest.raises(TransientError, match="not in this keystore yet"):
        ours._verify(header, NOW)
    write_private(office.keys, "pipeline@2", private)
    running.look()
    assert not isinstance(ours._verify(header, NOW), str)


def test_no_run_of_a_source_whose_key_ended_is_accepted_even_one_that_was_known(office: Office) -> None:
    running = Running(office)
    ours = running.pipeline.authenticate
    header = opening(office, FileKeystore(str(office.keys)).opener("pipeline").public)
    running.look()
    known = ours._session(header, NOW)
    assert ours._session(header, NOW) is known
    private, public = generate("source-chat@2")
    assert public is not None
    successor, note = office.root.certify(Role.SOURCE, "chat", public, NOW - 10)
    (office.certificates / "source-chat@2.cert").write_text(note)
    write_private(office.keys, "source-chat@2", private)
    office.end(running.keys.keyring.of_role(Role.SOURCE)[0], successor, "source-chat@2")
    running.look()
    with pytest.raises(Rejection, match="key ended"):
        ours._session(header, NOW)


# Where a key ended


def keyring_in(archive: Archive) -> Keyring:
    return keyring_of(archive, ROOT, Report())


def of(archive: Archive, role: Role, name: str) -> Certificate:
    return next(c for c in keyring_in(archive).of_role(role) if c.public == public_of(name))


def test_a_key_ends_after_the_last_seal_that_it_signed_or_swore_to() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    (sealer,) = positions(archive, ROOT, FIRST)
    assert (sealer.chain, sealer.mark, sealer.doubted) == (CHAIN, mark_of(entries, SEALER_END), "")
    assert sealer.quiet_s == (entries[19].seal.sealed_at_us - entries[SEALER_END - 1].seal.sealed_at_us) / 1e6
    assert positions(archive, ROOT, of(archive, Role.ARCHIVE, "archive"))[0].mark == mark_of(entries, ARCHIVE_END)
    assert positions(archive, ROOT, of(archive, Role.SOURCE, "source-github"))[0].mark == mark_of(entries, 20)
    assert positions(archive, ROOT, replace(FIRST, name="audit.example/other")) == []


def test_what_it_states_verifies_and_names_every_chain_where_the_key_counts() -> None:
    b = built()
    found = positions(b.archive, ROOT, FIRST)
    assert [(p.chain, p.mark and p.mark.size, p.quiet_s) for p in found] == [(chain, 23, 0.0) for chain in b.chains]
    marks = {p.chain: p.mark for p in found if p.mark is not None}
    assert verify(archives.ending(b.archive, "sealer", Role.SEALER, marks)).good


def test_a_stolen_key_counts_up_to_the_last_checkpoint_before_it_was() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    stolen = archives.START_S + 10  # all checkpoints of these archives
    assert positions(archive, ROOT, FIRST, stolen)[0].mark == mark_of(entries, SEALER_END)
    assert positions(archive, ROOT, FIRST, stolen - 1)[0].mark is None


def test_a_superseded_key_ends_only_where_others_have_signed_long_enough_in_every_chain_that_there_is() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    found = positions(archive, ROOT, FIRST)
    require_settled(FIRST, found, [CHAIN], found[0].quiet_s)
    for problem, arguments in {
        "wait until it is 1 s": (FIRST, found, [CHAIN], 1.0),
        "others have signed for 0 s": (FIRST, positions(built().archive, ROOT, FIRST), [CHAIN], 0.0),
        "nothing of other is archived": (FIRST, found, [CHAIN, "other"], 0.0),
        "nothing that this key signed": (FIRST, [replace(found[0], mark=None)], [], 0.0),
        "does not verify: X": (FIRST, [replace(found[0], doubted="X")], [], 0.0),
        "ends with its certificate": (of(archive, Role.SOURCE, "source-github"), found, [], 0.0),
    }.items():
        with pytest.raises(ConfigError, match=problem):
            require_settled(*arguments)
    assert end_of(FIRST, FIRST, EndReason.COMPROMISED, found, NOW).marks == {CHAIN: mark_of(entries, SEALER_END)}
    auditor = of(archive, Role.AUDITOR, "auditor")
    with pytest.raises(ConfigError, match="has no position"):
        end_of(auditor, auditor, EndReason.SUPERSEDED, [], NOW)


def unsigned(segment: Segment) -> Segment:
    """A signature stripped: neither tree nor statement binds it."""
    return replace(segment, signatures=segment.signatures[:-1])


DAMAGES = {
    "no checkpoint": lambda segment: replace(segment, checkpoint=""),
    "a seal twice": lambda segment: replace(segment, seals=(segment.seals[0], *segment.seals[:-1])),
    "a signature less": unsigned,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_positions_are_taken_from_what_verifies_alone(damage: str) -> None:
    entries, keys = rotated()
    whole = archive_of(entries, keys)
    key = whole.keys("chains/")[1]
    damaged = whole.replaced(key, encode_segment(DAMAGES[damage](decode_segment(whole.data(key)))))
    (position,) = positions(damaged, ROOT, FIRST)
    assert position.doubted and position.mark == mark_of(entries, 5), "the segment before the damage"


def test_a_second_version_put_there_with_the_old_keys_is_not_what_a_successor_signs() -> None:
    entries, keys = rotated()
    archive = archive_of(entries, keys)
    archive.put(archive.keys("chains/")[3], archive.data(archive.keys("chains/")[2]), 10**15)
    archive.put("chains/rubbish", b"rubbish", 10**15)
    (position,) = positions(archive, ROOT, FIRST)
    assert position.doubted.startswith("HIDDEN at seq 16") and position.mark == mark_of(entries, SEALER_END)


# All of it, running

BUCKET = BUCKETS[3]


@dataclass
class Site:
    """A deployment with keys of its own, which a test may follow and end."""

    deployment: Deployment
    folder: Path

    def invoke(self, *arguments: str) -> Any:
        environment = {
            "SEALTRAIL_TOPIC_PREFIX": self.deployment.topic_prefix, "SEALTRAIL_DEPLOYMENT": self.deployment.name,
            "SEALTRAIL_ARCHIVE_BUCKET": BUCKET, "SEALTRAIL_PERSON": "j.doe", "SEALTRAIL_KEYS": f"file:{self.folder}/publisher",
            "SEALTRAIL_CERTIFICATES": f"{self.folder}/certs", "PATH": os.environ["PATH"],
        }  # fmt: skip
        config = str(self.deployment.stack.role_file("publisher"))
        done = CliRunner().invoke(build(), ["keys", *arguments, "--config", config], env=environment)
        assert done.exit_code in (0, 3), done.output
        return done

    def run(self, *arguments: str) -> str:
        done = self.invoke(*arguments)
        assert done.exit_code == 0, done.stderr
        return str(done.stdout)

    def settings(self, role: str) -> Settings:
        return self.deployment.settings(
            role,
            archive_bucket=BUCKET,
            keys=f"file:{self.folder / role}",
            certificates=self.folder / "certs",
        )

    def key_ids(self, role: str, name: str) -> list[str]:
        rows = json.loads(self.run("list", "--json"))
        return [row["key_id"] for row in rows if (row["role"], row["name"]) == (role, name)]

    @property
    def prefix(self) -> str:
        return f"audit.example/{self.deployment.name}/"


@pytest.fixture
def site(deployment: Deployment, tmp_path: Path) -> Site:
    """The stack's keys, but with a sealer's, an archive's, a source's and a pipeline's key of this deployment alone."""
    deployment = Deployment(deployment.stack, deployment.name, deployment.topic_prefix, BUCKET)
    folder = tmp_path / "keys"
    shutil.copytree(deployment.stack.places.keys, folder)
    shutil.copytree(deployment.stack.places.root, tmp_path / "root")
    made = Site(deployment, folder)
    ours = f"audit.example/{deployment.name}"
    for role, name in (("sealer", "sealer"), ("sink-archive", "archive"), ("chat", "source-chat"), ("sealer", "pipeline")):
        (folder / role / f"{name}.key").unlink()
        (folder / "certs" / f"{name}.cert").unlink()
        owner = [] if name.startswith("source-") else ["--for", ours]
        where = ["--root", str(tmp_path / "root"), "--keys", str(folder / role), "--into", str(folder / "certs")]
        made.run("certify", name, *where, *owner)
    publish_documents(made.settings("publisher"))
    return made


class Talker:
    """A connector that emits all the time."""

    def __init__(self, settings: Settings) -> None:
        self.emitter = AuditProducer(settings, "chat", "one")
        self.sent = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)  # a test that fails must not wait for it
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.emitter.emit(draft(self.sent))
            self.sent += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.emitter.close(60)


def signers(site: Site) -> set[str]:
    """The sealers' keys that signed something in the archive."""
    reader = ArchiveReader(site.settings("verifier"))
    segments = [decode_segment(reader.read(o.key, o.version)) for o in reader.list(CHAINS + site.prefix)]
    return {signature.key_id.hex() for segment in segments for _, signature in segment.signatures}


def test_keys_are_followed_under_load_and_the_old_ones_end_at_a_position(site: Site, tmp_path: Path) -> None:
    root, keys = ["--root", str(tmp_path / "root")], site.folder
    ours = f"audit.example/{site.deployment.name}"
    vkey = site.settings("verifier").root_vkey
    flags = {"keys": f"file:{keys}/{{role}}", "certificates": str(keys / "certs"), "archive_bucket": BUCKET}
    assert vkey is not None
    with processes(site.deployment, ("sealer", "sink-archive"), tmp_path, **flags):
        talker = Talker(site.settings("chat"))
        wait_until(lambda: len(signers(site)) == 1, what="a first segment")
        for arguments in (
            ["sealer", "--keys", str(keys / "sealer")],
            ["archive", "--keys", str(keys / "sink-archive")],
            ["pipeline", "--keys", str(keys / "sealer")],
            ["tenant-data-acme", "--keys", str(keys / "verifier"), "--also", str(keys / "reader")],
            ["source-chat", "--keys", str(keys / "chat")],
        ):
            site.run("rotate", *arguments, *root)
        old, new = site.key_ids("sealer", ours)
        wait_until(lambda: signers(site) == {old, new}, what="seals by the new key", deadline_s=60)
        talker.stop()
        again = Talker(site.settings("chat"))  # a connector takes up its key, and the pipeline's, when it starts
        of_source = site.key_ids("source", "chat")[0]

        def ended(key_id: str, folder: str, *more: str) -> bool:
            settled = [] if more else ["--settled", "1"]
            done = site.invoke("revoke", key_id, "--keys", str(keys / folder), *settled, *more)
            assert done.exit_code == 0 or "others have signed for" in done.stderr, done.stderr
            return bool(done.exit_code == 0)

        wait_until(lambda: ended(old, "sealer"), what="the new sealer's key in every chain", deadline_s=90)
        wait_until(lambda: ended(site.key_ids("archive", ours)[0], "sink-archive"), what="the new archive's", deadline_s=90)
        assert ended(of_source, "chat", "--compromised", "--reason", "a laptop was lost")
        wait_until(lambda: ended_for_the_sealer(site, tmp_path) == 3, what="the end, taken up by the sealer")
        thief = Talker(site.settings("chat").model_copy(update={"certificates": stolen(keys, tmp_path)}))
        wait_until(lambda: thief.sent > 20, what="events under the stolen key")
        thief.stop()
        again.stop()
        wait_until(lambda: all_sealed(site.deployment), what="everything sealed", deadline_s=60)
    counts = check_trail_with(site)
    opened = counts.of(Kind.EVENT)
    assert counts.of(Kind.REJECTED, Reason.NOT_AUTHENTIC) >= 20, "what the stolen key opened is refused"
    assert opened >= talker.sent + again.sent, "and nothing else"
    report = verify_store(site.settings("verifier"), site.prefix, [], show_progress=False)
    assert not report.findings, report.findings[:3]
    assert set(report.verdicts) == {Verdict.VALID}
    states = {row["key_id"]: row["state"] for row in json.loads(site.run("list", "--json"))}
    assert states[old] == states[of_source] == "ended" and states[new] == "in use"


def ended_for_the_sealer(site: Site, tmp_path: Path) -> int:
    """How many keys have ended, as far as the sealer knows."""
    lines = (tmp_path / f"{site.deployment.name}-sealer.log").read_text().splitlines()
    return int(json.loads(next(line for line in reversed(lines) if "certificates taken up" in line))["ended"])


def stolen(keys: Path, tmp_path: Path) -> Path:
    """The certificates as they were before the end was stated: what a thief would go on with."""
    folder = tmp_path / "thief"
    shutil.copytree(keys / "certs", folder)
    for path in (*folder.glob("*.end"), *folder.glob("source-chat@2*.cert")):
        path.unlink()
    (keys / "chat" / "source-chat@2.key").rename(tmp_path / "source-chat@2.key")
    return folder


def check_trail_with(site: Site) -> Any:
    """The whole trail's invariant, with the certificates of this site."""

    class Here(Deployment):
        def settings(self, role: str, **flags: object) -> Settings:
            return super().settings(role, certificates=site.folder / "certs", **flags)

    d = site.deployment
    return check_trail(Here(d.stack, d.name, d.topic_prefix, d.bucket))


def test_the_commands_refuse_what_would_not_hold(site: Site, tmp_path: Path) -> None:
    keys, root = site.folder, ["--root", str(tmp_path / "root")]
    folder = str(keys / "sealer")
    refusals = {
        ("certify", "sealer", *root, "--keys", folder): "a certificate is not renewed",
        ("certify", "sealer", *root): "either --keys or --public",
        ("certify", "disclosure", *root, "--keys", folder): "not certified",
        ("rotate", "archive", *root, "--keys", folder): "could have a successor",
        ("rotate", "disclosure", *root, "--keys", folder): "not certified",
        ("revoke", "no key", "--keys", folder): "0 certified keys",
        ("revoke", site.key_ids("sealer", f"audit.example/{site.deployment.name}")[0], "--keys", folder): "has no successor",
    }
    for arguments, problem in refusals.items():
        done = site.invoke(*arguments)
        assert done.exit_code == 3 and problem in done.stderr, (arguments, done.stderr)
    write_private(keys / "sealer", "sealer@2", generate("sealer@2")[0])
    site.run("rotate", "sealer", *root, "--keys", folder, "--also", str(keys / "holds"))
    assert not [*(keys / "sealer").glob("sealer@3*")], "a run that died half way is finished"
    assert (keys / "holds" / "sealer@2.key").read_bytes() == (keys / "sealer" / "sealer@2.key").read_bytes()
    rows = json.loads(site.run("list", "--json"))
    ours = f"audit.example/{site.deployment.name}"
    assert [row["state"] for row in rows if (row["role"], row["name"]) == ("sealer", ours)] == ["followed", "in use"]
    first = site.key_ids("sealer", ours)[0]
    done = site.invoke("revoke", first, "--keys", folder)
    assert done.exit_code == 3 and "nothing that this key signed" in done.stderr
    done = site.invoke("revoke", first, "--keys", folder, "--since", "2026-01-01")
    assert done.exit_code == 3 and "--compromised" in done.stderr


def test_a_tenants_subject_key_is_followed_and_each_of_its_holders_keeps_the_one_before(site: Site, tmp_path: Path) -> None:
    keys, name, copy = site.folder, "tenant-subject-acme", tmp_path / "second reader"
    shutil.copytree(keys / "reader", copy)
    before = FileKeystore(str(keys / "reader")).opener(name)
    site.run("rotate", name, "--root", str(tmp_path / "root"), "--keys", str(keys / "reader"), "--also", str(copy))
    for folder in (keys / "reader", copy):
        keystore = FileKeystore(str(folder))
        assert keystore.generations(name) == (f"{name}@2", name)
        assert keystore.opener(name).key_id == before.key_id
    after = FileKeystore(str(copy)).opener(f"{name}@2")
    keyring = load_keyring(keys / "certs", load_root(tmp_path / "root" / "root.vkey"))
    newest = keyring.newest(Role.TENANT_SUBJECT, time.time(), lambda certificate: certificate.name == "acme")
    assert newest is not None and newest.public == after.public, "what seals tokens is told of the new one"
    assert site.key_ids("tenant-subject", "acme") == [before.key_id.hex(), after.key_id.hex()]


def test_who_ends_a_key_states_anew_what_that_key_had_stated(site: Site, tmp_path: Path) -> None:
    keys, root, ours = site.folder, ["--root", str(tmp_path / "root")], f"audit.example/{site.deployment.name}"
    folder = str(keys / "sealer")
    for number in (2, 3):
        site.run("rotate", "sealer", *root, "--keys", folder)
        stated = json.loads(
            site.run("revoke", site.key_ids("sealer", ours)[number - 2], "--keys", folder, "--compromised", "--json")
        )
        assert stated["reason"] == "compromised"
    first, second, third = (bytes.fromhex(key_id) for key_id in site.key_ids("sealer", ours))
    ends = [parse_end(path.read_bytes()) for path in (keys / "certs").glob("*.end")]
    assert {(end.key_id, end.successor) for end in ends} == {(first, second), (first, third), (second, third)}
    published = {stored.key for stored in ArchiveReader(site.settings("verifier")).list("keys/") if stored.key.endswith(".end")}
    assert {f"keys/{path.name}" for path in (keys / "certs").glob("*.end")} <= published
    keyring = load_keyring(keys / "certs", load_root(keys.parent / "root" / "root.vkey"))
    assert keyring.ended(first) and keyring.ended(second) and not keyring.ended(third)
