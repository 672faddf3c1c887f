"""What may stand in a class policy's files: `base.toml`, and one per tenant that deviates. Unknown keys are refused.

Durations are whole days. A year counts 366 days and a month 31, so what is promised in years or months is never kept
for less; nothing depends on the calendar of the day on which an event is sealed.

Not here: what follows from the files for an event; see `schemas.policy`.
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sealtrail.errors import ConfigError

ClassName = Literal["security", "operational", "compliance", "admin", "debug"]
CLASSES: tuple[ClassName, ...] = ("security", "operational", "compliance", "admin", "debug")
MAX_DAYS = 36_600  # a hundred years: beyond it a number is a slip of the pen, and a lock cannot be undone

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\z")]
Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\z")]
EventPattern = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,127}(\.\*)?\z")]
Days = Annotated[int, Field(strict=True, ge=1, le=MAX_DAYS)]
# A role or a team, in letters that a leak's report can carry (schemas/extensions/leak.avsc).
Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 .,&@/_-]{0,199}\z")]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Reader(_Table):
    """Who may read a class, and for which purposes; and for which of these also what is tokenised in it, in clear."""

    role: Name
    purposes: Annotated[list[Name], Field(min_length=1)]
    reveal: list[Name] = []

    @model_validator(mode="after")
    def _reveals_what_it_reads(self) -> Self:
        if not set(self.reveal) <= set(self.purposes):
            raise ValueError("reveal: a purpose for which this role may not read")
        return self


class Retention(_Table):
    """How long the archive keeps a record, and how long hot search does."""

    archive_days: Days
    hot_days: Days

    @model_validator(mode="after")
    def _hot_within_archive(self) -> Self:
        if self.hot_days > self.archive_days:
            raise ValueError("hot_days is longer than archive_days")
        return self


class ClassTable(_Table):
    """`[classes.<name>]`"""

    owner: Owner
    retention: Retention
    lock_mode: Literal["COMPLIANCE"]  # GOVERNANCE can be bypassed: no lock for a system of record
    readers: Annotated[list[Reader], Field(min_length=1)]
    export: Literal["never", "with-approval", "allowed"]
    review_days: Days
    responsible: Owner | None = None  # who does the daily work; with `consulted`, what a RACI table needs beyond the rest
    consulted: list[Owner] = []


class Routing(_Table):
    """`[default]`, and what every rule says of an event that it matches."""

    log_class: Annotated[ClassName, Field(alias="class")]
    sign: bool = False
    routes: Annotated[list[Literal["archive", "hot", "siem"]], Field(min_length=1)]

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if "archive" not in self.routes or len(set(self.routes)) != len(self.routes):
            raise ValueError("routes: the archive gets every event, and each output is named once")
        if self.log_class == "debug" and "siem" in self.routes:
            raise ValueError("routes: debug never goes to the SIEM")
        return self


class Rule(Routing):
    """`[[rules]]`: the first that matches decides."""

    name: Name
    detection: dict[str, Any]


class Source(_Table):
    """`[sources.<name>]`: what a certified source may state; and who hears of its leaks, if not the default class's owner."""

    tenants: Annotated[list[Tenant | Literal["@deployment"]], Field(min_length=1)]
    events: Annotated[list[EventPattern], Field(min_length=1)]
    owner: Owner | None = None

    @model_validator(mode="after")
    def _not_reserved(self) -> Self:
        if any(pattern.startswith("emitter.") for pattern in self.events):
            raise ValueError("events: emitter.* is every source's already, for @deployment")
        return self


class Notes(_Table):
    """`[notes]`: seals that are not events."""

    retention: Literal["longest"]


class Region(_Table):
    """`[regions.<name>]`: classes that are kept otherwise there."""

    retention: Annotated[dict[ClassName, Retention], Field(min_length=1)]


class BaseFile(_Table):
    """`base.toml`"""

    version: Literal[1]
    classes: dict[ClassName, ClassTable]
    notes: Notes
    default: Routing
    rules: list[Rule]
    sources: dict[Name, Source]
    regions: dict[Name, Region] = {}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = sorted(set(CLASSES) - set(self.classes))
        if missing:
            raise ValueError(f"classes: {', '.join(missing)} missing")
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names) or "default" in names:
            raise ValueError("rules: two of one name, or one named default")
        return self


class TenantFile(_Table):
    """`tenants/<tenant>.toml`: what differs for one tenant. Sources and rules are the deployment's alone."""

    version: Literal[1]
    tenant: Tenant
    retention: dict[ClassName, Retention] = {}
    regions: dict[Name, Region] = {}
    readers: dict[ClassName, list[Reader]] = {}


_File = TypeVar("_File", BaseFile, TenantFile)


def parse(kind: type[_File], text: str, name: str) -> _File:
    """A validated file.

    Raises:
        ConfigError: not TOML, or names the key that is unknown, missing or wrong.
    """
    try:
        return kind.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"policy {name}: {error}") from error
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_context=False, include_url=False)
        )
        raise ConfigError(f"policy {name}: {'; '.join(problems)}") from None
