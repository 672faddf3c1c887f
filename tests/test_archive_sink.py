"""The archive sink on real servers: what it commits, what it adopts, what it refuses, and that it comes back by itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import psutil
import pytest
from confluent_kafka import Producer, TopicPartition
from structlog.testing import capture_logs

from auditor.archive import ArchiveReader
from kafkaio.admin import admin_client
from kafkaio.client import client_config
from kafkaio.reader import PartitionReader
from keystore import Keystore
from schemas.catalogue import topic_name
from schemas.policy import Policy
from schemas.settings import Settings
from sealtrail.errors import ConfigError, EvidenceError, TransientError
from sealtrail.layout import DOCUMENT_PREFIXES, chain_name, segment_key, segments_prefix
from sealtrail.seal import LogClass, decode_seal, decode_sealed_event
from sealtrail.source import MissingObjectError
from sinks.archive.assembly import limits_of, make_tools, open_sink, publish_documents
from sinks.archive.partition import PartitionArchiver, Store
from sinks.archive.sink import ArchiveSink
from sinks.archive.store import ArchiveStore, TakenError
from sinks.archive.writer import Lock, LockMode
from tests.archived import Archived, archived_seq, check_archived
from tests.chains import SECOND_US, ChainMaker
from tests.conftest import BUCKETS, DEADLINE_S, Deployment, new_deployment, wait_until
from tests.faults.proxy import Relay
from tests.faults.store import Fault, FaultyStore

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SMALL: Mapping[str, Any] = {"accept_weak_store": True, "segment_seals": 20, "segment_seconds": 30.0}
CLASSES = (LogClass.SECURITY, LogClass.OPERATIONAL, LogClass.DEBUG)
DAY_S = 86_400


class Trail:
    """A deployment whose archive topic this test fills: one chain a partition, transactions as the sealer's."""

    def __init__(self, deployment: Deployment, partitions: int = 2) -> None:
        self.deployment = deployment
        sealer = deployment.settings("sealer")
        signer = Keystore.open(sealer.keys).signer("sealer")
        self.topic = topic_name(deployment.topic_prefix, "audit.archive")
        self.values: list[list[bytes]] = [[] for _ in range(partitions)]
        self.makers = [
            ChainMaker(
                signer.key_id,
                signer.sign,
                chain=chain_name("audit.example", deployment.name, "audit.raw", os.urandom(16), 0, partition),
                policy=Policy.load().notes()[1],
                now_us=int(time.time()) * SECOND_US,
                random=os.urandom,
            )
            for partition in range(partitions)
        ]
        self.connect()

    def connect(self) -> None:
        """A producer of its own; what an earlier one left open is aborted."""
        sealer = self.deployment.settings("sealer")
        self._producer = Producer({**client_config(sealer), "transactional.id": f"{self.deployment.name}/test"})
        self._producer.init_transactions(30)

    def settings(self, role: str = "sink-archive", **flags: Any) -> Settings:
        return self.deployment.settings(role, **{**(SMALL if role == "sink-archive" else {}), **flags})

    def write(self, partition: int, values: list[bytes], *, abort: bool = False) -> None:
        """One transaction."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(self.topic, value=value, partition=partition)
        self._producer.flush(30)
        if abort:
            self._producer.abort_transaction(30)
        else:
            self._producer.commit_transaction(30)
            self.values[partition] += values

    def batch(self, partition: int, events: int) -> list[bytes]:
        """What the sealer writes in one transaction: events of two tenants and three classes, the last one signed."""
        made = self.makers[partition]
        values = [] if made.seq else [made.genesis()]
        for number in range(events):
            tenant = ("acme", "globex")[number % 2]
            values.append(made.event(tenant, CLASSES[number % 3], signed=number == events - 1, padding=50))
        return values

    def fill(self, partition: int, batches: int, events: int = 10) -> None:
        """Transactions with an aborted one and a heartbeat between them."""
        for _ in range(batches):
            kept = replace_maker(self.makers[partition])
            self.write(partition, self.batch(partition, events), abort=True)
            self.makers[partition] = kept
            self.write(partition, self.batch(partition, events))
            self.write(partition, [self.makers[partition].heartbeat()])

    def check(self, partition: int = 0, *, complete: bool = True) -> Archived:
        found = check_archived(self.deployment.settings("verifier"), self.makers[partition].chain, self.values[partition])
        if complete:  # all but what waits for the next cut
            assert len(self.values[partition]) - found.next_seq < SMALL["segment_seals"] + 11
        return found

    def archived(self, partition: int = 0) -> int:
        return archived_seq(ArchiveReader(self.deployment.settings("verifier")), self.makers[partition].chain)

    def wait_archived(self, seq: int, partition: int = 0) -> None:
        wait_until(lambda: self.archived(partition) >= seq, what=f"archived up to {seq}")

    def archiver(self, store: Store | None = None, partition: int = 0, **flags: Any) -> PartitionArchiver:
        """One partition's archiver without the loop."""
        settings = self.settings(**flags)
        tools = make_tools(settings, store or ArchiveStore(settings))
        return PartitionArchiver(self.topic, partition, PartitionReader(settings), tools)


def replace_maker(made: ChainMaker) -> ChainMaker:
    return replace(made)


@contextlib.contextmanager
def running(sink: ArchiveSink) -> Iterator[ArchiveSink]:
    """The sink in a thread; what it raises fails the test."""
    stop, failures = threading.Event(), []

    def work() -> None:
        try:
            sink.run(stop)
        except Exception as error:  # handed to the test's thread
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive(), "the sink did not stop"
    if failures:
        raise failures[0]


def logged(logs: list[Any], event: str) -> bool:
    return any(entry["event"] == event for entry in logs)


def steps(archiver: PartitionArchiver, done: Callable[[], bool], *, tolerate: type[Exception] | None = None) -> None:
    """Drive an archiver until `done`, calling again after errors of `tolerate`."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "the archiver did not get there"
        try:
            archiver.step()
        except TransientError as error:
            if tolerate is None or not isinstance(error, tolerate):
                raise


@pytest.fixture(scope="module")
def published(module_deployment: Deployment) -> None:
    """The documents of the shared bucket."""
    publish_documents(module_deployment.settings("publisher"))


@pytest.fixture
def trail(deployment: Deployment, published: None) -> Trail:
    return Trail(deployment)


# -- the loop


def test_two_partitions_are_archived_and_a_restart_goes_on_where_the_store_ends(trail: Trail) -> None:
    for partition in (0, 1):
        trail.fill(partition, batches=6)
    with running(open_sink(trail.settings())):
        for partition in (0, 1):
            trail.wait_archived(60, partition)
    first = [trail.check(partition) for partition in (0, 1)]
    assert all(not found.orphans for found in first)
    assert {r.name.split("/")[1] for s in first[0].segments for r in s.contents} == {
        "security", "operational", "debug", "none",
    }  # fmt: skip
    trail.fill(0, batches=3)
    with running(open_sink(trail.settings())):
        trail.wait_archived(80)
    found = trail.check()
    assert found.segments[: len(first[0].segments)] == first[0].segments
    assert not found.orphans


def test_a_chain_that_breaks_stops_its_partition_with_an_alarm_and_the_other_goes_on(trail: Trail) -> None:
    trail.fill(0, batches=3)
    sound = len(trail.values[0])
    trail.makers[0].prev = bytes(32)
    trail.fill(0, batches=3)
    trail.fill(1, batches=4)
    with running(open_sink(trail.settings())) as sink:
        wait_until(lambda: sink.stopped == {0}, what="partition 0 stopped")
        trail.wait_archived(40, 1)
        trail.fill(1, batches=2)
        trail.wait_archived(60, 1)
        assert sink.stopped == {0}
    found = trail.check(0, complete=False)
    assert 0 < found.next_seq <= sound
    trail.check(1)


def test_a_store_that_goes_away_is_waited_for_and_nothing_is_lost(trail: Trail) -> None:
    port = trail.deployment.stack.ports.s3
    with Relay(port) as relay:
        trail.fill(0, batches=3)
        with running(open_sink(trail.settings(archive_endpoint=f"https://127.0.0.1:{relay.port}"))):
            trail.wait_archived(20)
            relay.cut()
            trail.fill(0, batches=6)
            before = trail.archived()
            relay.join()
            trail.wait_archived(80)
    assert before < 80
    trail.check()


def test_brokers_that_go_away_are_waited_for_and_nothing_is_lost(trail: Trail) -> None:
    stack = trail.deployment.stack
    kafka = next(server for server in stack.status() if server.name == "kafka")
    assert kafka.pid
    trail.fill(0, batches=3)
    with capture_logs() as logs, running(open_sink(trail.settings())):
        trail.wait_archived(20)
        process = psutil.Process(kafka.pid)
        process.kill()
        wait_until(lambda: logged(logs, "brokers do not answer"), what="a message about the brokers")
        wait_until(lambda: logged(logs, "partition waits"), what="a message about the partition that was looked at")
        process.wait(30)
        stack.up(search=False)
        trail.connect()
        trail.fill(0, batches=6)
        trail.wait_archived(80)
    trail.check()


def test_the_sink_does_not_run_on_a_store_that_was_not_tested_unless_told_to(trail: Trail) -> None:
    with pytest.raises(ConfigError, match="accept_weak_store"):
        open_sink(trail.settings(accept_weak_store=False)).run(threading.Event())


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"archive_bucket": "no-such-bucket"}, "no-such-bucket"),
        ({"archive_secret_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"archive_access_key": "unknown"}, "InvalidAccessKeyId"),
        ({"archive_bucket": ""}, "archive_bucket"),
        ({"root_vkey": ""}, "root_vkey"),
        ({"kafka_ca": "/nowhere"}, "kafka_ca"),
    ],
)
def test_a_wrong_set_up_ends_the_sink_and_names_what_is_wrong(trail: Trail, flags: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_sink(trail.settings(**flags)).run(threading.Event())


def test_a_bucket_without_object_lock_is_refused(trail: Trail) -> None:
    admin = trail.deployment.settings("admin")
    client = s3(admin)
    client.create_bucket(Bucket="plain")
    with pytest.raises(ConfigError, match="plain"):
        ArchiveStore(trail.deployment.settings("admin", archive_bucket="plain")).check_bucket()


# -- faults at each step


FAULTS = [
    pytest.param({("contents/", 0): Fault.NOT_LANDED}, 0, id="first contents not landed"),
    pytest.param({("contents/", 0): Fault.LANDED}, 1, id="first contents landed without reply"),
    pytest.param({("contents/", 2): Fault.NOT_LANDED}, 0, id="third contents not landed"),
    pytest.param({("contents/", 2): Fault.LANDED}, 1, id="third contents landed without reply"),
    pytest.param({("chains/", 0): Fault.NOT_LANDED}, 0, id="first segment not landed"),
    pytest.param({("chains/", 0): Fault.LANDED}, 0, id="first segment landed without reply"),
    pytest.param({("chains/", 1): Fault.NOT_LANDED, ("chains/", 2): Fault.LANDED}, 0, id="second segment both"),
]


@pytest.mark.parametrize(("faults", "orphans"), FAULTS)
def test_after_a_failed_put_the_archive_is_as_if_it_had_not_failed(
    trail: Trail, faults: dict[tuple[str, int], Fault], orphans: int
) -> None:
    trail.fill(0, batches=5)
    store = FaultyStore(ArchiveStore(trail.settings()), faults)
    archiver = trail.archiver(store)
    with contextlib.closing(archiver):
        steps(archiver, lambda: trail.archived() >= 40, tolerate=TransientError)
    assert store.raised == len(faults)
    assert len(trail.check().orphans) == orphans


@pytest.mark.parametrize(("faults", "orphans"), [FAULTS[1], FAULTS[4], FAULTS[5]])
def test_after_a_failed_put_another_process_goes_on_from_the_store_alone(
    trail: Trail, faults: dict[tuple[str, int], Fault], orphans: int
) -> None:
    trail.fill(0, batches=5)
    first = trail.archiver(FaultyStore(ArchiveStore(trail.settings()), faults))
    with contextlib.closing(first), contextlib.suppress(TransientError):
        steps(first, lambda: trail.archived() > 0)
    second = trail.archiver()
    with contextlib.closing(second):
        steps(second, lambda: trail.archived() >= 40)
    trail.check()


def test_two_archivers_of_one_partition_write_each_segment_once(trail: Trail) -> None:
    trail.fill(0, batches=8)
    one, two = trail.archiver(), trail.archiver()
    with contextlib.closing(one), contextlib.closing(two):
        while trail.archived() < 70:
            one.step()
            two.step()
        for _ in range(4):  # the slower one finds out about the last segment too
            two.step()
    found = trail.check()
    assert found.orphans, "both had written contents"


def test_a_segment_that_another_cut_elsewhere_is_adopted_and_the_chain_goes_on_from_its_end(trail: Trail) -> None:
    trail.fill(0, batches=8)
    one, two = trail.archiver(), trail.archiver(segment_seals=33)
    with contextlib.closing(one), contextlib.closing(two):
        while trail.archived() < 70:
            two.step()
            one.step()
    found = trail.check()
    assert len({len(segment.seals) for segment in found.segments}) > 1


@pytest.mark.parametrize(
    ("fault", "orphans"),
    [
        ((("contents/", 1), Fault.KILLED_AFTER), 2),
        ((("chains/", 0), Fault.KILLED_BEFORE), 4),
        ((("chains/", 0), Fault.KILLED_AFTER), 0),
        ((("chains/", 1), Fault.KILLED_BEFORE), 4),
    ],
)
def test_kill_9_between_contents_and_segment_loses_and_doubles_nothing(
    trail: Trail, fault: tuple[tuple[str, int], Fault], orphans: int
) -> None:
    trail.fill(0, batches=5)
    (prefix, number), kind = fault
    flags = {**SMALL, "topic_prefix": trail.deployment.topic_prefix, "deployment": trail.deployment.name}
    command = [
        sys.executable, "-m", "tests.faults.archive_sink", str(trail.deployment.stack.role_file("sink-archive")),
        json.dumps({**flags, "archive_bucket": trail.deployment.bucket}), json.dumps([[prefix, number, kind]]),
    ]  # fmt: skip
    killed = subprocess.run(command, timeout=DEADLINE_S, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    archiver = trail.archiver()  # without the group, whose dead member stays for 10 s
    with contextlib.closing(archiver):
        steps(archiver, lambda: trail.archived() >= 40)
    assert len(trail.check().orphans) == orphans


# -- what is refused


def recover(trail: Trail) -> None:
    archiver = trail.archiver()
    with contextlib.closing(archiver):
        archiver.step()


def s3(settings: Settings) -> S3Client:
    assert settings.archive_access_key
    assert settings.archive_secret_key
    return boto3.client(
        "s3",
        endpoint_url=settings.archive_endpoint,
        verify=str(settings.archive_ca),
        region_name="us-east-1",
        aws_access_key_id=settings.archive_access_key.get_secret_value(),
        aws_secret_access_key=settings.archive_secret_key.get_secret_value(),
    )


@pytest.fixture
def archived_trail(trail: Trail) -> Trail:
    """A trail with some segments in the store."""
    trail.fill(0, batches=5)
    archiver = trail.archiver()
    with contextlib.closing(archiver):
        steps(archiver, lambda: trail.archived() >= 40)
    return trail


def test_a_segment_hidden_by_a_delete_marker_stops_the_chain(archived_trail: Trail) -> None:
    admin = archived_trail.deployment.settings("admin")
    last = list(ArchiveReader(admin).list(segments_prefix(archived_trail.makers[0].chain)))[-1]
    s3(admin).delete_object(Bucket=admin.archive_bucket, Key=last.key)
    with pytest.raises(EvidenceError, match="delete marker"):
        recover(archived_trail)


def test_a_segment_with_a_second_version_stops_the_chain(archived_trail: Trail) -> None:
    admin = archived_trail.deployment.settings("admin")
    reader = ArchiveReader(admin)
    first = next(iter(reader.list(segments_prefix(archived_trail.makers[0].chain))))
    data = reader.read(first.key, first.version)
    ArchiveStore(admin).put(first.key, data, Lock(LockMode.GOVERNANCE, (int(time.time()) // DAY_S + 2) * DAY_S * 1000))
    with pytest.raises(EvidenceError, match="second version"):
        recover(archived_trail)


def test_a_topic_that_ends_before_the_archive_stops_the_chain(archived_trail: Trail) -> None:
    shorter = Trail(new_deployment(archived_trail.deployment.stack))
    shorter.makers[0].chain = archived_trail.makers[0].chain
    shorter.write(0, archived_trail.values[0][:5])
    archiver = PartitionArchiver(
        shorter.topic, 0, PartitionReader(shorter.settings()),
        make_tools(archived_trail.settings(), ArchiveStore(archived_trail.settings())),
    )  # fmt: skip
    with contextlib.closing(archiver), pytest.raises(EvidenceError, match="the topic ends before it"):
        archiver.step()


def test_a_topic_with_another_history_than_the_archive_stops_the_chain(archived_trail: Trail) -> None:
    other = Trail(new_deployment(archived_trail.deployment.stack))
    other.makers[0].chain = archived_trail.makers[0].chain
    other.fill(0, batches=6)
    archiver = PartitionArchiver(
        other.topic, 0, PartitionReader(other.settings()),
        make_tools(archived_trail.settings(), ArchiveStore(archived_trail.settings())),
    )  # fmt: skip
    with contextlib.closing(archiver), pytest.raises(EvidenceError, match="another seal than the topic"):
        archiver.step()


def trim(trail: Trail, seq: int) -> None:
    """Delete the topic's records below a seq, as the trim job does."""
    with PartitionReader(trail.settings()) as reader:
        offset = reader.find(trail.topic, 0, seq, lambda r: decode_seal(decode_sealed_event(r.value or b"").seal).seq)
    client = admin_client(trail.settings("admin"))  # kept: its futures end with it
    (future,) = client.delete_records([TopicPartition(trail.topic, 0, offset)]).values()
    future.result(30)


@pytest.mark.parametrize("first", [10, 44, 60, 65, 66])
def test_a_trimmed_topic_is_taken_up_where_the_archive_ends(trail: Trail, first: int) -> None:
    trail.fill(0, batches=6)
    archiver = trail.archiver()
    with contextlib.closing(archiver):
        steps(archiver, lambda: trail.archived() == 66)
    trim(trail, first)
    trail.fill(0, batches=3)
    again = trail.archiver()
    with contextlib.closing(again):
        steps(again, lambda: trail.archived() >= 80)
    trail.check()


def test_a_topic_trimmed_beyond_the_archive_stops_the_chain(trail: Trail) -> None:
    trail.fill(0, batches=6)
    archiver = trail.archiver()
    with contextlib.closing(archiver):
        steps(archiver, lambda: trail.archived() == 66)
    trail.fill(0, batches=2)
    trim(trail, 67)
    with pytest.raises(EvidenceError, match="goes on with seq 67"):
        recover(trail)


def test_a_topic_that_begins_late_without_an_archive_is_refused(trail: Trail) -> None:
    trail.fill(0, batches=2)
    trim(trail, 5)
    with pytest.raises(EvidenceError, match="goes on with seq 5"):
        recover(trail)


def test_a_chain_of_another_deployment_is_refused(trail: Trail) -> None:
    trail.makers[0].chain = chain_name("audit.example", "elsewhere", "audit.raw", bytes(16), 0, 0)
    trail.fill(0, batches=1)
    with pytest.raises(EvidenceError, match="does not belong here"):
        recover(trail)


def test_a_lock_that_no_policy_allows_is_refused_and_nothing_is_written(trail: Trail) -> None:
    trail.makers[0].retain_days = 36_500
    trail.fill(0, batches=3)
    archiver = trail.archiver()
    with contextlib.closing(archiver), pytest.raises(EvidenceError, match="longest lock"):
        steps(archiver, lambda: trail.archived() > 0)
    assert not trail.check(complete=False).segments


# -- documents


def test_nothing_is_archived_before_the_documents_are_published(stack: object, module_deployment: Deployment) -> None:
    deployment = new_deployment(module_deployment.stack, bucket=BUCKETS[1])
    trail = Trail(deployment)
    trail.fill(0, batches=4)
    archiver = trail.archiver()
    with contextlib.closing(archiver):
        with pytest.raises(TransientError, match="sealtrail archive publish"):
            steps(archiver, lambda: trail.archived() > 0)
        assert not trail.check(complete=False).segments
        assert not trail.check(complete=False).orphans
        first = publish_documents(deployment.settings("publisher"))
        assert first.written
        assert not first.present
        again = publish_documents(deployment.settings("publisher"))
        assert not again.written
        assert again.present == len(first.written)
        steps(archiver, lambda: trail.archived() >= 20)
    trail.check()


def test_documents_are_under_legal_hold_and_locked(module_deployment: Deployment, published: None) -> None:
    settings = module_deployment.settings("verifier")
    reader = ArchiveReader(settings)
    listed = [stored for prefix in DOCUMENT_PREFIXES for stored in reader.list(prefix)]
    found = [stored for stored in listed if re.fullmatch(r"[a-z]+/[0-9a-f]{64}\.[a-z]+", stored.key)]  # not of other tests
    assert {stored.key.split("/")[0] + "/" for stored in found} == set(DOCUMENT_PREFIXES)
    locks = [reader.lock(stored.key, stored.version) for stored in found]
    longest = time.time() * 1000 + Policy.load().longest_ms
    assert all(
        lock and lock.mode == "COMPLIANCE" and lock.legal_hold and lock.until_ms >= longest - 3_600_000 for lock in locks
    )


# -- the two clients


def test_a_conditional_put_refuses_what_is_there_and_the_reader_tells_missing_from_unknown(trail: Trail) -> None:
    store = ArchiveStore(trail.settings())
    lock = Lock(LockMode.GOVERNANCE, (int(time.time()) // DAY_S + 2) * DAY_S * 1000)
    key = segment_key(trail.makers[0].chain, 0)
    version = store.put(key, b"one", lock, if_absent=True)
    with pytest.raises(TakenError):
        store.put(key, b"two", lock, if_absent=True)
    reader = ArchiveReader(trail.deployment.settings("verifier"))
    assert [(s.version, s.is_latest, s.is_marker, s.size) for s in reader.list(key)] == [(version, True, False, 3)]
    assert reader.read(key, version) == b"one"
    found = reader.lock(key, version)
    assert found
    assert (found.mode, found.until_ms, found.legal_hold) == ("GOVERNANCE", lock.until_ms, False)
    with pytest.raises(MissingObjectError):
        reader.read(key + "x", version)


def test_listing_begins_after_a_key_and_crosses_pages(trail: Trail) -> None:
    store = ArchiveStore(trail.settings())
    lock = Lock(LockMode.GOVERNANCE, (int(time.time()) // DAY_S + 2) * DAY_S * 1000)
    chain = trail.makers[0].chain
    for first in range(0, 50, 10):
        store.put(segment_key(chain, first), b"x", lock)
    keys = [v.key for v in store.versions(segments_prefix(chain), segment_key(chain, 19))]
    assert keys == [segment_key(chain, first) for first in (20, 30, 40)]
    keys = [v.key for v in store.versions(segments_prefix(chain), segment_key(chain, 20))]
    assert keys == [segment_key(chain, first) for first in (30, 40)]


def test_limits_come_from_the_settings(trail: Trail) -> None:
    limits = limits_of(trail.settings())
    assert (limits.seals, limits.record_time_us, limits.idle_time_us) == (20, 30_000_000, 3_600_000_000)
    assert decode_sealed_event(trail.makers[0].genesis()).signature is not None
