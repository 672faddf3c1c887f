"""Installed apps, authorisations given to them, and webhooks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from producers.github.facts import Change, Facts, Setting, account, change
from producers.github.payload import MalformedError, items, need_number, text, value, word

_ACCESS = frozenset({"read", "write", "admin", "none"})
_PERMISSION_NAME = re.compile(r"[a-z_]{1,64}")


def on_installation(payload: object, action: str) -> Facts:
    """An app was installed, removed, suspended, or given permissions."""
    facts = _installed(payload)
    if action in ("suspend", "unsuspend"):
        states = ("active", "suspended") if action == "suspend" else ("suspended", "active")
        return replace(facts, changes=(change("/state", *states),))
    removed = action == "deleted"
    granted = value(payload, "installation", "permissions") or {}
    if not isinstance(granted, Mapping):
        raise MalformedError(("installation", "permissions"), "an object")
    found = []
    for name in sorted(k for k in granted if isinstance(k, str) and _PERMISSION_NAME.fullmatch(k)):
        access = word(text(granted, name), _ACCESS)
        found.append(Setting(name, access if removed else None, None if removed else access))
    enabled = change("/enabled", True if removed else None, None if removed else True)
    return replace(facts, changes=(enabled,), settings=tuple(found[:64]))


def on_installation_repositories(payload: object, action: str) -> Facts:
    """An installed app was given or denied repositories."""
    listed = items(payload, "repositories_added" if action == "added" else "repositories_removed")
    op = "ADD" if action == "added" else "REMOVE"
    found = tuple(Change(op, f"/repositories/{need_number(item, 'id')}") for item in listed[:1000])
    return replace(_installed(payload), changes=found)


def _installed(payload: object) -> Facts:
    return Facts(
        "installation",
        str(need_number(payload, "installation", "id")),
        text(payload, "installation", "account", "login"),
    )


def on_app_authorization(payload: object, _: str) -> Facts:
    """Somebody revoked what they had authorised an app to do."""
    return Facts("app_authorization", "account", subject=account(payload, "sender"), changes=(change("/enabled", True, None),))


def on_meta(payload: object, _: str) -> Facts:
    """A webhook was deleted: from here on, its events stay away."""
    return Facts("webhook", str(need_number(payload, "hook_id")), changes=(change("/enabled", True, None),))
