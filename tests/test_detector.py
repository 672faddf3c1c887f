"""The detector as a process, on Kafka and Faust: what it finds, what it must not see, what a kill may do to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest

from kafkaio.dead import DEAD_LETTER
from kafkaio.reader import PartitionReader
from keystore import Keystore
from processors.detect.finding import FINDING, finding_id
from processors.detect.records import Matched
from processors.detect.rules import Rules
from processors.detect.windows import all_found
from producers.audit import AuditProducer
from producers.chat import acts
from producers.chat.acts import Act
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from schemas.settings import PREFIX
from sealtrail.seal import decode_seal, decode_sealed_event
from tests.conftest import RAW_PARTITIONS, Deployment, wait_until
from tests.pipeline import processes
from tests.sealed import PARTITIONS, SealedTopic, plain_event

Event = dict[str, Any]
T = TypeVar("T")
FAST = {"heartbeat_s": "1", "pulse_s": "1", "silence_s": "4"}


class Detection:
    """A deployment with a detector that tests start, kill and look behind."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        self.starts = 0
        self._running: subprocess.Popen[bytes] | None = None

    def environment(self, **flags: str) -> dict[str, str]:
        given = {"topic_prefix": self.deployment.topic_prefix, "deployment": self.deployment.name, **FAST, **flags}
        return {**os.environ, **{PREFIX + name.upper(): value for name, value in given.items()}}

    @property
    def log(self) -> Path:
        return self.folder / f"detect-{self.starts}.log"

    def start(
        self, *, module: tuple[str, ...] = ("auditor", "run", "detect"), instance: str = "one"
    ) -> subprocess.Popen[bytes]:
        self.starts += 1
        command = [
            sys.executable,
            "-m",
            *module,
            "--config",
            str(self.deployment.stack.role_file("detect")),
            "--instance",
            instance,
        ]
        with self.log.open("wb") as log:
            self._running = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)
        return self._running

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        """As `wait_until`; fails at once when the detector has ended."""

        def alive_and() -> T | None:
            if self._running is not None and self._running.poll() not in (None, -signal.SIGKILL):
                pytest.fail(f"the detector ended: {self.log.read_text()[-3000:]}")
            return condition()

        return wait_until(alive_and, what=what)

    @contextmanager
    def running(self, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
        process = self.start(**how)
        try:
            yield process
        finally:
            # Told to end while it still starts, it just ends; all may have been found before it came so far.
            wait_until(lambda: process.poll() is not None or b"detector starts" in self.log.read_bytes(), what="a detector")
            process.terminate()
            assert process.wait(120) == 0, self.log.read_text()[-3000:]

    def read(self, topic: str, partitions: int = PARTITIONS) -> list[bytes]:
        full = topic_name(self.deployment.topic_prefix, topic)
        with PartitionReader(self.deployment.settings("admin")) as reader:
            return [r.value for p in range(partitions) for r in reader.read_all(full, p) if r.value is not None]

    def raw(self) -> list[Event]:
        return [AUDIT_EVENT.decode(value) for value in self.read("audit.raw", RAW_PARTITIONS)]

    def findings(self) -> list[Event]:
        """What the detector stated, repeats included."""
        return [event for event in self.raw() if event["event_type"] == "DETECTION"]

    def ids(self) -> set[str]:
        return {event["object"]["id"] for event in self.findings()}

    def letters(self) -> list[dict[str, Any]]:
        return [DEAD_LETTER.decode(value) for value in self.read("audit.dead-letters")]

    def expected(self) -> set[str]:
        """The ids that follow from the matches that were written, all at once and without Faust."""
        keystore = Keystore.open(self.deployment.settings("detect").keys)
        matched = [Matched.decode(value) for value in self.read("audit.detect-matches")]
        found = all_found(Rules.load().by_name, [(m.rule, m.group, m.match) for m in matched])
        return {finding_id(keystore.secret(f"tenant-hash-{group[0]}"), rule, group, period) for rule, group, period in found}


@pytest.fixture
def detection(deployment: Deployment, tmp_path: Path) -> Detection:
    return Detection(deployment, tmp_path)


def failed_login(number: int, account: str = "ada@acme.example", tenant: str = "acme") -> dict[str, object]:
    return acts.login(Act(tenant, account, source_ip="192.0.2.1", correlation_id=f"try-{number}"), account, succeeded=False)


def test_repeated_failures_become_one_sealed_finding_that_names_its_evidence(detection: Detection, tmp_path: Path) -> None:
    with processes(detection.deployment, ("sealer",), tmp_path), detection.running():
        with AuditProducer(detection.deployment.settings("chat"), "chat", "one") as chat:
            for number in range(7):
                chat.emit(failed_login(number))
            for number in range(4):
                chat.emit(failed_login(number, "bob@acme.example"))
            chat.emit(acts.login(Act("acme", "ada@acme.example"), "ada@acme.example", succeeded=True))
        sealed = detection.until(lambda: in_siem(detection), what="the finding in the SIEM's topic")
    (finding,) = sealed
    assert finding["event_name"] == "detection.repeated_authentication_failures" and finding["tenant"] == "acme"
    said = FINDING.decode_body(finding["extension"]["payload"])
    assert said["count"] == 5 and len(said["evidence"]) == 5
    key = Keystore.open(detection.deployment.settings("detect").keys).secret("tenant-hash-acme")
    period = said["to"] // (300 * 10**6)
    assert finding["object"]["id"] == finding_id(
        key, "repeated_authentication_failures", ("acme", finding["subject"]["id"]), period
    )
    evidence = {(e["chain"], e["seq"]) for e in said["evidence"]}
    failures = {place for place, event in siem(detection) if event["event_name"] == "chat.login.failed"}
    assert evidence <= failures
    assert not detection.letters()


def siem(detection: Detection) -> list[tuple[tuple[str, int], Event]]:
    found = []
    for value in detection.read("audit.siem"):
        sealed = decode_sealed_event(value)
        seal = decode_seal(sealed.seal)
        found.append(((seal.chain, seal.seq), AUDIT_EVENT.decode(sealed.content.content)))
    return found


def in_siem(detection: Detection) -> list[Event]:
    return [event for _, event in siem(detection) if event["event_type"] == "DETECTION"]


def test_a_source_that_is_killed_is_noticed_and_one_that_closes_is_not(detection: Detection, tmp_path: Path) -> None:
    script = (
        "import sys, time; from schemas.settings import Settings; from producers.audit import AuditProducer;"
        "from pathlib import Path; AuditProducer(Settings.load(Path(sys.argv[1])), 'chat', 'killed'); time.sleep(600)"
    )
    flags = {"heartbeat_s": "1"}
    os.environ.update({PREFIX + name.upper(): value for name, value in flags.items()})
    try:
        with processes(detection.deployment, ("sealer",), tmp_path), detection.running():
            config = str(detection.deployment.stack.role_file("chat"))
            victim = subprocess.Popen([sys.executable, "-c", script, config], env=detection.environment())
            AuditProducer(detection.deployment.settings("chat"), "chat", "closes").close(60)
            detection.until(lambda: "chat/killed" in str(detection.raw()) or heard(detection, "killed"), what="its first event")
            victim.kill()
            victim.wait()
            findings = detection.until(detection.findings, what="a finding")
    finally:
        for name in flags:
            del os.environ[PREFIX + name.upper()]
    (finding,) = findings
    assert finding["event_name"] == "detection.silent_source" and finding["tenant"] == "@deployment"
    group = FINDING.decode_body(finding["extension"]["payload"])["group"]
    assert [value["value"] for value in group][:2] == ["chat", "killed"]


def heard(detection: Detection, instance: str) -> bool:
    return any(event["emitter"]["instance"] == instance for event in detection.raw())


def test_what_an_aborted_transaction_wrote_is_matched_by_nothing(detection: Detection) -> None:
    topic = SealedTopic(detection.deployment, "audit.siem")
    login = {"event_type": "AUTHENTICATION", "result": "FAILURE", "name": "chat.login.failed"}
    topic.write([topic.seal(plain_event(**login)) for _ in range(20)], abort=True)
    with detection.running():
        topic.write([topic.seal(plain_event(**login)) for _ in range(5)])
        detection.until(detection.findings, what="the finding of the committed ones")
        topic.write([topic.seal(plain_event(**login)) for _ in range(20)], abort=True)
        topic.write([topic.seal(plain_event(tenant="globex", **login)) for _ in range(5)])
        detection.until(lambda: len(detection.ids()) == 2, what="the finding behind the aborted ones")
    assert len(detection.read("audit.detect-matches")) == 10


def test_what_cannot_be_read_is_kept_and_stops_nothing(detection: Detection) -> None:
    topic = SealedTopic(detection.deployment, "audit.siem")
    login = {"event_type": "AUTHENTICATION", "result": "FAILURE", "name": "chat.login.failed"}
    good = [topic.seal(plain_event(**login)) for _ in range(5)]
    unknown_tenant = [topic.seal(plain_event(tenant="umbrella", **login)) for _ in range(5)]
    altered = bytearray(topic.seal(plain_event(**login)))
    altered[-3] ^= 1
    topic.write([b"garbage", *good[:2], bytes(altered), *unknown_tenant, *good[2:]])
    with detection.running():
        detection.until(detection.findings, what="the finding")
        detection.until(lambda: len(detection.letters()) == 3, what="three dead letters")
    letters = Counter(letter["reason"] for letter in detection.letters())
    assert letters == {"undecodable": 2, "unstatable": 1}
    assert {letter["by"] for letter in detection.letters()} == {"detect"}


def burst(topic: SealedTopic, random: Random, count: int) -> None:
    """Failed logins of a few accounts of two tenants, over the topic's partitions, some transactions aborted."""
    for _ in range(count):
        number = random.randrange(1, 5)
        values = [
            topic.seal(
                plain_event(
                    tenant=random.choice(["acme", "globex"]),
                    event_type="AUTHENTICATION",
                    result="FAILURE",
                    name="chat.login.failed",
                    actor={"kind": "USER", "id": f"hmac_{random.randrange(8)}", "display": None},
                )
            )
            for _ in range(number)
        ]
        topic.write(values, random.randrange(PARTITIONS), abort=random.random() < 0.1)


def test_killed_at_any_time_it_finds_what_it_would_have_found(detection: Detection) -> None:
    random = Random(7)
    topic = SealedTopic(detection.deployment, "audit.siem")
    for _ in range(3):
        before = distinct(detection)
        process = detection.start()
        try:
            burst(topic, random, 8)
            detection.until(lambda seen=before: distinct(detection) > seen, what="matches")  # type: ignore[misc]
            burst(topic, random, 8)
            time.sleep(random.random() * 2)  # any moment will do
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    with detection.running():
        detection.until(lambda: distinct(detection) == wanted(detection), what="all matches")
        detection.until(lambda: detection.ids() == detection.expected() != set(), what="the findings")
    assert {event["event_name"] for event in detection.findings()} == {"detection.repeated_authentication_failures"}
    assert not detection.letters()


def wanted(detection: Detection) -> set[tuple[str, int]]:
    return {place for place, event in siem(detection) if event["event_type"] == "AUTHENTICATION"}


def distinct(detection: Detection) -> set[tuple[str, int]]:
    matched = [Matched.decode(value) for value in detection.read("audit.detect-matches")]
    return {(m.match.chain, m.match.seq) for m in matched}


def test_a_detector_that_dies_after_a_finding_and_before_its_commit_states_it_again_under_its_id(detection: Detection) -> None:
    topic = SealedTopic(detection.deployment, "audit.siem")
    login = {"event_type": "AUTHENTICATION", "result": "FAILURE", "name": "chat.login.failed"}
    topic.write([topic.seal(plain_event(**login)) for _ in range(5)])
    deadly = detection.start(module=("tests.faults.detector",))
    assert deadly.wait(120) == -signal.SIGKILL, detection.log.read_text()[-2000:]
    assert len(detection.findings()) == 1
    with detection.running():
        detection.until(lambda: len(detection.findings()) == 2, what="the same finding again")
    assert len(detection.ids()) == 1
    with detection.running():
        topic.write([topic.seal(plain_event(tenant="globex", **login)) for _ in range(5)])
        detection.until(lambda: len(detection.ids()) == 2, what="another finding")
    assert len(detection.findings()) == 3, "a restart in order repeats nothing"


def test_two_detectors_share_the_work_and_one_goes_on_alone(detection: Detection) -> None:
    random = Random(11)
    topic = SealedTopic(detection.deployment, "audit.siem")
    with detection.running(instance="one") as first:
        burst(topic, random, 5)
        detection.until(lambda: distinct(detection) == wanted(detection), what="the first matches")
        other = detection.start(instance="two")
        log = detection.log

        def shared() -> bool:
            burst(topic, random, 2)
            return "state read back" in log.read_text()

        wait_until(shared, what="the second one at work")
        burst(topic, random, 10)
        other.send_signal(signal.SIGKILL)
        other.wait()
        burst(topic, random, 5)
        wait_until(lambda: distinct(detection) == wanted(detection), what="all matches")
        wait_until(lambda: detection.ids() == detection.expected() != set(), what="the findings")
        assert first.poll() is None


def test_stock_faust_hands_over_what_was_aborted_and_ours_does_not(detection: Detection) -> None:
    topic = SealedTopic(detection.deployment, "audit.siem")
    aborted = [topic.seal(plain_event()) for _ in range(6)]
    topic.write(aborted, abort=True)
    committed = [topic.seal(plain_event()) for _ in range(3)]
    topic.write(committed)
    seen = {}
    for driver in ("stock", "mended"):
        config = str(detection.deployment.stack.role_file("detect"))
        command = [sys.executable, "-m", "tests.faults.faust_reader", driver, config, "3"]
        environment = detection.environment()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
        seen[driver] = [int(line) for line in done.stdout.split()]
    assert seen["mended"] == [len(value) for value in committed]
    assert len(seen["stock"]) > 3, "the stock driver reads committed records only by now: the mended one may go"


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"detect_rules": "/no/folder"}, "detect_rules"),
        ({"kafka_ca": "/no/file"}, "kafka_ca"),
        ({"silence_s": "-1"}, "silence_s"),
    ],
)
def test_a_wrong_setting_is_named(detection: Detection, flags: dict[str, str], problem: str) -> None:
    command = [
        sys.executable,
        "-m",
        "auditor",
        "run",
        "detect",
        "--config",
        str(detection.deployment.stack.role_file("detect")),
    ]
    done = subprocess.run(command, env=detection.environment(**flags), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3 and problem in done.stderr


def test_the_log_is_json_and_holds_no_value(detection: Detection) -> None:
    topic = SealedTopic(detection.deployment, "audit.siem")
    login = {"event_type": "AUTHENTICATION", "result": "FAILURE", "name": "chat.login.failed", "reason": "Zebulon-Quixote"}
    topic.write([topic.seal(plain_event(**login)) for _ in range(5)])
    with detection.running():
        detection.until(detection.findings, what="the finding")
    lines = detection.log.read_text().splitlines()
    assert any(json.loads(line)["event"] == "finding" for line in lines if line.startswith("{"))
    assert "Zebulon" not in detection.log.read_text()
