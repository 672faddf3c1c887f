"""Members, organisations, teams: who may do what."""

from __future__ import annotations

from dataclasses import replace

from producers.github.facts import PERMISSIONS, ROLES, Change, Facts, Person, account, change, repository, team
from producers.github.payload import flag, need_number, need_text, number, text, time_us, value, word

_PRIVACY = frozenset({"secret", "closed", "open"})


def on_member(payload: object, action: str) -> Facts:
    """A repository's collaborator came, went, or got another permission."""
    before = _permission(payload, "changes", "old_permission", "from") or _permission(payload, "changes", "permission", "from")
    after = _permission(payload, "changes", "permission", "to")
    op = {"added": "ADD", "removed": "REMOVE"}.get(action, "REPLACE")
    found = replace(change("/permission", before, after), op=op)
    return replace(repository(payload), subject=account(payload, "member"), changes=(found,))


def _permission(payload: object, *path: str) -> str | None:
    return word(text(payload, *path), PERMISSIONS)


def on_membership(payload: object, action: str) -> Facts:
    """Somebody joined or left a team."""
    member = account(payload, "member")
    added = action == "added"
    found = change("/members", None if added else member.id, member.id if added else None)
    return replace(team(payload), subject=member, changes=(found,))


def on_organization(payload: object, action: str) -> Facts:
    """An organisation's member was invited, came or went; or it was renamed or deleted."""
    login = text(payload, "organization", "login")
    facts = Facts("organization", str(need_number(payload, "organization", "id")), login)
    if action == "renamed":
        return replace(facts, changes=(change("/login", need_text(payload, "changes", "login", "from"), login),))
    if action == "deleted":
        return facts
    invited = action == "member_invited"
    subject = _invited(payload) if invited else account(payload, "membership", "user")
    role = word(text(payload, *(("invitation",) if invited else ("membership",)), "role"), ROLES)
    removed = action == "member_removed"
    pending = invited or text(payload, "membership", "state") == "pending"
    return replace(
        facts,
        subject=subject,
        changes=(change("/role", role if removed else None, None if removed else role),),
        effect="ATTEMPTED" if pending and not removed else "EFFECTIVE",
        occurred_us=time_us(payload, "invitation", "created_at"),
    )


def _invited(payload: object) -> Person:
    """Whoever was invited: an account, or an e-mail address that has none yet."""
    if number(payload, "user", "id") is not None:
        return account(payload, "user")
    address = need_text(payload, "invitation", "email")
    return Person(address, address)


def on_org_block(payload: object, action: str) -> Facts:
    """An organisation blocked somebody, or let them in again."""
    blocked = action == "blocked"
    return Facts(
        "organization",
        str(need_number(payload, "organization", "id")),
        text(payload, "organization", "login"),
        subject=account(payload, "blocked_user"),
        changes=(change("/state", None if blocked else "blocked", "blocked" if blocked else None),),
    )


def on_team(payload: object, action: str) -> Facts:
    """A team was made, changed, deleted, or given or denied a repository."""
    permission = _permission(payload, "team", "permission")
    privacy = word(text(payload, "team", "privacy"), _PRIVACY)
    if action in ("added_to_repository", "removed_from_repository"):
        return _team_access(payload, "ADD" if action.startswith("added") else "REMOVE", permission)
    pairs = {
        "created": ((None, privacy), (None, permission)),
        "deleted": ((privacy, None), (permission, None)),
        "edited": (
            (word(text(payload, "changes", "privacy", "from"), _PRIVACY), privacy),
            (_old_access(payload), permission),
        ),
    }[action]
    found = [change(path, *pair) for path, pair in zip(("/privacy", "/permission"), pairs, strict=True)]
    if action == "edited":
        found = [c for c in found if c.before is not None]
        for key in ("name", "description"):
            if value(payload, "changes", key) is not None:
                found.append(change(f"/{key}", text(payload, "changes", key, "from") or "", text(payload, "team", key)))
    return replace(team(payload), changes=tuple(found))


def _old_access(payload: object) -> str | None:
    """The permission before: the highest of the switches that GitHub names."""
    before = ("changes", "repository", "permissions", "from")
    return next((level for level in ("admin", "push", "pull") if flag(payload, *before, level)), None)


def _team_access(payload: object, op: str, permission: str | None) -> Facts:
    identifier = need_number(payload, "repository", "id")
    level = change("/permission", None if op == "ADD" else permission, permission if op == "ADD" else None)
    return replace(team(payload), changes=(Change(op, f"/repositories/{identifier}"), replace(level, op=op)))


def on_team_add(payload: object, _: str) -> Facts:
    """A team was given a repository (the older webhook)."""
    return _team_access(payload, "ADD", _permission(payload, "team", "permission"))
