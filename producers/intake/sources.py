"""Who may speak through the intake: the file that the setting `intake_tokens` names.

    [sources.crm]
    tenants = ["acme"]                      # whose events it may state
    tokens = ["<SHA-256, 64 hex>"]          # of its bearer tokens; two while one is replaced

    [sources.github]
    tenants = ["acme"]
    [sources.github.webhooks]
    acme = ["github-acme.secret"]           # tenant → files with a webhook's secret, beside this one

A token is random, so its plain digest tells nothing; no token is stored. Every comparison takes the same time whoever asks.
Read once, when the process starts.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sealtrail.errors import ConfigError

SETTING = "intake_tokens"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"sha256=([0-9a-f]{64})")
_SHORTEST = 16  # bytes of a webhook's secret: what can be guessed signs for everybody
_NOBODY = bytes(32)


@dataclass(frozen=True, slots=True)
class Source:
    """One source: its tenants, SHA-256 of its tokens, and its webhooks' secrets by tenant."""

    name: str
    tenants: frozenset[str]
    tokens: tuple[bytes, ...] = ()
    webhooks: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict, repr=False)


class Sources:
    """All sources of one intake. Any thread may call."""

    def __init__(self, sources: tuple[Source, ...]) -> None:
        self._all = sources
        self._hooks = {tenant: (source, secrets) for source in sources for tenant, secrets in source.webhooks.items()}

    @property
    def all(self) -> tuple[Source, ...]:
        """Every source, in the file's order."""
        return self._all

    def of_token(self, authorization: str) -> Source | None:
        """Whose token a header `Authorization` bears."""
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for source in self._all:
            for known in source.tokens:
                if hmac.compare_digest(known, digest):
                    found = source
        return found if scheme.lower() == "bearer" else None

    def of_signature(self, tenant: str, body: bytes, header: str) -> Source | None:
        """Whose webhook of this tenant signed the body: header `X-Hub-Signature-256`."""
        matched = _SIGNATURE.fullmatch(header)
        stated = bytes.fromhex(matched[1]) if matched else _NOBODY
        source, secrets = self._hooks.get(tenant, (None, (_NOBODY,)))
        good = False
        for secret in secrets:
            good |= hmac.compare_digest(hmac.digest(secret, body, "sha256"), stated)
        return source if good and matched else None


def is_signature(header: str) -> bool:
    """Whether a header has the shape of a signature; whose and of what, `of_signature` says."""
    return _SIGNATURE.fullmatch(header) is not None


def load_sources(path: Path) -> Sources:
    """Raises ConfigError, naming the file and the place in it, never a token or secret."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"setting {SETTING}: cannot read {path}: {error.strerror}") from None
    except ValueError:  # its message may quote a line
        raise ConfigError(f"setting {SETTING}: {path} is not TOML") from None
    tables = document.get("sources")
    if document.keys() != {"sources"} or not isinstance(tables, dict) or not tables:
        raise ConfigError(f"setting {SETTING}: {path}: expected tables [sources.<name>], and nothing else")
    sources = tuple(_source(name, table, path) for name, table in tables.items())
    tokens = [token for source in sources for token in source.tokens]
    if len(set(tokens)) != len(tokens):
        raise ConfigError(f"setting {SETTING}: {path}: a token stands twice")
    hooks = [tenant for source in sources for tenant in source.webhooks]
    if len(set(hooks)) != len(hooks):
        raise ConfigError(f"setting {SETTING}: {path}: two sources have webhooks of one tenant")
    return Sources(sources)


def _source(name: str, table: object, path: Path) -> Source:
    where = f"setting {SETTING}: {path}: sources.{name}"
    if not isinstance(table, dict) or table.keys() - {"tenants", "tokens", "webhooks"}:
        raise ConfigError(f"{where}: expected tenants, tokens and webhooks, and nothing else")
    tenants = frozenset(_texts(table.get("tenants"), f"{where}.tenants"))
    tokens = _texts(table.get("tokens", []), f"{where}.tokens")
    webhooks = table.get("webhooks", {})
    if not tenants or any(tenant.startswith("@") for tenant in tenants):
        raise ConfigError(f"{where}.tenants: expected at least one tenant, and not the deployment itself")
    if any(_DIGEST.fullmatch(token) is None for token in tokens):
        raise ConfigError(f"{where}.tokens: expected SHA-256 digests, 64 hexadecimal digits in lower case")
    if not isinstance(webhooks, dict) or webhooks.keys() - tenants:
        raise ConfigError(f"{where}.webhooks: expected files by tenant, each one of the source's")
    if not tokens and not webhooks:
        raise ConfigError(f"{where}: neither tokens nor webhooks, so nobody could speak for it")
    secrets = {
        tenant: tuple(_secret(path.parent / file, f"{where}.webhooks") for file in _texts(files, f"{where}.webhooks"))
        for tenant, files in webhooks.items()
    }
    return Source(name, tenants, tuple(bytes.fromhex(token) for token in tokens), secrets)


def _texts(found: object, where: str) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ConfigError(f"{where}: expected a list of texts")
    return found


def _secret(path: Path, where: str) -> bytes:
    try:
        secret = path.read_bytes().removesuffix(b"\n")
    except OSError as error:
        raise ConfigError(f"{where}: cannot read {path}: {error.strerror}") from None
    if len(secret) < _SHORTEST:
        raise ConfigError(f"{where}: {path} holds {len(secret)} bytes; at least {_SHORTEST}")
    return secret
