"""An `Emitter` for a connector's tests: events as they would leave, checked and redacted, kept in a list.

Keeps the real one's rules: the same contract, the same redaction (under a hash key of its own), the same refusals. It needs
no keys and no broker, and opens no run: there are no events of the emitter itself.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from producers.drafts import completed
from producers.lifecycle import DEPLOYMENT
from producers.uuid7 import Uuid7
from schemas.contract import Contract
from schemas.redact import Event, Redactor
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from sealtrail.avro import Codec
from sealtrail.errors import ContractError, TransientError
from sealtrail.session import RUN_SESSION

REGION = "eu-central"
HASH_KEY = b"a key for samples, 32 bytes long"  # opens nothing: what is hashed here never leaves the test


def registry_with(extensions: Iterable[Codec]) -> Registry:
    """What ships, and these as well. Raises ConfigError for a schema that leaves a field unclassified."""
    packaged = packaged_registry()
    shipped = [codec for digest, codec in packaged.extensions.items() if digest not in packaged.unclassified]
    new = [codec for codec in extensions if codec.sha256 not in packaged.extensions]
    return Registry([AUDIT_EVENT], [*shipped, *new], [RUN_SESSION])


def read_back(event: Mapping[str, object]) -> tuple[Event, bytes]:
    """A redacted event as whoever receives it decodes it, and its encoding."""
    data = AUDIT_EVENT.encode(event)
    return AUDIT_EVENT.decode(data), data


class SampleEmitter:
    """See the module. Any thread may call.

    Args:
        tenants: whose events may be stated; none = everybody's.
        extensions: codecs of schemas that are admitted though they are not registered yet.
        source: who speaks, in `emitter.source`.
        clock: nanoseconds since 1970; random: as `os.urandom`.

    Attributes:
        events: what was stated, in order, as a receiver decodes it.
        refused: what was refused, here or before it came here.
        registry: by which extensions are known.
    """

    def __init__(
        self,
        tenants: Iterable[str] = (),
        *,
        extensions: Iterable[Codec] = (),
        source: str = "sample",
        clock: Callable[[], int] = time.time_ns,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.events: list[Event] = []
        self.refused: list[ContractError] = []
        self._tenants = frozenset(tenants)
        self.registry = registry_with(extensions)
        self._contract = Contract(self.registry, REGION)
        self._redactor = Redactor(AUDIT_EVENT.text, self.registry, lambda _: HASH_KEY)
        self._source = source
        self._clock = clock
        self._uuid7 = Uuid7(clock, random)
        self._lock = threading.Lock()
        self._closed = False

    def emit(self, draft: Mapping[str, object]) -> bytes:
        """As `Emitter.emit`."""
        try:
            event = self.prepare(draft)
        except ContractError as error:
            self.refuse(error)
            raise
        with self._lock:
            if self._closed:
                raise TransientError("emitter is closed; the event was not handed over")
            event["emitter"] = {**cast("dict[str, object]", event["emitter"]), "seq": len(self.events)}
            self.events.append(read_back(event)[0])
        return cast("bytes", event["event_id"])

    def prepare(self, draft: Mapping[str, object]) -> Event:
        """The event that a draft becomes: complete, checked, redacted; kept nowhere. Raises ContractError."""
        if str(draft.get("event_name")).startswith("emitter."):
            raise ContractError("event_name", "emitter.* is for the emitter itself to state")
        event = completed(
            draft,
            event_id=self._uuid7(),
            source=self._source,
            instance="test",
            region=REGION,
            now_us=self._clock() // 1000,
        )
        if self._tenants and event["tenant"] not in self._tenants | {DEPLOYMENT}:
            raise ContractError("tenant", "not one of this emitter's tenants")
        self._contract.check(event)
        return self._redactor(event)

    def refuse(self, error: ContractError) -> None:
        """Note what was refused before it came here."""
        with self._lock:
            self.refused.append(error)

    def close(self, timeout_s: float = 0.0) -> None:
        """From here on nothing is handed over."""
        with self._lock:
            self._closed = True
