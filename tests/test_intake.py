"""The HTTP intake over a real socket: who may speak, what is taken, what is refused and how, and that once is once."""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from infra.places import Places
from producers.github.mapping import GITHUB
from producers.memory import MemoryBroker
from schemas.registry import packaged_registry
from tests.conftest import wait_until
from tests.intake import (
    BODY,
    CANARY,
    GITHUB_VALUE,
    JSON,
    OTHER_TOKEN,
    SECRET,
    SIGNATURE,
    TOKEN,
    Answer,
    Running,
    counted,
    event,
    made_places,
    running,
    settings_of,
)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return made_places(tmp_path_factory.mktemp("intake") / "state")


@pytest.fixture(scope="module")
def plain(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without a spool, the brokers there; shared, so a test looks only at what it made."""
    folder = tmp_path_factory.mktemp("plain")
    settings = settings_of(places, folder, intake_body_s=0.5, intake_body_bytes=100_000)
    with running(settings, MemoryBroker()) as made:
        yield made


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
    # What an emitter states of its own accord may be due now: a pulse, or what earlier tests had refused.
    assert [e["event_name"] for e in plain.all[before:] if not e["event_name"].startswith("emitter.")] == []


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


def test_a_connection_that_sends_no_whole_header_is_ended(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.intake.process.IDLE_S", 0.3)
    with running(settings_of(places, tmp_path), MemoryBroker()) as intake:
        assert intake.intake.address is not None
        assert raw(intake.intake.address, head()[:-10]) == b""


def test_more_bodies_at_once_than_there_is_memory_for_are_told_to_come_again(
    plain: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.intake.server.HELD_BYTES", 10_000)
    answer = plain.post(event(reason="x" * 8000, detail="y" * 8000))
    assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    body = json.dumps({"action": "x" * 20_000}).encode()
    assert hook(plain, body, signed(body)).status == 503
    assert hook(plain, body[:9000], SIGNATURE).status == 401
    assert all(plain.post(event(reason="x" * 4000)).status == 202 for _ in range(5))  # what was held is let go of
    assert all(hook(plain, body[:9000], SIGNATURE).status == 401 for _ in range(5))


def test_what_is_no_http_is_refused_and_the_next_is_served(plain: Running) -> None:
    assert plain.intake.address is not None
    assert raw(plain.intake.address, b"\x16\x03\x01 nonsense\r\n\r\n").startswith(b"HTTP/1.0 400 ")
    assert plain.ask("GET", "/healthz").status == 200


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
    assert [e["event_name"] for e in plain.all[before:] if not e["event_name"].startswith("emitter.")] == []


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
