"""The good case: most records are events as they should be, and need not be decoded to be sealed.

`schemas.locator` tells of an event's bytes whether they are good, and what stands in the fields that the class policy reads.
What the policy says of an event follows from these alone, so it is asked once for each set of values; then by the decoded
event, as always.

Not here: whatever is not good; see `processors.pipeline`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from schemas.locator import Located, Locator
from schemas.policy import Decision, Policy
from schemas.registry import AUDIT_EVENT, Registry

REMEMBERED = 4096  # decisions; a deployment has some tens of event names by tens of tenants
ASKED = frozenset({"tenant", "event_name", "emitter.source"})  # what entitles, and whose keys are used


class Quick:
    """The good case under one policy at a time. One thread.

    Args:
        registry: whose extensions are known.
        region: the one region whose events are good.
    """

    def __init__(self, registry: Registry, region: str, policy: Policy) -> None:
        self._registry = registry
        self._region = region
        self._take_up(policy)

    def _take_up(self, policy: Policy) -> None:
        self._policy = policy
        self._decisions: dict[tuple[object, ...], Decision] = {}
        self.locate: Callable[[bytes], Located | None] = Locator(self._registry, self._region, ASKED | policy.fields_read)

    def under(self, policy: Policy) -> Self:
        """The same, under this policy from now on."""
        if policy is not self._policy:
            self._take_up(policy)
        return self

    def decision(self, found: Located, value: bytes) -> Decision:
        """What the policy says of the event that was located in `value`."""
        decision = self._decisions.get(found.key)
        if decision is None:
            if len(self._decisions) >= REMEMBERED:
                self._decisions.clear()
            decision = self._decisions[found.key] = self._policy.decide(AUDIT_EVENT.decode(value))
        return decision
