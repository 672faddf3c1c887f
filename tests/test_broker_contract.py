"""What the sealer's loop relies on in kafkaio's clients, on real brokers and on simulated ones alike.

The clients are the same on both sides; what they speak to is not (ADR 19).
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from kafkaio import transaction
from kafkaio.client import client_config
from kafkaio.group import RawConsumer
from kafkaio.library import LIBRDKAFKA, Library
from kafkaio.reader import OffsetGoneError, PartitionReader, Record
from kafkaio.record import RawRecord
from kafkaio.testing import Calm, Cluster, SimulatedLibrary, TopicSpec
from kafkaio.transaction import ChainProducer, ClockError, Ends, FencedError, HangingError, Placement, Progress
from schemas.catalogue import topic_name
from schemas.settings import Settings
from sealtrail.errors import ConfigError, EvidenceError, TransientError
from tests.conftest import RAW_PARTITIONS, Deployment, wait_until
from tests.fenced import fenced

START_MS = 1_795_000_000_000
OUTPUTS = ("archive", "hot", "sources")


class Side(Protocol):
    """Brokers with one deployment's topics."""

    settings: Settings  # of a sealer
    administrator: Settings  # of who may read everything
    library: Library

    def append(self, partition: int, *values: bytes) -> None:
        """Records of the raw topic, acknowledged."""

    def trim(self, partition: int, first: int) -> None:
        """Delete what lies below an offset of the raw topic."""

    def now_ms(self) -> int:
        """The brokers' clock."""

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it."""


@dataclass
class Real:
    """A deployment on the session's stack."""

    deployment: Deployment

    def __post_init__(self) -> None:
        self.settings = self.deployment.settings("sealer")
        self.administrator = self.deployment.settings("admin")
        self.library: Library = LIBRDKAFKA
        self._producer = Producer(client_config(self.deployment.settings("github")))
        self._admin = AdminClient(client_config(self.administrator))

    def append(self, partition: int, *values: bytes) -> None:
        for value in values:
            self._producer.produce(name_of(self, "raw"), value, b"k", partition, headers=[("h", b"1")])
        assert not self._producer.flush(30)

    def trim(self, partition: int, first: int) -> None:
        for deleted in self._admin.delete_records([TopicPartition(name_of(self, "raw"), partition, first)]).values():
            deleted.result()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_until(condition, what=what)


class Simulated:
    """Simulated brokers, on which nothing fails."""

    def __init__(self, folder: Path) -> None:
        for name in ("ca", "certificate", "key"):
            (folder / name).touch()
        files = {f"kafka_{name}": folder / name for name in ("ca", "certificate", "key")}
        self.settings = Settings.load(role="sealer", kafka_bootstrap="simulated", topic_prefix="t1.", **files)
        self.administrator = self.settings
        names = ("raw", "archive", "hot", "sources")
        self._cluster = Cluster({name_of(self, name): TopicSpec(RAW_PARTITIONS) for name in names}, START_MS)
        self.library: Library = SimulatedLibrary(self._cluster, Calm(self._cluster))

    def append(self, partition: int, *values: bytes) -> None:
        for value in values:
            self._cluster.append(name_of(self, "raw"), partition, b"k", value, {"h": b"1"})

    def trim(self, partition: int, first: int) -> None:
        self._cluster.partition(name_of(self, "raw"), partition).trim(first)

    def now_ms(self) -> int:
        return self._cluster.now_ms()

    def until(self, condition: Callable[[], object], what: str) -> None:
        for _ in range(1000):
            if condition():
                return
            self._cluster.advance(0.1)
        pytest.fail(f"{what} did not come about")


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.servers)])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Side:
    return Simulated(tmp_path) if request.param == "simulated" else Real(request.getfixturevalue("deployment"))


@pytest.fixture
def reader(side: Side) -> Iterator[PartitionReader]:
    with PartitionReader(side.administrator, side.library) as made:
        yield made


@pytest.fixture
def ends(side: Side) -> Ends:
    return Ends(side.administrator, side.library)


@pytest.fixture
def member(side: Side) -> Iterator[Member]:
    """The one member of the group."""
    made = Member(side)
    made.side.until(lambda: made.owns() == {0, 1}, "membership")
    yield made
    made.consumer.close()


def name_of(side: Side, topic: str) -> str:
    return topic_name(side.settings.topic_prefix, f"audit.{topic}")


class Member:
    """A member of the sealers' group."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.owned: set[int] = set()
        self.got: dict[int, list[RawRecord]] = defaultdict(list)
        self.gone: set[int] = set()
        group = topic_name(side.settings.topic_prefix, "sealer")
        self.consumer = RawConsumer(
            side.settings, name_of(side, "raw"), group, self.owned.update, self.owned.difference_update, side.library
        )

    def poll(self) -> object:
        """The group's metadata; what came is in `got` and `gone`."""
        polled = self.consumer.poll(100, 0.1)
        for partition, records in polled.records.items():
            self.got[partition] += records
        self.gone |= polled.out_of_range
        return polled.group

    def owns(self) -> set[int]:
        self.poll()
        return self.owned

    def offsets(self, partition: int) -> list[int]:
        """What came of a partition so far, after another poll."""
        self.poll()
        return [record.offset for record in self.got[partition]]


def shared(*members: Member) -> bool:
    """Whether each of two, polled once more, owns one partition."""
    return [len(member.owns()) for member in members] == [1, 1] and set.union(*(m.owned for m in members)) == {0, 1}


def chain(side: Side, partition: int = 0) -> ChainProducer:
    return fenced(side.settings, f"{side.settings.deployment}/raw/{partition}", side.library)


def commit(side: Side, producer: ChainProducer, group: object, *values: bytes, offset: int = 0, late_ms: int = 0) -> None:
    """One transaction: values to the archive, the first of them to hot and, under a key, to the sources as well."""
    placements = [
        Placement(name_of(side, "archive"), 0, values),
        Placement(name_of(side, "hot"), 1, values[:1]),
        Placement(name_of(side, "sources"), 0, values[:1], [b"key"]),
    ]
    producer.commit(placements, Progress(name_of(side, "raw"), 0, offset, group), side.now_ms() - late_ms)


def leave_open(side: Side, producer: ChainProducer, value: bytes = b"open") -> None:
    """Begin a transaction on the archive, and go away."""
    producer._producer.begin_transaction()
    producer._producer.produce(name_of(side, "archive"), value, None, 0)
    assert not producer._producer.flush(20)


def archived(side: Side, reader: PartitionReader, ends: Ends) -> list[bytes | None]:
    ends.await_stable([(name_of(side, "archive"), 0)])
    return [record.value for record in reader.read_all(name_of(side, "archive"), 0)]


# -- the chain's producer


def test_a_transaction_writes_all_its_records_in_order_where_they_were_placed_and_the_position(
    side: Side, member: Member, reader: PartitionReader, ends: Ends
) -> None:
    assert member.consumer.committed(0) is None
    commit(side, chain(side), member.poll(), b"one", b"two", b"three", offset=7)
    assert archived(side, reader, ends) == [b"one", b"two", b"three"]
    ends.await_stable([(name_of(side, "hot"), 1), (name_of(side, "sources"), 0)])
    assert [r.value for r in reader.read_all(name_of(side, "hot"), 1)] == [b"one"]
    assert [(r.key, r.value) for r in reader.read_all(name_of(side, "sources"), 0)] == [(b"key", b"one")]
    assert list(reader.read_all(name_of(side, "hot"), 0)) == []
    assert (member.consumer.committed(0), member.consumer.committed(1)) == (7, None)


def test_the_fence_aborts_what_an_earlier_owner_had_open_and_outlaws_it(
    side: Side, member: Member, reader: PartitionReader, ends: Ends
) -> None:
    first = chain(side)
    commit(side, first, member.poll(), b"one")
    leave_open(side, first)
    second = chain(side)
    for _ in range(2):
        with pytest.raises(TransientError):
            commit(side, first, member.poll(), b"never")
    commit(side, second, member.poll(), b"two")
    third = chain(side)
    with pytest.raises(FencedError):
        commit(side, second, member.poll(), b"never")
    with pytest.raises(TransientError):
        second.abort_on([(name_of(side, "archive"), 0)])
    commit(side, third, member.poll(), b"three")
    assert archived(side, reader, ends) == [b"one", b"two", b"three"]


def test_a_fence_leaves_other_chains_alone(side: Side, member: Member, reader: PartitionReader, ends: Ends) -> None:
    mine = chain(side, 0)
    chain(side, 1)
    commit(side, mine, member.poll(), b"one")
    assert archived(side, reader, ends) == [b"one"]


def test_a_transaction_of_an_earlier_generation_is_refused_and_so_is_its_position(
    side: Side, member: Member, reader: PartitionReader, ends: Ends
) -> None:
    stale = member.poll()
    other = Member(side)
    side.until(lambda: shared(member, other), "one each")
    with pytest.raises(FencedError):
        commit(side, chain(side), stale, b"never", offset=5)
    commit(side, chain(side), member.poll(), b"now", offset=3)
    assert archived(side, reader, ends) == [b"now"]
    assert member.consumer.committed(0) == 3
    other.consumer.close()


@pytest.mark.parametrize("size", [pytest.param(3 << 20, id="by-the-broker"), pytest.param(5 << 20, id="at-once")])
def test_a_record_that_is_too_large_is_told_from_other_failures_and_nothing_is_committed(
    side: Side, member: Member, reader: PartitionReader, ends: Ends, size: int
) -> None:
    producer = chain(side)
    with pytest.raises(EvidenceError, match="size"):
        commit(side, producer, member.poll(), b"small", os.urandom(size))
    producer.discard()
    commit(side, chain(side), member.poll(), b"now")
    assert archived(side, reader, ends) == [b"now"]


def test_a_clock_that_is_far_from_the_brokers_is_found_before_anything_is_committed(
    side: Side, member: Member, reader: PartitionReader, ends: Ends
) -> None:
    producer = chain(side)
    with pytest.raises(ClockError, match="differs"):
        commit(side, producer, member.poll(), b"never", late_ms=120_000)
    producer.discard()
    commit(side, chain(side), member.poll(), b"now", late_ms=20_000)
    assert archived(side, reader, ends) == [b"now"]


def test_a_transaction_of_nothing_leaves_markers_and_no_records(
    side: Side, member: Member, reader: PartitionReader, ends: Ends
) -> None:
    producer = chain(side)
    commit(side, producer, member.poll(), b"one")
    outputs = [(name_of(side, name), 0) for name in OUTPUTS]
    producer.abort_on(outputs)
    ends.await_stable(outputs)
    assert min(ends.high(outputs).values()) > 0
    assert archived(side, reader, ends) == [b"one"]


# -- what readers see


def test_what_is_open_or_aborted_is_hidden_and_ends_what_can_be_read(
    side: Side, member: Member, reader: PartitionReader, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = (name_of(side, "archive"), 0)
    producer = chain(side)
    commit(side, producer, member.poll(), b"one", b"two")
    ends.await_stable([archive])
    last = reader.last_record(*archive)
    assert last is not None
    assert (last.offset, last.value) == (1, b"two")
    leave_open(side, producer)
    assert ends.stable([archive])[archive] < ends.high([archive])[archive]
    assert reader.bounds(*archive).stable == ends.stable([archive])[archive]
    assert reader.last_record(*archive) == last
    monkeypatch.setattr(transaction, "STABLE_S", 0.5)
    with pytest.raises(HangingError) as hanging:
        ends.await_stable([archive])
    assert hanging.value.partitions == (archive,)
    monkeypatch.undo()
    third = chain(side)
    ends.await_stable([archive])
    assert ends.stable([archive]) == ends.high([archive])
    assert reader.last_record(*archive) == last  # behind it: a marker, what was aborted, its marker
    commit(side, third, member.poll(), b"three")
    assert archived(side, reader, ends) == [b"one", b"two", b"three"]


def test_records_are_found_by_their_number_whatever_lies_between(
    side: Side, member: Member, reader: PartitionReader, ends: Ends
) -> None:
    archive = (name_of(side, "archive"), 0)

    def number(record: Record) -> int:
        return int(record.value or b"")

    producer, written = chain(side), 0
    for count in (1, 4, 2):
        commit(side, producer, member.poll(), *(str(written + n).encode() for n in range(count)))
        written += count
        producer.abort_on([archive])
        producer.discard()
        producer = chain(side)
    ends.await_stable([archive])
    stable = reader.bounds(*archive).stable
    for wanted in range(written):
        found = reader.first_record(*archive, reader.find(*archive, wanted, number), stable)
        assert found is not None
        assert number(found) == wanted
    assert [number(record) for record in reader.between(*archive, 0, stable)] == list(range(written))
    assert reader.first_record(*archive, reader.find(*archive, written, number), stable) is None


def test_an_empty_partition_has_bounds_and_no_record(side: Side, reader: PartitionReader, ends: Ends) -> None:
    archive = (name_of(side, "archive"), 0)
    assert reader.last_record(*archive) is None
    assert list(reader.read_all(*archive)) == []
    assert (ends.start(*archive), ends.high([archive])[archive]) == (0, 0)
    ends.await_stable([archive])


def test_a_reader_told_to_start_beyond_the_end_or_below_the_start_is_told_so(side: Side, reader: PartitionReader) -> None:
    raw = name_of(side, "raw")
    side.append(0, b"a", b"b", b"c")
    side.trim(0, 2)
    for offset in (1000, 0):
        reader.start(raw, 0, offset)
        with pytest.raises(OffsetGoneError, match="offset"):
            side.until(lambda: reader.read(10, 100, 1.0), "the refusal")


def test_topics_have_a_uuid_and_partitions_and_one_that_is_not_there_is_misconfigured(
    side: Side, reader: PartitionReader, ends: Ends
) -> None:
    raw, archive = name_of(side, "raw"), name_of(side, "archive")
    assert len(ends.topic_uuid(raw)) == 16
    assert ends.topic_uuid(raw) == ends.topic_uuid(raw) != ends.topic_uuid(archive)
    assert ends.partition_count(raw) == RAW_PARTITIONS
    asks: Sequence[Callable[[str], object]] = (
        ends.topic_uuid,
        ends.partition_count,
        lambda topic: ends.start(topic, 0),
        lambda topic: reader.bounds(topic, 0),
    )
    for ask in asks:
        with pytest.raises(ConfigError):
            ask(name_of(side, "nothing"))
    with pytest.raises(ConfigError, match="partitions"):
        reader.bounds(archive, 99)


# -- the consumer of the raw topic


def test_partitions_that_arrive_deliver_nothing_until_they_are_started_and_go_back_when_told(
    side: Side, member: Member
) -> None:
    side.append(0, b"a", b"b", b"c", b"d")
    side.append(1, b"x")
    for _ in range(3):
        member.poll()
    assert not member.got
    member.consumer.start(0, 1)
    side.until(lambda: member.offsets(0) == [1, 2, 3], "three records")
    message = member.got[0][0]
    assert (message.key, message.value, message.headers) == (b"k", b"b", (("h", b"1"),))
    assert abs(message.appended_ms - side.now_ms()) < 60_000
    member.consumer.start(0, 2)
    side.until(lambda: member.offsets(0) == [1, 2, 3, 2, 3], "two again")
    member.consumer.stop(0)
    side.append(0, b"e")
    for _ in range(3):
        member.poll()
    member.consumer.start(0, 4)
    side.until(lambda: member.offsets(0) == [1, 2, 3, 2, 3, 4], "the new one, once")
    assert member.offsets(1) == []


@pytest.mark.parametrize("offset", [0, 1000])
def test_a_position_that_the_log_does_not_hold_is_reported_and_another_can_be_taken(
    side: Side, member: Member, ends: Ends, offset: int
) -> None:
    side.append(0, b"a", b"b", b"c")
    side.trim(0, 2)
    assert ends.start(name_of(side, "raw"), 0) == 2
    member.consumer.start(0, offset)
    side.until(lambda: member.poll() and member.gone, "the report")
    assert (member.gone, member.got) == ({0}, {})
    member.consumer.start(0, 2)
    side.until(lambda: member.offsets(0) == [2], "the record")


def test_members_share_the_partitions_and_who_leaves_leaves_them_to_the_others(side: Side, member: Member) -> None:
    other = Member(side)
    side.until(lambda: shared(member, other), "one each")
    mine = set(member.owned)
    other.consumer.close()
    assert not other.owned
    side.until(lambda: member.owns() == {0, 1}, "both")
    assert mine <= member.owned
