"""Changes that are kept longer and seen by fewer: settings, rights, deployments, holds, retention.

As `families`. What was before and what is after are maps of the object's settings, or of those that changed; the event
carries their difference (`producers.kit.diff`).

    config.changed  config.created  config.deleted       permission.granted  permission.changed  permission.revoked
    deployment.completed  deployment.failed  deployment.denied
    hold.placed  hold.lifted  hold.refused               retention.changed  retention.applied
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Unpack

from producers.kit.families import Family
from producers.kit.statement import Act, Stated, layered
from producers.kit.values import BusinessObject, Subject
from producers.kit.words import Effect, EventType, Result

Settings = Mapping[str, object]


class Admin(Family):
    """Settings and rights."""

    def changed(self, business_object: BusinessObject, before: Settings, after: Settings, **stated: Unpack[Stated]) -> bytes:
        """A routing rule, a template, a policy is another than before."""
        return self._about("config.changed", business_object, None, before, after, stated)

    def created(self, business_object: BusinessObject, after: Settings, **stated: Unpack[Stated]) -> bytes:
        """It is new."""
        return self._about("config.created", business_object, None, {}, after, stated)

    def deleted(self, business_object: BusinessObject, before: Settings, **stated: Unpack[Stated]) -> bytes:
        """It is gone."""
        return self._about("config.deleted", business_object, None, before, {}, stated)

    def granted(self, subject: Subject, on: BusinessObject, role: str, **stated: Unpack[Stated]) -> bytes:
        """Somebody has a role that they had not. role: one of the platform's own words."""
        return self._about("permission.granted", on, subject, {}, {"role": role}, stated)

    def role_changed(self, subject: Subject, on: BusinessObject, before: str, after: str, **stated: Unpack[Stated]) -> bytes:
        """Somebody has another role than before."""
        return self._about("permission.changed", on, subject, {"role": before}, {"role": after}, stated)

    def revoked(self, subject: Subject, on: BusinessObject, role: str, **stated: Unpack[Stated]) -> bytes:
        """Somebody has a role no longer."""
        return self._about("permission.revoked", on, subject, {"role": role}, {}, stated)

    def _about(
        self, name: str, what: BusinessObject, subject: Subject | None, before: Settings, after: Settings, stated: Stated
    ) -> bytes:
        act = Act(name, EventType.ADMIN, Result.SUCCESS, Effect.EFFECTIVE, what, subject, compared=(before, after))
        return self._tell(act, stated)


@dataclass(frozen=True, slots=True)
class Deployed:
    """What was deployed where. commit: 40 or 64 hex digits; artifact_digest: sha256:<64 hex>; checks: name to result."""

    target: str
    environment: str
    commit: str
    artifact_digest: str | None = None
    checks: Mapping[str, Result] = field(default_factory=dict)


class Deployment(Family):
    """A deployment (CAP-7)."""

    def completed(self, deployed: Deployed, approver: str | None, /, **stated: Unpack[Stated]) -> bytes:
        """It is in place. approver: who agreed; None: nobody was asked."""
        return self._about("completed", Result.SUCCESS, Effect.EFFECTIVE, deployed, layered(stated, {"approver": approver}))

    def failed(self, deployed: Deployed, **stated: Unpack[Stated]) -> bytes:
        """It is not in place."""
        return self._about("failed", Result.FAILURE, Effect.ATTEMPTED, deployed, stated)

    def denied(self, deployed: Deployed, **stated: Unpack[Stated]) -> bytes:
        """A check or a missing approval stopped it."""
        return self._about("denied", Result.DENIED, Effect.NONE, deployed, stated)

    def _about(self, name: str, result: Result, effect: Effect, deployed: Deployed, stated: Stated) -> bytes:
        record = {
            "environment": deployed.environment,
            "commit": deployed.commit,
            "artifact_digest": deployed.artifact_digest,
            "checks": [{"name": check, "result": str(said)} for check, said in deployed.checks.items()],
        }
        what = BusinessObject("deployment", f"{deployed.target}/{deployed.environment}")
        act = Act(f"deployment.{name}", EventType.DEPLOYMENT, result, effect, what, records={"deployment": record})
        return self._tell(act, layered({"target_system": deployed.target}, stated))


class Hold(Family):
    """A legal hold in the connector's own store. matter: its opaque reference."""

    def placed(self, matter: str, reason: str, /, **stated: Unpack[Stated]) -> bytes:
        """What it covers is not deleted from now on."""
        return self._about("placed", Result.SUCCESS, Effect.EFFECTIVE, matter, reason, stated)

    def lifted(self, matter: str, reason: str, /, **stated: Unpack[Stated]) -> bytes:
        """It ends."""
        return self._about("lifted", Result.SUCCESS, Effect.EFFECTIVE, matter, reason, stated)

    def refused(self, matter: str, reason: str, /, **stated: Unpack[Stated]) -> bytes:
        """It could not be placed or lifted."""
        return self._about("refused", Result.FAILURE, Effect.ATTEMPTED, matter, reason, stated)

    def _about(self, name: str, result: Result, effect: Effect, matter: str, reason: str, stated: Stated) -> bytes:
        act = Act(f"hold.{name}", EventType.HOLD, result, effect, BusinessObject("matter", matter))
        return self._tell(act, layered(stated, {"reason": reason}))


class Retention(Family):
    """How long the connector's own store keeps things."""

    def changed(self, business_object: BusinessObject, before: Settings, after: Settings, **stated: Unpack[Stated]) -> bytes:
        """The rule is another."""
        kind, effect = EventType.RETENTION, Effect.EFFECTIVE
        act = Act("retention.changed", kind, Result.SUCCESS, effect, business_object, compared=(before, after))
        return self._tell(act, stated)

    def applied(self, business_object: BusinessObject, **stated: Unpack[Stated]) -> bytes:
        """What had passed its time was deleted."""
        act = Act("retention.applied", EventType.RETENTION, Result.SUCCESS, Effect.EFFECTIVE, business_object)
        return self._tell(act, stated)
