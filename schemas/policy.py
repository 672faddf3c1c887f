"""The class policy: an event's class, how long it is kept, whether its seal is signed, where it goes (CON-5, RET-1).

    policy = Policy.load()
    policy.decide(event).log_class

The class follows from the event's facts by the policy's rules, never from a wish of its sender: the first rule that
matches decides, else `[default]`. Retention is looked up from the narrowest to the widest: the tenant's in this region,
the tenant's, the region's, the class's. All of it is a function of the files' bytes and the event, so it can be
computed again years later: the archive keeps the files, a seal's content names them by their combined hash
SHA-256(SHA-256(base) || SHA-256(tenant's file), or 32 zero bytes).

Not here: the files' shape (`schemas.policyfile`), evaluation of rules (`schemas.sigma`), who reads what (console).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType

from schemas import sigma
from schemas.fields import Redact, field_tree
from schemas.policyfile import CLASSES, BaseFile, Reader, Retention, Routing, TenantFile, parse
from schemas.registry import AUDIT_EVENT
from schemas.sigma import Predicate, values_at
from sealtrail.errors import ConfigError
from sealtrail.seal import DEPLOYMENT_TENANT, ZERO_DIGEST, LogClass, Route

DAY_MS = 86_400_000
_DAY_US = DAY_MS * 1000
_EMITTER = "emitter."
_CACHE_SIZE = 4096  # decisions; a deployment has some tens of event names by tens of tenants
Roles = tuple[tuple[str, tuple[str, ...]], ...]
"""Roles, each with purposes."""
_ROUTES = {"archive": Route.ARCHIVE, "hot": Route.HOT, "siem": Route.SIEM}


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one event.

    Attributes:
        rule: the name of the rule that matched, or `default`.
        retain_ms: how long the archive keeps it, from the moment of sealing; see `retain_until`.
        policy: the combined hash, 32 bytes.
    """

    rule: str
    log_class: LogClass
    sign: bool
    routes: Route
    retain_ms: int
    hot_days: int
    policy: bytes


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """What the policy says of one class, before any tenant's or region's deviation.

    Attributes:
        readers: (role, purposes) that may read it.
        revealers: (role, purposes) that may also see in clear what is tokenised in it.
    """

    owner: str
    archive_days: int
    hot_days: int
    lock_mode: str
    readers: Roles
    revealers: Roles
    export: str
    review_days: int
    responsible: str | None = None
    consulted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    matches: Predicate | None
    log_class: LogClass
    sign: bool
    routes: Route


def retain_until(sealed_at_us: int, retain_ms: int) -> int:
    """The moment, in ms since 1970, until which a record is kept: rounded up to a UTC midnight.

    Args:
        sealed_at_us: microseconds since 1970.
    """
    return -(-(sealed_at_us + retain_ms * 1000) // _DAY_US) * DAY_MS


class Policy:
    """One state of the policy's files. Any thread may call.

    Attributes:
        texts: SHA-256 in hex to the text of each file, as the archive keeps it under `policies/`.
        combined: combined hash to (hash of base, hash of the tenant's file or zeros), for every tenant that deviates
            and for all others.
        fields_read: the paths, without `[]`, of the fields that its rules read.
        classes: by class.
        longest_ms: the longest time that anything is kept.
    """

    def __init__(self, base: str, tenants: Mapping[str, str]) -> None:
        self._base = parse(BaseFile, base, "base.toml")
        self._tenants = {name: parse(TenantFile, text, f"tenants/{name}.toml") for name, text in tenants.items()}
        for name, file in self._tenants.items():
            if file.tenant != name:
                raise ConfigError(f"policy tenants/{name}.toml: tenant: not the file's name")
        self._hash(base, tenants)
        self._rules = _rules(self._base)
        self.fields_read = frozenset(_fields_read(self._rules))
        self._getters = [values_at(path) for path in sorted(self.fields_read - {"tenant", "region"})]
        self._decisions: dict[tuple[object, ...], Decision] = {}
        self._entitlements = {name: _Entitlement(s.tenants, s.events) for name, s in self._base.sources.items()}
        self.classes: Mapping[LogClass, ClassPolicy] = MappingProxyType(_classes(self._base))
        self.longest_ms = max(r.archive_days for r in self._retentions()) * DAY_MS

    @classmethod
    def load(cls, directory: Path | None = None) -> Policy:
        """The policy in a folder: `base.toml` and `tenants/*.toml`; None: the one that ships with the package.

        Raises:
            ConfigError: names the file, and the key that is unknown, missing or wrong.
        """
        folder: Traversable = resources.files("schemas") / "policy" if directory is None else directory
        tenants = folder / "tenants"
        files = [f for f in tenants.iterdir() if f.name.endswith(".toml")] if tenants.is_dir() else []
        return cls(_text(folder / "base.toml"), {f.name.removesuffix(".toml"): _text(f) for f in files})

    def decide(self, event: Mapping[str, object]) -> Decision:
        """What holds for a well-formed event. Remembered by the fields that the rules read; bounded."""
        key = (event["tenant"], event["region"], *[getter(event) for getter in self._getters])
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= _CACHE_SIZE:
                self._decisions.clear()
            decision = self._decisions[key] = self._decide(event)
        return decision

    def notes(self) -> tuple[int, bytes]:
        """For seals that are not events: how long they are kept, in ms, and the combined hash with no tenant's file."""
        return self.longest_ms, self._hashes[""]

    def lock_mode(self, log_class: LogClass) -> str:
        """The archive's lock mode of a class; of notes (NONE), COMPLIANCE."""
        return "COMPLIANCE" if log_class is LogClass.NONE else self.classes[log_class].lock_mode

    def readers(self, log_class: LogClass, tenant: str) -> Roles:
        """(role, purposes) that may read a tenant's events of a class: the class's own, then those the tenant adds."""
        return self.classes[log_class].readers + _readers(self._added(log_class, tenant))

    def revealers(self, log_class: LogClass, tenant: str) -> Roles:
        """As `readers`, of those that may also see in clear what is tokenised in such events."""
        return self.classes[log_class].revealers + _revealers(self._added(log_class, tenant))

    def _added(self, log_class: LogClass, tenant: str) -> list[Reader]:
        file = self._tenants.get(tenant)
        return [] if file is None else [r for name, rs in file.readers.items() if name == log_class.lower() for r in rs]

    def entitled(self, source: str, tenant: str, event_name: str) -> bool:
        """Whether a source of `[sources]` may state such an event; emitter.* is all sources', for @deployment alone."""
        entitlement = self._entitlements.get(source)
        if entitlement is None:
            return False
        if event_name.startswith(_EMITTER):  # which `[sources]` cannot name: see Source
            return tenant == DEPLOYMENT_TENANT
        return entitlement.covers(tenant, event_name)

    def owner_of(self, source: str) -> str:
        """Who answers for a source: its own owner, else that of the default class."""
        known = self._base.sources.get(source)
        return (known.owner if known else None) or self._base.classes[self._base.default.log_class].owner

    def _decide(self, event: Mapping[str, object]) -> Decision:
        rule = next(rule for rule in self._rules if rule.matches is None or rule.matches(event))
        tenant = str(event["tenant"])
        retention = self._retention(rule.log_class, tenant, str(event["region"]))
        return Decision(
            rule=rule.name,
            log_class=rule.log_class,
            sign=rule.sign,
            routes=rule.routes,
            retain_ms=retention.archive_days * DAY_MS,
            hot_days=retention.hot_days,
            policy=self._hashes.get(tenant, self._hashes[""]),
        )

    def _retention(self, log_class: LogClass, tenant: str, region: str) -> Retention:
        file = self._tenants.get(tenant)
        base = self._base
        tables = [file.regions[region].retention] if file is not None and region in file.regions else []
        tables += [file.retention] if file is not None else []
        tables += [base.regions[region].retention] if region in base.regions else []
        name = next(c for c in CLASSES if c == log_class.lower())
        return next((table[name] for table in tables if name in table), base.classes[name].retention)

    def _retentions(self) -> list[Retention]:
        """Every retention that some event can get."""
        found = [table.retention for table in self._base.classes.values()]
        files: list[BaseFile | TenantFile] = [self._base, *self._tenants.values()]
        for file in files:
            found += [r for region in file.regions.values() for r in region.retention.values()]
        for tenant in self._tenants.values():
            found += tenant.retention.values()
        return found

    def _hash(self, base: str, tenants: Mapping[str, str]) -> None:
        digests = {name: hashlib.sha256(text.encode()) for name, text in tenants.items()}
        first = hashlib.sha256(base.encode())
        self.texts: Mapping[str, str] = MappingProxyType(
            {first.hexdigest(): base, **{digests[name].hexdigest(): text for name, text in tenants.items()}}
        )
        pairs = {"": ZERO_DIGEST, **{name: digest.digest() for name, digest in digests.items()}}
        self._hashes = {name: hashlib.sha256(first.digest() + second).digest() for name, second in pairs.items()}
        self.combined: Mapping[bytes, tuple[bytes, bytes]] = MappingProxyType(
            {self._hashes[name]: (first.digest(), second) for name, second in pairs.items()}
        )


class _Entitlement:
    """What one source may state of other tenants than the deployment."""

    __slots__ = ("_names", "_starts", "_tenants")

    def __init__(self, tenants: list[str], events: list[str]) -> None:
        self._tenants = frozenset(tenants)
        self._names = frozenset(e for e in events if not e.endswith(".*"))
        self._starts = tuple(e.removesuffix("*") for e in events if e.endswith(".*"))

    def covers(self, tenant: str, event_name: str) -> bool:
        return tenant in self._tenants and (event_name in self._names or event_name.startswith(self._starts))


def in_words(roles: Roles) -> str:
    """`auditor (audit); operator (operations, support)`, or `nobody`."""
    return "; ".join(f"{role} ({', '.join(purposes)})" for role, purposes in roles) or "nobody"


def _rules(base: BaseFile) -> tuple[_Rule, ...]:
    known = event_fields()
    rules = []
    for rule in base.rules:
        try:
            matches = sigma.compile(rule.detection, known)
        except ConfigError as error:
            raise ConfigError(f"policy base.toml: rules.{rule.name}: {error}") from error
        rules.append(_rule(rule.name, matches, rule))
    return (*rules, _rule("default", None, base.default))


def _rule(name: str, matches: Predicate | None, routing: Routing) -> _Rule:
    routes = Route(0)
    for route in routing.routes:
        routes |= _ROUTES[route]
    return _Rule(name, matches, LogClass(routing.log_class.upper()), routing.sign, routes)


def _fields_read(rules: tuple[_Rule, ...]) -> set[str]:
    return {field for rule in rules if rule.matches is not None for field in rule.matches.fields}


@cache
def event_fields() -> frozenset[str]:
    """The path, without `[]`, of every leaf that a rule may read: no extension's payload, nothing omitted or tokenised."""
    return frozenset(
        leaf.path.replace("[]", "")
        for leaf in field_tree(AUDIT_EVENT.text).leaves()
        if leaf.marks is not None and not leaf.marks.extension and leaf.marks.redact not in (Redact.OMIT, Redact.TOKENIZE)
    )


def _classes(base: BaseFile) -> dict[LogClass, ClassPolicy]:
    return {
        LogClass(name.upper()): ClassPolicy(
            owner=table.owner,
            archive_days=table.retention.archive_days,
            hot_days=table.retention.hot_days,
            lock_mode=table.lock_mode,
            readers=_readers(table.readers),
            revealers=_revealers(table.readers),
            export=table.export,
            review_days=table.review_days,
            responsible=table.responsible,
            consulted=tuple(table.consulted),
        )
        for name, table in base.classes.items()
    }


def _readers(readers: list[Reader]) -> Roles:
    return tuple((reader.role, tuple(reader.purposes)) for reader in readers)


def _revealers(readers: list[Reader]) -> Roles:
    return tuple((reader.role, tuple(reader.reveal)) for reader in readers if reader.reveal)


def _text(file: Traversable) -> str:
    """The file's exact text: its SHA-256 is that of the bytes."""
    try:
        return file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy: cannot read {file}: {type(error).__name__}") from None
