"""How anything that is not a producer emits events: it receives an `Emitter` from the command that starts it.

So that sinks, verifiers and jobs state what they did in the trail without importing a producer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Emitter(Protocol):
    """Takes events over for delivery to the raw topic.

    Durability: `emit` returns when the event is numbered and queued in memory; it is durable once acknowledged, which
    `close` waits for. Ordering: events of one emitter keep the order of their `emit` calls. Retries: the emitter's own,
    under the same number. Threads: any may call.
    """

    def emit(self, draft: Mapping[str, object]) -> bytes:
        """Complete, check, redact, number and queue an event; returns its event id, 16 bytes.

        Args:
            draft: fields of `audit_event.avsc` by name; what is left out is null. `extension` is
                {schema: SHA-256 of a registered text, value} or {schema, payload: its Avro body}. event_id, emitter, region and
                redaction are the emitter's to fill in.

        Raises:
            ContractError: the draft breaks the contract; names the field, never its value.
            TransientError: the emitter is closing, or cannot take more for now; nothing was handed over.
        """
        ...

    def close(self, timeout_s: float = ...) -> None:
        """State the end of the run and wait for every acknowledgement.

        Raises:
            TransientError: some events were not acknowledged in time; says how many.
        """
        ...
