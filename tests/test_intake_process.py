"""The intake as a process: 202 means durable, whoever dies; its settings, its guide, and the real pipeline."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra import pki
from infra.places import Places
from kafkaio.reader import PartitionReader
from keystore.ceremony import Root
from producers.intake import Intake
from producers.intake.sources import load_sources
from producers.memory import MemoryBroker
from producers.spool import Spool
from schemas.catalogue import topic_name
from schemas.settings import PREFIX, Settings
from sealtrail.certificate import Role
from sealtrail.errors import ConfigError, TransientError
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from tests.conftest import RAW_PARTITIONS, Deployment, wait_until
from tests.intake import (
    BODY,
    CANARY,
    JSON,
    OTHER_TOKEN,
    SECRET,
    SIGNATURE,
    SOURCES,
    TOKEN,
    Answer,
    Running,
    ask,
    counted,
    event,
    made_places,
    running,
    settings_of,
)
from tests.pipeline import processes


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return made_places(tmp_path_factory.mktemp("intake") / "state")


# -- durable


def asked_until(post: Callable[[], Answer], good: Callable[[int], bool]) -> Answer:
    """Asks again until the status is good; that answer."""

    def ask_again() -> Answer | None:
        answer = post()
        return answer if good(answer.status) else None

    found = wait_until(ask_again, what="the answer")
    assert found is not None
    return found


def test_with_a_spool_202_is_said_though_the_brokers_are_away_and_what_was_said_arrives(places: Places, tmp_path: Path) -> None:
    settings = settings_of(places, tmp_path, spool=tmp_path / "spool")
    with running(settings, MemoryBroker(away=True)) as intake:
        assert [intake.post(event(ticket=f"T-{n}")).status for n in range(20)] == [202] * 20
        assert intake.ask("GET", "/readyz").status == 200
        assert intake.all == []
    with running(settings, MemoryBroker()) as intake:
        wait_until(lambda: len(intake.events) == 20, what="the events of the process before")
        assert [e["ticket"] for e in intake.events] == [f"T-{n}" for n in range(20)]


def test_202_is_not_said_before_the_spool_is_on_the_disk(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, commit = threading.Event(), Spool.commit

    def slow(spool: Spool) -> int:
        assert gate.wait(60)
        return commit(spool)

    monkeypatch.setattr(Spool, "commit", slow)
    taken = counted("events_total", source="chat")
    settings = settings_of(places, tmp_path, spool=tmp_path / "spool")
    with ThreadPoolExecutor(1) as thread, running(settings, MemoryBroker()) as intake:
        asked = thread.submit(intake.post, event())
        wait_until(lambda: counted("events_total", source="chat") > taken, what="the event with its emitter")
        assert intake.ask("GET", "/readyz").status == 503
        assert not asked.done()
        gate.set()
        assert asked.result().status == 202


def test_without_a_spool_nothing_is_promised_while_the_brokers_are_away_and_a_repeat_makes_one_event(
    places: Places, tmp_path: Path
) -> None:
    broker = MemoryBroker(away=True)
    with running(settings_of(places, tmp_path, intake_durable_s=0.3), broker) as intake:
        assert intake.ask("GET", "/readyz").status == 503
        assert intake.ask("GET", "/healthz").status == 200
        first = intake.post(event(ticket="T-once"), key="once")
        assert (first.status, first.headers["Retry-After"]) == (503, "5")
        assert intake.post(event(ticket="T-once"), key="once").status == 503
        broker.away = False
        done = asked_until(lambda: intake.post(event(ticket="T-once"), key="once"), lambda status: status == 202)
        assert intake.ask("GET", "/readyz").status == 200
    assert [str(UUID(bytes=e["event_id"])) for e in intake.events] == done.document["events"]


def test_without_room_the_caller_is_told_to_come_again_and_the_other_sources_are_served(places: Places, tmp_path: Path) -> None:
    settings = settings_of(places, tmp_path, spool=tmp_path / "spool", spool_mib=8, intake_durable_s=1)
    with running(settings, MemoryBroker(away=True)) as intake:
        many = [event(reason="x" * 900) for _ in range(400)]
        full = asked_until(lambda: intake.post(many), lambda status: status != 202)
        assert full.status == 503 and full.headers["Retry-After"] == "5"
        assert intake.post(event(event_name="ci.run", tenant="globex"), token=OTHER_TOKEN).status == 202
        intake.broker.away = False
        wait_until(lambda: intake.post(event()).status == 202, what="room again")


# -- a process


def certified(folder: Path) -> pki.TlsFiles:
    return pki.Authority(folder / "ca.pem", folder / "ca.key", "test", pki.utc_now()).issue(folder / "tls", "chat", server=True)


def serve(config: Path, **settings: str) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """A real `sealtrail run intake`, and where it listens. settings: over the file's."""
    environment = {**os.environ, **{PREFIX + name.upper(): value for name, value in settings.items()}}
    command = [sys.executable, "-m", "auditor", "run", "intake", "--config", str(config)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if '"listening"' in line:
            said = json.loads(line)
            return process, (said["host"], said["port"])
    raise AssertionError(f"it ended with {process.wait()}")


def as_toml(settings: Settings) -> str:
    given = settings.model_dump(exclude_unset=True)
    return "".join(f"{name} = {json.dumps(v if isinstance(v, int | float) else str(v))}\n" for name, v in given.items())


def test_what_a_process_promised_before_it_died_arrives_with_the_next_one(places: Places, tmp_path: Path) -> None:
    tls = certified(tmp_path)
    settings = settings_of(
        places,
        tmp_path,
        spool=tmp_path / "spool",
        kafka_bootstrap="127.0.0.1:1",  # nobody is there
        kafka_ca=tls.ca,
        kafka_certificate=tls.certificate,
        kafka_key=tls.key,
    )
    config = tmp_path / "intake.toml"
    config.write_text(as_toml(settings))
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": JSON}
    for process_number, end in enumerate((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)):
        process, address = serve(config)
        try:
            for number in range(5):
                ticket = f"T-{process_number}-{number}"
                body = json.dumps(event(ticket=ticket)).encode()
                assert ask(address, "POST", "/v1/events", body, **{**headers, "Idempotency-Key": ticket}).status == 202
        finally:
            os.kill(process.pid, end)
            process.communicate(timeout=120)
        assert process.returncode == (0 if end is signal.SIGTERM else -signal.SIGKILL)
    with running(settings, MemoryBroker()) as intake:
        wait_until(lambda: len(intake.events) == 15, what="the events of those before")
        assert [e["ticket"] for e in intake.events] == [f"T-{p}-{n}" for p in range(3) for n in range(5)]


def test_at_its_end_what_was_begun_is_answered_and_what_no_spool_keeps_is_told(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.intake.process.CLOSE_S", 1.0)
    broker, stop = MemoryBroker(), threading.Event()
    intake = Intake(settings_of(places, tmp_path, intake_durable_s=5), "intake-1", producer_factory=broker.connect)
    with ThreadPoolExecutor(2) as threads:
        done = threads.submit(intake.run, stop)
        address = wait_until(lambda: intake.address, what="listening")
        assert Running(intake, broker).ask("GET", "/readyz").status == 200
        broker.away = True
        begun = threads.submit(Running(intake, broker).post, event(ticket="T-begun"))
        wait_until(lambda: broker.producers[0].queued, what="the event with the producer")
        stop.set()
        wait_until(lambda: intake.address is None, what="the end")
        broker.away = False
        assert begun.result().status == 202
        done.result()
        with pytest.raises(ConnectionRefusedError):
            ask(address, "GET", "/healthz")
    assert [e["event_name"] for e in Running(intake, broker).all][-1] == "emitter.close"
    with (
        pytest.raises(TransientError, match="not acknowledged"),
        running(settings_of(places, tmp_path, intake_durable_s=0.2), MemoryBroker(away=True)) as without,
    ):
        assert without.post(event()).status == 503


def test_with_a_certificate_it_speaks_tls_alone(places: Places, tmp_path: Path) -> None:
    tls = certified(tmp_path)
    settings = settings_of(places, tmp_path, intake_certificate=tls.certificate, intake_key=tls.key)
    with running(settings, MemoryBroker()) as intake:
        assert intake.intake.address is not None
        context = ssl.create_default_context(cafile=tls.ca)
        connection = http.client.HTTPSConnection(*intake.intake.address, timeout=60, context=context)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        with pytest.raises((http.client.HTTPException, OSError)):
            intake.ask("GET", "/healthz")


# -- settings

WRONG_SETTINGS: dict[str, tuple[dict[str, object], str]] = {
    "plaintext to the world": ({"intake_listen": "0.0.0.0:0"}, "intake_certificate"),
    "plaintext to a name": ({"intake_listen": "intake.example:0"}, "intake_certificate"),
    "no port": ({"intake_listen": "127.0.0.1"}, "intake_listen"),
    "a port beyond all": ({"intake_listen": "127.0.0.1:65536"}, "intake_listen"),
    "no sources": ({"intake_tokens": None}, "intake_tokens"),
    "a file that is not there": ({"intake_tokens": Path("absent.toml")}, "absent.toml"),
    "a certificate without its key": ({"intake_certificate": Path("a.pem")}, "intake_key"),
    "a certificate that is none": ({"intake_certificate": Path(__file__), "intake_key": Path(__file__)}, "intake_certificate"),
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_a_wrong_setting_of_the_intake_is_named(places: Places, tmp_path: Path, name: str) -> None:
    given, named = WRONG_SETTINGS[name]
    settings = settings_of(places, tmp_path).model_copy(update=given)
    with pytest.raises(ConfigError, match=named):
        Intake(settings, "intake-1")


def test_a_source_without_a_certified_key_of_its_own_does_not_start(places: Places, tmp_path: Path) -> None:
    settings = settings_of(places, tmp_path)
    (tmp_path / "sources.toml").write_text(SOURCES.replace("sources.ci", "sources.unknown"))
    with pytest.raises(ConfigError, match="source-unknown"):
        Intake(settings, "intake-1", producer_factory=MemoryBroker().connect).run(threading.Event())


def test_an_address_that_is_taken_is_told(places: Places, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = settings_of(places, tmp_path, intake_listen=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match="intake_listen"):
            Intake(settings, "intake-1", producer_factory=MemoryBroker().connect).run(threading.Event())


DIGEST = "0" * 64
WRONG_SOURCES: dict[str, tuple[str, str]] = {
    "no TOML": (f"{CANARY} = = 1", "not TOML"),
    "nothing": ("", "expected tables"),
    "something else besides": (f"[sources.a]\ntenants = ['t']\ntokens = ['{DIGEST}']\n[more]\n", "expected tables"),
    "an unknown key": (f"[sources.a]\ntenants = ['t']\ntoken = '{CANARY}'\n", "sources.a"),
    "no tenants": (f"[sources.a]\ntokens = ['{DIGEST}']\n", "sources.a.tenants"),
    "the deployment": (f"[sources.a]\ntenants = ['@deployment']\ntokens = ['{DIGEST}']\n", "sources.a.tenants"),
    "a token in clear": (f"[sources.a]\ntenants = ['t']\ntokens = ['{CANARY}']\n", "sources.a.tokens"),
    "no way in": ("[sources.a]\ntenants = ['t']\n", "nobody could speak"),
    "one token for two": (
        "".join(f"[sources.{n}]\ntenants = ['t']\ntokens = ['{DIGEST}']\n" for n in "ab"), "a token stands twice",
    ),
    "webhooks of another's tenant": ("[sources.a]\ntenants = ['t']\nwebhooks = {u = ['long']}\n", "sources.a.webhooks"),
    "webhooks of one tenant for two": (
        "".join(f"[sources.{n}]\ntenants = ['t']\nwebhooks = {{t = ['long']}}\n" for n in "ab"), "two sources",
    ),
    "a secret that is not there": ("[sources.a]\ntenants = ['t']\nwebhooks = {t = ['absent']}\n", "absent"),
    "a secret that can be guessed": ("[sources.a]\ntenants = ['t']\nwebhooks = {t = ['short']}\n", "at least 16"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_SOURCES)
def test_a_mistake_in_the_file_of_sources_is_named_and_nothing_of_it_shown(tmp_path: Path, name: str) -> None:
    text, named = WRONG_SOURCES[name]
    (tmp_path / "long").write_text("a-secret-of-many-letters")
    (tmp_path / "short").write_text("guess-me\n")
    (tmp_path / "sources.toml").write_text(text)
    with pytest.raises(ConfigError, match=named) as refused:
        load_sources(tmp_path / "sources.toml")
    assert CANARY not in str(refused.value) and "guess-me" not in str(refused.value)


def test_while_a_token_or_secret_is_replaced_both_are_good(tmp_path: Path) -> None:
    digests = ", ".join(f'"{hashlib.sha256(t.encode()).hexdigest()}"' for t in ("old", "new"))
    (tmp_path / "old").write_text("the-secret-of-yesterday")
    (tmp_path / "new").write_text("the-secret-of-tomorrow\n")
    text = f"[sources.a]\ntenants = ['t']\ntokens = [{digests}]\nwebhooks = {{t = ['old', 'new']}}\n"
    (tmp_path / "sources.toml").write_text(text)
    sources = load_sources(tmp_path / "sources.toml")
    assert all(sources.of_token(f"bearer {token}") for token in ("old", "new"))
    for secret in (b"the-secret-of-yesterday", b"the-secret-of-tomorrow"):
        assert sources.of_signature("t", BODY, f"sha256={hmac.digest(secret, BODY, 'sha256').hex()}")
    assert "secret-of" not in repr(sources.all) + repr(vars(sources)["_all"])


# -- the guide

GUIDE = (Path(__file__).parent.parent / "docs" / "connectors.md").read_text().partition("\n## From another language")[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


def certify(places: Places, source: str) -> None:
    """A key for one more source, in the keystore that the intake uses here."""
    private = Ed25519PrivateKey.generate()
    root = Root.open(places.root)
    _, text = root.certify(Role.SOURCE, source, private.public_key().public_bytes_raw(), int(time.time()) - 60)
    pki.write_private(places.keys / "chat" / f"source-{source}.key", private.private_bytes_raw())
    (places.keys / "certs" / f"source-{source}.cert").write_text(text)


CURL = """#!{python}
import http.client, sys, urllib.parse
words, headers, body, url = iter(sys.argv[1:]), {{}}, None, None
for word in words:
    if word == "-H":
        name, _, value = next(words).partition(": ")
        headers[name] = value
    elif word == "--data-binary":
        body = next(words).encode()
    elif not word.startswith("--"):
        url = urllib.parse.urlsplit(word)
connection = http.client.HTTPConnection(url.netloc)
connection.request("GET" if body is None else "POST", url.path, body, headers)
sys.stdout.write(connection.getresponse().read().decode())
"""  # what the guide uses of curl, for machines that have none


def test_the_guides_commands_state_what_it_says(places: Places, tmp_path: Path) -> None:
    certify(places, "crm")
    token, commands = blocks("bash")
    if shutil.which("curl") is None:
        (tmp_path / "curl").write_text(CURL.format(python=sys.executable))
        (tmp_path / "curl").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def shell(text: str, **given: str) -> str:
        command, env = ["sh", "-euc", text], {**environment, **given}
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=True).stdout

    settings = settings_of(places, tmp_path, spool=tmp_path / "spool")
    pki.write_private(places.keys / "chat" / "spool-crm.key", os.urandom(32))
    said = shell(f'{token}\nprintf %s "$TOKEN"')
    with running(settings, MemoryBroker()) as intake:
        assert intake.intake.address is not None
        host, port = intake.intake.address
        printed = shell(commands, INTAKE=f"http://{host}:{port}", TOKEN=said)
        wait_until(lambda: intake.events, what="the event")
    (event,) = intake.events
    shown = [json.loads(line) for line in blocks("json")[0].splitlines()]
    assert [json.loads(line) for line in printed.splitlines()] == [{"events": [str(UUID(bytes=event["event_id"]))]}, *shown[1:]]
    assert shown[0].keys() == {"events"}
    assert (event["emitter"]["source"], event["event_name"]) == ("crm", "crm.note.added")


def test_the_guides_webhook_is_a_source_that_the_intake_takes(tmp_path: Path) -> None:
    (tmp_path / "github-acme.secret").write_text(SECRET)
    (tmp_path / "sources.toml").write_text(blocks("toml")[0])
    assert load_sources(tmp_path / "sources.toml").of_signature("acme", BODY, SIGNATURE)


# -- the real pipeline


def test_an_event_of_the_intake_is_sealed(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "sources.toml").write_text(SOURCES.partition("[sources.ci]")[0])
    flags = {
        "topic_prefix": deployment.topic_prefix,
        "deployment": deployment.name,
        "intake_tokens": str(tmp_path / "sources.toml"),
        "intake_listen": "127.0.0.1:0",
        "intake_durable_s": "60",
    }
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": JSON, "Idempotency-Key": "sealed"}
    with processes(deployment, ("sealer",), tmp_path):
        process, address = serve(deployment.stack.role_file("chat"), **flags)
        try:
            answer = ask(address, "POST", "/v1/events", json.dumps(event(ticket="T-sealed")).encode(), **headers)
        finally:
            process.terminate()
            process.communicate(timeout=120)
        assert (answer.status, process.returncode) == (202, 0)
        (event_id,) = answer.document["events"]
        wait_until(lambda: UUID(event_id).bytes in sealed_ids(deployment), what="the seal")


def sealed_ids(deployment: Deployment) -> set[bytes]:
    """Of the events that the sealer took."""
    topic, found = topic_name(deployment.topic_prefix, "audit.archive"), set()
    with PartitionReader(deployment.settings("admin")) as reader:
        for partition in range(RAW_PARTITIONS):
            for record in reader.read_all(topic, partition):
                sealed = decode_sealed_event(record.value or b"")
                if decode_seal(sealed.seal).kind is Kind.EVENT:
                    found.add(sealed.content.event_id)
    return found
