"""The HTTP intake over a real socket: who may speak, what is refused and how, and that 202 means durable."""

from __future__ import annotations

import gzip
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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import REGISTRY

from infra import keys, pki
from infra.places import Places
from kafkaio.reader import PartitionReader
from keystore.ceremony import Root
from producers.github.mapping import GITHUB
from producers.intake import Intake
from producers.intake.sources import load_sources
from producers.memory import MemoryBroker
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.settings import Settings
from sealtrail.certificate import Role
from sealtrail.errors import ConfigError, TransientError
from sealtrail.seal import Kind, decode_seal, decode_sealed_event
from tests.conftest import RAW_PARTITIONS, Deployment, wait_until
from tests.pipeline import processes

TOKEN, OTHER_TOKEN = "t0ken-of-chat-" + "x" * 32, "t0ken-of-ci-" + "y" * 32
SECRET = "It's a Secret to Everybody"  # of GitHub's published example
BODY = b"Hello, World!"
SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
JSON = "application/json"
GITHUB_VALUE = {"hook": "push", "malformed": False, "settings": []}

SOURCES = f"""
[sources.chat]
tenants = ["acme"]
tokens = ["{hashlib.sha256(TOKEN.encode()).hexdigest()}"]

[sources.ci]
tenants = ["globex"]
tokens = ["{hashlib.sha256(OTHER_TOKEN.encode()).hexdigest()}"]

[sources.github]
tenants = ["acme"]
[sources.github.webhooks]
acme = ["github-acme.secret"]
"""


@dataclass(slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    document: Any


@dataclass(slots=True)
class Running:
    """An intake under way, and what its brokers have."""

    intake: Intake
    broker: MemoryBroker
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        assert self.intake.address is not None
        return ask(self.intake.address, method, path, body, **headers)

    def post(self, document: object, *, key: str | None = None, token: str = TOKEN, kind: str = JSON, **headers: str) -> Answer:
        """As a client would: `document` as it is if it is bytes, else as JSON."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        given = {
            "Authorization": f"Bearer {token}",
            "Content-Type": kind,
            "Idempotency-Key": f"key-{next(self.numbers)}" if key is None else key,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return self.ask("POST", "/v1/events", body, **given)

    @property
    def events(self) -> list[dict[str, Any]]:
        """What arrived of the sources' own making, in order."""
        return [e for e in self.all if not e["event_name"].startswith("emitter.")]

    @property
    def refused(self) -> list[str]:
        """The fields of recorded refusals."""
        return [e["object"]["id"] for e in self.all if e["event_name"] == "emitter.refused"]

    @property
    def all(self) -> list[dict[str, Any]]:
        return [AUDIT_EVENT.decode(record.value) for record in list(self.broker.records)]


def ask(address: tuple[str, int], method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
    connection = http.client.HTTPConnection(*address, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), json.loads(response.read()))
    finally:
        connection.close()


def event(**given: object) -> dict[str, object]:
    return {
        "event_name": "chat.note.added",
        "tenant": "acme",
        "event_type": "OTHER",
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "actor": {"kind": "USER", "id": "4711", "display": "Ada"},
        **given,
    }


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    made = Places(tmp_path_factory.mktemp("intake") / "state")
    keys.ensure(made, datetime.now(UTC))
    # A deployment of its own gives the intake one keystore with the keys of its sources; here, those of three connectors.
    for role in ("ci", "github"):
        for path in (made.keys / role).iterdir():
            shutil.copy(path, made.keys / "chat" / path.name)
    return made


def settings_of(places: Places, folder: Path, **given: Any) -> Settings:
    (folder / "sources.toml").write_text(SOURCES)
    (folder / "github-acme.secret").write_text(f"{SECRET}\n")
    values = {
        "role": "chat",
        "keys": f"file:{places.keys / 'chat'}",
        "root_vkey": places.root / "root.vkey",
        "certificates": places.keys / "certs",
        "intake_listen": "127.0.0.1:0",
        "intake_tokens": folder / "sources.toml",
        "intake_durable_s": 30.0,
    }
    return Settings.load(**{**values, **given})


@contextmanager
def running(settings: Settings, broker: MemoryBroker) -> Iterator[Running]:
    intake, stop = Intake(settings, "intake-1", producer_factory=broker.connect), threading.Event()
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(intake.run, stop)
        try:
            wait_until(lambda: intake.address or done.done(), what="listening")
            yield Running(intake, broker)
        finally:
            stop.set()
        done.result()


@pytest.fixture
def spooled(places: Places, tmp_path: Path) -> Iterator[Running]:
    """With a spool, the brokers there."""
    with running(settings_of(places, tmp_path, spool=tmp_path / "spool"), MemoryBroker()) as made:
        yield made


@pytest.fixture(scope="module")
def plain(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without a spool, the brokers there; shared, so a test looks only at what it made."""
    folder = tmp_path_factory.mktemp("plain")
    settings = settings_of(places, folder, intake_body_s=0.5, intake_body_bytes=100_000)
    with running(settings, MemoryBroker()) as made:
        yield made


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"sealtrail_intake_{name}", labels) or 0.0


# -- taken


def test_an_event_is_taken_and_arrives_under_its_sources_name(plain: Running) -> None:
    answer = plain.post(event(ticket="T-one"))
    assert answer.status == 202
    (found,) = [e for e in plain.events if e["ticket"] == "T-one"]
    assert str(UUID(bytes=found["event_id"])) == answer.document["events"][0]
    assert (found["emitter"]["source"], found["emitter"]["instance"]) == ("chat", "intake-1")
    assert found["actor"]["id"].startswith("hmac_") and found["region"] == "eu-central"


@pytest.mark.parametrize(("kind", "make"), [
    (JSON, lambda events: json.dumps(events).encode()),
    ("application/x-ndjson", lambda events: b"\n".join(json.dumps(e).encode() for e in events) + b"\n"),
    ("application/json; charset=utf-8", lambda events: json.dumps(events).encode()),
])  # fmt: skip
def test_a_list_is_taken_whole_and_in_order(plain: Running, kind: str, make: Callable[[object], bytes]) -> None:
    tickets = [f"{hashlib.sha256(kind.encode()).hexdigest()[:8]}-{n}" for n in range(50)]
    answer = plain.post(make([event(ticket=t) for t in tickets]), kind=kind)
    assert answer.status == 202
    found = [e for e in plain.events if e["ticket"] in set(tickets)]
    assert [e["ticket"] for e in found] == tickets
    assert [str(UUID(bytes=e["event_id"])) for e in found] == answer.document["events"]


def test_times_bytes_numbers_and_extensions_are_written_as_the_guide_says(plain: Running) -> None:
    cause = "019aaaaa-aaaa-7000-8000-000000000009"
    given = event(
        ticket="T-types",
        occurred_at="2026-11-28T10:00:00.2500019+01:00",
        causation_id=cause,
        delivery={"payload_digest": "AB" * 32, "attempts": [
            {"number": 1, "at": "2026-11-28T09:00:00Z", "outcome": "ACKNOWLEDGED", "status": 200, "hop": None},
            {"number": 2, "at": 1_795_856_400_000_000, "outcome": "ACKNOWLEDGED", "status": None, "hop": None},
        ]},
        extension={"schema": "io.sealtrail.github.v1.GithubEvent", "value": GITHUB_VALUE},
    )  # fmt: skip
    answer = plain.post(given)
    assert answer.status == 202, answer
    (found,) = [e for e in plain.events if e["ticket"] == "T-types"]
    at = datetime(2026, 11, 28, 9, 0, 0, tzinfo=UTC)
    whole = int(at.timestamp()) * 1_000_000
    assert (found["occurred_at"], found["causation_id"]) == (whole + 250_001, UUID(cause).bytes)
    assert found["delivery"]["payload_digest"] == b"\xab" * 32
    assert [a["at"] for a in found["delivery"]["attempts"]] == [whole, 1_795_856_400_000_000]
    assert found["extension"]["schema"] == GITHUB.sha256
    value = packaged_registry().extension_value(GITHUB.sha256, found["extension"]["payload"])
    assert value["hook"] == "push"


# -- refused: (document, status, what is said of it: index, field, problem)

LONG = "9" * 30
CANARY = "Zebulon-Quixote"
BAD: dict[str, tuple[object, int, tuple[int | None, str, str]]] = {
    "nothing": (b"", 400, (None, "", "not JSON")),
    "no JSON": (CANARY.encode(), 400, (None, "", "not JSON")),
    "something after the document": (b'{"a": 1} {"b": 2}', 400, (None, "", "not JSON")),
    "invalid UTF-8": (b'{"ticket": "\xff"}', 400, (None, "", "not UTF-8")),
    "a byte order mark": (b"\xef\xbb\xbf{}", 400, (None, "", "not JSON")),
    "a key twice": (b'{"tenant": "acme", "tenant": "globex"}', 400, (None, "", "a key stands twice in one object")),
    "NaN": (b'[{"ticket": NaN}]', 400, (None, "", "NaN or an infinity, which JSON has not")),
    "an infinity": (b"[-Infinity]", 400, (None, "", "NaN or an infinity, which JSON has not")),
    "a number beyond a double": (b"[1e999]", 400, (None, "", "a number beyond its type")),
    "a number beyond 64 bits": (b"[9223372036854775808]", 400, (None, "", "a number beyond its type")),
    "a number of many digits": (f"[{LONG * 1000}]".encode(), 400, (None, "", "a number beyond its type")),
    "nested a little too deeply": (b"[" * 65 + b"]" * 65, 400, (None, "", "nested too deeply")),
    "nested far too deeply": (b"[" * 50_000 + b"]" * 50_000, 400, (None, "", "nested too deeply")),
    "no events": ([], 400, (None, "", "0 events; expected 1 to 1000")),
    "too many events": ([7] * 1001, 400, (None, "", "1001 events; expected 1 to 1000")),
    "text": (CANARY, 422, (0, "", "not an object")),
    "null": (None, 422, (0, "", "not an object")),
    "no mandatory field": ([{"tenant": "acme"}], 422, (0, "event_name", "missing")),
    "an unknown key": (event(**{CANARY: 1}), 422, (0, "", "holds a field that is not the caller's to state")),
    "an unknown key inside": (
        event(object={"type": "note", "id": "7", CANARY: 1}), 422, (0, "object", "1 keys that the schema does not know"),
    ),
    "the emitter's field": (event(emitter={"source": CANARY}), 422,
        (0, "emitter", "holds a field that is not the caller's to state")),
    "the emitter's event": (event(event_name="emitter.close"), 422,
        (0, "event_name", "emitter.* is for the emitter itself to state")),
    "another source's tenant": (event(tenant="globex"), 422, (0, "tenant", "not one of this source's tenants")),
    "the deployment's tenant": (event(tenant="@deployment"), 422, (0, "tenant", "not one of this source's tenants")),
    "a tenant that is a list": (event(tenant=[CANARY]), 422, (0, "tenant", "not one of this emitter's tenants")),
    "a time without a zone": (event(occurred_at="2026-11-28T10:00:00"), 422, (0, "occurred_at", "a time without a zone")),
    "a time that is none": (event(occurred_at="2026-02-30T10:00:00Z"), 422,
        (0, "occurred_at", "not a time as RFC 3339 writes it")),
    "a time in words": (event(occurred_at=CANARY), 422, (0, "occurred_at", "not a time as RFC 3339 writes it")),
    "a time with a fraction as a number": (event(occurred_at=1.5), 422, (0, "occurred_at", "not an integer of 64 bits")),
    "a number beyond its field": (event(retry={"attempt": 2**31, "idempotency_key": "k"}), 422,
        (0, "retry.attempt", "not an integer of 32 bits")),
    "true for a number": (event(retry={"attempt": True, "idempotency_key": "k"}), 422,
        (0, "retry.attempt", "not an integer of 32 bits")),
    "half a byte": (event(causation_id="abc"), 422, (0, "causation_id", "not hexadecimal digits")),
    "too few bytes": (event(causation_id="abcd"), 422, (0, "causation_id", "2 bytes; expected 16")),
    "bytes that are a number": (event(causation_id=7), 422, (0, "causation_id", "not hexadecimal digits")),
    "a wrong symbol": (event(result=CANARY), 422, (0, "result", "not one of the field's symbols")),
    "half a surrogate pair": (event(actor={"kind": "USER", "id": "\ud800"}), 422,
        (0, "actor.id", "text that UTF-8 cannot carry")),
    "text too long": (event(reason="x" * 8193), 422, (0, "reason", "8193 bytes of text; at most 8192")),
    "an extension of no name": (event(extension={"schema": CANARY, "value": {}}), 422,
        (0, "extension.schema", "not the full name of a registered extension")),
    "an extension of bytes": (event(extension={"schema": GITHUB.sha256.hex(), "payload": "00"}), 422,
        (0, "extension", "expected schema and value, and nothing else")),
    "an extension's wrong field": (
        event(extension={"schema": "io.sealtrail.github.v1.GithubEvent", "value": {**GITHUB_VALUE, "run_id": CANARY}}), 422,
        (0, "extension.payload.run_id", "not an integer of 64 bits"),
    ),
    "an extension that is text": (
        event(extension={"schema": "io.sealtrail.github.v1.GithubEvent", "value": CANARY}), 422,
        (0, "extension.payload", "not a record"),
    ),
    "the second of three": ([event(), event(result=CANARY), event()], 422, (1, "result", "not one of the field's symbols")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_named_by_index_field_and_problem_and_nothing_of_it_is_taken(plain: Running, name: str) -> None:
    document, status, said = BAD[name]
    before, refused = len(plain.events), counted("refused_total", source="chat")
    answer = plain.post(document)
    assert answer.status == status, answer
    (found,) = answer.document["refused"]
    assert (found["index"], found["field"], found["problem"]) == said
    assert CANARY not in json.dumps(answer.document)
    assert counted("refused_total", source="chat") == refused + 1
    after = plain.post(event(ticket="T-after"))  # in the same order as the refusals: theirs are there by now
    assert after.status == 202
    assert len(plain.events) == before + 1


def test_refusals_are_recorded_by_field_and_their_values_nowhere(
    places: Places, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running(settings_of(places, tmp_path), MemoryBroker()) as intake:
        answer = intake.post([event(result=CANARY), event(), event(causation_id=CANARY), CANARY])
        assert [(r["index"], r["field"]) for r in answer.document["refused"]] == [(0, "result"), (2, "causation_id"), (3, "")]
        assert [intake.post(CANARY.encode(), token=CANARY).status for _ in range(5)] == [401] * 5
        assert intake.ask("POST", f"/v1/{CANARY}").status == 404
        wait_until(lambda: len(intake.refused) == 3, what="three refusals")
        assert intake.refused == ["result", "causation_id", "event"]
        assert intake.events == []
    stored = b"".join(record.value for record in intake.broker.records)
    logged = "".join(capfd.readouterr())
    assert CANARY.encode() not in stored and CANARY not in logged
    assert logged.count("requests of nobody we know") == 1


HEADERS: dict[str, tuple[dict[str, str], int, str]] = {
    "compressed": ({"Content-Encoding": "gzip"}, 415, "Content-Encoding"),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "Content-Type"),
    "no type": ({"Content-Type": ""}, 415, "Content-Type"),
    "another alphabet": ({"Content-Type": "application/json; charset=utf-16"}, 415, "Content-Type"),
    "no key": ({"Idempotency-Key": ""}, 400, "Idempotency-Key"),
    "a key with a space": ({"Idempotency-Key": "a b"}, 400, "Idempotency-Key"),
    "a key too long": ({"Idempotency-Key": "k" * 257}, 400, "Idempotency-Key"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_are_not_as_they_should_be_are_named(plain: Running, name: str) -> None:
    headers, status, problem = HEADERS[name]
    body = gzip.compress(json.dumps(event()).encode()) if name == "compressed" else json.dumps(event()).encode()
    given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": JSON, "Idempotency-Key": "k", **headers}
    before = len(plain.events)
    answer = plain.ask("POST", "/v1/events", body, **given)
    assert (answer.status, len(plain.events)) == (status, before)
    assert problem in answer.document["problem"]


AUTHORIZATIONS = ("", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, "Bearer \xff")


@pytest.mark.parametrize("authorization", AUTHORIZATIONS)
def test_who_has_no_token_is_counted_and_leaves_nothing_in_the_trail(plain: Running, authorization: str) -> None:
    before, strangers = len(plain.broker.records), counted("unauthenticated_total", way="events")
    answer = plain.ask("POST", "/v1/events", b"{", Authorization=authorization)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert counted("unauthenticated_total", way="events") == strangers + 1
    assert [e["event_name"] for e in plain.all[before:] if e["event_name"] != "emitter.pulse"] == []


def test_each_source_speaks_for_its_own_tenants_under_its_own_name(plain: Running) -> None:
    assert plain.post(event(event_name="ci.run", tenant="globex", ticket="T-ci"), token=OTHER_TOKEN).status == 202
    (found,) = [e for e in plain.events if e["ticket"] == "T-ci"]
    assert found["emitter"]["source"] == "ci"
    assert plain.post(event(), token=OTHER_TOKEN).status == 422


# -- limits


def raw(address: tuple[str, int], *parts: bytes) -> bytes:
    """What is answered to these bytes, until the other side ends it."""
    with socket.create_connection(address, timeout=60) as connection:
        for part in parts:
            connection.sendall(part)
        found = b""
        while data := connection.recv(65536):
            found += data
        return found


def head(*lines: str) -> bytes:
    given = (f"Authorization: Bearer {TOKEN}", f"Content-Type: {JSON}", "Idempotency-Key: raw", "Host: intake", *lines)
    return "\r\n".join(("POST /v1/events HTTP/1.1", *given, "", "")).encode()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(plain: Running) -> None:
    assert plain.intake.address is not None
    assert raw(plain.intake.address, head("Content-Length: 100001")).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_grows_too_large_is_refused_when_it_does(plain: Running) -> None:
    assert plain.intake.address is not None
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    assert raw(plain.intake.address, head("Transfer-Encoding: chunked"), *[chunk] * 4).startswith(b"HTTP/1.1 413 ")


def test_a_body_that_does_not_come_is_waited_for_only_so_long(plain: Running) -> None:
    assert plain.intake.address is not None
    assert raw(plain.intake.address, head("Content-Length: 100"), b"{").startswith(b"HTTP/1.1 408 ")


def test_what_is_no_http_is_refused_and_the_next_is_served(plain: Running) -> None:
    assert plain.intake.address is not None
    assert raw(plain.intake.address, b"\x16\x03\x01 nonsense\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    assert plain.ask("GET", "/healthz").status == 200


# -- durable


def asked_until(post: Callable[[], Answer], good: Callable[[int], bool]) -> Answer:
    """Asks again until the status is good; that answer."""

    def ask_again() -> Answer | None:
        answer = post()
        return answer if good(answer.status) else None

    found = wait_until(ask_again, what="the answer")
    assert found is not None
    return found


def test_with_a_spool_202_is_said_though_the_brokers_are_away_and_what_was_said_arrives(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(places, tmp_path, spool=tmp_path / "spool")
    with running(settings, MemoryBroker(away=True)) as intake:
        monkeypatch.setattr("producers.intake.process.CLOSE_S", 1.0)
        assert [intake.post(event(ticket=f"T-{n}")).status for n in range(20)] == [202] * 20
        assert intake.ask("GET", "/readyz").status == 200
        assert intake.all == []
    with running(settings, MemoryBroker()) as intake:
        wait_until(lambda: len(intake.events) == 20, what="the events of the process before")
        assert [e["ticket"] for e in intake.events] == [f"T-{n}" for n in range(20)]


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


def test_without_room_the_caller_is_told_to_come_again_and_the_other_sources_are_served(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(places, tmp_path, spool=tmp_path / "spool", spool_mib=1, intake_durable_s=1)
    with running(settings, MemoryBroker(away=True)) as intake:
        many = [event(reason="x" * 900) for _ in range(400)]
        monkeypatch.setattr("producers.intake.process.CLOSE_S", 1.0)
        full = asked_until(lambda: intake.post(many), lambda status: status != 202)
        assert full.status == 503 and full.headers["Retry-After"] == "5"
        assert intake.post(event(event_name="ci.run", tenant="globex"), token=OTHER_TOKEN).status == 202
        intake.broker.away = False
        wait_until(lambda: intake.post(event()).status == 202, what="room again")


# -- once


def test_a_request_that_is_repeated_is_one_request(plain: Running) -> None:
    answers = [plain.post([event(ticket="T-r1"), event(ticket="T-r2")], key="repeated") for _ in range(3)]
    assert [a.status for a in answers] == [202] * 3
    assert len({tuple(a.document["events"]) for a in answers}) == 1
    assert [e["ticket"] for e in plain.events if e["ticket"] in ("T-r1", "T-r2")] == ["T-r1", "T-r2"]


def test_the_key_of_another_request_is_refused(plain: Running) -> None:
    assert plain.post(event(ticket="T-k1"), key="taken").status == 202
    answer = plain.post(event(ticket="T-k2"), key="taken")
    assert (answer.status, answer.document["refused"][0]["problem"]) == (422, "the key of another request")
    assert plain.post(event(event_name="ci.run", tenant="globex"), key="taken", token=OTHER_TOKEN).status == 202


def test_a_request_that_was_refused_leaves_its_key_free(plain: Running) -> None:
    assert plain.post(event(result="WRONG"), key="corrected").status == 422
    assert plain.post(event(), key="corrected").status == 202


def test_requests_at_once_under_one_key_are_one_event(plain: Running) -> None:
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: plain.post(event(ticket="T-at-once"), key="at-once"), range(32)))
    assert {a.status for a in answers} == {202}
    assert len([e for e in plain.events if e["ticket"] == "T-at-once"]) == 1


def test_no_more_is_remembered_than_shall_be(plain: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.intake.desk.REMEMBERED", 10)
    plain.post([event()] * 3, key="older")
    plain.post([event()] * 8, key="newer")
    plain.post([event(ticket="T-newer")] * 8, key="newer")
    assert plain.post([event(ticket="T-older")] * 3, key="older").status == 202  # forgotten, so a request of its own
    assert len([e for e in plain.events if e["ticket"] == "T-older"]) == 3
    assert not [e for e in plain.events if e["ticket"] == "T-newer"]


# -- GitHub


def hook(intake: Running, body: bytes, signature: str, tenant: str = "acme", **given: str) -> Answer:
    headers = {
        "Content-Type": JSON,
        "X-GitHub-Event": "member",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": signature,
        **{name.replace("_", "-"): value for name, value in given.items()},
    }
    return intake.ask("POST", f"/v1/github/{tenant}", body, **headers)


def signed(body: bytes) -> str:
    return f"sha256={hmac.digest(SECRET.encode(), body, 'sha256').hex()}"


MEMBER = {
    "action": "added",
    "member": {"id": 7, "login": "hubot", "type": "User"},
    "repository": {"id": 1296269},
    "sender": {"id": 1, "login": "octocat", "type": "User"},
}


def test_githubs_published_signature_is_good_and_its_body_is_no_json(plain: Running) -> None:
    answer = hook(plain, BODY, SIGNATURE)
    assert (answer.status, answer.document["refused"][0]["problem"]) == (400, "not JSON")


def test_a_signed_webhook_becomes_an_event_whose_signature_was_checked(plain: Running) -> None:
    body = json.dumps(MEMBER).encode()
    answers = [hook(plain, body, signed(body)) for _ in range(2)]  # GitHub may deliver again
    assert [a.status for a in answers] == [202, 202] and answers[0].document == answers[1].document
    (found,) = [e for e in plain.events if e["event_name"] == "github.member.added"]
    assert found["emitter"]["source"] == "github" and found["tenant"] == "acme"
    assert (found["authorization"]["method"], found["authorization"]["decision"]) == ("WEBHOOK_SIGNATURE", "ALLOW")


UNSIGNED: dict[str, tuple[bytes, str, str]] = {
    "no signature": (BODY, "", "acme"),
    "another body": (BODY + b"!", SIGNATURE, "acme"),
    "one bit": (BODY, SIGNATURE[:-1] + "6", "acme"),
    "capitals": (BODY, SIGNATURE.upper(), "acme"),
    "SHA-1": (BODY, "sha1=" + SIGNATURE[7:47], "acme"),
    "zeros": (BODY, "sha256=" + "0" * 64, "acme"),
    "a tenant without webhooks": (BODY, SIGNATURE, "globex"),
    "no tenant": (BODY, SIGNATURE, "nobody"),
    "no tenant, an empty secret's signature": (BODY, f"sha256={hmac.digest(bytes(32), BODY, 'sha256').hex()}", "nobody"),
}


@pytest.mark.parametrize("name", UNSIGNED)
def test_a_webhook_that_is_not_signed_is_counted_and_leaves_nothing_in_the_trail(plain: Running, name: str) -> None:
    body, signature, tenant = UNSIGNED[name]
    before, strangers = len(plain.broker.records), counted("unauthenticated_total", way="github")
    assert hook(plain, body, signature, tenant).status == 401
    assert counted("unauthenticated_total", way="github") == strangers + 1
    assert [e["event_name"] for e in plain.all[before:] if e["event_name"] != "emitter.pulse"] == []


@pytest.mark.parametrize(("header", "value", "status"), [
    ("X-GitHub-Event", "", 400), ("X-GitHub-Delivery", "", 400), ("Content-Type", "application/x-www-form-urlencoded", 415),
])  # fmt: skip
def test_a_signed_webhook_without_its_headers_is_refused(plain: Running, header: str, value: str, status: int) -> None:
    body = json.dumps(MEMBER).encode()
    assert hook(plain, body, signed(body), **{header: value}).status == status


def test_all_real_webhooks_are_taken(plain: Running, github_payloads: Path) -> None:
    before, taken = len(plain.events), 0
    for entry in json.loads(github_payloads.read_bytes()):
        for payload in entry["examples"][:1]:
            body, taken = json.dumps(payload).encode(), taken + 1
            headers = {"X-GitHub-Event": entry["name"], "X-GitHub-Delivery": f"00000000-{taken}"}
            assert hook(plain, body, signed(body), **headers).status == 202, entry["name"]
    assert len(plain.events) == before + taken and taken > 50


# -- a process


def certified(folder: Path) -> pki.TlsFiles:
    return pki.Authority(folder / "ca.pem", folder / "ca.key", "test", pki.utc_now()).issue(folder / "tls", "chat", server=True)


def serve(config: Path) -> tuple[subprocess.Popen[str], tuple[str, int]]:
    """A real `sealtrail run intake`, and where it listens."""
    command = [sys.executable, "-m", "auditor", "run", "intake", "--config", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if '"listening"' in line:
            said = json.loads(line)
            return process, (said["host"], said["port"])
    raise AssertionError(f"it ended with {process.wait()}")


def as_toml(settings: Settings) -> str:
    given = settings.model_dump(exclude_unset=True)
    return "".join(f"{name} = {json.dumps(v if isinstance(v, int | float) else str(v))}\n" for name, v in given.items())


def test_what_a_process_promised_before_it_was_killed_arrives_with_the_next_one(places: Places, tmp_path: Path) -> None:
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
    for process_number in range(2):
        process, address = serve(config)
        try:
            for number in range(5):
                ticket = f"T-{process_number}-{number}"
                body = json.dumps(event(ticket=ticket)).encode()
                assert ask(address, "POST", "/v1/events", body, **{**headers, "Idempotency-Key": ticket}).status == 202
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
    with running(settings, MemoryBroker()) as intake:
        wait_until(lambda: len(intake.events) == 10, what="the events of those that were killed")
        assert [e["ticket"] for e in intake.events] == [f"T-{p}-{n}" for p in range(2) for n in range(5)]


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
    given = deployment.settings("chat").model_dump(exclude_unset=True)
    settings = settings_of(Places(tmp_path), tmp_path, **given, intake_durable_s=60.0)
    (tmp_path / "sources.toml").write_text(SOURCES.partition("[sources.ci]")[0])
    intake, stop = Intake(settings, "intake-1"), threading.Event()
    with processes(deployment, ("sealer",), tmp_path), ThreadPoolExecutor(1) as thread:
        done = thread.submit(intake.run, stop)
        try:
            wait_until(lambda: intake.address or done.done(), what="listening")
            assert intake.address is not None
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": JSON, "Idempotency-Key": "sealed"}
            answer = ask(intake.address, "POST", "/v1/events", json.dumps(event(ticket="T-sealed")).encode(), **headers)
            assert answer.status == 202
        finally:
            stop.set()
        done.result()
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
