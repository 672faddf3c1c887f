"""The GitHub connector: each webhook becomes one event of its tenant."""

from __future__ import annotations

from collections import Counter

from producers.github.mapping import draft_of
from schemas.emitter import Emitter


class GithubConnector:
    """Maps webhooks and hands them to an emitter. One thread at a time.

    `mapped` counts the events by name, `malformed` the payloads that had not the documented shape.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self.mapped: Counter[str] = Counter()
        self.malformed = 0

    def handle(
        self, hook: str, payload: object, tenant: str, *, delivery_id: str | None = None, verified: bool = False
    ) -> bytes:
        """Hand one webhook over; the event's id. Arguments as `draft_of`; errors as `Emitter.emit`."""
        mapped = draft_of(hook, payload, tenant, delivery_id=delivery_id, verified=verified)
        event_id = self._emitter.emit(mapped.draft)
        self.mapped[str(mapped.draft["event_name"])] += 1
        self.malformed += mapped.malformed
        return event_id
