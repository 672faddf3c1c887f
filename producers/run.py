"""One run of an emitter: its numbers, and the records that carry them.

What an application's thread prepared lacks nothing but its number, which stands in the middle, and what is encrypted under
that number: the run puts both there, authenticates the whole, and counts on. One thread calls; so numbers rise without a
gap, in the order of the calls, and none encrypts twice.
"""

from __future__ import annotations

from typing import NamedTuple

from producers.record import RawRecord
from schemas.encoder import number
from schemas.holes import Hole, filled
from schemas.registry import AUDIT_EVENT
from sealtrail.session import Run, mac_key, record_mac
from sealtrail.token import FieldCipher

CONTENT_TYPE = ("content-type", b"application/avro")
_ID_SIZE = 16  # of event_id, the first field: the registry refuses a schema in which it is not


class Prepared(NamedTuple):
    """An event that was checked, redacted and encoded; its body lacks the field `emitter`.

    Attributes:
        before, after: Avro body up to `emitter`, and from there on; it begins with the event's id.
        holes: in `after`, for what is encrypted once there is a number.
        traceparent: as a header, if the event has one.
        own: stated by the emitter of itself; nobody waits for it.
    """

    before: bytes
    after: bytes
    holes: tuple[Hole, ...] = ()
    traceparent: bytes | None = None
    own: bool = False


class OpenRun:
    """A run under way.

    Args:
        run: who speaks; session: its `st-session` header; session_key: 32 bytes; topic: in full.
    """

    __slots__ = ("_before", "_cipher", "_header", "_mac_key", "_topic", "moved", "partition", "run", "seq", "session")

    def __init__(self, run: Run, session: bytes, session_key: bytes, topic: str) -> None:
        self.run = run
        self.session = session
        self.seq = 0  # the next number
        self.partition: int | None = None  # where its first acknowledged record is
        self.moved = False  # whether a later one is elsewhere
        self._header = ("st-session", session)
        self._mac_key = mac_key(session_key)
        self._cipher = FieldCipher(session_key)
        self._topic = topic
        source, instance = run.source.encode(), run.instance.encode()
        self._before = number(len(source), 63) + source + number(len(instance), 63) + instance + run.epoch

    def record(self, event: Prepared) -> RawRecord:
        """The event under the next number, which is taken."""
        seq = self.seq
        self.seq = seq + 1
        after = self._encrypted(seq, event) if event.holes else event.after
        value = b"".join((AUDIT_EVENT.header, event.before, self._before, number(seq, 63), after))
        mac = ("st-mac", record_mac(self._mac_key, self._topic, seq, value))
        if event.traceparent is None:
            return RawRecord(value, (self._header, mac, CONTENT_TYPE))
        return RawRecord(value, (self._header, mac, CONTENT_TYPE, ("traceparent", event.traceparent)))

    def _encrypted(self, seq: int, event: Prepared) -> bytes:
        """What comes after `emitter`, its holes filled."""
        encrypt, event_id = self._cipher.encrypt, event.before[:_ID_SIZE]
        return filled(event.after, event.holes, lambda number, path, text: encrypt(seq, number, event_id, path, text))

    def landed(self, partition: int) -> bool:
        """Note where a record was acknowledged; True when this tells that the run has moved."""
        if self.partition is None:
            self.partition = partition
        news = self.partition != partition and not self.moved
        self.moved |= news
        return news
