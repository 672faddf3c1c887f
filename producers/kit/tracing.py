"""The span that is being recorded, if OpenTelemetry is installed and records one (CAP-8). Never required."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Protocol, cast

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")  # groups: trace, flags
_API = "opentelemetry.trace"


class SpanContext(Protocol):
    """OpenTelemetry's `SpanContext`, as far as it is read here: ids as numbers."""

    trace_id: int
    span_id: int
    trace_flags: int


class Span(Protocol):
    """OpenTelemetry's `Span`, as far as it is read here."""

    def is_recording(self) -> bool: ...
    def get_span_context(self) -> SpanContext: ...


class TraceApi(Protocol):
    """The module `opentelemetry.trace`, as far as it is read here."""

    def get_current_span(self) -> Span: ...


def installed_api() -> TraceApi | None:
    """The API, or None where it is not installed."""
    try:
        return cast("TraceApi", import_module(_API))
    except ImportError:
        return None


def recording(api: TraceApi | None) -> str | None:
    """The traceparent (W3C, version 00) of the span that is being recorded in this context, or None."""
    if api is None:
        return None
    span = api.get_current_span()
    if not span.is_recording():
        return None
    found = span.get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{int(found.trace_flags) & 0xFF:02x}"
