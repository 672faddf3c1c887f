"""The Sigma `detection` section, evaluated over one event: the one evaluator of classification and detection.

    compile({"selection": {"actor.kind": "USER", "event_name|startswith": "github."}, "condition": "selection"})

pySigma parses; the evaluation is ours. Meaning, after the Sigma specification 2.1 where it is definite:

- A field is a dotted path; a list on the way means any of its items: `changes.path`.
- Text compares without case, `*` and `?` are wildcards, `cased` makes it exact. A number or boolean of the event meets
  a text by its usual spelling (`5`, `true`), bytes by lower-case hex.
- A list of values means any of them; with `all`, each of them (each by some item, if the field is a list).
- `null` matches a field that is null, missing or an empty list; `exists: true` is its opposite.
- `re` searches anywhere in the text, by RE2: linear time, no look-around, no reference.

A modifier, condition or value that is not listed in MODIFIERS or above is a ConfigError, and so is a selection that the
condition names and nobody wrote: a rule that can never match is worse than none.

Not here: correlations over several events, and which events come here.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import re2
from pyparsing import ParseBaseException
from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionItem,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.exceptions import SigmaError
from sigma.rule import SigmaDetections
from sigma.types import (
    CompareOperators,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SpecialChars,
)

from sealtrail.errors import ConfigError

FLAGS = frozenset(["i", "ignorecase", "m", "multiline", "s", "dotall"])  # of `re`
MODIFIERS = FLAGS | frozenset(
    ["all", "cased", "cidr", "contains", "endswith", "exists", "gt", "gte", "lt", "lte", "neq", "re", "startswith"]
)

_Matches = Callable[[Mapping[str, object]], bool]
_Value = Callable[[object], bool]
_Values = Callable[[Mapping[str, object]], tuple[object, ...]]
_COMPARE: Mapping[CompareOperators, Callable[[Any, Any], bool]] = {
    CompareOperators.LT: operator.lt,
    CompareOperators.LTE: operator.le,
    CompareOperators.GT: operator.gt,
    CompareOperators.GTE: operator.ge,
}
_FLAGS = {
    SigmaRegularExpressionFlag.IGNORECASE: "i",
    SigmaRegularExpressionFlag.MULTILINE: "m",
    SigmaRegularExpressionFlag.DOTALL: "s",
}


@dataclass(frozen=True, slots=True)
class Predicate:
    """A compiled detection. Callable: an event to whether it matches. Any thread may call.

    Attributes:
        fields: the paths that it reads; it depends on nothing else.
    """

    matches: _Matches
    fields: frozenset[str]

    def __call__(self, event: Mapping[str, object]) -> bool:
        return self.matches(event)


def compile(detection: Mapping[str, object], known: Iterable[str] | None = None) -> Predicate:  # noqa: A001
    """The predicate of a `detection` section: named selections and one `condition`.

    Args:
        detection: as parsed from YAML or TOML.
        known: the field paths that exist, without `[]`; a rule that names another is refused. None admits any.

    Raises:
        ConfigError: malformed, unsupported, or it names an unknown field. Says what, in the rule's own words.
    """
    admitted = None if known is None else frozenset(known)
    fields: set[str] = set()
    for name, definition in detection.items():
        if name != "condition":
            _collect(name, definition, fields)
    unknown = sorted(fields - admitted) if admitted is not None else []
    if unknown:
        raise ConfigError(f"Sigma rule: unknown field {', '.join(unknown)}")
    condition = detection.get("condition")
    if not isinstance(condition, str):
        raise ConfigError("Sigma rule: expected exactly one condition")
    try:
        parsed = SigmaDetections.from_dict(dict(detection)).parsed_condition[0].parsed
    except (SigmaError, ParseBaseException, RecursionError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"Sigma rule: {error}") from error
    return Predicate(_condition(parsed), frozenset(fields))


def values_at(path: str) -> _Values:
    """The getter of a dotted path: every value there that is not null, through mappings and lists."""
    head, *rest = path.split(".")
    if not rest:
        return lambda event: _flat(event.get(head))

    def values(event: Mapping[str, object]) -> tuple[object, ...]:
        found: tuple[object, ...] = _flat(event.get(head))
        for part in rest:
            found = tuple(v for item in found if isinstance(item, Mapping) for v in _flat(item.get(part)))
        return found

    return values


def _flat(value: object) -> tuple[object, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(item for item in value if item is not None)
    return () if value is None else (value,)


def _collect(name: str, definition: object, fields: set[str]) -> None:
    """Add the fields of one selection; refuse what the evaluator does not know."""
    if isinstance(definition, list) and definition and all(isinstance(item, Mapping) for item in definition):
        for item in definition:
            _collect(name, item, fields)
        return
    if not isinstance(definition, Mapping) or not definition:
        raise ConfigError(f"Sigma rule: selection {name} is not fields with values (keywords are not supported)")
    for key in definition:
        field, *modifiers = str(key).split("|")
        if not field:
            raise ConfigError(f"Sigma rule: selection {name} has a value without a field")
        unsupported = sorted(set(modifiers) - MODIFIERS)
        if unsupported:
            raise ConfigError(f"Sigma rule: selection {name}: unsupported modifier {', '.join(unsupported)}")
        if definition[key] == []:
            raise ConfigError(f"Sigma rule: selection {name}: no values for {field}")
        fields.add(field)


def _condition(node: object) -> _Matches:
    if isinstance(node, ConditionFieldEqualsValueExpression):
        return _field(node)
    if isinstance(node, ConditionItem):
        parts = [_condition(part) for part in node.args]
        if isinstance(node, ConditionNOT):
            return _negation(parts[0])
        if parts and isinstance(node, ConditionAND):
            return _conjunction(parts)
        if parts and isinstance(node, ConditionOR):
            return _disjunction(parts)
    if isinstance(node, ConditionValueExpression):
        raise ConfigError("Sigma rule: keywords without a field are not supported")
    raise ConfigError("Sigma rule: the condition speaks of selections that nobody wrote")


def _negation(part: _Matches) -> _Matches:
    return lambda event: not part(event)


def _conjunction(parts: list[_Matches]) -> _Matches:
    if len(parts) == 2:
        first, second = parts
        return lambda event: first(event) and second(event)
    return lambda event: all(part(event) for part in parts)


def _disjunction(parts: list[_Matches]) -> _Matches:
    return lambda event: any(part(event) for part in parts)


def _field(node: ConditionFieldEqualsValueExpression) -> _Matches:
    values = values_at(node.field)
    if isinstance(node.value, SigmaNull):
        return lambda event: not values(event)
    if isinstance(node.value, SigmaExists):
        wanted = bool(node.value)
        return lambda event: bool(values(event)) is wanted
    test = _value(node.value)

    def matches(event: Mapping[str, object]) -> bool:
        return any(test(value) for value in values(event))

    return matches


def _value(expected: object) -> _Value:
    """The test of one value of the event against one value of the rule."""
    if isinstance(expected, SigmaString):
        return _text(expected)
    if isinstance(expected, SigmaBool):
        boolean = expected.boolean
        return lambda value: value is boolean
    if isinstance(expected, SigmaNumber) and not isinstance(expected, SigmaTimestampPart):
        number = expected.number
        return lambda value: _is_number(value) and value == number
    if isinstance(expected, SigmaCompareExpression) and expected.op in _COMPARE:
        compare, bound = _COMPARE[expected.op], expected.number.number
        return lambda value: _is_number(value) and compare(value, bound)
    if isinstance(expected, SigmaRegularExpression):
        return _expression(expected)
    if isinstance(expected, SigmaCIDRExpression):
        return _network(expected)
    raise ConfigError(f"Sigma rule: unsupported value of type {type(expected).__name__}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _spelling(value: object) -> str | None:
    """How a value of the event reads as text; None if it is a record."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value.hex() if isinstance(value, bytes) else None


def _text(expected: SigmaString) -> _Value:
    cased = isinstance(expected, SigmaCasedString)
    parts: list[str | SpecialChars] = []
    for part in expected.s:
        if not isinstance(part, (str, SpecialChars)):
            raise ConfigError("Sigma rule: placeholders are not supported")
        parts.append(part if cased or not isinstance(part, str) else part.casefold())
    match = _pattern(parts)

    def test(value: object) -> bool:
        text = _spelling(value)
        return text is not None and match(text if cased else text.casefold())

    return test


def _pattern(parts: list[str | SpecialChars]) -> Callable[[str], bool]:
    """The test of a whole text: the common shapes by `str` methods, any other by RE2."""
    many = SpecialChars.WILDCARD_MULTI
    if not parts:
        return lambda text: not text
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == 1:
        only = texts[0]
        if parts == [only]:
            return lambda text: text == only
        if parts == [only, many]:
            return lambda text: text.startswith(only)
        if parts == [many, only]:
            return lambda text: text.endswith(only)
        if parts == [many, only, many]:
            return lambda text: only in text
    expression = "".join(re2.escape(part) if isinstance(part, str) else ".*" if part is many else "." for part in parts)
    fullmatch = _re2(f"(?s){expression}").fullmatch
    return lambda text: fullmatch(text) is not None


def _expression(expected: SigmaRegularExpression) -> _Value:
    flags = "".join(sorted(_FLAGS[flag] for flag in expected.flags))
    search = _re2((f"(?{flags})" if flags else "") + str(expected.regexp)).search

    def test(value: object) -> bool:
        text = _spelling(value)
        return text is not None and search(text) is not None

    return test


def _re2(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ConfigError("Sigma rule: a regular expression that RE2 does not accept") from error


def _network(expected: SigmaCIDRExpression) -> _Value:
    network = expected.network

    def test(value: object) -> bool:
        if not isinstance(value, str):
            return False
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:  # not an address: a hash, a name
            return False

    return test
