"""Runs of automations: what was intended, and what was executed (CAP-5).

    run = audit.automation.intended("daily-digest", run="run-7")     # before it begins
    run.executed()

The outcome is caused by the intention, and both have the run's correlation id. An intention without an outcome is a
process that died in between. One that another process stated is named by `cause`: `audit.automation.executed(…)`.
"""

from __future__ import annotations

from typing import Unpack

from producers.kit.families import Family, Tell
from producers.kit.statement import Act, Stated, layered
from producers.kit.values import BusinessObject
from producers.kit.words import Effect, EventType, Result


class Automation(Family):
    """An automation: its opaque name; a run: its opaque id, and its correlation id where neither call nor context has one."""

    def intended(self, automation: str, run: str, **stated: Unpack[Stated]) -> Run:
        """It is about to begin."""
        event_id = self._about("intended", Result.UNKNOWN, Effect.ATTEMPTED, automation, run, stated)
        return Run(self._tell_act, automation, run, event_id, stated)

    def executed(self, automation: str, run: str, *, result: Result = Result.SUCCESS, **stated: Unpack[Stated]) -> bytes:
        """It was executed, or a part of it (PARTIAL)."""
        return self._about("executed", result, Effect.EFFECTIVE, automation, run, stated)

    def failed(self, automation: str, run: str, *, result: Result = Result.FAILURE, **stated: Unpack[Stated]) -> bytes:
        """It was not executed after all: FAILURE, DENIED, or UNKNOWN where it may have been."""
        return self._about("failed", result, Effect.ATTEMPTED, automation, run, stated)

    def _about(self, name: str, result: Result, effect: Effect, automation: str, run: str, stated: Stated) -> bytes:
        act = Act(f"automation.{name}", EventType.AUTOMATION, result, effect, BusinessObject("automation", automation))
        return self._tell(act, stated, correlation_id=run)


class Run:
    """A run that was stated as intended. `event_id`: of that statement; `correlation_id`: of all that it leads to."""

    def __init__(self, tell: Tell, automation: str, run: str, event_id: bytes, stated: Stated) -> None:
        self.event_id = event_id
        self._automation = Automation(tell)
        self._which = (automation, run)
        self._stated = layered({k: v for k, v in stated.items() if k not in {"occurred_at", "detail"}}, {"cause": event_id})

    def executed(self, *, result: Result = Result.SUCCESS, **stated: Unpack[Stated]) -> bytes:
        """As `Automation.executed`, caused by the intention."""
        return self._automation.executed(*self._which, result=result, **layered(self._stated, stated))

    def failed(self, *, result: Result = Result.FAILURE, **stated: Unpack[Stated]) -> bytes:
        """As `Automation.failed`, caused by the intention."""
        return self._automation.failed(*self._which, result=result, **layered(self._stated, stated))
