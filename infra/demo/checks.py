"""What the demo claims, and what was measured for it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Check:
    """One claim, whether it held, and the figures it stands on."""

    claim: str
    good: bool
    measured: str


@dataclass(slots=True)
class Checks:
    """All checks of a run, in order; none is optional."""

    all: list[Check] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Every claim held, and there was at least one."""
        return bool(self.all) and all(check.good for check in self.all)

    def lines(self) -> list[str]:
        """What a person reads of each."""
        return [f"{'ok  ' if check.good else 'FAIL'}  {check.claim}: {check.measured}" for check in self.all]

    def add(self, check: Check) -> None:
        """One more."""
        self.all.append(check)
