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
from producers.run import OpenRun, Prepared
from producers.uuid7 import Uuid7
from schemas.admission import Admission
from schemas.redact import Event
from schemas.registry import AUDIT_EVENT, Registry, packaged_registry
from sealtrail.avro import Codec
from sealtrail.errors import ContractError, TransientError
from sealtrail.session import RUN_SESSION, SESSION_KEY_SIZE, Run

REGION, INSTANCE = "eu-central", "test"
HASH_KEY = b"a key for samples, 32 bytes long"  # opens nothing: what is hashed here never leaves the test


def registry_with(extensions: Iterable[Codec]) -> Registry:
    """What ships, and these as well. Raises ConfigError for a schema that leaves a field unclassified."""
    packaged = packaged_registry()
    shipped = [codec for digest, codec in packaged.extensions.items() if digest not in packaged.unclassified]
    new = [codec for codec in extensions if codec.sha256 not in packaged.extensions]
    return Registry([AUDIT_EVENT], [*shipped, *new], [RUN_SESSION])


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
        self._admit = Admission(self.registry, REGION, lambda _: HASH_KEY)
        self._source = source
        self._clock = clock
        self._uuid7 = Uuid7(clock, random)
        self._run = OpenRun(Run(source, INSTANCE, self._uuid7()), b"", random(SESSION_KEY_SIZE), "samples")
        self._lock = threading.Lock()
        self._closed = False

    def emit(self, draft: Mapping[str, object]) -> bytes:
        """As `Emitter.emit`."""
        try:
            event_id, prepared = self._prepare(draft)
        except ContractError as error:
            self.refuse(error)
            raise
        with self._lock:
            if self._closed:
                raise TransientError("emitter is closed; the event was not handed over")
            self.events.append(AUDIT_EVENT.decode(self._run.record(prepared).value))
        return event_id

    def _prepare(self, draft: Mapping[str, object]) -> tuple[bytes, Prepared]:
        if str(draft.get("event_name")).startswith("emitter."):
            raise ContractError("event_name", "emitter.* is for the emitter itself to state")
        event = completed(
            draft,
            event_id=self._uuid7(),
            source=self._source,
            instance=INSTANCE,
            region=REGION,
            now_us=self._clock() // 1000,
        )
        if self._tenants and event.get("tenant") not in self._tenants | {DEPLOYMENT}:
            raise ContractError("tenant", "not one of this emitter's tenants")
        return cast("bytes", event["event_id"]), Prepared(*self._admit(event))

    def refuse(self, error: ContractError) -> None:
        """Note what was refused before it came here."""
        with self._lock:
            self.refused.append(error)

    def close(self, timeout_s: float = 0.0) -> None:
        """From here on nothing is handed over."""
        with self._lock:
            self._closed = True
