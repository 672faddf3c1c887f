"""What goes into the pipeline and what comes out of it: values, no behaviour.

Nothing here knows a client library: `kafkaio` gives `RawRecord`, and `sealer` turns `Outputs` into messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from kafkaio.record import Headers, RawRecord
from sealtrail.seal import Kind, Reason

__all__ = ["Batch", "Counts", "Headers", "Outputs", "RawRecord", "Rejection"]


Counts = Counter[tuple[Kind, Reason]]
"""Seals."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Raw records of one partition, in offset order; its log start as then known; the raw topic's partition count."""

    records: Sequence[RawRecord]
    log_start: int = 0
    partitions: int = 1


@dataclass(slots=True)
class Outputs:
    """What one transaction writes, by topic; `sources` and `subject_keys` are (key, value) of a compacted topic."""

    archive: list[bytes] = field(default_factory=list)
    hot: list[bytes] = field(default_factory=list)
    siem: list[bytes] = field(default_factory=list)
    quarantine: list[bytes] = field(default_factory=list)
    sources: list[tuple[bytes, bytes]] = field(default_factory=list)
    subject_keys: list[tuple[bytes, bytes]] = field(default_factory=list)
    activity: list[bytes] = field(default_factory=list)
    counts: Counts = field(default_factory=Counter)
    leaks: Counter[str] = field(default_factory=Counter)  # by shape; see `Activity.leak`


class Rejection(Exception):  # noqa: N818  # it is a verdict on a record, not an error of ours
    """A raw record is refused: why, and which field of the contract, never a value."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.label}: {detail}")
        self.reason = reason
        self.detail = detail
