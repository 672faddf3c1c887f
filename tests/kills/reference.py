"""What a detector finds that nobody kills: the same sealed records, in topics of their own, read by one process in peace."""

from __future__ import annotations

import time
from collections.abc import Mapping

from confluent_kafka import ConsumerGroupTopicPartitions, Producer

from infra.demo.session import Session
from kafkaio.admin import admin_client
from kafkaio.client import client_config
from kafkaio.reader import PartitionReader
from kafkaio.transaction import Ends
from schemas.catalogue import topic_name
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import TransientError
from sealtrail.seal import Kind, decode_seal, decode_sealed_event

INPUTS = ("audit.siem", "audit.activity")
PATIENCE_S = 180.0
LOOK_S = 0.5

Places = dict[tuple[str, int], int]  # topic of the catalogue and partition to an offset


def ends_of(session: Session) -> Places:
    """One past the last committed record of each partition that a detector reads."""
    found = {}
    settings = session.settings("admin")
    with PartitionReader(settings) as reader:
        for name in INPUTS:
            topic = topic_name(settings.topic_prefix, name)
            for partition in range(Ends(settings).partition_count(topic)):
                last = reader.last_record(topic, partition)
                if last is not None:
                    found[name, partition] = last.offset + 1
    return found


def await_read(session: Session, ends: Mapping[tuple[str, int], int]) -> None:
    """Return when the detector's group has committed all of it. Raises TransientError when it does not come to that."""
    settings = session.settings("admin")
    admin, group = admin_client(settings), topic_name(settings.topic_prefix, "detect")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result()
        committed = {(place.topic, place.partition): place.offset for place in asked.topic_partitions or []}
        behind = [w for w, end in ends.items() if committed.get((topic_name(settings.topic_prefix, w[0]), w[1]), 0) < end]
        if not behind:
            return
        session.check_alive()
        if time.monotonic() > deadline:
            raise TransientError(f"the detector is behind on {behind}; see {session.log('detect')}")
        time.sleep(LOOK_S)


def copy_inputs(source: Session, target: Session) -> int:
    """Write the records that a detector reads into another run's topics, partition by partition; how many they are."""
    given, settings = source.settings("admin"), target.settings("sealer")
    producer = Producer({**client_config(settings), "enable.idempotence": True, "message.max.bytes": 3_000_000})
    count = 0
    with PartitionReader(given) as reader:
        for name in INPUTS:
            topic, to = topic_name(given.topic_prefix, name), topic_name(settings.topic_prefix, name)
            for partition in range(Ends(given).partition_count(topic)):
                for record in reader.read_all(topic, partition):
                    producer.produce(to, record.value, record.key, partition)
                    producer.poll(0)
                    count += 1
    if producer.flush(PATIENCE_S):
        raise TransientError("the copy was not acknowledged")
    return count


def sealed_findings(session: Session) -> list[str]:
    """The ids of the findings that were sealed, repeats included."""
    settings = session.settings("admin")
    topic = topic_name(settings.topic_prefix, "audit.archive")
    found = []
    with PartitionReader(settings) as reader:
        for partition in range(Ends(settings).partition_count(topic)):
            for record in reader.read_all(topic, partition):
                sealed = decode_sealed_event(record.value or b"")
                if decode_seal(sealed.seal).kind is Kind.EVENT:
                    found += _finding(sealed.content.content)
    return found


def stated_findings(session: Session) -> list[str]:
    """The ids of the findings that were handed over, sealed or not."""
    settings = session.settings("admin")
    topic = topic_name(settings.topic_prefix, "audit.raw")
    with PartitionReader(settings) as reader:
        partitions = range(Ends(settings).partition_count(topic))
        return [f for p in partitions for r in reader.read_all(topic, p) for f in _finding(r.value or b"")]


def _finding(data: bytes) -> list[str]:
    event = AUDIT_EVENT.decode(data)
    return [event["object"]["id"]] if event["event_type"] == "DETECTION" else []
