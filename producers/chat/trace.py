"""W3C Trace Context, version 00: one trace a message, one span an attempt (CAP-8).

The span in an attempt's HTTP header is the one in the event that stated the attempt, and on that event's Kafka record.
"""

from __future__ import annotations

from collections.abc import Callable

from producers.kit.tracing import TRACEPARENT

Random = Callable[[int], bytes]  # as os.urandom


def begun(random: Random, parent: str | None = None) -> str:
    """A new span: within the trace of `parent`, or in a new, sampled trace when that is none or malformed."""
    found = TRACEPARENT.fullmatch(parent) if parent else None
    trace, flags = found.groups() if found else (_id(random, 16), "01")
    return f"00-{trace}-{_id(random, 8)}-{flags}"


def _id(random: Random, size: int) -> str:
    """An id that is not all zeros (§3.2.2.3)."""
    drawn = random(size)
    return (drawn if any(drawn) else b"\1" * size).hex()
