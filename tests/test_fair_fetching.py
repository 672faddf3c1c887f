"""A member of a group reads all its partitions in turn, however many there are and however much each has: none starves."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from confluent_kafka import Producer

from infra.stack import Stack
from kafkaio.client import client_config
from kafkaio.delivery import DeliveryConsumer
from kafkaio.group import RawConsumer
from schemas.catalogue import topic_name
from tests.conftest import Deployment, new_deployment, wait_until

PARTITIONS = 40  # a stretch of each is more than either consumer has queued
SIZE = 16_384
RECORDS = 120  # of a partition: four stretches
LATE = 8  # partitions that are begun when the queue is full
READ = 3_600  # records, 56 MiB: what either has queued at first, and more than a stretch of each partition
SLICE = 20
PAUSE_S = 0.01  # between slices: 32 MB/s, what a sealer takes of a flood, so that the queue is always full

Take = Callable[[], Counter[int]]


@pytest.fixture(scope="module")
def filled(stack: Stack) -> Deployment:
    """Raw partitions with two megabytes each, one compressed: what is queued counts as it comes out."""
    deployment = new_deployment(stack, raw_partitions=PARTITIONS)
    config = {**client_config(deployment.settings("chat")), "batch.size": 4 * SIZE, "compression.type": "lz4"}
    producer = Producer(config)
    for _ in range(RECORDS):
        for partition in range(PARTITIONS):
            value = os.urandom(SIZE // 2) + bytes(SIZE // 2)
            producer.produce(topic_name(deployment.topic_prefix, "audit.raw"), value=value, partition=partition)
        producer.poll(0)
    assert producer.flush(60) == 0
    return deployment


@contextmanager
def raw(deployment: Deployment, topic: str, group: str) -> Iterator[Take]:
    """As the sealer reads, some of its chains being fenced later than others."""
    mine: list[int] = []
    consumer = RawConsumer(deployment.settings("sealer"), topic, group, mine.extend, lambda _: None)
    wait_until(lambda: consumer.poll(SLICE, 0.1) and len(mine) == PARTITIONS, what="the assignment")
    mine.sort(reverse=True)
    while len(mine) > LATE:  # the last ones are those that librdkafka asks for last
        consumer.start(mine.pop(), 0)

    def take() -> Counter[int]:
        found = consumer.poll(SLICE, 0.1).records
        while mine and found:
            consumer.start(mine.pop(), 0)
        return Counter({partition: len(records) for partition, records in found.items()})

    yield take
    consumer.close()


@contextmanager
def delivery(deployment: Deployment, topic: str, group: str) -> Iterator[Take]:
    """As a sink reads."""
    consumer = DeliveryConsumer(
        deployment.settings("sealer"), topic, group, revoked=lambda _: None, expired=lambda *_: pytest.fail("nothing expires")
    )
    yield lambda: Counter(record.partition for record in consumer.poll(SLICE, 0.1))
    consumer.close()


@pytest.mark.parametrize("member", [raw, delivery])
def test_no_partition_waits_until_others_have_nothing_more(
    filled: Deployment, member: Callable[[Deployment, str, str], AbstractContextManager[Take]]
) -> None:
    """Three quarters of what is there are read, as fast as a flood is sealed; by then each partition has given something."""
    prefix = filled.topic_prefix
    with member(filled, topic_name(prefix, "audit.raw"), topic_name(prefix, "sealer")) as take:
        time.sleep(1)  # the queue fills
        seen: Counter[int] = wait_until(take, what="the first records")
        while seen.total() < READ:
            seen += take()
            time.sleep(PAUSE_S)
    assert len(seen) == PARTITIONS, sorted(seen.items())
