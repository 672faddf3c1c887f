"""From a caller's draft to a complete event: every field is there, and what is the emitter's to state is filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping

from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ContractError

_DEFAULTS: dict[str, object] = {f["name"]: f.get("default") for f in json.loads(AUDIT_EVENT.text)["fields"]} | {"changes": []}
_GIVEN = frozenset(_DEFAULTS) - {"event_id", "emitter", "region", "redaction"}  # what a caller may state
_UNREDACTED: dict[str, object] = {"status": "NONE", "policy": "v1", "fields": []}
_EPOCH = bytes.fromhex("00000000000070008000000000000000")  # stands for the run's until the event is numbered


def completed(
    draft: Mapping[str, object], *, event_id: bytes, source: str, instance: str, region: str, now_us: int
) -> dict[str, object]:
    """A complete event, numbered 0 of no run, not yet redacted.

    Raises:
        ContractError: the draft states what a caller may not; a name that the schema does not know is not repeated.
    """
    foreign = draft.keys() - _GIVEN
    if foreign:
        name = min(map(str, foreign))
        raise ContractError(name if name in _DEFAULTS else "", "holds a field that is not the caller's to state")
    event = {**_DEFAULTS, **draft}
    event["event_id"] = event_id
    event["emitter"] = {"source": source, "instance": instance, "epoch": _EPOCH, "seq": 0}
    event["region"] = region
    event["redaction"] = _UNREDACTED
    if event["occurred_at"] is None:
        event["occurred_at"] = now_us
    return event
