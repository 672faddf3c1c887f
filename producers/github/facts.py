"""What one webhook says, before it becomes an event; and the words that GitHub uses."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from producers.github.payload import MalformedError, need_number, text, word

CHANGE_CHARACTERS = 1024  # a diff is compact: a longer value is named by its length


@dataclass(frozen=True, slots=True)
class Change:
    """RFC 6902 terms. `before` and `after` are JSON text; `op` is ADD, REMOVE or REPLACE."""

    op: str
    path: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """A rule's or permission's value before and after, in words of closed lists."""

    name: str
    before: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Person:
    """An account: number and login."""

    id: str
    login: str | None


@dataclass(frozen=True, slots=True)
class Deployment:
    """Environment, commit, and the checks that ran: (name, result)."""

    environment: str
    commit: str | None
    checks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Push:
    """What a push did to a branch or tag; `kind` is BRANCH, TAG or OTHER."""

    kind: str
    created: bool | None
    deleted: bool | None
    forced: bool | None
    before: str | None
    commits: int


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a family's mapping finds. Everything but object and outcome may be missing."""

    object_type: str
    object_id: str
    object_name: str | None = None
    result: str = "SUCCESS"
    effect: str = "EFFECTIVE"
    subject: Person | None = None
    approver: str | None = None
    credential: str | None = None
    changes: tuple[Change, ...] = ()
    settings: tuple[Setting, ...] = ()
    deployment: Deployment | None = None
    correlation_id: str | None = None
    occurred_us: int | None = None
    state: str | None = None
    commit: str | None = None
    run_id: int | None = None
    run_attempt: int | None = None
    push: Push | None = None
    ref: str | None = None


def account(payload: object, *path: str) -> Person:
    """The account at `path`, which must be there."""
    return Person(str(need_number(payload, *path, "id")), text(payload, *path, "login"))


def repository(payload: object) -> Facts:
    """The repository as the business object."""
    return Facts("repository", str(need_number(payload, "repository", "id")), text(payload, "repository", "full_name"))


def team(payload: object) -> Facts:
    """The team as the business object."""
    return Facts("team", str(need_number(payload, "team", "id")), text(payload, "team", "name"))


def change(path: str, before: object, after: object) -> Change:
    """The change at `path`; None is absence. Values are switches, numbers, text, or lists of them."""
    op = "ADD" if before is None else "REMOVE" if after is None else "REPLACE"
    return Change(op, path, _json(path, before), _json(path, after))


def _json(path: str, found: object) -> str | None:
    if found is None:
        return None
    flat = found if isinstance(found, list) else [found]
    if not all(isinstance(item, str | int | float | None) for item in flat):
        raise MalformedError((path,), "a plain value")
    written = json.dumps(found)
    return written if len(written) <= CHANGE_CHARACTERS else json.dumps(f"{len(written)} characters")


PERMISSIONS = frozenset({"pull", "triage", "push", "maintain", "admin", "read", "write", "none"})
ROLES = frozenset({"member", "admin", "direct_member", "billing_manager", "reinstate", "owner", "maintainer"})
STATES = frozenset(
    """
    success failure error inactive in_progress queued pending waiting requested completed cancelled timed_out skipped
    neutral stale action_required startup_failure approved rejected
    """.split()  # noqa: SIM905 - a list of words reads as words
)
RESULTS = {
    "success": "SUCCESS",
    "neutral": "SUCCESS",
    "inactive": "SUCCESS",
    "approved": "SUCCESS",
    "failure": "FAILURE",
    "error": "FAILURE",
    "timed_out": "FAILURE",
    "startup_failure": "FAILURE",
    "cancelled": "FAILURE",
    "rejected": "DENIED",
}  # every other state is not decided yet: UNKNOWN


def result_of(state: str | None) -> str:
    """The event's result for a run or deployment in that state."""
    return RESULTS.get(state or "", "UNKNOWN")


def in_state(facts: Facts, state: str | None) -> Facts:
    """`facts` with result, effect and state of a run or deployment: only what succeeded took effect."""
    result = result_of(state)
    return replace(facts, result=result, effect="EFFECTIVE" if result == "SUCCESS" else "ATTEMPTED", state=word(state, STATES))
