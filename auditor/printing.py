"""Events and seals as JSON: bytes as hex, ids as UUIDs, times as RFC 3339 in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sealtrail.seal import Seal


def event_document(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event as decoded, in the model's own names."""
    return {**{name: _plain(value) for name, value in event.items()}, "event_id": str(UUID(bytes=event["event_id"]))}


def seal_document(seal: Seal, leaf: bytes) -> dict[str, Any]:
    """A seal and its leaf hash."""
    return {
        "chain": seal.chain,
        "seq": seal.seq,
        "kind": str(seal.kind),
        "log_class": str(seal.log_class),
        "signed": seal.signed,
        "routes": [route.name.lower() for route in type(seal.routes) if route in seal.routes and route.name],
        "source_offset": seal.source_offset,
        "sealed_at": time_text(seal.sealed_at_us / 1e6),
        "retain_until": time_text(seal.retain_until_ms / 1e3),
        "leaf_hash": leaf.hex(),
    }


def time_text(seconds: float) -> str:
    """Seconds since 1970 as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
