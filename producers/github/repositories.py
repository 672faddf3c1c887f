"""Repositories, the rules that protect their branches, and their deploy keys."""

from __future__ import annotations

from dataclasses import replace

from producers.github.facts import Change, Facts, Setting, change, repository
from producers.github.payload import flag, need_number, need_text, number, text, time_us, value, word

_LEVELS = frozenset({"off", "non_admins", "everyone"})
_VISIBILITY = frozenset({"public", "private", "internal"})
_EDITABLE = ("description", "default_branch", "homepage", "topics")
_PROTECTION = tuple(
    """
    admin_enforced allow_deletions_enforcement_level allow_force_pushes_enforcement_level authorized_actors_only
    authorized_dismissal_actors_only create_protected dismiss_stale_reviews_on_push
    ignore_approvals_from_contributors linear_history_requirement_enforcement_level lock_allows_fork_sync
    lock_branch_enforcement_level merge_queue_enforcement_level pull_request_reviews_enforcement_level
    require_code_owner_review require_last_push_approval required_approving_review_count
    required_conversation_resolution_level required_deployments_enforcement_level
    required_status_checks_enforcement_level signature_requirement_enforcement_level
    strict_required_status_checks_policy
    """.split()  # noqa: SIM905 - a list of words reads as words
)
_PROTECTION_NAMES = ("authorized_actor_names", "required_status_checks", "name")  # edited too, but not in clear


def on_repository(payload: object, action: str) -> Facts:
    """A repository was made, deleted, shown, hidden, renamed, moved, archived or edited."""
    facts = repository(payload)
    return replace(facts, changes=_repository_changes(payload, action))


def _repository_changes(payload: object, action: str) -> tuple[Change, ...]:
    match action:
        case "publicized":
            return (change("/visibility", "private", "public"),)
        case "privatized":
            return (change("/visibility", "public", "private"),)
        case "archived" | "unarchived":
            return (change("/archived", action == "unarchived", action == "archived"),)
        case "created":
            return (change("/visibility", None, _visibility(payload)),)
        case "deleted":
            return (change("/visibility", _visibility(payload), None),)
        case "renamed":
            return (
                change(
                    "/name",
                    need_text(payload, "changes", "repository", "name", "from"),
                    text(payload, "repository", "name"),
                ),
            )
        case "transferred":
            before = number(payload, "changes", "owner", "from", "user", "id")
            if before is None:
                before = need_number(payload, "changes", "owner", "from", "organization", "id")
            return (change("/owner", before, need_number(payload, "repository", "owner", "id")),)
        case _:
            edited = [key for key in _EDITABLE if value(payload, "changes", key) is not None]
            return tuple(
                change(f"/{key}", value(payload, "changes", key, "from") or "", value(payload, "repository", key))
                for key in edited
            )


def _visibility(payload: object) -> str:
    found = word(text(payload, "repository", "visibility"), _VISIBILITY)
    return found or ("private" if flag(payload, "repository", "private") else "public")


def on_public(payload: object, _: str) -> Facts:
    """A private repository was made public."""
    return replace(repository(payload), changes=(change("/visibility", "private", "public"),))


def on_branch_protection_rule(payload: object, action: str) -> Facts:
    """A rule that protects branches was made, changed or deleted."""
    facts = Facts("branch_protection_rule", str(need_number(payload, "rule", "id")), text(payload, "rule", "name"))
    if action != "edited":
        after = action == "created"
        now = [(name, _setting(payload, "rule", name)) for name in _PROTECTION]
        return replace(
            facts,
            changes=(Change("ADD" if after else "REMOVE", "/rule"),),
            settings=tuple(Setting(n, None if after else v, v if after else None) for n, v in now if v is not None),
            occurred_us=time_us(payload, "rule", "created_at") if after else None,
        )
    edited = [name for name in (*_PROTECTION, *_PROTECTION_NAMES) if value(payload, "changes", name) is not None]
    return replace(
        facts,
        changes=tuple(
            replace(change(f"/{name}", value(payload, "changes", name, "from"), value(payload, "rule", name)), op="REPLACE")
            for name in edited
        ),
        settings=tuple(
            Setting(name, _setting(payload, "changes", name, "from"), _setting(payload, "rule", name))
            for name in edited
            if name in _PROTECTION
        ),
    )


def _setting(payload: object, *path: str) -> str | None:
    found = value(payload, *path)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, int):
        return str(found) if 0 <= found < 1000 else "custom"
    return word(text(payload, *path), _LEVELS)


def on_deploy_key(payload: object, action: str) -> Facts:
    """A key that may read or write a repository came or went."""
    key = need_number(payload, "key", "id")
    access = "read" if flag(payload, "key", "read_only") else "write"
    created = action == "created"
    return Facts(
        "deploy_key",
        str(key),
        text(payload, "repository", "full_name"),
        credential=f"deploy_key:{key}",
        changes=(change("/permission", None if created else access, access if created else None),),
        occurred_us=time_us(payload, "key", "created_at") if created else None,
    )
