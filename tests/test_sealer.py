"""The sealer on real brokers: bad input, rebalance, heartbeats, restart, brokers that go away, heads that do not fit."""

from __future__ import annotations

import contextlib
import ctypes
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import confluent_kafka
import psutil
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # the library names no exports
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from structlog.testing import capture_logs

import processors.chain_loop
import processors.sealer
from infra.stack import Stack
from kafkaio.client import client_config
from kafkaio.library import Librdkafka
from kafkaio.reader import PartitionReader
from kafkaio.transaction import BATCH_BYTES, ChainProducer, ClockError, Ends, HangingError, Placement, Progress
from keystore import Keystore
from processors.assembly import pipeline_of
from processors.chain_loop import Phase
from processors.pipeline import ChainState
from processors.quarantine import QUARANTINED, RECORD, quarantine_info
from processors.records import Batch, Outputs
from processors.recovery import Topics, chain_of
from processors.sealer import Sealer
from schemas.catalogue import load, topic_name
from schemas.policy import Policy
from schemas.registry import AUDIT_EVENT
from schemas.settings import Settings
from sealtrail.errors import ConfigError, TransientError
from sealtrail.seal import Kind, Reason
from sealtrail.session import hpke_open
from tests.chain_trail import Sealed, check_coverage
from tests.chains import ChainMaker
from tests.conftest import Deployment, new_deployment, wait_until
from tests.trail import SHARED_PARTITIONS, all_sealed, check_trail, emitters, load_draft, read_chain


def now_us() -> int:
    return time.time_ns() // 1000


def test_a_batch_fits_into_each_topic_of_a_transaction_however_badly_it_compresses() -> None:
    written = [topic for topic in load().topics if "sealer" in topic.writers and topic.name != "audit.dead-letters"]
    assert len(written) == 7
    assert all(topic.max_message_bytes > 1.1 * BATCH_BYTES for topic in written)


def new_sealer(deployment: Deployment, **flags: Any) -> Sealer:
    settings = deployment.settings("sealer", **flags)
    return Sealer(settings, pipeline_of(settings), now_us)


@contextlib.contextmanager
def running(*sealers: Sealer) -> Iterator[None]:
    """Sealers, each in a thread; what one raises fails the test."""
    with contextlib.ExitStack() as stack:
        for sealer in sealers:
            stack.enter_context(_running(sealer))
        yield


@contextlib.contextmanager
def _running(sealer: Sealer) -> Iterator[None]:
    stop, failures = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            sealer.run(stop)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        if failures:  # the cause of whatever else failed
            raise failures[0]
    assert not thread.is_alive(), "the sealer did not stop"


def phases(sealer: Sealer) -> dict[int, Phase]:
    return {partition: chain.phase for partition, chain in list(sealer._chains.items())}


def wait_sealing(sealer: Sealer, *partitions: int) -> None:
    wanted = dict.fromkeys(partitions, Phase.SEALING)
    wait_until(lambda: phases(sealer) == wanted, what=f"sealing {partitions}")


def wait_all_sealed(deployment: Deployment, partitions: int = 2) -> None:
    wait_until(lambda: all_sealed(deployment, partitions), what="all sealed")


def emit(deployment: Deployment, count: int, partitions: int = 2) -> int:
    """Events on every partition, acknowledged; how many records that made."""
    with emitters(deployment, partitions) as made:
        for number in range(count):
            for emitter in made:
                emitter.emit(load_draft(number))
    return sum(emitter.counts.acknowledged for emitter in made)


def admin_client(deployment: Deployment) -> AdminClient:
    return AdminClient(client_config(deployment.settings("admin")))


def name(deployment: Deployment, topic: str) -> str:
    return topic_name(deployment.topic_prefix, topic)


# -- bad input


def produce_with_a_header_name_that_is_not_utf8(settings: Settings, topic: str, partition: int, value: bytes) -> None:
    """By librdkafka itself: the Python client cannot write such a name, other clients can."""
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    library = ctypes.CDLL(str(next(folder.glob("librdkafka-*.so*"))))
    for function in (library.rd_kafka_conf_new, library.rd_kafka_new, library.rd_kafka_headers_new):
        function.restype = ctypes.c_void_p
    problem = ctypes.create_string_buffer(512)
    configuration = ctypes.c_void_p(library.rd_kafka_conf_new())
    for key, setting in client_config(settings).items():
        assert not library.rd_kafka_conf_set(configuration, key.encode(), str(setting).encode(), problem, 512), problem.value
    client = ctypes.c_void_p(library.rd_kafka_new(0, configuration, problem, 512))
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(1))
    bad = b"st-\xff\xfe"
    library.rd_kafka_header_add(headers, bad, ctypes.c_ssize_t(len(bad)), b"v", ctypes.c_ssize_t(1))
    of_topic, of_partition, of_value, of_headers, end = (ctypes.c_int(n) for n in (1, 3, 4, 10, 0))
    assert not library.rd_kafka_producev(
        client,
        of_topic, ctypes.c_char_p(topic.encode()),
        of_partition, ctypes.c_int32(partition),
        of_value, ctypes.c_char_p(value), ctypes.c_size_t(len(value)),
        of_headers, headers,
        end,
    )  # fmt: skip
    assert not library.rd_kafka_flush(client, 20_000)
    library.rd_kafka_destroy(client)


def test_bad_records_of_a_connector_go_to_quarantine_and_the_chain_goes_on(deployment: Deployment) -> None:
    bad: Mapping[bytes | None, Reason] = {
        b"": Reason.UNDECODABLE,
        None: Reason.UNDECODABLE,  # a tombstone
        random.Random(3).randbytes(300): Reason.UNDECODABLE,
        AUDIT_EVENT.header + b"\x01": Reason.UNDECODABLE,
        b"\xc3\x01" + bytes(50): Reason.UNKNOWN_SCHEMA,
        random.Random(4).randbytes(3 << 19): Reason.TOO_LARGE,
        random.Random(5).randbytes((2 << 20) - 2000): Reason.TOO_LARGE,
    }
    settings, raw = deployment.settings("github"), name(deployment, "audit.raw")
    with running(new_sealer(deployment)):
        good = emit(deployment, 20)
        producer = Producer({**client_config(settings), "message.max.bytes": 3 << 20})
        for value in bad:
            for partition in range(2):
                producer.produce(raw, value, b"k" if value else None, partition, headers=[("none", None), ("h", b"1")])
        assert not producer.flush(30)
        for partition in range(2):
            produce_with_a_header_name_that_is_not_utf8(settings, raw, partition, b"poison")
        good += emit(deployment, 20)
        wait_all_sealed(deployment)
    counts = check_trail(deployment)
    assert counts.raw == good + 2 * len(bad) + 2
    assert counts.of(Kind.EVENT) == good
    assert counts.of(Kind.REJECTED, Reason.TOO_LARGE) == 4
    assert counts.of(Kind.REJECTED, Reason.UNKNOWN_SCHEMA) == 2
    assert counts.of(Kind.REJECTED, Reason.UNDECODABLE) == 2 * 5
    kept = quarantined(deployment)
    assert sorted(kept) == sorted([*(value or b"" for value in bad), b"poison"] * 2)


def quarantined(deployment: Deployment) -> list[bytes]:
    """The original values, opened with the key that no process of the pipeline holds."""
    private = X25519PrivateKey.from_private_bytes((deployment.stack.places.root / "quarantine.key").read_bytes())
    found = []
    with PartitionReader(deployment.settings("admin")) as reader:
        for partition in range(SHARED_PARTITIONS):
            for record in reader.read_all(name(deployment, "audit.quarantine"), partition):
                assert record.value is not None
                envelope = QUARANTINED.decode(record.value)
                info = quarantine_info(envelope["chain"], envelope["source_offset"])
                found.append(RECORD.decode_body(hpke_open(private, envelope["encapsulated"], info))["value"])
    return found


def test_a_record_too_large_for_an_output_is_found_by_halving_and_refused_alone(deployment: Deployment) -> None:
    limit = ConfigResource(
        ResourceType.TOPIC,
        name(deployment, "audit.archive"),
        incremental_configs=[ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)],
    )
    client = admin_client(deployment)
    for future in client.incremental_alter_configs([limit]).values():
        future.result()
    choice = random.Random(6)
    scopes = ["".join(choice.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=250)) for _ in range(1500)]
    large = {"method": "NONE", "scopes": scopes, "policy": None, "policy_version": None, "decision": "ALLOW"}
    with emitters(deployment) as (first, second):
        for number in range(12):
            first.emit({**load_draft(number), **({"authorization": large} if number == 7 else {})})
            second.emit(load_draft(number))
    with capture_logs() as logs, running(new_sealer(deployment)):
        wait_all_sealed(deployment)
    counts = check_trail(deployment)
    assert counts.of(Kind.REJECTED, Reason.UNPROCESSABLE) == 1
    assert counts.of(Kind.EVENT) == counts.raw - 1
    halved = [entry for entry in logs if entry.get("cause") == "halved"]
    assert 2 <= len(halved) <= 6


class Raising:
    """A pipeline whose pure function raises for batches that hold one record, until it is refused alone."""

    def __init__(self, inner: Any, culprit: int) -> None:
        self._inner = inner
        self._culprit = culprit

    def seal_batch(
        self, state: ChainState, batch: Batch, now: int, *, unprocessable: bool = False
    ) -> tuple[ChainState, Outputs]:
        if not unprocessable and any(record.offset == self._culprit for record in batch.records):
            raise ZeroDivisionError
        result: tuple[ChainState, Outputs] = self._inner.seal_batch(state, batch, now, unprocessable=unprocessable)
        return result

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._inner, attribute)


def test_an_exception_of_the_pure_function_refuses_the_culprit_alone(deployment: Deployment) -> None:
    emitted = emit(deployment, 2)
    settings = deployment.settings("sealer")
    with running(Sealer(settings, Raising(pipeline_of(settings), 2), now_us)):  # type: ignore[arg-type]  # a stand-in
        wait_all_sealed(deployment)
    counts = check_trail(deployment)
    assert (counts.of(Kind.REJECTED, Reason.UNPROCESSABLE), counts.of(Kind.EVENT)) == (2, emitted - 2)


# -- chains that move, rest, go on


def test_two_sealers_share_the_partitions_and_one_takes_over_when_the_other_leaves(deployment: Deployment) -> None:
    first, second = (new_sealer(deployment, heartbeat_s=1.0) for _ in range(2))
    done = threading.Event()
    with emitters(deployment) as made:

        def load() -> None:
            number = 0
            while not done.wait(0.01):
                for emitter in made:
                    emitter.emit(load_draft(number))
                number += 1

        thread = threading.Thread(target=load)
        thread.start()
        try:
            with running(second):
                with running(first):
                    wait_until(lambda: sorted([*phases(first), *phases(second)]) == [0, 1], what="both assigned")
                    wait_until(lambda: len(phases(first)) == len(phases(second)) == 1, what="one each")
                    wait_sealing(first, *phases(first))
                    wait_sealing(second, *phases(second))
                    before = [emitter.counts.acknowledged for emitter in made]
                    wait_until(
                        lambda: all(e.counts.acknowledged > n + 50 for e, n in zip(made, before, strict=True)), what="load"
                    )
                wait_sealing(second, 0, 1)
                done.set()
                thread.join()
                for emitter in made:
                    emitter.close(30)
                wait_all_sealed(deployment)
        finally:
            done.set()
    counts = check_trail(deployment)
    assert counts.of(Kind.EVENT) == counts.raw == sum(emitter.counts.acknowledged for emitter in made)
    assert counts.of(Kind.GENESIS) == 2


def test_an_idle_chain_says_that_it_is_idle_and_a_restart_goes_on_exactly(deployment: Deployment) -> None:
    def heartbeats() -> int:
        with PartitionReader(deployment.settings("admin")) as reader:
            found = [s.seal.kind for p in range(2) for s in read_chain(reader, deployment, p)]
        return found.count(Kind.HEARTBEAT)

    with running(new_sealer(deployment, heartbeat_s=0.4)):
        wait_until(lambda: heartbeats() >= 6, what="heartbeats")
        emitted = emit(deployment, 100)
        wait_all_sealed(deployment)
    emitted += emit(deployment, 50)
    middle = check_trail(deployment)
    assert middle.raw == emitted and middle.of(Kind.EVENT) == emitted - 2 * 52
    for _ in range(2):
        sealer = new_sealer(deployment)
        with running(sealer):
            wait_sealing(sealer, 0, 1)
            wait_all_sealed(deployment)
    counts = check_trail(deployment)
    assert counts.of(Kind.EVENT) == counts.raw == emitted
    assert set(middle.event_ids) < set(counts.event_ids)
    assert counts.of(Kind.GENESIS) == 2


def test_brokers_that_go_away_under_load_are_waited_for_and_nothing_is_lost(deployment: Deployment) -> None:
    stack = deployment.stack
    kafka = next(server for server in stack.status() if server.name == "kafka")
    assert kafka.pid
    done = threading.Event()
    sealer = new_sealer(deployment, heartbeat_s=1.0)
    with capture_logs() as logs, running(sealer):
        wait_sealing(sealer, 0, 1)
        with emitters(deployment) as made:

            def load() -> None:
                number = 0
                while not done.wait(0.01):
                    for emitter in made:
                        emitter.emit(load_draft(number))
                    number += 1

            thread = threading.Thread(target=load)
            thread.start()
            try:
                wait_until(lambda: all(e.counts.acknowledged > 50 for e in made), what="load")
                process = psutil.Process(kafka.pid)
                process.kill()
                wait_until(lambda: any(e.get("cause") == "transaction" for e in logs), what="a message")
                process.wait(30)
            finally:
                stack.up(search=False)
            before = [e.counts.acknowledged for e in made]
            try:
                wait_until(
                    lambda: all(e.counts.acknowledged > n + 50 for e, n in zip(made, before, strict=True)),
                    what="load after the restart",
                )
            finally:
                done.set()
                thread.join()
        wait_until(lambda: phases(sealer) == dict.fromkeys((0, 1), Phase.SEALING), what="recovery")
        wait_all_sealed(deployment)
    counts = check_trail(deployment)
    assert counts.of(Kind.EVENT) == counts.raw == sum(emitter.counts.acknowledged for emitter in made)


# -- the clock


def test_a_wrong_clock_stops_the_chain_and_nothing_is_committed(deployment: Deployment) -> None:
    settings = deployment.settings("sealer")
    ahead = Sealer(settings, pipeline_of(settings), lambda: now_us() + 120 * 1_000_000)
    with capture_logs() as logs, running(ahead):
        wait_until(lambda: phases(ahead) == dict.fromkeys((0, 1), Phase.STOPPED), what="stop")
    said = [entry["error"] for entry in logs if entry["event"].startswith("chain stopped")]
    assert len(said) == 2
    assert all(re.search(r"clock differs from this sealer's by -1(19|20) s", error) for error in said)
    with PartitionReader(deployment.settings("admin")) as reader:
        assert not any(read_chain(reader, deployment, partition) for partition in range(2))


class OnceLate(ChainProducer):
    """As one whose process was suspended between sealing and writing: its times look wrong once."""

    late = True

    def begin(self, placements: Sequence[Placement], progress: Progress, sealed_at_ms: int) -> None:  # type: ignore[override]
        if OnceLate.late:
            OnceLate.late = False
            raise ClockError("late")
        super().begin(placements, progress, sealed_at_ms)


def test_a_clock_that_looked_wrong_once_is_asked_again(deployment: Deployment) -> None:
    settings = deployment.settings("sealer")
    sealer = Sealer(settings, pipeline_of(settings), now_us, OnceLate)
    with capture_logs() as logs, running(sealer):
        wait_sealing(sealer, 0, 1)
    assert [entry["cause"] for entry in logs if "cause" in entry] == ["clock"]


class Unanswered(ChainProducer):
    """Once it is told, of what it begins no answer comes in time, though the broker commits it."""

    silent = threading.Event()

    def ended(self, wait_s: float = 0.0) -> bool:
        return not self.silent.is_set() and super().ended(wait_s)


def test_a_chain_that_leaves_before_the_answer_says_so_and_the_next_owner_finds_what_was_committed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors.sealer, "CLOSE_S", 0.2)
    settings = deployment.settings("sealer")
    leaving = Sealer(settings, pipeline_of(settings), now_us, Unanswered)
    Unanswered.silent.clear()
    with capture_logs() as logs, running(leaving):
        wait_sealing(leaving, 0, 1)
        Unanswered.silent.set()
        acknowledged = emit(deployment, 10)
        wait_until(lambda: all(c.committing() for c in leaving._chains.values()), what="transactions of both")
    left = [entry["partition"] for entry in logs if "left with a transaction open" in entry["event"]]
    assert sorted(left) == [0, 1]
    following = new_sealer(deployment)
    with running(following):
        wait_sealing(following, 0, 1)
        acknowledged += emit(deployment, 10)
        wait_all_sealed(deployment)
    assert check_trail(deployment).of(Kind.EVENT) == acknowledged


# -- a wrong set-up


def test_a_role_without_rights_ends_the_process_and_names_what_it_may_not(deployment: Deployment) -> None:
    settings = deployment.settings("sealer")
    other = deployment.settings("github")
    wrong = settings.model_copy(update={"kafka_certificate": other.kafka_certificate, "kafka_key": other.kafka_key})
    with pytest.raises(ConfigError, match="AUTHORIZATION_FAILED"):
        Sealer(wrong, pipeline_of(settings), now_us).run(threading.Event())


def test_trouble_that_looks_like_a_wrong_set_up_is_waited_for_once_a_chain_has_sealed(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processors.chain_loop, "CONFIGURATION_WAIT_S", 0.2)
    sealer = new_sealer(deployment, heartbeat_s=0.3)
    ask, left, asked = sealer.ends.topic_uuid, [3], [0]

    def unknown_at_first(topic: str) -> bytes:
        asked[0] += 1
        if asked[0] > 2 and not sealer.proven:  # the first chain's recovery asks twice; its GENESIS is on its way
            raise TransientError("not before a chain has sealed")
        if sealer.proven and left[0]:
            left[0] -= 1
            raise ConfigError("Broker: Unknown topic or partition")
        return ask(topic)

    monkeypatch.setattr(sealer.ends, "topic_uuid", unknown_at_first)
    with capture_logs() as logs, running(sealer):
        wait_sealing(sealer, 0, 1)
    assert [e["cause"] for e in logs if e.get("cause", "recovery") != "recovery"] == ["configuration"] * 3
    assert left == [0]


def test_a_chain_whose_outputs_a_broker_left_open_is_freed_and_goes_on(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(new_sealer(deployment)):
        emitted = emit(deployment, 20)
        wait_all_sealed(deployment)
    sealer = new_sealer(deployment)
    wait, left = sealer.ends.await_stable, [1]

    def hanging_at_first(partitions: Sequence[tuple[str, int]]) -> None:
        if left[0]:
            left[0] -= 1
            raise HangingError(partitions)
        wait(partitions)

    monkeypatch.setattr(sealer.ends, "await_stable", hanging_at_first)
    with capture_logs() as logs, running(sealer):
        wait_sealing(sealer, 0, 1)
        emitted += emit(deployment, 20)
        wait_all_sealed(deployment)
    assert [entry["event"] for entry in logs if "left open" in entry["event"]] == ["transaction left open by a broker"]
    assert left == [0]
    assert check_trail(deployment).of(Kind.EVENT) == emitted


def test_what_no_retry_mends_ends_a_process_that_never_sealed(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    sealer = new_sealer(deployment)

    def unknown(topic: str) -> bytes:
        raise ConfigError("Broker: Unknown topic or partition")

    monkeypatch.setattr(sealer.ends, "topic_uuid", unknown)
    with pytest.raises(ConfigError, match="Unknown topic"):
        sealer.run(threading.Event())


class NoRight(Librdkafka):
    """Whose producers may not fence."""

    def producer(self, config: dict[str, Any]) -> Producer:
        made = mock.Mock(spec=Producer)
        cause = KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
        made.init_transactions.side_effect = KafkaException(cause)
        return made


def test_a_fence_without_the_right_ends_a_process_that_never_sealed_as_a_wrong_set_up(deployment: Deployment) -> None:
    settings, library = deployment.settings("sealer"), NoRight()
    sealer = Sealer(settings, pipeline_of(settings), now_us, lambda given, name: ChainProducer(given, name, library))
    with pytest.raises(ConfigError, match=r"fencing .*TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        sealer.run(threading.Event())


def test_a_topic_without_partitions_is_an_error_and_no_zero(deployment: Deployment) -> None:
    with pytest.raises(ConfigError, match=r"audit\.nothing"):
        Ends(deployment.settings("admin")).partition_count("audit.nothing")


# -- heads that do not fit: one defect a partition, the others go on


class Spoilt:
    """A deployment some of whose partitions were given a defect; two partitions are left to be sealed."""

    def __init__(self, deployment: Deployment, defects: Mapping[str, str]) -> None:
        self.deployment = deployment
        self.defects = list(defects)
        self.expired, self.sound = len(defects), len(defects) + 1
        self.partitions = len(defects) + 2
        self.raw, self.archive = name(deployment, "audit.raw"), name(deployment, "audit.archive")
        self.ends = Ends(deployment.settings("admin"))
        self.client = admin_client(deployment)
        self.said: dict[int, str] = {}

    def commit(self, partition: int, offset: int) -> None:
        """The group's position, as an administrator may move it."""
        asked = ConsumerGroupTopicPartitions(name(self.deployment, "sealer"), [TopicPartition(self.raw, partition, offset)])
        wait_until(lambda: self.altered(asked), what=f"position {offset} of partition {partition}")

    def altered(self, asked: ConsumerGroupTopicPartitions) -> bool:
        """Whether the broker took it; the error of each partition is in the answer, and none is raised for it.

        A group that nobody used yet is refused while its coordinator is found (NOT_COORDINATOR, LOAD_IN_PROGRESS).
        """
        (answered,) = self.client.alter_consumer_group_offsets([asked]).values()
        return all(position.error is None for position in answered.result().topic_partitions)

    def cut(self, topic: str, partition: int, keep: int) -> None:
        """Delete all records of a partition but the last `keep` offsets."""
        end = self.ends.high([(topic, partition)])[topic, partition]
        for deleted in self.client.delete_records([TopicPartition(topic, partition, end - keep)]).values():
            deleted.result()

    def write(self, partition: int, value: bytes) -> None:
        """Into the archive topic, as a role that may."""
        producer = Producer(client_config(self.deployment.settings("sealer")))
        producer.produce(self.archive, value, partition=partition)
        assert not producer.flush(30)

    def maker(self, chain: str) -> ChainMaker:
        settings = self.deployment.settings("sealer")
        signer = Keystore.open(settings.keys).signer("sealer")
        return ChainMaker(signer.key_id, signer.sign, chain=chain, policy=Policy.load().notes()[1], now_us=now_us())

    def play(self) -> None:
        """Run a sealer until the sound partitions are sealed to their ends, and note what it said of the others."""
        sealer = new_sealer(self.deployment)
        wanted = [Phase.STOPPED] * len(self.defects) + [Phase.SEALING] * 2
        with capture_logs() as logs, running(sealer):
            try:
                wait_until(lambda: phases(sealer) == dict(enumerate(wanted)), what="each chain as expected")
            except pytest.fail.Exception as failed:
                pytest.fail(f"{failed}: {phases(sealer)}; {[entry for entry in logs if entry['log_level'] != 'info'][-20:]}")
            emit(self.deployment, 5, self.partitions)
            wait_until(lambda: all(self.left(p) == 0 for p in (self.expired, self.sound)), what="sound ones sealed")
            assert phases(sealer) == dict(enumerate(wanted))
        self.said = {e["partition"]: e["error"] for e in logs if e["event"].startswith("chain stopped")}
        for partition in (self.expired, self.sound):
            with PartitionReader(self.deployment.settings("admin")) as reader:
                offsets = [record.offset for record in reader.read_all(self.raw, partition)]
                check_coverage(self.chain(partition), offsets)

    def chain(self, partition: int) -> list[Sealed]:
        with PartitionReader(self.deployment.settings("admin")) as reader:
            return read_chain(reader, self.deployment, partition)

    def left(self, partition: int) -> int:
        return self.ends.high([(self.raw, partition)])[self.raw, partition] - self.chain(partition)[-1].seal.next_offset


NEVER_SEALED = {
    "committed without a seal": "but nothing was sealed",
    "another chain in the archive": "archive topic holds chain audit.example/elsewhere/",
    "garbage in the archive": "expected header",
    "raw shorter than the head": "but the log ends at",
}
SEALED_BEFORE = {
    "committed ahead of the head": "is ahead of the head",
    "archive emptied": "was not always empty",
}


@pytest.fixture(scope="module")
def never_sealed(stack: Stack) -> Spoilt:
    spoilt = Spoilt(new_deployment(stack, raw_partitions=len(NEVER_SEALED) + 2), NEVER_SEALED)
    emit(spoilt.deployment, 5, spoilt.partitions)
    sealer = spoilt.deployment.settings("sealer")
    spoilt.commit(0, 3)
    spoilt.write(1, spoilt.maker("audit.example/elsewhere/audit.raw.00112233.0/1").genesis())
    spoilt.write(2, b"garbage")
    spoilt.write(3, replace(spoilt.maker(chain_of(sealer, spoilt.ends, Topics.of(sealer), 3)), offset=5000).genesis())
    spoilt.cut(spoilt.raw, spoilt.expired, keep=2)
    spoilt.play()
    return spoilt


@pytest.fixture(scope="module")
def sealed_before(stack: Stack) -> Spoilt:
    spoilt = Spoilt(new_deployment(stack, raw_partitions=len(SEALED_BEFORE) + 2), SEALED_BEFORE)
    sealer = new_sealer(spoilt.deployment)
    with running(sealer):
        wait_sealing(sealer, *range(spoilt.partitions))
    emit(spoilt.deployment, 5, spoilt.partitions)
    spoilt.commit(0, 1000)
    spoilt.cut(spoilt.archive, 1, keep=0)
    spoilt.cut(spoilt.raw, spoilt.expired, keep=2)
    spoilt.play()
    return spoilt


@pytest.mark.parametrize("defect", NEVER_SEALED)
def test_a_chain_whose_topics_contradict_its_beginning_stops_with_the_reason(never_sealed: Spoilt, defect: str) -> None:
    assert NEVER_SEALED[defect] in never_sealed.said[never_sealed.defects.index(defect)]


@pytest.mark.parametrize("defect", SEALED_BEFORE)
def test_a_chain_whose_head_does_not_fit_stops_with_the_reason(sealed_before: Spoilt, defect: str) -> None:
    assert SEALED_BEFORE[defect] in sealed_before.said[sealed_before.defects.index(defect)]


@pytest.mark.servers
@pytest.mark.parametrize("fixture", ["never_sealed", "sealed_before"])
def test_raw_records_that_expired_unsealed_are_a_gap_and_the_rest_is_sealed(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    spoilt: Spoilt = request.getfixturevalue(fixture)
    genesis, gap, *rest = [sealed.seal for sealed in spoilt.chain(spoilt.expired)]
    assert (genesis.kind, gap.kind, gap.reason) == (Kind.GENESIS, Kind.GAP, Reason.EXPIRED)
    assert (gap.source_offset, gap.source_count) == (0, 5)  # of an opening, five events and a close, two are left
    assert [seal.kind for seal in rest] == [Kind.EVENT] * 9


@pytest.mark.servers
@pytest.mark.parametrize("fixture", ["never_sealed", "sealed_before"])
def test_partitions_that_fit_are_sealed_beside_those_that_stopped(fixture: str, request: pytest.FixtureRequest) -> None:
    spoilt: Spoilt = request.getfixturevalue(fixture)
    kinds = [sealed.seal.kind for sealed in spoilt.chain(spoilt.sound)]
    assert kinds == [Kind.GENESIS] + [Kind.EVENT] * 14
    assert sorted(spoilt.said) == list(range(len(spoilt.defects)))
