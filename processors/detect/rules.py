"""Detection rules: Sigma files with correlations, read strictly.

    Rules.load()            the packaged ones; Rules.load(folder) instead of them
    rules.of(Category.EVENT)

Each file holds base rules (`detection`, evaluated by `schemas.sigma`) and correlations over them. pySigma parses; what it
accepts and we cannot evaluate is refused with a reason, because a rule that silently never matches is worse than none:

- correlation types event_count and value_count, conditions gt and gte. They can only become true as matches arrive, never
  false again: so what is found does not depend on the order in which events come.
- group-by begins with `tenant`: no rule looks across tenants. Values to group by and to count are public, internal or hashed.
- each base rule has a `canary`, an event (in part) that it must match; a correlation uses it, and it has the group's fields.

Not here: windows (`windows`), and what a finding looks like (`finding`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import (
    SigmaCorrelationCondition,
    SigmaCorrelationConditionOperator,
    SigmaCorrelationRule,
    SigmaCorrelationType,
)
from sigma.exceptions import SigmaError

from schemas import sigma
from schemas.fields import Redact, field_tree
from schemas.policy import event_fields
from schemas.registry import AUDIT_EVENT
from schemas.sigma import Predicate, values_at
from sealtrail.errors import ConfigError

MAX_THRESHOLD = 500  # matches of a group that are kept are twice this
MAX_SPAN_S = 43_200  # half a day; the matches are kept for two
LEVELS = ("informational", "low", "medium", "high", "critical")

_COMMON = {"title", "name", "id", "description", "status", "author", "date", "modified", "tags", "references", "level"}
_BASE_KEYS = frozenset(_COMMON | {"logsource", "detection", "falsepositives", "canary"})
_CORRELATION_KEYS = frozenset(_COMMON | {"correlation", "falsepositives"})
_TYPES = {SigmaCorrelationType.EVENT_COUNT: False, SigmaCorrelationType.VALUE_COUNT: True}
_OPERATORS = {SigmaCorrelationConditionOperator.GTE: 0, SigmaCorrelationConditionOperator.GT: 1}


class Category(StrEnum):
    """What a base rule looks at: sealed events, or the rows of `audit.activity`."""

    EVENT = "event"
    ACTOR = "actor"
    LINEAGE = "lineage"


def fields_of(category: Category) -> frozenset[str]:
    """The fields that a rule of a category may read."""
    if category is Category.EVENT:
        return event_fields()
    if category is Category.ACTOR:
        return frozenset(("tenant", "actor", "event_name", "result", "events"))
    return frozenset(("tenant", "correlation_id", "stage", "events", "recipients"))


@dataclass(frozen=True, slots=True)
class Rule:
    """A correlation and the predicates that it counts.

    Attributes:
        group_by: paths, `tenant` first. value: the path whose distinct values are counted; None counts matches.
        threshold: so many within span_us, or more, are a finding. digest: SHA-256 of the file that it stands in.
    """

    name: str
    level: str
    category: Category
    predicates: tuple[Predicate, ...]
    group_by: tuple[str, ...]
    value: str | None
    threshold: int
    span_us: int
    digest: bytes

    def groups(self, event: Mapping[str, Any]) -> list[tuple[tuple[str, ...], str | None]]:
        """The group of an event, with each value that it counts there; nothing if it does not match or has no group."""
        if not any(predicate(event) for predicate in self.predicates):
            return []
        found = [values_at(path)(event) for path in self.group_by]
        if not all(found):
            return []
        group = tuple(str(values[0]) for values in found)
        if "" in group:
            return []
        if self.value is None:
            return [(group, None)]
        return [(group, str(value)) for value in dict.fromkeys(values_at(self.value)(event)) if value != ""]


class Rules:
    """All rules, by name and by what they look at."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.by_name: dict[str, Rule] = {}
        for rule in rules:
            if rule.name in self.by_name:
                raise ConfigError(f"detection rule {rule.name}: there are two")
            self.by_name[rule.name] = rule

    def of(self, category: Category) -> list[Rule]:
        """Those of a category."""
        return [rule for rule in self.by_name.values() if rule.category is category]

    @classmethod
    def load(cls, folder: Path | None = None) -> Rules:
        """Every `*.yml` of a folder; without one the packaged rules.

        Raises:
            ConfigError: a rule that cannot be read, evaluated, or would never match; names it.
        """
        if folder is not None:
            if not folder.is_dir():
                raise ConfigError(f"setting detect_rules: no folder at {folder}")
            texts = {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.yml"))}
            if not texts:
                raise ConfigError(f"setting detect_rules: no .yml file in {folder}")
        else:
            packaged = resources.files("schemas") / "detections"
            names = sorted(entry.name for entry in packaged.iterdir() if entry.name.endswith(".yml"))
            texts = {name: (packaged / name).read_text("utf-8") for name in names}
        return cls(rule for name, text in texts.items() for rule in parse(name, text))


def parse(where: str, text: str) -> list[Rule]:
    """The rules of one file. `where`: its name, for errors."""
    try:
        documents = [document for document in yaml.safe_load_all(text) if document is not None]
        _check_keys(where, documents)
        collection = SigmaCollection.from_dicts(documents)
    except (yaml.YAMLError, SigmaError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ConfigError(f"detection rules in {where}: {error}") from None
    bases = {document["name"]: _Base(where, document) for document in documents if "detection" in document}
    correlations = [rule for rule in collection.rules if isinstance(rule, SigmaCorrelationRule)]
    digest = hashlib.sha256(text.encode()).digest()
    rules = [_rule(where, correlation, bases, digest) for correlation in correlations]
    used = {reference.reference for correlation in correlations for reference in correlation.rules or ()}
    for name in bases.keys() - used:
        raise ConfigError(f"detection rule {name} in {where}: no correlation uses it")
    return rules


def _check_keys(where: str, documents: Sequence[Any]) -> None:
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("name"), str):
            raise ConfigError(f"detection rules in {where}: a rule without a name")
        if not {"detection", "correlation"} & document.keys():
            raise ConfigError(f"detection rule {document['name']} in {where}: neither a detection nor a correlation")
        unknown = document.keys() - (_BASE_KEYS if "detection" in document else _CORRELATION_KEYS)
        if unknown:
            raise ConfigError(f"detection rule {document['name']} in {where}: unknown key {min(map(str, unknown))}")


class _Base:
    """A base rule, tried on its canary."""

    def __init__(self, where: str, document: Mapping[str, Any]) -> None:
        self.name = f"detection rule {document['name']} in {where}"
        source = document.get("logsource") or {}
        if source.get("product") != "sealtrail" or source.get("category") not in list(Category):
            raise ConfigError(f"{self.name}: logsource is product sealtrail, category one of {', '.join(Category)}")
        self.category = Category(source["category"])
        try:
            self.predicate = sigma.compile(document["detection"], fields_of(self.category))
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from None
        self.canary = document.get("canary")
        if not isinstance(self.canary, dict) or not self.predicate(self.canary):
            raise ConfigError(f"{self.name}: it has no canary, or does not match it")


def _rule(where: str, correlation: SigmaCorrelationRule, bases: Mapping[str, _Base], digest: bytes) -> Rule:
    name = f"detection rule {correlation.name} in {where}"
    condition = correlation.condition
    if correlation.type not in _TYPES:
        raise ConfigError(f"{name}: type is event_count or value_count; others are not evaluated here")
    if not isinstance(condition, SigmaCorrelationCondition) or condition.op not in _OPERATORS:
        raise ConfigError(f"{name}: the condition is gt or gte; what can become false again depends on order")
    if correlation.aliases.aliases:
        raise ConfigError(f"{name}: aliases are not supported")
    used = [bases.get(reference.reference) for reference in correlation.rules or ()]
    found = [base for base in used if base is not None]
    if not found or len(found) < len(used):
        raise ConfigError(f"{name}: it counts a rule that does not stand in this file")
    if len({base.category for base in found}) > 1:
        raise ConfigError(f"{name}: it counts rules of several categories")
    group_by = tuple(correlation.group_by or ())
    if group_by[:1] != ("tenant",):
        raise ConfigError(f"{name}: group-by begins with tenant")
    counts_values = _TYPES[correlation.type]
    value = condition.fieldref if counts_values else None
    if counts_values and not isinstance(value, str):
        raise ConfigError(f"{name}: value_count needs one field")
    threshold = condition.count + _OPERATORS[condition.op]
    if not 1 <= threshold <= MAX_THRESHOLD or not 1 <= correlation.timespan.seconds <= MAX_SPAN_S:
        raise ConfigError(f"{name}: at most {MAX_THRESHOLD} within {MAX_SPAN_S} s")
    level = str(correlation.level).lower() if correlation.level else "medium"
    rule = Rule(
        name=str(correlation.name),
        level=level,
        category=found[0].category,
        predicates=tuple(base.predicate for base in found),
        group_by=group_by,
        value=value if isinstance(value, str) else None,
        threshold=threshold,
        span_us=correlation.timespan.seconds * 1_000_000,
        digest=digest,
    )
    openly = _groupable(rule.category)
    for path in (*group_by, *([rule.value] if rule.value else [])):
        if path not in openly:
            raise ConfigError(f"{name}: {path} is no field to group by or count: unknown, or neither open nor hashed")
    for base in found:
        if not rule.groups(base.canary or {}):
            raise ConfigError(f"{name}: the canary of a rule that it counts lacks a field of the group, or the value")
    return rule


def _groupable(category: Category) -> frozenset[str]:
    if category is not Category.EVENT:
        return fields_of(category)
    leaves = field_tree(AUDIT_EVENT.text).leaves()
    return frozenset(
        leaf.path.replace("[]", "")
        for leaf in leaves
        if leaf.marks is not None and not leaf.marks.extension and leaf.marks.redact in (None, Redact.HASH)
    )
