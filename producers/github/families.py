"""Which webhooks become which events: one table, one small function per family.

A family names its event type and the actions that it knows; its function finds the `Facts` in a payload of that shape,
or raises `MalformedError`. Whatever is not in the table is `github.other`.

Words that people choose never pass in clear (environments aside, which the contract classes as internal): logins, names
and branches go where the schema redacts, and states, roles and permissions are compared with GitHub's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from producers.github import access, apps, code, repositories
from producers.github.facts import Facts

Find = Callable[[object, str], Facts]  # (payload, action or "")


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of webhook. `actions` is empty for hooks that carry none."""

    event_type: str
    actions: frozenset[str]
    find: Find


def _family(event_type: str, find: Find, actions: str = "") -> Family:
    return Family(event_type, frozenset(actions.split()), find)


FAMILIES: Mapping[str, Family] = {
    "push": _family("OTHER", code.on_push),
    "deployment": _family("DEPLOYMENT", code.on_deployment, "created"),
    "deployment_status": _family("DEPLOYMENT", code.on_deployment_status, "created"),
    "deployment_review": _family("DEPLOYMENT", code.on_deployment_review, "requested approved rejected"),
    "workflow_run": _family("AUTOMATION", code.on_workflow_run, "requested in_progress completed"),
    "workflow_job": _family("AUTOMATION", code.on_workflow_job, "queued waiting in_progress completed"),
    "check_run": _family("AUTOMATION", code.on_check_run, "created completed rerequested requested_action"),
    "member": _family("ADMIN", access.on_member, "added edited removed"),
    "membership": _family("ADMIN", access.on_membership, "added removed"),
    "organization": _family("ADMIN", access.on_organization, "deleted renamed member_added member_invited member_removed"),
    "org_block": _family("ADMIN", access.on_org_block, "blocked unblocked"),
    "team": _family("ADMIN", access.on_team, "created deleted edited added_to_repository removed_from_repository"),
    "team_add": _family("ADMIN", access.on_team_add),
    "repository": _family(
        "ADMIN",
        repositories.on_repository,
        "archived created deleted edited privatized publicized renamed transferred unarchived",
    ),
    "public": _family("ADMIN", repositories.on_public),
    "branch_protection_rule": _family("ADMIN", repositories.on_branch_protection_rule, "created deleted edited"),
    "deploy_key": _family("ADMIN", repositories.on_deploy_key, "created deleted"),
    "installation": _family("ADMIN", apps.on_installation, "created deleted new_permissions_accepted suspend unsuspend"),
    "installation_repositories": _family("ADMIN", apps.on_installation_repositories, "added removed"),
    "github_app_authorization": _family("ADMIN", apps.on_app_authorization, "revoked"),
    "meta": _family("ADMIN", apps.on_meta, "deleted"),
}
