"""The good case: most records are events as they should be, and need not be decoded to be sealed.

`schemas.locator` tells of an event's bytes whether they are good, and what stands in the fields that the class policy reads.
What the policy says of an event follows from these alone, so it is asked once for each set of values; then by the decoded
event, as always. With the native kernel the same is a program (`schemas.program`).

Not here: whatever is not good; see `processors.pipeline`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Self

import structlog

from processors.native import Kernel, NativeHints, NativeLocator
from schemas.locator import Located, Locator
from schemas.policy import Decision, Policy
from schemas.program import program
from schemas.registry import Registry
from schemas.secrets import text_beginnings
from schemas.versions import UNFIT, Version, versions
from sealtrail.avro import HEADER_SIZE, Codec

REMEMBERED = 4096  # decisions; a deployment has some tens of event names by tens of tenants
ASKED = frozenset({"tenant", "event_name", "emitter.source"})  # what entitles, and whose keys are used

_log = structlog.get_logger()


class Quick:
    """The good case under one policy at a time. One thread.

    Args:
        registry: whose extensions are known.
        region: the one region whose events are good.
        kernel: the native kernel; None: the Python form.

    Attributes:
        native: what locates, for the kernel, each version of the event; none without it.
        hints: what secrets begin with, for the kernel.
    """

    def __init__(self, registry: Registry, region: str, policy: Policy, kernel: Kernel | None = None) -> None:
        self._registry = registry
        self._versions = tuple(versions(registry))
        self._region = region
        self.kernel = kernel
        self.hints: NativeHints | None = None
        if kernel is not None:
            self.hints = kernel.Hints(tuple(tuple(map(bytes, beginning)) for beginning in text_beginnings()))
        self._take_up(policy)

    def _take_up(self, policy: Policy) -> None:
        asked = ASKED | policy.fields_read
        self._policy = policy
        self._decisions: dict[tuple[object, ...], Decision] = {}
        self._decided: dict[bytes, tuple[str, Decision] | None] = {}
        self._locators: dict[bytes, Locator] = {}
        native = []
        for known in self._versions:
            try:
                self._locators[known.event.header] = Locator(self._registry, self._region, asked, known.event, known.most)
                if self.kernel is not None:
                    native.append(self._program(self.kernel, known, asked))
            except UNFIT as error:
                if not self._locators:  # of the current version, which comes first
                    raise
                header = known.event.header.hex()
                _log.warning("native kernel or quick way not used", header=header, problem=f"{type(error).__name__}: {error}")
        self.native: tuple[NativeLocator, ...] = tuple(native)

    def _program(self, kernel: Kernel, known: Version, asked: frozenset[str]) -> NativeLocator:
        made = program(self._registry, self._region, asked, known.event, known.most)
        return kernel.Locator(*(getattr(made, field.name) for field in fields(made)))

    def under(self, policy: Policy) -> Self:
        """The same, under this policy from now on."""
        if policy is not self._policy:
            self._take_up(policy)
        return self

    def locate(self, value: bytes) -> Located | None:
        """Of an event's bytes, what sealing needs; None: not good."""
        locator = self._locators.get(value[:HEADER_SIZE])
        return None if locator is None else locator(value)

    def written_with(self, value: bytes) -> Codec:
        """The schema of an event that was located."""
        return self._registry.by_header[value[:HEADER_SIZE]]

    def decision(self, found: Located, value: bytes) -> Decision:
        """What the policy says of the event that was located in `value`."""
        decision = self._decisions.get(found.key)
        if decision is None:
            if len(self._decisions) >= REMEMBERED:
                self._decisions.clear()
            decision = self._decisions[found.key] = self._policy.decide(self.written_with(value).decode(value))
        return decision

    def entitled(self, found: Located) -> bool:
        """Whether the event's source may state it."""
        return self._policy.entitled(found.source.decode(), found.tenant.decode(), found.event_name.decode())

    def decided(self, key: bytes, value: bytes) -> tuple[str, Decision] | None:
        """Tenant and decision of the event that the kernel located in `value`, by its key there; None: for the oracle.

        Not by `locate`: that declines an event with a hint of a secret, though the kernel knows that there is none.
        """
        if key in self._decided:
            return self._decided[key]
        event = self.written_with(value).decode(value)
        if len(self._decided) >= REMEMBERED:
            self._decided.clear()
        entitled = self._policy.entitled(event["emitter"]["source"], event["tenant"], event["event_name"])
        decided = (event["tenant"], self._policy.decide(event)) if entitled else None
        self._decided[key] = decided
        return decided
