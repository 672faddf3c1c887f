"""The events that an emitter says of itself: opened, alive, closed, refused something.

All are of tenant `@deployment` and type EMITTER. `open` is number 0 of every run and carries the run's session, so that
the archive shows a stranger the source's own signature. Drafts, as a caller of `AuditProducer.emit` would write them.
"""

from __future__ import annotations

import re

from sealtrail.avro import HEADER_SIZE
from sealtrail.session import RUN_SESSION

Draft = dict[str, object]

DEPLOYMENT = "@deployment"
_FIELD = re.compile(r"[a-z_]{1,64}(\.[a-z_]{1,64}|\[\]){0,8}")


def opened(emitter: str, session: bytes) -> Draft:
    """Number 0: the run begins. `session` is the `st-session` header."""
    return {
        **_about("emitter.open", emitter, "SUCCESS", "EFFECTIVE"),
        "extension": {"schema": RUN_SESSION.sha256, "payload": session[HEADER_SIZE:]},
    }


def pulse(emitter: str) -> Draft:
    """Nothing happened for a while, and the emitter is alive."""
    return _about("emitter.pulse", emitter, "SUCCESS", "NONE")


def closed(emitter: str) -> Draft:
    """The last of a run that ended in order."""
    return _about("emitter.close", emitter, "SUCCESS", "EFFECTIVE")


def refused(emitter: str, field: str) -> Draft:
    """The application's event broke the contract at `field`; what is no path of a schema is not repeated."""
    path = field if _FIELD.fullmatch(field) else "event"
    return {
        **_about("emitter.refused", emitter, "FAILURE", "ATTEMPTED"),
        "object": {"type": "field", "id": path},
    }


def _about(name: str, emitter: str, result: str, effect: str) -> Draft:
    return {
        "event_name": name,
        "tenant": DEPLOYMENT,
        "event_type": "EMITTER",
        "result": result,
        "effect": effect,
        "object": {"type": "emitter", "id": emitter},
        "actor": {"kind": "SYSTEM", "id": emitter, "display": None},
    }
