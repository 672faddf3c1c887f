"""A job states that it is about to run, and what became of it.

    @job(audit, "daily-digest", tenant="acme", actor=Actor.system("scheduler"))
    def send_digest(day: date) -> int: …

- Before: automation.intended, ATTEMPTED. If that cannot be stated, the job does not run: the error is raised.
- Inside: what is stated is caused by the intention and of its correlation id (the context's, else the run's own).
- After: automation.executed with the result that `result` finds in what the job returned, or automation.failed: DENIED
  after a PermissionError, UNKNOWN after what is no Exception (a cancelled task, an interrupt), FAILURE after all others. The
  exception goes on. A generator that its caller closes early was executed in part.
- An outcome that cannot be stated is logged, and the job's own outcome stands: the trail has an intention without an end.

Functions, coroutine functions and generator functions of both kinds. Arguments and returned values stand nowhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, TypeVar, Unpack, cast

import structlog

from producers.kit.audit import Audit
from producers.kit.context import Context, Ended, Steps, context, current, stepwise
from producers.kit.statement import layered
from producers.kit.words import Result
from sealtrail.errors import SealtrailError

RUN_BYTES = 16

_LOG = structlog.get_logger("producers.kit")

F = TypeVar("F", bound=Callable[..., object])


def succeeded(_: object) -> Result:
    """Whatever the job returned."""
    return Result.SUCCESS


def job(
    audit: Audit,
    automation: str,
    *,
    result: Callable[[Any], Result] = succeeded,
    **given: Unpack[Context],
) -> Callable[[F], F]:
    """Decorator for a job.

    Args:
        automation: its opaque name.
        result: of what the job returned; a generator's return value, None for asynchronous ones.
        given: whose job it is, by whom, …; what is left out is taken from the context in which it runs.
    """

    def begin() -> _Running:
        return _Running(audit, automation, given)

    def decorate(function: F) -> F:
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            return stepwise(function, begin, lambda running: running.ended(result))
        if iscoroutinefunction(function):

            @wraps(function)
            async def awaited(*args: object, **kwargs: object) -> object:
                running = begin()
                with running.outcome(result) as said:
                    said.value = await function(*args, **kwargs)
                return said.value

            return cast("F", awaited)

        @wraps(function)
        def called(*args: object, **kwargs: object) -> object:
            running = begin()
            with running.outcome(result) as said:
                said.value = function(*args, **kwargs)
            return said.value

        return cast("F", called)

    return decorate


class _Running(Steps):
    """One run, stated as intended; and the context of its steps."""

    def __init__(self, audit: Audit, automation: str, given: Context) -> None:
        run = audit.random(RUN_BYTES).hex()
        lineage = given.get("correlation_id") or current().get("correlation_id") or run
        self._run = audit.automation.intended(automation, run, **layered(given, {"correlation_id": lineage}))
        self._automation = automation
        self.inside: Context = {**given, "correlation_id": lineage, "cause": self._run.event_id}
        super().__init__(**self.inside)

    def outcome(self, result: Callable[[Any], Result]) -> _Outcome:
        """The context of a job that is no generator; what it returned is to be set as `value`."""
        return _Outcome(self, result)

    def ended(self, result: Callable[[Any], Result]) -> Ended:
        """States how it ended; never raises what stating raises."""

        def state(error: BaseException | None, returned: object) -> None:
            try:
                if error is None:
                    self._run.executed(result=result(returned))
                elif isinstance(error, GeneratorExit):
                    self._run.executed(result=Result.PARTIAL)
                else:
                    self._run.failed(result=_result_of(error))
            except SealtrailError as trouble:
                _LOG.error("outcome of a job not stated", automation=self._automation, problem=type(trouble).__name__)

        return state


class _Outcome:
    """See `_Running.outcome`."""

    def __init__(self, running: _Running, result: Callable[[Any], Result]) -> None:
        self.value: object = None
        self._context = context(**running.inside)
        self._ended = running.ended(result)

    def __enter__(self) -> _Outcome:
        self._context.__enter__()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._context.__exit__(None, None, None)
        self._ended(error, self.value)


def _result_of(error: BaseException) -> Result:
    if isinstance(error, PermissionError):
        return Result.DENIED
    return Result.FAILURE if isinstance(error, Exception) else Result.UNKNOWN
