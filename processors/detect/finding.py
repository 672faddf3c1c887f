"""Findings as events: their ids, and their drafts. Pure.

    id = HMAC-SHA-256(tenant's hash key, "sealtrail/finding/v1\\n" || rule 0 group 0 … 0 period)

The id is the same whenever the same thing is found again, after a crash or by another detector; nobody without the tenant's
key can tell from it whom it is about.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from importlib import resources
from typing import Any

from processors.detect.leaks import Leaked
from processors.detect.silence import Alarm, Kind
from processors.detect.windows import Found
from sealtrail.avro import Codec
from sealtrail.seal import DEPLOYMENT_TENANT

FINDING = Codec((resources.files("schemas") / "extensions" / "finding.avsc").read_text("utf-8"))
LEAK = Codec((resources.files("schemas") / "extensions" / "leak.avsc").read_text("utf-8"))
CONTEXT = b"sealtrail/finding/v1\n"
Draft = dict[str, Any]


def finding_id(key: bytes, rule: str, group: Sequence[str], period: int) -> str:
    """64 hex digits. `key`: the tenant's hash key, 32 bytes."""
    return hmac.digest(key, CONTEXT + "\0".join([rule, *group, str(period)]).encode(), "sha256").hex()


def of_windows(key: bytes, found: Found) -> Draft:
    """The event of a correlation that became true. The tenant is the group's first value."""
    rule, last = found.rule, found.last
    named = list(zip(rule.group_by, found.group, strict=True))[1:]
    person = dict(named).get("actor.id") or dict(named).get("actor")
    identifier = finding_id(key, rule.name, found.group, found.period)
    draft = _event(found.group[0], rule.name, identifier, last.at_us)
    return {
        **draft,
        "causation_id": last.event_id,
        "subject": None if person is None else {"id": person, "display": None},
        "extension": _extension(
            rule=rule.name,
            rule_digest=rule.digest,
            level=rule.level,
            group=[{"field": path, "value": value} for path, value in named],
            **{"from": found.evidence[0].at_us, "to": last.at_us},
            count=found.count,
            evidence=[{"chain": match.chain, "seq": match.seq} for match in found.evidence],
        ),
    }


def of_alarm(key: bytes, alarm: Alarm, chain: str) -> Draft:
    """The event of a source that is silent or has holes; of the deployment."""
    group = (f"{alarm.source}/{alarm.instance}", alarm.epoch.hex())
    identifier = finding_id(key, alarm.kind, group, alarm.since_us)
    draft = _event(DEPLOYMENT_TENANT, alarm.kind, identifier, alarm.now_us)
    return {
        **draft,
        "source_system": alarm.source,
        "extension": _extension(
            rule=str(alarm.kind),
            rule_digest=bytes(32),
            level="high",
            group=[
                {"field": "emitter.source", "value": alarm.source},
                {"field": "emitter.instance", "value": alarm.instance},
                {"field": "emitter.epoch", "value": alarm.epoch.hex()},
            ],
            **{"from": alarm.since_us, "to": alarm.now_us},
            count=alarm.missing if alarm.kind is Kind.GAP else 0,
            evidence=[{"chain": chain, "seq": alarm.seq}],
        ),
    }


def of_leak(key: bytes, leaked: Leaked, chain: str, owner: str) -> Draft:
    """The event of what an emitter let through; of the deployment. It names the field and the shape, and no value."""
    group = (f"{leaked.source}/{leaked.instance}", leaked.field, leaked.shape, chain)
    identifier = finding_id(key, leaked.rule, group, leaked.first_seq)
    report = {
        "source": leaked.source,
        "instance": leaked.instance,
        "owner": owner,
        "field": leaked.field,
        "shape": leaked.shape,
        "count": leaked.events,
        "from": leaked.from_us,
        "to": leaked.to_us,
        "chain": chain,
        "first_seq": leaked.first_seq,
        "last_seq": leaked.last_seq,
    }
    return {
        **_event(DEPLOYMENT_TENANT, leaked.rule, identifier, leaked.to_us),
        "source_system": leaked.source,
        "extension": {"schema": LEAK.sha256, "payload": LEAK.encode_body(report)},
    }


def _event(tenant: str, rule: str, identifier: str, at_us: int) -> Draft:
    return {
        "event_name": f"detection.{rule}",
        "tenant": tenant,
        "event_type": "DETECTION",
        "occurred_at": at_us,
        "result": "SUCCESS",
        "effect": "EFFECTIVE",
        "object": {"type": "finding", "id": identifier},
        "correlation_id": identifier,
        "actor": {"kind": "SYSTEM", "id": "detect", "display": None},
    }


def _extension(**values: Any) -> dict[str, object]:
    return {"schema": FINDING.sha256, "payload": FINDING.encode_body(values)}
