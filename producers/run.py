"""One run of an emitter: its numbers, and the records that carry them.

What an application's thread prepared lacks nothing but its number, which stands in the middle: the run puts it there,
authenticates the whole, and counts on. One thread calls; so numbers rise without a hole, in the order of the calls.
"""

from __future__ import annotations

from typing import NamedTuple

from producers.record import RawRecord
from schemas.encoder import number
from schemas.registry import AUDIT_EVENT
from sealtrail.session import Run, mac_key, record_mac

CONTENT_TYPE = ("content-type", b"application/avro")


class Prepared(NamedTuple):
    """An event that was checked, redacted and encoded; its body lacks the field `emitter`.

    Attributes:
        before, after: Avro body up to `emitter`, and from there on.
        traceparent: as a header, if the event has one.
        own: stated by the emitter of itself; nobody waits for it.
    """

    before: bytes
    after: bytes
    traceparent: bytes | None = None
    own: bool = False


class OpenRun:
    """A run under way.

    Args:
        run: who speaks; session: its `st-session` header; session_key: 32 bytes; topic: in full.
    """

    __slots__ = ("_before", "_header", "_mac_key", "_topic", "moved", "partition", "run", "seq", "session")

    def __init__(self, run: Run, session: bytes, session_key: bytes, topic: str) -> None:
        self.run = run
        self.session = session
        self.seq = 0  # the next number
        self.partition: int | None = None  # where its first acknowledged record is
        self.moved = False  # whether a later one is elsewhere
        self._header = ("st-session", session)
        self._mac_key = mac_key(session_key)
        self._topic = topic
        source, instance = run.source.encode(), run.instance.encode()
        self._before = number(len(source), 63) + source + number(len(instance), 63) + instance + run.epoch

    def record(self, event: Prepared) -> RawRecord:
        """The event under the next number, which is taken."""
        seq = self.seq
        self.seq = seq + 1
        value = b"".join((AUDIT_EVENT.header, event.before, self._before, number(seq, 63), event.after))
        mac = ("st-mac", record_mac(self._mac_key, self._topic, seq, value))
        if event.traceparent is None:
            return RawRecord(value, (self._header, mac, CONTENT_TYPE))
        return RawRecord(value, (self._header, mac, CONTENT_TYPE, ("traceparent", event.traceparent)))

    def landed(self, partition: int) -> bool:
        """Note where a record was acknowledged; True when this tells that the run has moved."""
        if self.partition is None:
            self.partition = partition
        news = self.partition != partition and not self.moved
        self.moved |= news
        return news
