"""The archive sink's loop: one lane a partition, one thread, until told to stop.

- The group says which partitions are ours; positions come from the store (`partition`).
- Bad evidence stops its partition with an alarm (log, `sealtrail_archive_refusals_total`); the others go on. It stays
  stopped while this process owns it: what is wrong must be looked at, not retried.
- What does not answer is tried again for ever, at growing intervals up to `LONGEST_WAIT_S`, each partition for itself.
- A wrong set-up ends `run` with a ConfigError.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import structlog

from sealtrail.errors import ConfigError, EvidenceError, TransientError, UndecidedError
from sinks.archive import metrics
from sinks.archive.partition import PartitionArchiver

LONGEST_WAIT_S = 30.0  # between two tries: a store that comes back is in use within half a minute
TROUBLE_S = 10.0  # between two lines of log about the same brokers
TURN_S = 0.1  # the longest wait for the group: below what a person notices when stopping

_LOG = structlog.get_logger("sinks.archive")


class Placed(Protocol):
    """Which partitions are ours; `kafkaio.placement.Placement`."""

    def poll(self, timeout_s: float) -> frozenset[int]:
        """The partitions now; waits for a change. Raises ConfigError."""

    def trouble(self) -> str:
        """What was said of the connection since the last call."""

    def close(self) -> None:
        """Leave."""


@dataclass(slots=True)
class _Lane:
    """A partition in work; `archiver` is None once it is stopped."""

    partition: int
    archiver: PartitionArchiver | None
    wake_at: float = 0.0
    failures: int = 0


class ArchiveSink:
    """Archives the partitions that the group gives to this process.

    Args:
        check_store: raises ConfigError when the bucket keeps no versions or locks, TransientError when it is away.
        join: joins the group.
        open_lane: makes the archiver of a partition.
        accept_weak_store: run although no self-test vouches for the store's locks.
        monotonic: seconds, for waiting only.
    """

    def __init__(
        self,
        *,
        check_store: Callable[[], None],
        join: Callable[[], Placed],
        open_lane: Callable[[int], PartitionArchiver],
        accept_weak_store: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._check_store = check_store
        self._join = join
        self._open_lane = open_lane
        self._accept_weak_store = accept_weak_store
        self._monotonic = monotonic
        self._lanes: dict[int, _Lane] = {}
        self._quiet_until = 0.0

    @property
    def stopped(self) -> frozenset[int]:
        """Partitions that were stopped because their evidence is bad."""
        return frozenset(lane.partition for lane in self._lanes.values() if lane.archiver is None)

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Raises ConfigError; anything else that can be mended is waited for."""
        if not self._accept_weak_store:
            raise ConfigError(
                "the archive's locks were not tested (no self-test record): set accept_weak_store to run all the same; "
                "verification says so for ever"
            )
        if not self._wait_for_store(stop):
            return
        with closing(self._join()) as placed:
            try:
                while not stop.is_set():
                    self._follow(placed.poll(self._rest_s()))
                    self._report(placed.trouble())
                    for lane in list(self._lanes.values()):
                        if stop.is_set():
                            break
                        self._advance(lane)
                        self._follow(placed.poll(0))  # between two steps: each may wait for the store
            finally:
                self._follow(frozenset())

    def _report(self, trouble: str) -> None:
        """Log what was said of the brokers, not more often than every `TROUBLE_S`."""
        if trouble and self._monotonic() >= self._quiet_until:
            self._quiet_until = self._monotonic() + TROUBLE_S
            _LOG.warning("brokers do not answer", reason=trouble)

    def _wait_for_store(self, stop: threading.Event) -> bool:
        failures = 0
        while not stop.is_set():
            try:
                self._check_store()
            except TransientError as error:
                failures += 1
                wait_s = _wait(failures, error.retry_after_s)
                _LOG.warning("archive store does not answer", reason=str(error), retry_in_s=round(wait_s, 1))
                stop.wait(wait_s)
            else:
                return True
        return False

    def _follow(self, owned: frozenset[int]) -> None:
        for partition in sorted(self._lanes.keys() - owned):
            lane = self._lanes.pop(partition)
            if lane.archiver is not None:
                lane.archiver.close()
            metrics.STOPPED.labels(str(partition)).set(0)
            _LOG.info("partition given up", partition=partition)
        for partition in sorted(owned - self._lanes.keys()):
            self._lanes[partition] = _Lane(partition, self._open_lane(partition))
            _LOG.info("partition taken", partition=partition)

    def _advance(self, lane: _Lane) -> None:
        """One step of a lane that is due, and what its error means."""
        if lane.archiver is None or self._monotonic() < lane.wake_at or self._lanes.get(lane.partition) is not lane:
            return
        label = str(lane.partition)
        try:
            wait_s = lane.archiver.step()
            lane.failures = 0
        except EvidenceError as error:
            metrics.REFUSALS.labels(label).inc()
            metrics.STOPPED.labels(label).set(1)
            _LOG.error("partition stopped: bad evidence", partition=lane.partition, reason=str(error))
            lane.archiver.close()
            lane.archiver = None
            return
        except (TransientError, UndecidedError) as error:
            lane.failures += 1
            metrics.RETRIES.labels(label).inc()
            wait_s = _wait(lane.failures, error.retry_after_s if isinstance(error, TransientError) else 1.0)
            _LOG.warning("partition waits", partition=lane.partition, reason=str(error), retry_in_s=round(wait_s, 1))
        lane.wake_at = self._monotonic() + wait_s

    def _rest_s(self) -> float:
        """How long the loop may wait for the group: until the first lane is due."""
        now = self._monotonic()
        due = [lane.wake_at - now for lane in self._lanes.values() if lane.archiver is not None]
        return min(TURN_S, max(0.0, min(due, default=TURN_S)))


def _wait(failures: int, retry_after_s: float) -> float:
    """Seconds before the next try: from `retry_after_s`, doubled each time, capped."""
    return min(LONGEST_WAIT_S, retry_after_s * float(2 ** min(failures - 1, 10)))
