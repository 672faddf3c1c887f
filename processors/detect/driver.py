"""Faust's Kafka driver, mended in two places (ADR 9). Nothing else of Faust is changed.

1. It reads committed records only. The stock driver reads uncommitted ones outside its own transactions, so it hands over
   what an aborted transaction of the sealer wrote.
2. A gap in offsets — a transaction's marker — ends before the next record. The stock driver counts the next record into the
   gap, and its commits then wait, one gap at a time.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP


class _Thread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        await super()._add_gap(tp, offset_from, offset_to - 1)


class _Transport(driver.Transport):
    Consumer = _Consumer


class CommittedApp(faust.App):
    """A Faust app on the mended driver."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)
