"""A bucket whose PUTs fail at chosen moments, in pairs: not landed, and landed without a reply."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum

from sealtrail.errors import TransientError
from sinks.archive.store import ArchiveStore, Version
from sinks.archive.writer import Lock


class Fault(StrEnum):
    """What happens to one PUT."""

    NOT_LANDED = "not-landed"
    LANDED = "landed"
    KILLED_BEFORE = "killed-before"
    KILLED_AFTER = "killed-after"


Place = tuple[str, int]
"""Prefix of the key, and which PUT of that prefix, from 0."""


class FaultyStore:
    """Passes everything on but the PUTs named in `faults`.

    Args:
        on_put: called with the key after each PUT that was passed on and answered.
    """

    def __init__(
        self, inner: ArchiveStore, faults: Mapping[Place, Fault], on_put: Callable[[str], None] = lambda key: None
    ) -> None:
        self._inner = inner
        self._faults = dict(faults)
        self._on_put = on_put
        self._counts: dict[str, int] = {}
        self.raised = 0

    def put(self, key: str, data: bytes, lock: Lock, *, legal_hold: bool = False, if_absent: bool = False) -> str:
        """As the inner store's, or with the fault of this place."""
        prefix = key.split("/", 1)[0] + "/"
        number = self._counts.get(prefix, 0)
        self._counts[prefix] = number + 1
        fault = self._faults.pop((prefix, number), None)
        if fault is Fault.KILLED_BEFORE:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault is Fault.NOT_LANDED:
            self.raised += 1
            raise TransientError(f"writing {key}: no connection (made up)", 0.01)
        version = self._inner.put(key, data, lock, legal_hold=legal_hold, if_absent=if_absent)
        if fault is Fault.KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        if fault is Fault.LANDED:
            self.raised += 1
            raise TransientError(f"writing {key}: no reply (made up)", 0.01)
        self._on_put(key)
        return version

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """As the inner store's."""
        return self._inner.versions(prefix, after)

    def read(self, key: str, version: str) -> bytes:
        """As the inner store's."""
        return self._inner.read(key, version)

    def read_latest(self, key: str) -> bytes | None:
        """As the inner store's."""
        return self._inner.read_latest(key)

    def exists(self, key: str) -> bool:
        """As the inner store's."""
        return self._inner.exists(key)
