"""One run of an emitter: its numbers, and the records that carry them.

`record` gives the bytes of the next number and does not take it; `taken` does, once the record is queued. So an event
that cannot be encoded, or that the queue did not take, leaves no hole. The caller serialises the two.
"""

from __future__ import annotations

from kafkaio.producer import Header
from schemas.contract import MAX_EVENT_BYTES
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ContractError
from sealtrail.session import Run, mac_key, record_mac

CONTENT_TYPE = b"application/avro"


class OpenRun:
    """A run under way.

    Args:
        run: who speaks; session: its `st-session` header; session_key: 32 bytes; topic: in full.
    """

    __slots__ = ("_emitter", "_mac_key", "_topic", "moved", "partition", "run", "seq", "session")

    def __init__(self, run: Run, session: bytes, session_key: bytes, topic: str) -> None:
        self.run = run
        self.session = session
        self.seq = 0  # the next number
        self.partition: int | None = None  # where its first acknowledged record is
        self.moved = False  # whether a later one is elsewhere
        self._mac_key = mac_key(session_key)
        self._topic = topic
        self._emitter = {"source": run.source, "instance": run.instance, "epoch": run.epoch}

    def record(self, event: dict[str, object]) -> tuple[bytes, list[Header]]:
        """Value and headers of `event` under the next number, which is written into it.

        Raises:
            ContractError: it cannot be encoded, or is over 1 MiB.
        """
        event["emitter"] = {**self._emitter, "seq": self.seq}
        try:
            value = AUDIT_EVENT.encode(event)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            raise ContractError("", "does not fit the schema") from None  # the cause would show the value
        if len(value) > MAX_EVENT_BYTES:
            raise ContractError("", f"too large: {len(value)} bytes encoded, at most {MAX_EVENT_BYTES}")
        headers: list[Header] = [
            ("st-session", self.session),
            ("st-mac", record_mac(self._mac_key, self._topic, self.seq, value)),
            ("content-type", CONTENT_TYPE),
        ]
        traceparent = event["traceparent"]
        if isinstance(traceparent, str):
            headers.append(("traceparent", traceparent.encode()))
        return value, headers

    def taken(self) -> None:
        """The record is queued: from here on its number is never given again."""
        self.seq += 1

    def landed(self, partition: int) -> bool:
        """Note where a record was acknowledged; True when this tells that the run has moved."""
        if self.partition is None:
            self.partition = partition
        news = self.partition != partition and not self.moved
        self.moved |= news
        return news
