"""Payloads of the real shapes in any number: other people, repositories, numbers, commits and times.

Deterministic: the same shapes, seed, count and tenants give the same payloads. Each shape is cut once into text between
what varies, and put together anew for each payload, so that what belongs together stays together: a login and its
number, a commit wherever it is named, times in their order. It is input for demonstrations and load; it tests no
mapping, for it knows no more shapes than it was given.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

Shape = tuple[str, Mapping[str, object]]  # the webhook's name and a payload
Generated = tuple[str, str, Mapping[str, object]]  # tenant, the webhook's name, payload

START_S = 1_767_225_600  # 2026-01-01T00:00:00Z: fixed, so that a seed gives the same payloads on any day
STEP_S = 1.7  # 20,000 payloads fill nine hours
PEOPLE, REPOSITORIES = 200, 40  # of a tenant: enough to tell apart, few enough to meet again
_SMALLEST_ID = 10_000  # below it, a number may be a count or a port

_SHA = r"(?<![0-9a-f])(?!0{40})[0-9a-f]{40}(?![0-9a-f])"
_TIME = r"(?<=\")\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)(?=\")"
_FIRST, _LAST, _THING, _KIND = (
    words.split()
    for words in (
        "ada ben cleo dan eva finn gita hugo ines jon kira leo mina nils olga paul rosa sven tara udo vera wim",
        "abel berg cruz diaz eder falk gram hahn jung kern lind mohr nord ott pohl quast roth sohn thal ulm voss",
        "billing gateway ledger portal router search signup sync tracker wallet",
        "api app docs infra",
    )
)


@dataclass(frozen=True, slots=True)
class _Template:
    """A shape cut up: `parts` with holes at `holes` [(position, token)], and what each token stands for."""

    hook: str
    parts: tuple[str, ...]
    holes: tuple[tuple[int, str], ...]
    accounts: tuple[tuple[str, str, bool], ...]  # login, number, whether an organisation
    repositories: tuple[tuple[str, str], ...]  # name, number
    numbers: tuple[str, ...]
    commits: tuple[str, ...]
    times: tuple[tuple[str, int, bool], ...]  # token, seconds since 1970, whether written as a number
    newest_s: int


@dataclass(frozen=True, slots=True)
class _Tenant:
    name: str
    organisation: tuple[str, str]
    people: tuple[tuple[str, str], ...]
    repositories: tuple[tuple[str, str], ...]


def shapes_of(index: object) -> list[Shape]:
    """The shapes of `@octokit/webhooks-examples`' index.json: [{name, examples: [payload …]} …]. Raises ValueError."""
    try:
        return [(entry["name"], payload) for entry in index for payload in entry["examples"]]  # type: ignore[attr-defined]
    except (TypeError, KeyError):
        raise ValueError("expected a list of {name, examples}") from None


def generated_payloads(
    shapes: Sequence[Shape],
    seed: int,
    count: int,
    tenants: Sequence[str] = ("acme", "globex", "initech"),
    *,
    start_s: float = START_S,
) -> Iterator[Generated]:
    """`count` payloads: for each a tenant and a shape by lot, every shape at least once when there are enough.

    `start_s`: when the first payload happened; each next one `STEP_S` later.
    """
    random = Random(f"sealtrail/{seed}")  # noqa: S311 - the same again for a seed is what is wanted
    templates = [_template(hook, payload) for hook, payload in shapes]
    homes = [_tenant(name, random) for name in tenants]
    order: list[_Template] = []
    for number in range(count):
        if not order:
            order = templates[:]
            random.shuffle(order)
        home = random.choice(homes)
        yield home.name, order[-1].hook, json.loads(_render(order.pop(), home, random, int(start_s + number * STEP_S)))


def _template(hook: str, payload: Mapping[str, object]) -> _Template:
    text = json.dumps(payload)
    accounts: dict[str, tuple[str, bool]] = {}
    repositories: dict[str, str] = {}
    numbers: set[str] = set()
    stamps: dict[str, int] = {}
    for found in _objects(payload):
        identifier = found.get("id")
        login, name = found.get("login"), found.get("name")
        if isinstance(login, str) and isinstance(identifier, int) and login != "github" and not login.endswith("[bot]"):
            accounts[login] = (str(identifier), found.get("type") == "Organization" or "members_url" in found)
        elif isinstance(name, str) and "full_name" in found and isinstance(identifier, int):
            repositories[name] = str(identifier)
        for key, value in found.items():
            if isinstance(value, int) and not isinstance(value, bool):
                if key.endswith("_at"):
                    stamps[str(value)] = value
                elif (key == "id" or key.endswith("_id")) and value >= _SMALLEST_ID:
                    numbers.add(str(value))
    repositories = {name: number for name, number in repositories.items() if name not in accounts}
    taken = {n for n, _ in accounts.values()} | set(repositories.values()) | set(stamps)
    numbers -= taken
    words = [*accounts, *repositories, *(n for n in taken if int(n) >= _SMALLEST_ID), *numbers]
    words.sort(key=len, reverse=True)
    exact = "|".join(map(re.escape, words)) or "(?!)"
    parts = re.split(rf"({_TIME}|{_SHA}|(?<![\w.-])(?:{exact})(?![\w-]))", text)
    tokens = dict.fromkeys(parts[1::2])
    times = [(t, _seconds(t), False) for t in tokens if re.fullmatch(_TIME.replace('(?<=\\")', "").replace('(?=\\")', ""), t)]
    times += [(t, s, True) for t, s in stamps.items()]
    return _Template(
        hook,
        tuple(parts),
        tuple((i, parts[i]) for i in range(1, len(parts), 2)),
        tuple((login, number, organisation) for login, (number, organisation) in accounts.items()),
        tuple(repositories.items()),
        tuple(sorted(numbers)),
        tuple(t for t in tokens if re.fullmatch("[0-9a-f]{40}", t)),
        tuple(times),
        max((s for _, s, _ in times), default=START_S),
    )


def _objects(node: object) -> Iterator[Mapping[str, object]]:
    if isinstance(node, Mapping):
        yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


def _seconds(written: str) -> int:
    moment = datetime.fromisoformat(written)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _tenant(name: str, random: Random) -> _Tenant:
    names = [f"{first}-{last}" for first in _FIRST for last in _LAST]
    things = [f"{thing}-{kind}" for thing in _THING for kind in _KIND]
    return _Tenant(
        name,
        (f"{name}-org", str(random.randrange(10**7, 10**8))),
        tuple((person, str(random.randrange(10**7, 10**8))) for person in random.sample(names, PEOPLE)),
        tuple((thing, str(random.randrange(10**8, 10**9))) for thing in random.sample(things, REPOSITORIES)),
    )


def _render(template: _Template, home: _Tenant, random: Random, now_s: int) -> str:
    new: dict[str, str] = {}
    pick = random.random
    for login, number, organisation in template.accounts:
        new[login], new[number] = home.organisation if organisation else home.people[int(pick() * PEOPLE)]
    for name, number in template.repositories:
        new[name], new[number] = home.repositories[int(pick() * REPOSITORIES)]
    for number in template.numbers:
        new[number] = str(_SMALLEST_ID + int(pick() * 10**10))
    for commit in template.commits:
        new[commit] = f"{random.getrandbits(160):040x}"
    shift = now_s - template.newest_s
    for written, seconds, as_number in template.times:
        moved = seconds + shift
        new[written] = str(moved) if as_number else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moved))
    parts = list(template.parts)
    for position, token in template.holes:
        parts[position] = new[token]
    return "".join(parts)
