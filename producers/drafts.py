"""From a caller's draft to an event: what is the emitter's to state is filled in, what the draft leaves out stays out.

The encoder writes the schema's default for a field that is not there, so nobody fills in forty nulls to skip them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ContractError

_FIELDS = frozenset(field["name"] for field in json.loads(AUDIT_EVENT.text)["fields"])
_GIVEN = _FIELDS - {"event_id", "emitter", "region", "redaction"}  # what a caller may state
_UNREDACTED: dict[str, object] = {"status": "NONE", "policy": "v1", "fields": []}
_EPOCH = bytes.fromhex("00000000000070008000000000000000")  # stands for the run's until the event is numbered


def completed(
    draft: Mapping[str, object], *, event_id: bytes, source: str, instance: str, region: str, now_us: int
) -> dict[str, object]:
    """The event, numbered 0 of no run, not yet checked or redacted.

    Raises:
        ContractError: the draft states what a caller may not; a name that the schema does not know is not repeated.
    """
    if not _GIVEN.issuperset(draft):
        name = min(map(str, draft.keys() - _GIVEN), default="")
        raise ContractError(name if name in _FIELDS else "", "holds a field that is not the caller's to state")
    event = {
        **draft,
        "event_id": event_id,
        "emitter": {"source": source, "instance": instance, "epoch": _EPOCH, "seq": 0},
        "region": region,
        "redaction": _UNREDACTED,
    }
    event.setdefault("changes", [])
    if event.get("occurred_at") is None:
        event["occurred_at"] = now_us
    return event
