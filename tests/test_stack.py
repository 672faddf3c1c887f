"""The local stack's own promises: downloads checked, processes told apart, one clear line for what goes wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from infra import artifacts, keys, lock, process, roles, server
from infra.cli import EXIT_CONFIGURATION
from infra.lock import LOCK_FILE, Artifact
from infra.places import HOST, Places, Ports
from infra.process import ProcessRecord
from infra.report import Reporter
from infra.server import Launch
from infra.stack import MARKER, Stack
from kafkaio.admin import provision
from schemas import catalogue
from sealtrail.certificate import Role, verify_certificate
from sealtrail.errors import ConfigError, TransientError
from sealtrail.note import parse_vkey
from tests.conftest import BUCKETS, RAW_PARTITIONS, Deployment, wait_until
from tests.test_access import client

QUIET = Reporter(quiet=True)
JAR = "org.example:thing:1.0:jar"


# -- the lock file


def test_the_lock_names_kafkas_jars_opensearch_and_the_payloads() -> None:
    found = lock.load()
    jars = [artifact for artifact in found if artifact.coordinate.endswith(":jar")]
    assert len(jars) == 46  # Kafka's main jar, the 44 it needs, and the logging bridge
    assert [artifact.coordinate for artifact in found if artifact.coordinate.endswith(":zip")] == [
        "org.opensearch.distribution.integ-test-zip:opensearch:3.6.0:zip"
    ]
    assert [artifact.coordinate for artifact in found if artifact.registry == "npm"] == list(lock.NPM)
    assert lock.parse("".join(artifact.line() + "\n" for artifact in found)) == found


def test_the_lock_gives_every_wheel_a_hash_and_no_address() -> None:
    text = LOCK_FILE.read_text()
    assert not re.search(r"[a-z]+://", text)
    wheels = re.findall(r"^[a-z0-9][\w.-]*==\S+.*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert len(wheels) > 60
    assert all("--hash=sha256:" in wheel for wheel in wheels)
    assert any(wheel.startswith("hatchling==") for wheel in wheels)  # nothing unlocked is needed to build the package


def test_a_jar_with_a_classifier_has_a_name_of_its_own() -> None:
    line = f"# artifact maven org.example:thing:1.0:jar:linux-x86_64 sha256:{'0' * 64}\n"
    (artifact,) = lock.parse(line)
    assert artifact.file_name == "thing-1.0-linux-x86_64.jar"
    assert artifact.line() + "\n" == line


@pytest.mark.parametrize(
    "line",
    [
        "# artifact maven org.example:thing:1.0:jar",
        "# artifact maven org.example:thing:1.0:jar sha256:abcd",
        "# artifact maven org.example:thing:1.0:exe sha256:" + "0" * 64,
        "# artifact maven ../../etc:x:1:jar sha256:" + "0" * 64,
        "# artifact npm not/a/name sha256:" + "0" * 64,
        "# artifact pypi thing sha256:" + "0" * 64,
        "# artifact maven org.example:thing:1.0:jar sha256:" + "A" * 64,
        f"# artifact maven {JAR} sha256:{'0' * 64}\n# artifact maven {JAR} sha256:{'1' * 64}",
    ],
)
def test_a_lock_line_that_is_not_exact_is_refused(line: str) -> None:
    with pytest.raises(ConfigError):
        lock.parse(line + "\n")


# -- downloads


class Registry:
    """Gives out one content after the other and counts how often it was asked; an exception is raised instead."""

    def __init__(self, *contents: bytes | Exception) -> None:
        self.contents = list(contents)
        self.asked = 0

    def __call__(self, artifact: Artifact, folder: Path, report: Reporter) -> Path:
        self.asked += 1
        content = self.contents.pop(0)
        path = folder / "arrived"
        if isinstance(content, Exception):
            path.write_bytes(b"half")  # the connection broke in the middle
            raise content
        path.write_bytes(content)
        return path


GOOD = b"the right bytes"
ARTIFACT = Artifact("maven", JAR, hashlib.sha256(GOOD).digest())


def test_a_download_is_checked_and_kept(tmp_path: Path) -> None:
    registry = Registry(GOOD)
    first = artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=registry)
    again = artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=registry)
    assert first == again and first.read_bytes() == GOOD and registry.asked == 1


def test_a_wrong_checksum_is_downloaded_once_more(tmp_path: Path) -> None:
    registry = Registry(b"altered", GOOD)
    assert artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=registry).read_bytes() == GOOD
    assert registry.asked == 2


def test_two_wrong_checksums_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    registry = Registry(b"altered", b"altered", GOOD)
    with pytest.raises(ConfigError, match="SHA-256"):
        artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=registry)
    assert registry.asked == 2
    assert list((tmp_path / "maven").iterdir()) == []


def test_a_file_altered_in_the_cache_is_downloaded_again(tmp_path: Path) -> None:
    path = artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=Registry(GOOD))
    path.write_bytes(b"altered")
    assert artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=Registry(GOOD)).read_bytes() == GOOD


def test_an_interrupted_download_does_not_look_cached(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        artifacts.obtain(ARTIFACT, QUIET, cache=tmp_path, fetch=Registry(TransientError("away")))
    assert list((tmp_path / "maven").iterdir()) == []


def test_the_payloads_are_329_over_58_event_types(github_payloads: Path) -> None:
    kinds = json.loads(github_payloads.read_text())
    assert (len(kinds), sum(len(kind["examples"]) for kind in kinds)) == (58, 329)


# -- processes


SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


def launch(tmp_path: Path, code: str, *, port: int | None = None, patience_s: float = 20.0) -> Launch:
    """A server of one line of Python, healthy as soon as its port answers."""
    return Launch(
        name="toy",
        command=(sys.executable, "-c", code),
        cwd=tmp_path,
        ports={"toy": port} if port else {},
        health=lambda: None if port and server.answers(port) else "does not answer",
        patience_s=patience_s,
        stop_s=5.0,
    )


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(tmp_path)
    made.run.mkdir()
    made.logs.mkdir()
    return made


def listener(port: int) -> str:
    return f"import http.server as h; h.HTTPServer(('127.0.0.1', {port}), h.BaseHTTPRequestHandler).serve_forever()"


def test_a_server_leads_a_session_of_its_own_and_is_ended_by_its_pid_file(tmp_path: Path, places: Places) -> None:
    port = Ports.free().kafka
    toy = launch(tmp_path, listener(port), port=port)
    server.bring_up(toy, places, QUIET)
    own = process.running(places.pid_file("toy"))
    assert own is not None and os.getsid(own.pid) == own.pid
    server.bring_up(toy, places, QUIET)
    assert process.running(places.pid_file("toy")) == own  # the second time changes nothing
    assert process.stop(places.pid_file("toy"), patience_s=5)
    assert not server.answers(port) and not places.pid_file("toy").exists()


def test_a_taken_port_gives_one_line_with_the_log(tmp_path: Path, places: Places) -> None:
    with socket.create_server((HOST, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigError) as refused:
            server.bring_up(launch(tmp_path, listener(port), port=port), places, QUIET)
    assert f"port {port} (toy) is taken" in str(refused.value)
    assert str(places.log("toy")) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys; sys.exit('no such disk')", ["ended while starting", "no such disk"]),
        ("import time; time.sleep(600)", ["not healthy after", "does not answer"]),
    ],
)
def test_a_server_that_dies_or_hangs_gives_one_line_with_the_log(
    tmp_path: Path, places: Places, code: str, words: list[str]
) -> None:
    with pytest.raises(TransientError) as failed:
        server.bring_up(launch(tmp_path, code, patience_s=1.5), places, QUIET)
    assert all(word in str(failed.value) for word in [*words, str(places.log("toy"))])
    assert "\n" not in str(failed.value) and not places.pid_file("toy").exists()


@pytest.fixture
def stranger() -> Iterator[psutil.Process]:
    """A process that is not the stack's."""
    child = subprocess.Popen(SLEEPER)
    own = psutil.Process(child.pid)
    yield own
    child.kill()
    child.wait()


def test_a_recycled_process_id_is_not_ours(places: Places, stranger: psutil.Process) -> None:
    pid_file = places.pid_file("toy")
    pid_file.write_text(json.dumps({"pid": stranger.pid, "started": stranger.create_time() - 3600}))
    assert process.running(pid_file) is None
    assert process.stop(pid_file, patience_s=1) is False
    assert stranger.is_running() and not pid_file.exists()


@pytest.mark.parametrize("text", ["", "{", "17", '{"pid": 1}', '{"pid": "x", "started": 1}', "[]"])
def test_a_torn_pid_file_names_nobody(places: Places, text: str) -> None:
    places.pid_file("toy").write_text(text)
    assert process.read_record(places.pid_file("toy")) is None


def test_a_record_of_a_process_that_ended_is_stale(places: Places) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert ProcessRecord(pid=child.pid, started=0.0).process() is None


def test_ports_are_twelve_that_differ() -> None:
    with pytest.raises(ValueError, match="share"):
        replace(Ports.from_base(20000), s3=20000)


# -- the stack


def test_up_twice_is_harmless(stack: Stack) -> None:
    before = [(found.name, found.pid, found.healthy) for found in stack.status()]
    secrets = stack.role_file("sink-archive").read_text()
    stack.up(search=False)
    assert [(found.name, found.pid, found.healthy) for found in stack.status()] == before
    assert [(name, healthy) for name, _, healthy in before][:2] == [("kafka", True), ("seaweed", True)]
    assert stack.role_file("sink-archive").read_text() == secrets


def test_a_killed_s3_server_shows_and_comes_back_with_its_locks(stack: Stack) -> None:
    sink = client(stack, "sink-archive")
    until = datetime.now(UTC) + timedelta(days=1)
    version = sink.put_object(
        Bucket=BUCKETS[0],
        Key="chains/stack/killed",
        Body=b"x",
        ChecksumAlgorithm="SHA256",
        ObjectLockMode="COMPLIANCE",
        ObjectLockRetainUntilDate=until,
    )["VersionId"]
    own = process.running(stack.places.pid_file("seaweed"))
    assert own is not None
    os.kill(own.pid, signal.SIGKILL)
    wait_until(lambda: not stack.status()[1].running, what="the end of the S3 server")
    assert not stack.status()[1].healthy and stack.status()[0].healthy
    stack.up(search=False)
    found = client(stack, "verifier").head_object(Bucket=BUCKETS[0], Key="chains/stack/killed", VersionId=version)
    assert found["ObjectLockMode"] == "COMPLIANCE"


def test_the_command_says_in_one_line_that_a_port_is_taken(stack: Stack, tmp_path: Path) -> None:
    state = tmp_path / "state"
    base = next(port for port in range(24000, 32000, 20) if not any(map(server.taken, range(port, port + 12))))
    with socket.create_server((HOST, base)):
        words = [sys.executable, "-m", "infra", "up", "--no-search", "--state", str(state), "--base-port", str(base)]
        done = subprocess.run(words, capture_output=True, text=True, cwd=LOCK_FILE.parent)
    assert done.returncode == EXIT_CONFIGURATION
    last = done.stderr.splitlines()[-1]
    assert f"kafka: port {base} (kafka) is taken" in last and "kafka.log" in last
    assert "Traceback" not in done.stderr
    assert not any(found.running for found in Stack(state, report=QUIET).status())  # and nothing was started


def test_status_as_json_stands_alone_on_stdout(stack: Stack) -> None:
    words = [sys.executable, "-m", "infra", "status", "--json", "--state", str(stack.places.state)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=LOCK_FILE.parent, check=True)
    assert [found["name"] for found in json.loads(done.stdout)] == ["kafka", "seaweed", "opensearch"]


def test_reset_removes_only_what_the_stack_made(tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter").write_text("years of work")
    with pytest.raises(ConfigError, match="not made by this stack"):
        Stack(mine, report=QUIET).reset()
    with pytest.raises(ConfigError, match="something else"):
        Stack(mine, report=QUIET).up(search=False)
    assert (mine / "chapter").exists() and not (mine / MARKER).exists()


def test_opensearch_answers_and_does_not_run_as_root(search_stack: Stack) -> None:
    found = search_stack.status()[2]
    assert found.healthy and found.pid is not None
    assert psutil.Process(found.pid).uids().effective != 0


def test_kafka_refuses_a_topic_whose_partition_count_differs(deployment: Deployment) -> None:
    admin = deployment.settings("admin")
    again = provision(admin, catalogue.load(), raw_partitions=RAW_PARTITIONS)
    assert again.created == 0
    with pytest.raises(ConfigError, match=rf"{deployment.topic_prefix}audit.raw: has {RAW_PARTITIONS} partitions"):
        provision(admin, catalogue.load(), raw_partitions=RAW_PARTITIONS + 1)


# -- roles and keys


@pytest.mark.parametrize("role", sorted(roles.ROLES))
def test_a_roles_file_is_private_and_holds_its_own_credentials_alone(stack: Stack, role: str) -> None:
    path, needs = stack.role_file(role), roles.ROLES[role]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    settings = stack.settings(role)
    assert settings.role == role
    assert bool(settings.kafka_key) == needs.kafka
    assert bool(settings.archive_secret_key) == needs.archive
    assert bool(settings.keys) == needs.keys
    if settings.kafka_key:
        assert settings.kafka_key.stem == role
    if needs.keys:
        assert settings.keys.endswith(f"/{role}")
    text = path.read_text()
    assert "root.key" not in text and "ca.key" not in text
    secrets = {other: stack.settings(other).archive_secret_key for other in roles.ROLES if other != role}
    assert not any(secret.get_secret_value() in text for secret in secrets.values() if secret)


def test_every_certificate_is_the_roots_and_no_keystore_signs_with_two_keys(stack: Stack) -> None:
    root = parse_vkey((stack.places.root / "root.vkey").read_text().strip())
    certificates = [verify_certificate(path.read_bytes(), root) for path in (stack.places.keys / "certs").iterdir()]
    assert {certificate.role for certificate in certificates} == set(Role) - {Role.OPERATOR}
    assert len({certificate.key_id for certificate in certificates}) == len(keys.key_pairs(keys.TENANTS))
    for folder in stack.places.keys.iterdir():
        if folder.name == "certs":
            continue
        held = [verify_certificate(path.read_bytes(), root).role for path in folder.glob("*.cert")]
        signing = sorted(role.value for role in held if role.algorithm == "Ed25519")
        two = folder.name in ("holds", "reader", "verifier") and signing == ["auditor", "source"]
        assert len(signing) <= 1 or two, folder.name
        assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.glob("*.key"))
        assert all(len(path.read_bytes()) == 32 for path in folder.glob("*.key"))
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_disclosure_key_is_with_who_makes_scopes_and_who_shows_them(stack: Stack) -> None:
    assert {path.parent.name for path in stack.places.keys.rglob("disclosure.key")} == {"sealer", "verifier", "reader"}


def test_what_opens_and_what_finds_the_keys_of_people_are_in_different_hands(stack: Stack) -> None:
    def holders(name: str) -> set[str]:
        return {path.parent.name for path in stack.places.keys.rglob(name)}

    for tenant in (*keys.TENANTS, keys.DEPLOYMENT_TENANT):
        assert holders(f"tenant-subject-{tenant}.key") == {"reader"}
        assert holders(f"tenant-subject-{tenant}.cert") == {"reader", "certs"}
        assert holders(f"tenant-index-{tenant}.key") == {"sealer"}


def test_a_stack_of_an_earlier_version_gets_the_keys_that_it_lacks_and_keeps_its_own(tmp_path: Path) -> None:
    places, now = Places(tmp_path), datetime.now(UTC)
    keys.ensure(places, now, tenants=("acme",))
    all_of_it = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    lacking = [path for path in all_of_it if path.name.startswith(("tenant-subject-", "tenant-index-"))]
    assert len(lacking) == 2 * 4
    for path in lacking:
        path.unlink()
    keys.ensure(places, now, tenants=("acme",))
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == all_of_it.keys()
    assert all(path.read_bytes() == data for path, data in all_of_it.items() if path not in lacking)
    assert all(path.read_bytes() != all_of_it[path] for path in lacking)
    made = {path: path.read_bytes() for path in lacking}
    keys.ensure(places, now, tenants=("acme",))
    assert {path: path.read_bytes() for path in lacking} == made


def test_no_role_holds_the_root_or_the_quarantine_key(stack: Stack) -> None:
    offline = {path.read_bytes() for path in stack.places.root.glob("*.key")}
    held = {path.read_bytes() for path in stack.places.keys.rglob("*.key")}
    assert {"root.key", "quarantine.key", "ca.key"} <= {path.name for path in stack.places.root.iterdir()}
    assert not offline & held
