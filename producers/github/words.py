"""GitHub's own words: the webhooks and actions that it documents.

Only these pass in clear. A `repository_dispatch` carries an action of its sender's choosing, so it may be anything.
"""

from __future__ import annotations

HOOKS = frozenset(
    """
    branch_protection_configuration branch_protection_rule check_run check_suite code_scanning_alert
    commit_comment create custom_property custom_property_values delete dependabot_alert deploy_key deployment
    deployment_protection_rule deployment_review deployment_status discussion discussion_comment fork
    github_app_authorization gollum installation installation_repositories installation_target issue_comment
    issues label marketplace_purchase member membership merge_group meta milestone org_block organization
    package page_build personal_access_token_request ping project project_card project_column projects_v2
    projects_v2_item public pull_request pull_request_review pull_request_review_comment
    pull_request_review_thread push registry_package release repository repository_advisory repository_dispatch
    repository_import repository_ruleset repository_vulnerability_alert secret_scanning_alert
    secret_scanning_alert_location security_advisory security_and_analysis sponsorship star status sub_issues
    team team_add watch workflow_dispatch workflow_job workflow_run
    """.split()  # noqa: SIM905 - a list of words reads as words
)

ACTIONS = frozenset(
    """
    added added_to_repository answered appeared_in_branch approved archived assigned auto_dismissed
    auto_merge_disabled auto_merge_enabled auto_reopened blocked cancelled category_changed changed
    checks_requested closed closed_by_user completed converted converted_to_draft create created deleted
    demilestoned denied dequeued destroyed dismiss dismissed edited enqueued fixed in_progress labeled locked
    member_added member_invited member_removed merged milestoned moved new_permissions_accepted opened
    pending_cancellation pending_change pending_change_cancelled pending_tier_change performed pinned
    prereleased privatized publicized published purchased queued ready_for_review reintroduced rejected released
    removed removed_from_repository renamed reopened reopened_by_user reordered reported requested
    requested_action rerequested resolve resolved restored review_request_removed review_requested revoked
    started submitted suspend synchronize tier_changed transferred typed unanswered unarchived unassigned
    unblocked unlabeled unlocked unpinned unpublished unresolved unsuspend untyped updated validated waiting
    withdrawn
    """.split()  # noqa: SIM905 - a list of words reads as words
)
