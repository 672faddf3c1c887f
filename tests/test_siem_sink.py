"""The SIEM sink against a collector and a syslog peer over TLS: nothing lost, nothing blocked, what is refused is kept."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from infra.pki import Authority, TlsFiles, utc_now
from infra.receivers.hec import TOKEN, HecReceiver
from infra.receivers.syslog import SyslogReceiver
from infra.stack import Stack
from schemas.fields import field_tree
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError, TransientError
from sinks.delivery import State
from sinks.siem.assembly import destination_of, open_sink
from sinks.siem.hec import HecDestination, HecSettings
from sinks.siem.ocsf import VERSIONS, ocsf_of, record_uid
from sinks.siem.syslog import SyslogDestination, SyslogSettings, escaped, message_of
from tests.conftest import Deployment, new_deployment, wait_until
from tests.sealed import SinkUnderTest, full_event, item_of, place_of, plain_event, running

TYPES = next(node for name, node in field_tree(AUDIT_EVENT.text).fields if name == "event_type").symbols

# Of OCSF 1.9: what each class that we make requires beyond the base event; a tuple: at least one of them.
REQUIRED: dict[int, list[str | tuple[str, ...]]] = {
    2004: ["finding_info"],
    3002: ["user", ("service", "dst_endpoint")],
    3003: ["user", ("privileges", "groups", "iam_roles")],
    3004: ["entity"],
    6002: ["app"],
    6003: ["actor", "api", "src_endpoint"],
    6005: ["actor", "src_endpoint", ("database", "databucket", "table")],
}
ACTIVITIES = {2004: {1}, 3002: {1}, 3003: {1}, 3004: {3, 4}, 6002: {8}, 6003: {2, 99}, 6005: {1}}
BASE = ["activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"]


class Siem(SinkUnderTest):
    """A deployment whose SIEM topic this test fills."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment, "sink-siem", "audit.siem")

    def hec(self, hec: HecReceiver, **flags: Any) -> Any:
        return open_sink(self.settings(siem_hec_url=hec.url, siem_hec_token=TOKEN, siem_hec_ca=hec.ca, **flags))

    def syslog(self, peer: SyslogReceiver, **flags: Any) -> Any:
        return open_sink(self.settings(siem_syslog_address=peer.address, siem_syslog_ca=peer.ca, **flags))

    def uids(self, *values: bytes) -> set[str]:
        return {f"{chain}:{seq}" for chain, seq in map(place_of, values)}

    def write_events(self, count: int, **more: Any) -> set[str]:
        """Seal and write; the records' ids."""
        values = [self.topic.seal(plain_event(event_type="ADMIN", **more)) for _ in range(count)]
        self.topic.write(values)
        return self.uids(*values)


@pytest.fixture
def siem(stack: Stack) -> Siem:
    return Siem(new_deployment(stack))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("siem")
    return Authority(folder / "ca.pem", folder / "ca.key", "a SIEM's", utc_now()).issue(folder, "siem", server=True)


@pytest.fixture
def hec(tls: TlsFiles) -> Iterator[HecReceiver]:
    with HecReceiver(tls) as receiver:
        yield receiver


@pytest.fixture
def peer(tls: TlsFiles) -> Iterator[SyslogReceiver]:
    with SyslogReceiver(tls) as receiver:
        yield receiver


# -- OCSF


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("event_type", TYPES)
@pytest.mark.parametrize("make", [plain_event, full_event])
def test_every_family_of_events_has_what_its_class_requires(make: Any, event_type: str, version: str) -> None:
    event = ocsf_of(item_of(make("acme", "chat.x", event_type)), version)
    class_uid, activity = event["class_uid"], event["activity_id"]
    assert not [name for name in BASE if name not in event]
    assert event["type_uid"] == class_uid * 100 + activity and event["category_uid"] == class_uid // 1000
    assert activity in ACTIVITIES[class_uid] and 1 <= event["severity_id"] <= 4
    for needed in REQUIRED[class_uid]:
        assert any(name in event for name in ([needed] if isinstance(needed, str) else needed)), needed
    assert event["metadata"]["version"] == version and event["metadata"]["product"]["name"]
    assert event["actor"]["user"]["uid"]
    if activity == 99:
        assert event["activity_name"] == "chat.x"
    assert ("attestation_list" in event) == (version == "1.9.0")
    json.dumps(event)


def test_the_attestation_leads_to_the_seal() -> None:
    item = item_of(full_event())
    (attestation,) = ocsf_of(item)["attestation_list"]
    assert attestation["uid"] == record_uid(item) == f"{item.seal.chain}:{item.seal.seq}"
    assert attestation["fingerprint"]["value"] == item.leaf.hex()
    assert attestation["fingerprint"]["algorithm_id"] == 3
    assert ocsf_of(item, "1.5.0")["unmapped"]["attestation"] == attestation


def test_no_content_and_no_value_of_a_change_goes_out() -> None:
    text = json.dumps(ocsf_of(item_of(full_event(reason="reason-marker", detail="detail-marker"))))
    assert '"/role"' in text
    markers = ("reason-marker", "detail-marker", "payload-marker", "member", b"payload-marker".hex())
    assert not [marker for marker in markers if marker in text]


# -- the collector


def test_what_is_delivered_is_acknowledged_and_carries_its_id(siem: Siem, hec: HecReceiver) -> None:
    uids = siem.write_events(50)
    with running(siem.hec(hec)):
        wait_until(lambda: set(hec.got) == uids, what="all in the collector")
        wait_until(lambda: siem.committed() >= 50, what="the position behind them")
    assert all(len(copies) == 1 for copies in hec.got.values())
    assert {event["metadata"]["uid"] for event in hec.events().values()} == uids
    assert not siem.letters()


def test_what_is_taken_and_never_acknowledged_is_sent_again_under_the_same_ids(siem: Siem, hec: HecReceiver) -> None:
    hec.acknowledges = False
    uids = siem.write_events(20)
    with capture_logs() as logs, running(siem.hec(hec, siem_ack_seconds=0.3)):
        wait_until(lambda: hec.taken >= 3, what="the third try")
        assert siem.committed() == 0
        hec.acknowledges = True
        wait_until(lambda: set(hec.got) == uids, what="all in the collector")
    assert any("did not acknowledge" in entry.get("detail", "") for entry in logs)
    assert not siem.letters()


@pytest.mark.parametrize(
    ("status", "code"),
    [(200, 9), (200, 8), (503, 9), (500, 8), (429, 9), (403, 4), (401, 3), (400, 7), (200, 14), (200, None), (502, None)],
)
def test_an_answer_that_says_nothing_against_a_record_is_waited_out(
    siem: Siem, hec: HecReceiver, status: int, code: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.siem.hec.PERSON_S", 0.2)
    answers = [(status, {} if code is None else {"text": "no", "code": code})] * 2
    hec.fault = lambda _: answers.pop() if answers else None
    uids = siem.write_events(5)
    with capture_logs() as logs, running(siem.hec(hec)):
        wait_until(lambda: set(hec.got) == uids, what="all in the collector")
    assert sum(entry["event"] == "partition waits" for entry in logs) == 2
    assert not siem.letters()


@pytest.mark.parametrize("code", [5, 6, 12, 13, 15])
@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("status", [400, 200])
def test_a_record_that_the_collector_refuses_is_a_dead_letter_and_the_others_arrive(
    siem: Siem, hec: HecReceiver, code: int, numbered: bool, status: int
) -> None:
    good = [siem.topic.seal(plain_event(event_type="ADMIN")) for _ in range(30)]
    bad = [siem.topic.seal(plain_event(event_type="ADMIN", name="chat.bad")) for _ in range(3)]

    def refuse(events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]] | None:
        at = next((n for n, e in enumerate(events) if e["event"]["message"] == "chat.bad"), None)
        if at is None:
            return None
        return status, {"text": "Invalid data format", "code": code, **({"invalid-event-number": at} if numbered else {})}

    hec.fault = refuse
    siem.topic.write([*good[:10], bad[0], bad[1], *good[10:], bad[2]])
    with running(siem.hec(hec)):
        wait_until(lambda: set(hec.got) == siem.uids(*good), what="the good ones")
        wait_until(lambda: len(siem.letters()) == 3, what="three dead letters")
    letters = siem.letters()
    assert sorted(letter["record"] for letter in letters) == sorted(bad)
    assert {letter["reason"] for letter in letters} == {"refused"} and {letter["by"] for letter in letters} == {"sink-siem"}


def test_a_request_that_is_too_large_is_halved_and_a_record_that_is_alone_is_given_up(siem: Siem, hec: HecReceiver) -> None:
    def limited(events: list[dict[str, Any]]) -> tuple[int, dict[str, Any]] | None:
        return (413, {"text": "too large"}) if len(events) > 8 or events[0]["event"]["message"] == "chat.large" else None

    hec.fault = limited
    good = [siem.topic.seal(plain_event(event_type="ADMIN")) for _ in range(40)]
    large = siem.topic.seal(plain_event(event_type="ADMIN", name="chat.large"))
    siem.topic.write([large, *good])
    with running(siem.hec(hec)):
        wait_until(lambda: set(hec.got) == siem.uids(*good), what="the good ones")
        (letter,) = wait_until(siem.letters, what="a dead letter")
    assert (letter["reason"], letter["record"], letter["status"]) == ("too-large", large, 413)


def test_a_collector_that_goes_away_is_waited_for(siem: Siem, tls: TlsFiles) -> None:
    with HecReceiver(tls) as first:
        uids = siem.write_events(5)
        sink = siem.hec(first)
        port = first.port
        with running(sink), capture_logs() as logs:
            wait_until(lambda: set(first.got) == uids, what="the first ones")
            first.__exit__(None, None, None)
            more = siem.write_events(10)
            wait_until(lambda: any(e.get("reason") == "unreachable" for e in logs), what="a line about it")
            with HecReceiver(tls, port) as second:
                wait_until(lambda: more <= set(second.got), what="the rest")
    assert not siem.letters()


def test_a_collector_with_a_foreign_certificate_gets_nothing(siem: Siem, hec: HecReceiver, tmp_path: Path) -> None:
    other = Authority(tmp_path / "ca.pem", tmp_path / "ca.key", "another", utc_now()).path
    destination = HecDestination(HecSettings(hec.url, TOKEN, str(other)))
    with pytest.raises(TransientError, match="does not answer"):
        destination.deliver([item_of(plain_event())])
    assert not hec.taken


def test_without_acknowledgement_a_200_is_delivered(hec: HecReceiver) -> None:
    hec.acknowledges = False
    destination = HecDestination(HecSettings(hec.url, TOKEN, str(hec.ca), acknowledged=False))
    assert [o.state for o in destination.deliver([item_of(plain_event())])] == [State.DELIVERED]


# -- syslog


def test_every_record_is_one_well_formed_message(siem: Siem, peer: SyslogReceiver) -> None:
    uids = siem.write_events(40)
    with running(siem.syslog(peer)):
        wait_until(lambda: len(peer.messages) == 40, what="all with the peer")
        wait_until(lambda: siem.committed() >= 40, what="the position behind them")
    form = re.compile(
        rb'<(\d+)>1 \S+Z \S+ sealtrail - OCSF-3004 \[sealtrail@32473 id="(\S+)" tenant="acme" leaf="\w{64}"\] \xef\xbb\xbf'
    )
    found = [form.match(message) for message in peer.messages]
    assert {match.group(2).decode() for match in found if match} == uids
    assert {int(match.group(1)) // 8 for match in found if match} == {13}
    bodies = [json.loads(message[match.end() :]) for match, message in zip(found, peer.messages, strict=True) if match]
    assert {body["metadata"]["uid"] for body in bodies} == uids


def test_a_peer_that_closes_within_a_frame_gets_the_whole_batch_again(siem: Siem, peer: SyslogReceiver) -> None:
    peer.break_after = 700
    uids = siem.write_events(200)
    with capture_logs() as logs, running(siem.syslog(peer)):
        wait_until(lambda: peer.torn >= 2, what="two torn connections")
        assert siem.committed() == 0 and not peer.messages
        peer.break_after = 0
        wait_until(lambda: len(peer.messages) >= 200, what="all with the peer")
    found = {re.search(rb'id="(\S+)"', message).group(1).decode() for message in peer.messages}  # type: ignore[union-attr]
    assert found == uids and not siem.letters()
    assert any(entry.get("reason") == "unreachable" for entry in logs)


def test_a_peer_that_ends_before_we_do_has_not_got_anything(tls: TlsFiles) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)

    settings = SyslogSettings("127.0.0.1", listener.getsockname()[1], str(tls.ca))

    def hang_up() -> None:
        plain, _ = listener.accept()
        with plain, context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(10)

    thread = threading.Thread(target=hang_up)
    thread.start()
    with pytest.raises(TransientError, match="syslog peer"):
        SyslogDestination(settings).deliver([item_of(plain_event()) for _ in range(500)])
    thread.join()
    listener.close()


def test_a_message_that_the_peer_would_cut_is_given_up_and_the_others_arrive(siem: Siem, peer: SyslogReceiver) -> None:
    changes = [{"op": "ADD", "path": f"/p{n}", "before": None, "after": None} for n in range(300)]
    good = [siem.topic.seal(plain_event(event_type="ADMIN")) for _ in range(3)]
    large = siem.topic.seal(plain_event(event_type="ADMIN", changes=changes))
    siem.topic.write([good[0], large, *good[1:]])
    with running(siem.syslog(peer, siem_syslog_bytes=3000)):
        wait_until(lambda: len(peer.messages) == 3, what="the others")
        (letter,) = wait_until(siem.letters, what="a dead letter")
    assert (letter["reason"], letter["record"]) == ("too-large", large)


def test_what_ends_a_structured_value_is_escaped() -> None:
    assert escaped('a"b]c\\d') == 'a\\"b\\]c\\\\d'
    item = item_of(plain_event())
    assert message_of(item, SyslogSettings("h", 1)).startswith(b"<110>1 ")  # facility 13, informational


# -- both, and what must not come


def test_with_both_each_gets_everything_and_a_repeat_only_where_it_is_missing(
    siem: Siem, hec: HecReceiver, peer: SyslogReceiver
) -> None:
    peer.break_after = 100
    uids = siem.write_events(10)
    settings = siem.settings(
        siem_hec_url=hec.url, siem_hec_token=TOKEN, siem_hec_ca=hec.ca,
        siem_syslog_address=peer.address, siem_syslog_ca=peer.ca,
    )  # fmt: skip
    with running(open_sink(settings)):
        wait_until(lambda: peer.torn >= 2, what="syslog refused twice")
        peer.break_after = 0
        wait_until(lambda: len(peer.messages) >= 10, what="all with the peer")
    assert set(hec.got) == uids and all(len(copies) == 1 for copies in hec.got.values())


def test_what_an_aborted_transaction_wrote_does_not_arrive(siem: Siem, hec: HecReceiver) -> None:
    siem.topic.write([siem.topic.seal(plain_event(event_type="ADMIN"))], abort=True)
    uids = siem.write_events(1)
    with running(siem.hec(hec)):
        wait_until(lambda: set(hec.got) >= uids, what="the committed one")
    assert set(hec.got) == uids


def test_a_sink_killed_between_acknowledgement_and_commit_repeats_under_the_same_ids(siem: Siem, hec: HecReceiver) -> None:
    uids = siem.write_events(30)
    flags = {
        "topic_prefix": siem.deployment.topic_prefix, "deployment": siem.deployment.name,
        "siem_hec_url": hec.url, "siem_hec_token": TOKEN, "siem_hec_ca": str(hec.ca),
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "tests.faults.siem_sink",
        str(siem.deployment.stack.role_file("sink-siem")),
        json.dumps(flags),
    ]
    killed = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "."})
    assert killed.wait(120) == -signal.SIGKILL
    assert set(hec.got) == uids and siem.committed() == 0
    with running(siem.hec(hec)):
        wait_until(lambda: siem.committed() >= 30, what="the position behind them")
    assert set(hec.got) == uids
    assert {len(copies) for copies in hec.got.values()} == {2}
    assert all(len(set(copies)) == 1 for copies in hec.got.values())


@pytest.mark.parametrize(
    ("flags", "setting"),
    [
        ({}, "siem_hec_url or siem_syslog_address"),
        ({"siem_hec_url": "splunk:8088", "siem_hec_token": "t"}, "siem_hec_url"),
        ({"siem_hec_url": "https://h"}, "siem_hec_token"),
        ({"siem_hec_url": "https://h", "siem_hec_token": "t", "siem_hec_ca": "/no/file"}, "siem_hec_ca"),
        ({"siem_syslog_address": "host"}, "siem_syslog_address"),
        ({"siem_syslog_address": "h:1", "siem_syslog_ca": "/no/file"}, "siem_syslog_ca"),
    ],
)
def test_a_wrong_setting_is_named(siem: Siem, flags: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigError, match=setting):
        destination_of(siem.settings(**flags))
