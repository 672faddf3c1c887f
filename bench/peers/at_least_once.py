"""The sealer without transactions: what exactly-once costs it.

    python -m bench.peers.at_least_once TASK

The whole of the sealer, but for its chains' producers: these are idempotent, and the raw position is committed once the
records are acknowledged. A crash in between seals records again, under other numbers: a fork. So this is no mode that is
offered.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import TopicPartition

from auditor.console import run_until_stopped, settings_of
from auditor.memory import collect_seldom, give_back_blocks
from kafkaio.client import client_config
from kafkaio.library import LIBRDKAFKA
from kafkaio.reader import silent_logger
from kafkaio.transaction import BATCH_BYTES, LINGER_MS, STEP_S, TRANSACTION_TIMEOUT_MS, Placement, Progress
from processors.assembly import pipeline_of
from processors.keys import SealerKeys
from processors.sealer import Sealer
from schemas.settings import Settings
from sealtrail.errors import TransientError


class AtLeastOnce:
    """In the place of `kafkaio.transaction.ChainProducer`, with its client settings but for the transaction."""

    def __init__(self, settings: Settings, name: str, consumer: list[Any]) -> None:
        self._consumer = consumer
        config: dict[str, Any] = {
            **client_config(settings),
            "enable.idempotence": True,
            "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "message.max.bytes": 4 << 20,
            "linger.ms": LINGER_MS,
            "batch.size": BATCH_BYTES,
            "compression.type": "lz4",
            "logger": silent_logger("sealtrail.bench"),
        }
        self._producer = LIBRDKAFKA.producer(config)
        self._worker = LIBRDKAFKA.worker(name)

    def fenced(self, wait_s: float = 0.0) -> bool:
        """Nobody is outlawed."""
        return True

    def begin(self, placements: Sequence[Placement], progress: Progress, sealed_at_ms: int) -> None:
        """Hand over every record."""
        for placement in placements:
            for key, value in placement.records():
                self._producer.produce(placement.topic, value, key, placement.partition)
        self._worker.start(lambda: self._complete(progress))

    def _complete(self, progress: Progress) -> None:
        if self._producer.flush(STEP_S):
            raise TransientError("records unacknowledged")
        position = TopicPartition(progress.topic, progress.partition, progress.next_offset)
        self._consumer[0].commit(offsets=[position], asynchronous=True)

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether all are acknowledged."""
        return self._worker.ended(wait_s)

    def abort_on(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing hangs where there are no transactions."""

    def discard(self) -> None:
        """Forget it."""
        self._worker.close()


def main() -> None:
    """Run until SIGTERM, with the sealer's own settings."""
    settings = settings_of(Path(os.environ["SEALTRAIL_CONFIG"]), "sealer")
    keys = SealerKeys(settings)
    consumer: list[Any] = []
    collect_seldom()
    give_back_blocks()

    def run(stop: threading.Event) -> None:
        sealer = Sealer(
            settings,
            pipeline_of(settings, keys),
            lambda: time.time_ns() // 1000,
            lambda given, name: AtLeastOnce(given, name, consumer),
            renewed=keys.renewed,
        )
        consumer.append(sealer.consumer._consumer)
        sealer.run(stop)

    run_until_stopped(settings, run)


if __name__ == "__main__":
    main()
