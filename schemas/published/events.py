"""The event catalogue as values, read from `schemas/events.toml`; unknown keys are refused.

    "chat.login.{succeeded,failed}"     these two
    "detection.*"                       any further words
    "*.message.sent"                    of any connector's system: chat.message.sent

What the class policy says of an event is asked of the policy, for each way in which it can end: nothing of it stands in the
file. Not here: the pages (`schemas.published.pages`), the examples (`schemas.published.examples`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.evolution.released import EVENT, current
from schemas.fields import field_tree
from schemas.policy import Decision, Policy
from schemas.registry import AUDIT_EVENT
from sealtrail.errors import ConfigError

TENANT, REGION = "acme", "eu-central"  # of examples and questions to the policy
NOBODY = "nobody"  # the source of names that are reserved
EMITTER = "emitter"  # every source, of itself
KIT = "kit"  # any connector, in the words of producers/kit
SYSTEM = "chat"  # stands for its system in examples and questions to the policy
_NAME = re.compile(r"(\*\.)?[a-z0-9_]+(\.[a-z0-9_]+)*(\.\*|(\.)?\{[a-z0-9_]+(,[a-z0-9_]+)*\})?")
_TREE = field_tree(AUDIT_EVENT.text)
_FIELDS = dict(_TREE.fields)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_Names = Annotated[list[str], Field(min_length=1)]


class _Source(_Table):
    title: str
    fills: list[str]
    extension: str | None = None
    tenant: str = TENANT
    machine: bool = False


class _Event(_Table):
    name: Annotated[str, Field(pattern=f"^{_NAME.pattern}$")]
    source: str
    family: str
    meaning: str
    fills: list[str] = []
    results: _Names
    effects: _Names
    extension: str | None = None
    tenant: str | None = None
    example: dict[str, str | int | bool] = {}
    without: list[str] = []


class _File(_Table):
    version: Literal[1]
    sources: dict[str, _Source]
    events: list[_Event]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the catalogue.

    Attributes:
        name: as stated; `names` are the events that it stands for, a first `*.` for any system's; `prefix` what any further
            words follow, or None.
        source, title: who states it, and in words.
        fills: the event's fields that it fills, beyond those that every event has; `common` are those of its source.
        extension: full name of the extension, where it fills one.
        tenant, machine: whose events they are (for others than the deployment, an example); nobody acts but the source itself.
        example, without: what the line's example says otherwise than the schema's examples: values by path, and paths that it
            has not. `extension.<name>` is a field of the extension's own record.
    """

    name: str
    names: tuple[str, ...]
    prefix: str | None
    source: str
    title: str
    family: str
    meaning: str
    fills: tuple[str, ...]
    common: tuple[str, ...]
    results: tuple[str, ...]
    effects: tuple[str, ...]
    extension: str | None
    tenant: str
    machine: bool
    example: tuple[tuple[str, str | int | bool], ...]
    without: tuple[str, ...]

    @property
    def reserved(self) -> bool:
        """Nothing states it yet."""
        return self.source == NOBODY

    def covers(self, event_name: str) -> bool:
        """Whether an event of that name is of this line."""
        return self.rank(event_name) is not None

    def rank(self, event_name: str) -> int | None:
        """How closely it names an event: 0 itself, 1 for any system, 2 by its beginning; None: it is another's."""
        if event_name in self.names:
            return 0
        if f"*.{event_name.partition('.')[2]}" in self.names:
            return 1
        return 2 if self.prefix is not None and event_name.startswith(self.prefix) else None

    @property
    def one(self) -> str:
        """A name that it covers, for examples and questions."""
        return self.some[0]

    @property
    def some(self) -> tuple[str, ...]:
        """Names that it covers: all, where they can be told."""
        return tuple(name.replace("*", SYSTEM) for name in self.names) or (f"{self.prefix}example",)


def load() -> tuple[Entry, ...]:
    """The catalogue that ships. Raises ConfigError that names the event and the key."""
    return parse((resources.files("schemas") / "events.toml").read_text("utf-8"))


def parse(text: str) -> tuple[Entry, ...]:
    """The catalogue that a text (TOML) states, in its order.

    Raises:
        ConfigError: an unknown or missing key; a family, field, result or extension that is none; two lines for one event.
    """
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"event catalogue is not TOML: {error}") from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors(include_input=False))
        raise ConfigError(f"event catalogue: {'; '.join(problems)}") from None
    extensions = frozenset(current()) - {EVENT}
    entries = tuple(_entry(event, file.sources, extensions) for event in file.events)
    stated = [(entry.family, name) for entry in entries for name in (*entry.names, entry.prefix) if name is not None]
    twice = sorted({name for family, name in stated if stated.count((family, name)) > 1})
    if twice:
        raise ConfigError(f"event catalogue: {', '.join(twice)} stands there twice")
    missing = sorted(_FIELDS["event_type"].symbols - {entry.family for entry in entries})
    if missing:
        raise ConfigError(f"event catalogue: no event of the family {', '.join(missing)}")
    return entries


def find(entries: Iterable[Entry], event_name: str, family: str) -> Entry | None:
    """The line of an event, the one that names it most closely."""
    found = [(rank, entry) for entry in entries if entry.family == family and (rank := entry.rank(event_name)) is not None]
    return min(found, key=lambda each: each[0], default=(None, None))[1]


def decisions(entry: Entry, policy: Policy) -> tuple[tuple[tuple[str, ...], Decision], ...]:
    """(results, what the policy says of an event that ends so), results of one decision together, in the entry's order.

    Raises:
        ConfigError: the names of one line are not of one decision; it must be split.
    """
    found: list[tuple[list[str], Decision]] = []
    for result in entry.results:
        said = {policy.decide(_question(entry, name, result)) for name in entry.some}
        if len(said) > 1:
            raise ConfigError(f"event catalogue: {entry.name}: the policy decides differently on its names")
        decision = said.pop()
        known = next((results for results, other in found if other == decision), None)
        if known is None:
            found.append(([result], decision))
        else:
            known.append(result)
    return tuple((tuple(results), decision) for results, decision in found)


def _question(entry: Entry, name: str, result: str) -> Mapping[str, Any]:
    """As much of an event as a rule of the policy may ask for."""
    return {
        "event_name": name,
        "tenant": entry.tenant,
        "region": REGION,
        "event_type": entry.family,
        "result": result,
        "authorization": {"decision": "DENY" if result == "DENIED" else "ALLOW"},
    }


def _entry(event: _Event, sources: Mapping[str, _Source], extensions: frozenset[str]) -> Entry:
    source = sources.get(event.source)
    if source is None:
        raise ConfigError(f"event catalogue: {event.name}: source: not one of [sources]")
    fills = tuple(dict.fromkeys((*source.fills, *event.fills)))
    _known(event.name, "fills", fills, frozenset(_FIELDS))
    _known(event.name, "family", (event.family,), _FIELDS["event_type"].symbols)
    _known(event.name, "results", event.results, _FIELDS["result"].symbols)
    _known(event.name, "effects", event.effects, _FIELDS["effect"].symbols)
    extension = event.extension or source.extension
    if extension is not None:
        _known(event.name, "extension", (extension,), extensions)
    names, prefix = _expanded(event.name)
    return Entry(
        name=event.name,
        names=names,
        prefix=prefix,
        source=event.source,
        title=source.title,
        family=event.family,
        meaning=event.meaning,
        fills=fills,
        common=tuple(source.fills),
        results=tuple(event.results),
        effects=tuple(event.effects),
        extension=extension if "extension" in fills else None,
        tenant=event.tenant or source.tenant,
        machine=source.machine,
        example=tuple(event.example.items()),
        without=tuple(event.without),
    )


def _expanded(name: str) -> tuple[tuple[str, ...], str | None]:
    if name.endswith(".*"):
        return (), name.removesuffix("*")
    before, brace, words = name.partition("{")
    return tuple(f"{before}{word}" for word in words.rstrip("}").split(",")) if brace else (name,), None


def _known(event: str, key: str, stated: Iterable[str], known: frozenset[str]) -> None:
    unknown = sorted(set(stated) - known)
    if unknown:
        raise ConfigError(f"event catalogue: {event}: {key}: {', '.join(unknown)}")
