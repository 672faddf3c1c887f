"""What the values on each topic are: the schema of every topic of the catalogue that something is written to.

A topic that is not here is reserved: the catalogue makes it, and nothing writes to it yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

from processors import sequence
from processors.quarantine import QUARANTINED
from schemas.registry import AUDIT_EVENT
from sealtrail.avro import Codec
from sealtrail.seal import SEALED_EVENT
from sealtrail.token import SUBJECT_KEY


def _packaged(name: str) -> Codec:
    return Codec((files("schemas") / f"{name}.avsc").read_text("utf-8"))


VALUES: Mapping[str, Codec] = MappingProxyType(
    {
        "audit.raw": AUDIT_EVENT,
        "audit.archive": SEALED_EVENT,
        "audit.hot": SEALED_EVENT,
        "audit.siem": SEALED_EVENT,
        "audit.quarantine": QUARANTINED,
        "audit.sources": sequence._STATE,
        "audit.activity": _packaged("activity"),
        "audit.subject-keys": SUBJECT_KEY,
        "audit.detect-matches": _packaged("match"),
        "audit.dead-letters": _packaged("dead_letter"),
        "audit.holds": _packaged("hold"),
    }
)
