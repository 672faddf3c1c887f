"""The partition reader on a real broker: committed data records only, whatever markers and aborted batches lie between."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from kafkaio import delivery
from kafkaio.client import client_config
from kafkaio.group import RawConsumer
from kafkaio.library import Library
from kafkaio.reader import OffsetGoneError, PartitionReader, Record
from schemas.catalogue import topic_name
from sealtrail.errors import ConfigError, TransientError
from tests.conftest import Deployment, wait_until


class Topic:
    """Partition 0 of the archive topic, written in transactions of numbers."""

    def __init__(self, deployment: Deployment) -> None:
        self.name = topic_name(deployment.topic_prefix, "audit.archive")
        self.next = 0
        sealer = deployment.settings("sealer")
        self._producer = Producer({**client_config(sealer), "transactional.id": f"{deployment.name}/reader"})
        self._producer.init_transactions(30)

    def write(self, count: int, *, end: str = "commit") -> None:
        self._producer.begin_transaction()
        for number in range(self.next, self.next + count):
            self._producer.produce(self.name, value=str(number).encode(), partition=0)
        self._producer.flush(30)
        match end:
            case "commit":
                self._producer.commit_transaction(30)
                self.next += count
            case "abort":
                self._producer.abort_transaction(30)
            case "open":
                pass


@pytest.fixture
def topic(deployment: Deployment) -> Topic:
    return Topic(deployment)


@pytest.fixture
def reader(deployment: Deployment) -> Iterator[PartitionReader]:
    with PartitionReader(deployment.settings("sink-archive")) as made:
        yield made


def number(record: Record) -> int:
    return int(record.value or b"")


def test_an_empty_partition_has_no_last_record(topic: Topic, reader: PartitionReader) -> None:
    assert reader.last_record(topic.name, 0) is None
    assert list(reader.read_all(topic.name, 0)) == []
    assert reader.find(topic.name, 0, 0, number) == 0


def test_a_partition_of_aborted_records_alone_has_no_last_record(topic: Topic, reader: PartitionReader) -> None:
    for _ in range(3):
        topic.write(5, end="abort")
    assert reader.last_record(topic.name, 0) is None
    assert list(reader.read_all(topic.name, 0)) == []


def test_the_last_record_is_found_behind_markers_aborted_batches_and_an_open_transaction(
    topic: Topic, reader: PartitionReader
) -> None:
    topic.write(3)
    last = reader.last_record(topic.name, 0)
    assert last
    assert (last.offset, last.value) == (2, b"2")
    for _ in range(4):
        topic.write(20, end="abort")
    topic.write(2, end="open")
    assert reader.last_record(topic.name, 0) == last
    assert [number(record) for record in reader.read_all(topic.name, 0)] == [0, 1, 2]
    assert reader.bounds(topic.name, 0).stable < 4 + 4 * 21 + 1


def test_every_number_is_found_at_the_offset_from_which_it_comes_first(topic: Topic, reader: PartitionReader) -> None:
    for count in (1, 7, 2, 30):
        topic.write(5, end="abort")
        topic.write(count)
    stable = reader.bounds(topic.name, 0).stable
    for wanted in (0, 1, 7, 8, 9, 10, 25, topic.next - 1):
        found = reader.first_record(topic.name, 0, reader.find(topic.name, 0, wanted, number), stable)
        assert found
        assert number(found) == wanted
    beyond = reader.find(topic.name, 0, topic.next, number)
    assert reader.first_record(topic.name, 0, beyond, stable) is None


def test_reading_goes_on_with_what_is_committed_later_and_keeps_to_its_limits(topic: Topic, reader: PartitionReader) -> None:
    topic.write(200)
    reader.start(topic.name, 0, 5)
    first: list[Record] = []
    while len(first) < 10:
        first += reader.read(10 - len(first), 1 << 20, 1.0)
    assert [number(record) for record in first] == list(range(5, 15))
    rest: list[Record] = []
    while len(rest) < 185:
        batch = reader.read(1000, 10, 1.0)
        assert len(batch) <= 64  # ten bytes are reached with the first chunk
        rest += batch
    assert reader.read(10, 10, 0) == []
    topic.write(1)
    wait_until(lambda: [number(record) for record in reader.read(10, 10, 0.1)] == [200], what="the new record")


def test_a_position_that_the_log_does_not_hold_is_an_error_never_a_jump(topic: Topic, reader: PartitionReader) -> None:
    topic.write(3)
    reader.start(topic.name, 0, 1000)

    with pytest.raises(OffsetGoneError, match="offset"):
        wait_until(lambda: reader.read(10, 10, 1.0), what="the refusal")


def test_an_unknown_topic_and_one_without_the_right_are_misconfigured_not_waited_for(
    deployment: Deployment, reader: PartitionReader
) -> None:
    for name in ("audit.nothing", "audit.raw"):
        with pytest.raises(ConfigError, match=name):
            reader.bounds(topic_name(deployment.topic_prefix, name), 0)
    with pytest.raises(ConfigError, match="partitions"):
        reader.bounds(topic_name(deployment.topic_prefix, "audit.archive"), 99)


def test_every_consumer_reads_committed_records_alone_and_goes_on_soon_after_its_queue_was_full(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []

    def refuse(config: dict[str, Any]) -> NoReturn:
        made.append(config)
        raise KafkaException(KafkaError(KafkaError._FAIL))

    library = cast(Library, SimpleNamespace(consumer=refuse))
    monkeypatch.setattr(delivery, "Consumer", refuse)
    settings = deployment.settings("sealer")
    with pytest.raises(TransientError):
        PartitionReader(settings, library)
    with pytest.raises(TransientError):
        RawConsumer(settings, "topic", "group", lambda _: None, lambda _: None, library)
    with pytest.raises(TransientError):
        delivery.DeliveryConsumer(settings, "topic", "group", revoked=lambda _: None, expired=lambda *_: None)
    assert len(made) == 3
    for config in made:
        assert config["isolation.level"] == "read_committed"
        assert config["auto.offset.reset"] == "error"
        assert not config["enable.auto.commit"]
        assert config["fetch.queue.backoff.ms"] <= 50  # librdkafka's own second is longer than 8 MiB last


def test_what_is_there_is_given_at_once_and_not_when_as_many_have_come_as_were_asked_for(deployment: Deployment) -> None:
    """The library's `consume` waits until it has all that it was asked for, or the time is over."""
    asked: list[tuple[int, float]] = []

    def consume(wanted: int, wait_s: float) -> list[Any]:
        asked.append((wanted, wait_s))
        first = len(asked) == 1
        record = SimpleNamespace(
            error=lambda: None, offset=lambda: len(asked), timestamp=lambda: (1, 0), key=lambda: None, value=lambda: b"v"
        )
        return [record] if first else [record] * 3

    library = cast(Library, SimpleNamespace(consumer=lambda config: SimpleNamespace(consume=consume)))
    records = PartitionReader(deployment.settings("sealer"), library).read(10, 1 << 20, 5.0)
    assert len(records) == 4
    assert asked == [(1, 5.0), (9, 0.0)]
