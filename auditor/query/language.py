"""The language of `sealtrail search`: `field:value`, words, `-` for not; all of it must hold.

    tenant:acme event:github.member* actor:u-17 outcome:DENIED,FAILURE after:2026-11-01 -class:operational "chg 7"

A comma separates values of which one must hold; quotes keep blanks, commas and colons; `*` at the end of a value means "begins
with", where the field allows it. There is no other operator, so there is nothing to escape and nothing to inject.

Not here: what the fields are (`fields`), what is asked of OpenSearch (`build`).
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from lark import Lark, Token, Tree, UnexpectedInput, UnexpectedToken

from auditor.query.fields import FIELDS
from sealtrail.errors import ContractError

MAX_QUERY = 4096  # characters
MAX_TERMS = 64

_GRAMMAR = r"""
start: term*
term: NOT? (FIELD COLON _values | word)
_values: value ("," value)*
value: QUOTED | BARE
word: QUOTED | WORD
NOT: "-"
COLON: ":"
FIELD.2: /[A-Za-z][A-Za-z_.]*(?=:)/
QUOTED: /"[^"\n]*"/
BARE: /[^\s",]+/
WORD: /[^\s",:-][^\s",:]*/
%ignore /\s+/
"""


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: a field and values of which one must hold; field None: words, all of which must be there."""

    field: str | None
    values: tuple[str, ...]
    negated: bool


def parse(text: str) -> tuple[Term, ...]:
    """The terms of a query, in order. Raises ContractError that points at the mistake."""
    if len(text) > MAX_QUERY:
        raise ContractError("query", f"{len(text)} characters; at most {MAX_QUERY}")
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        ended = isinstance(error, UnexpectedToken) and error.token.type == "$END"
        at = len(text) if ended or error.pos_in_stream is None else error.pos_in_stream
        raise ContractError("query", f"not understood at character {at + 1}\n  {text}\n  {' ' * at}^") from None
    terms = tuple(_term(child, text) for child in tree.children if isinstance(child, Tree))
    if len(terms) > MAX_TERMS:
        raise ContractError("query", f"{len(terms)} terms; at most {MAX_TERMS}")
    return terms


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual")


def _term(tree: Tree[Token], text: str) -> Term:
    negated, field, values = False, None, []
    for child in tree.children:
        if isinstance(child, Tree):
            values.append(_unquoted(child.children[0]))
        elif child.type == "NOT":
            negated = True
        elif child.type == "FIELD":
            field = child.lower()
            if field not in FIELDS:
                raise ContractError("query", _unknown(field, child.start_pos or 0, text))
    return Term(field, tuple(values), negated)


def _unquoted(token: Token | Tree[Token]) -> str:
    return str(token).strip('"')


def _unknown(field: str, at: int, text: str) -> str:
    near = get_close_matches(field, FIELDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(FIELDS)}"
    return f"no field {field!r}; {hint}\n  {text}\n  {' ' * at}^"
