"""The families of events that are one statement each. Messages have a life of their own (`message`), automations runs.

Every method states one event and returns its id, which a later event may name as its `cause`. What is mandatory is an
argument; what any event may carry besides is `Stated`. Errors: ContractError, TransientError as `Emitter.emit`.

    access.allowed  access.denied  access.failed         login.succeeded  login.failed  login.ended
    mention.created                                      file.shared  file.withdrawn
    api.called                                           export.completed  export.failed  export.denied
    policy.allowed  policy.denied  policy.overridden     connector.started  .stopped  .failed  .recovered
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, Unpack

from producers.kit.diff import Change
from producers.kit.statement import Act, Stated, layered, only_known
from producers.kit.values import Actor, Authorization, BusinessObject, Content, ContentRef, Subject
from producers.kit.words import Decision, Effect, EventType, Result

# The act (or how it follows from the tenant), what is stated with it, defaults below the context; the event's id.
Tell = Callable[[Act | Callable[[str], Act], Stated, Mapping[str, object]], bytes]

_DENIED_STATUS = frozenset({401, 403, 407, 451})  # the peer said who may not, or what may not


def result_of_status(status: int) -> Result:
    """What an HTTP status says of the act."""
    return Result.SUCCESS if status < 400 else Result.DENIED if status in _DENIED_STATUS else Result.FAILURE


class Family:
    """Common to all: how they state."""

    __slots__ = ("_tell_act",)

    def __init__(self, tell: Tell) -> None:
        self._tell_act = tell

    def _tell(self, act: Act, stated: Stated, **defaults: object) -> bytes:
        return self._tell_act(act, only_known(**stated), defaults)


class Access(Family):
    """Something was read, or somebody tried to."""

    def allowed(self, business_object: BusinessObject, **stated: Unpack[Stated]) -> bytes:
        """It was shown."""
        return self.answered(business_object, Result.SUCCESS, **stated)

    def denied(self, business_object: BusinessObject, **stated: Unpack[Stated]) -> bytes:
        """Whoever asked may not."""
        return self.answered(business_object, Result.DENIED, **stated)

    def failed(self, business_object: BusinessObject, **stated: Unpack[Stated]) -> bytes:
        """It was not shown, for another reason."""
        return self.answered(business_object, Result.FAILURE, **stated)

    def answered(self, business_object: BusinessObject, result: Result, **stated: Unpack[Stated]) -> bytes:
        """With any result: PARTIAL where the answer was cut off, UNKNOWN where nobody knows."""
        name = {Result.SUCCESS: "allowed", Result.PARTIAL: "allowed", Result.DENIED: "denied"}.get(result, "failed")
        effect = Effect.EFFECTIVE if name == "allowed" else Effect.ATTEMPTED
        return self._tell(Act(f"access.{name}", EventType.ACCESS, result, effect, business_object), stated)


class Authentication(Family):
    """Somebody logged in, tried to, or left. account: as it was typed; hashed. The actor, where nobody says another."""

    def succeeded(self, account: str, **stated: Unpack[Stated]) -> bytes:
        """Logged in."""
        return self._about("succeeded", Result.SUCCESS, Effect.EFFECTIVE, account, stated)

    def failed(self, account: str, **stated: Unpack[Stated]) -> bytes:
        """Did not get in."""
        return self._about("failed", Result.FAILURE, Effect.ATTEMPTED, account, stated)

    def ended(self, account: str, **stated: Unpack[Stated]) -> bytes:
        """Logged out, or was logged out."""
        return self._about("ended", Result.SUCCESS, Effect.EFFECTIVE, account, stated)

    def _about(self, name: str, result: Result, effect: Effect, account: str, stated: Stated) -> bytes:
        act = Act(f"login.{name}", EventType.AUTHENTICATION, result, effect, subject=Subject(account))
        return self._tell(act, stated, actor=Actor.user(account))


class Mention(Family):
    """Somebody was named in a message."""

    def created(self, subject: Subject, message: str, **stated: Unpack[Stated]) -> bytes:
        """message: its opaque id."""
        where = BusinessObject("message", message)
        act = Act("mention.created", EventType.MENTION, Result.SUCCESS, Effect.EFFECTIVE, where, subject)
        return self._tell(act, stated)


class FileShare(Family):
    """A file was given to a group, or taken back. The file itself stays with its owner."""

    def shared(
        self, business_object: BusinessObject, content: Content | ContentRef, group: str, **stated: Unpack[Stated]
    ) -> bytes:
        """group: its opaque id, never a person's."""
        act = Act("file.shared", EventType.FILE_SHARE, Result.SUCCESS, Effect.EFFECTIVE, business_object, content=content)
        return self._tell(replace(act, changes=(Change("ADD", f"/shared_with/{group}"),)), stated)

    def withdrawn(self, business_object: BusinessObject, group: str, **stated: Unpack[Stated]) -> bytes:
        """The group can no longer open it."""
        act = Act("file.withdrawn", EventType.FILE_SHARE, Result.SUCCESS, Effect.EFFECTIVE, business_object)
        return self._tell(replace(act, changes=(Change("REMOVE", f"/shared_with/{group}"),)), stated)


class ApiCall(Family):
    """The connector called somebody else's interface."""

    def called(self, operation: str, target_system: str, status: int, /, **stated: Unpack[Stated]) -> bytes:
        """operation: by the name that its interface gives it, never an address with values. status: the peer's."""
        result = result_of_status(status)
        effect = Effect.EFFECTIVE if result is Result.SUCCESS else Effect.ATTEMPTED
        act = Act("api.called", EventType.API_CALL, result, effect, BusinessObject("operation", operation))
        return self._tell(act, layered({"target_system": target_system}, stated))


class Export(Family):
    """Records left the system, or should have. destination: the system that they went to."""

    def completed(
        self,
        business_object: BusinessObject,
        destination: str,
        *,
        content: Content | ContentRef | None = None,
        **stated: Unpack[Stated],
    ) -> bytes:
        """They are there. content: of the file, where there is one."""
        act = Act("export.completed", EventType.EXPORT, Result.SUCCESS, Effect.EFFECTIVE, business_object, content=content)
        return self._tell(act, layered({"target_system": destination}, stated))

    def failed(self, business_object: BusinessObject, destination: str, **stated: Unpack[Stated]) -> bytes:
        """They are not there."""
        act = Act("export.failed", EventType.EXPORT, Result.FAILURE, Effect.ATTEMPTED, business_object)
        return self._tell(act, layered({"target_system": destination}, stated))

    def denied(self, business_object: BusinessObject, destination: str, **stated: Unpack[Stated]) -> bytes:
        """Whoever asked may not."""
        act = Act("export.denied", EventType.EXPORT, Result.DENIED, Effect.NONE, business_object)
        return self._tell(act, layered({"target_system": destination}, stated))


class PolicyVerdict(Family):
    """A policy was asked, and what it said is worth a statement of its own."""

    def decided(self, business_object: BusinessObject, authorization: Authorization, /, **stated: Unpack[Stated]) -> bytes:
        """policy.denied where the decision is DENY, policy.allowed otherwise."""
        denied = authorization.decision is Decision.DENY
        name, result = ("denied", Result.DENIED) if denied else ("allowed", Result.SUCCESS)
        act = Act(f"policy.{name}", EventType.POLICY, result, Effect.NONE, business_object)
        return self._tell(act, layered(stated, {"authorization": authorization}))

    def overridden(
        self,
        business_object: BusinessObject,
        authorization: Authorization,
        approver: str,
        reason: str,
        /,
        **stated: Unpack[Stated],
    ) -> bytes:
        """It said no, and somebody with the right to do so went on."""
        act = Act("policy.overridden", EventType.POLICY, Result.SUCCESS, Effect.EFFECTIVE, business_object)
        return self._tell(act, layered(stated, {"authorization": authorization, "approver": approver, "reason": reason}))


class ConnectorState(Family):
    """The connector itself."""

    def changed(
        self, state: Literal["started", "stopped", "failed", "recovered"], instance: str, **stated: Unpack[Stated]
    ) -> bytes:
        """failed: it cannot do its work, and says so once; recovered: it can again."""
        result = Result.FAILURE if state == "failed" else Result.SUCCESS
        what = BusinessObject("connector", instance)
        act = Act(f"connector.{state}", EventType.OTHER, result, Effect.EFFECTIVE, what)
        return self._tell(act, stated, actor=Actor.integration(instance))
