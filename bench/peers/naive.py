"""The sealer's own naive form: confluent_kafka, one record at a time, one transactional producer, a dict for each event.

    python -m bench.peers.naive TASK

Each record is polled, goes through `Work`, and is produced with a callback to each of its topics. A transaction ends every
commit interval, with the consumed offsets in it; the last seal of each chain in it is signed, so the newest record of a chain
waits until it is known whether another follows. Heads are read from the archive topic when partitions arrive.
"""

from __future__ import annotations

import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from bench.peers.work import Checked, Head, Task, Work
from sealtrail.seal import decode_seal, decode_sealed_event, leaf_hash

TIMEOUT_S = 30.0
TAIL = 100  # offsets at a partition's end among which its last record is: markers and one aborted batch at most


class Naive:
    """One process: consumer, producer, the heads of its chains."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._work = Work(task)
        self._servers = {
            "bootstrap.servers": task.bootstrap,
            "security.protocol": "ssl",
            "ssl.ca.location": task.ca,
            "ssl.certificate.location": task.certificate,
            "ssl.key.location": task.key,
        }
        self._consumer = self._reading(task.name)
        self._producer = Producer(
            {
                **self._servers,
                "transactional.id": task.name,
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._producer.init_transactions(TIMEOUT_S)
        self._heads: dict[int, Head] = {}
        self._waiting: dict[int, tuple[bytes, Checked]] = {}  # the newest record of each chain in this transaction
        self._next: dict[int, int] = {}  # raw offsets to commit

    def run(self) -> None:
        """Seal until the process is ended."""
        self._consumer.subscribe([self._task.raw], on_assign=self._assigned, on_revoke=self._revoked)
        interval = self._task.commit_ms / 1000
        began = 0.0  # of the open transaction; 0 when there is none
        while True:
            message = self._consumer.poll(0.01)
            if message is not None:
                if message.error() is not None:
                    raise KafkaException(message.error())
                if not began:
                    self._producer.begin_transaction()
                    began = time.monotonic()
                self._take(message)
            if began and time.monotonic() - began >= interval:
                self._commit()
                began = 0.0

    def _take(self, message: Message) -> None:
        partition, offset, key = message.partition(), message.offset(), message.key()
        if partition is None or offset is None or not isinstance(key, bytes):
            raise ValueError("a record without key or place")
        headers = dict(message.headers() or ())
        checked = self._work.check(message.value(), headers["st-mac"], offset)  # type: ignore[arg-type]
        self._flush(partition, last=False)
        self._waiting[partition] = (key, checked)
        self._next[partition] = offset + 1

    def _flush(self, partition: int, *, last: bool) -> None:
        """Link and produce the record of a chain that waited."""
        waiting = self._waiting.pop(partition, None)
        if waiting is None:
            return
        key, checked = waiting
        value = self._work.link(self._heads[partition], partition, checked, sign=checked.sign or last)
        for topic in self._work.outputs(checked.routes):
            while True:
                try:
                    self._producer.produce(topic, value, key, partition, on_delivery=_delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
        self._producer.poll(0)

    def _commit(self) -> None:
        for partition in list(self._waiting):
            self._flush(partition, last=True)
        offsets = [TopicPartition(self._task.raw, partition, offset) for partition, offset in self._next.items()]
        self._producer.send_offsets_to_transaction(offsets, self._consumer.consumer_group_metadata(), TIMEOUT_S)
        self._producer.commit_transaction(TIMEOUT_S)
        self._next.clear()

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for where in partitions:
            self._heads[where.partition] = self._head(where.partition)

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """What the open transaction holds of them cannot be committed any more; the next owner begins at the last commit."""
        raise SystemExit("partitions were taken away; start again")

    def _head(self, partition: int) -> Head:
        """The head of a chain, from the last committed record of the archive."""
        reader = self._reading(f"{self._task.name}-heads")
        try:
            first, end = reader.get_watermark_offsets(TopicPartition(self._task.archive, partition), TIMEOUT_S)
            reader.assign([TopicPartition(self._task.archive, partition, max(first, end - TAIL))])
            last: bytes | None = None
            while (message := reader.poll(TIMEOUT_S)) is not None:
                error = message.error()
                if error is None:
                    last = message.value()
                elif error.code() == KafkaError._PARTITION_EOF:
                    break
                else:
                    raise KafkaException(error)
        finally:
            reader.close()
        if last is None:
            return Head()
        data = decode_sealed_event(last).seal
        seal = decode_seal(data)
        return Head(seal.seq + 1, leaf_hash(data), seal.sealed_at_us, seal.sealed_at_us)

    def _reading(self, group: str) -> Consumer:
        return Consumer(
            {
                **self._servers,
                "group.id": group,
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": group != self._task.name,
            }
        )


def _delivered(error: KafkaError | None, _: Message) -> None:
    if error is not None:
        raise KafkaException(error)


if __name__ == "__main__":
    Naive(Task.read(sys.argv[1])).run()
