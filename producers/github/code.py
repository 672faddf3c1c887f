"""Pushes, deployments and automation: what became of code, and of the runs that carry it out.

Runs and checks are named by number: their names are of people's making, and some hold a person's.
"""

from __future__ import annotations

import re
from dataclasses import replace

from producers.github.facts import Deployment, Facts, Push, change, in_state, repository, result_of
from producers.github.payload import MalformedError, flag, items, need_number, need_text, number, sha, text, time_us

_SLUG = re.compile(r"[^a-z0-9._-]+")


def slug(name: str) -> str:
    """A name of people's making as the contract's codes are written."""
    return _SLUG.sub("-", name.lower()).lstrip("._-")[:128] or "unknown"


def on_push(payload: object, _: str) -> Facts:
    """A branch or tag moved."""
    ref = need_text(payload, "ref")
    kind = "BRANCH" if ref.startswith("refs/heads/") else "TAG" if ref.startswith("refs/tags/") else "OTHER"
    before, after = sha(payload, "before"), sha(payload, "after")
    if before is None and after is None:
        raise MalformedError(("after",), "a commit hash here or in before")
    deleted, forced = flag(payload, "deleted"), flag(payload, "forced")
    return replace(
        repository(payload),
        ref=ref,
        commit=after,
        occurred_us=time_us(payload, "repository", "pushed_at"),
        changes=(change("/head", before, after),),
        push=Push(kind, flag(payload, "created"), deleted, forced, before, len(items(payload, "commits"))),
    )


def on_deployment(payload: object, _: str) -> Facts:
    """A deployment was asked for."""
    facts = _deployed(payload)
    return replace(facts, effect="ATTEMPTED", occurred_us=time_us(payload, "deployment", "created_at"))


def on_deployment_status(payload: object, _: str) -> Facts:
    """A deployment got on, or ended."""
    state = need_text(payload, "deployment_status", "state")
    facts = in_state(_deployed(payload), state)
    return replace(
        facts,
        changes=(change("/state", None, facts.state),),
        occurred_us=time_us(payload, "deployment_status", "created_at"),
    )


def _deployed(payload: object) -> Facts:
    identifier = need_number(payload, "deployment", "id")
    environment = slug(need_text(payload, "deployment", "environment"))
    commit = sha(payload, "deployment", "sha")
    return Facts(
        "deployment",
        str(identifier),
        text(payload, "repository", "full_name"),
        deployment=Deployment(environment, commit, _checks(payload)),
        correlation_id=f"deployment-{identifier}",
        commit=commit,
        run_id=number(payload, "workflow_run", "id"),
        run_attempt=number(payload, "workflow_run", "run_attempt"),
    )


def _checks(payload: object) -> tuple[tuple[str, str], ...]:
    """What ran for a deployment. By number or file: the names of runs and checks may hold a person's."""
    checks = []
    run = number(payload, "workflow_run", "workflow_id")
    if run is not None:
        checks.append((f"workflow.{run}", result_of(text(payload, "workflow_run", "conclusion"))))
    check = number(payload, "check_run", "id")
    if check is not None:
        checks.append((f"check_run.{check}", result_of(text(payload, "check_run", "conclusion"))))
    return tuple(checks)


def on_deployment_review(payload: object, action: str) -> Facts:
    """A deployment was held for approval, approved or rejected."""
    run = need_number(payload, "workflow_run", "id")
    approver = number(payload, "approver", "id")
    facts = Facts(
        "workflow_run",
        str(run),
        text(payload, "repository", "full_name"),
        approver=None if approver is None else str(approver),
        correlation_id=f"run-{run}",
        commit=sha(payload, "workflow_run", "head_sha"),
        run_id=run,
        run_attempt=number(payload, "workflow_run", "run_attempt"),
        occurred_us=time_us(payload, "since") if action == "requested" else None,
    )
    environment = text(payload, "environment")
    if environment:
        facts = replace(facts, deployment=Deployment(slug(environment), facts.commit, _checks(payload)))
    return in_state(facts, action)


def on_workflow_run(payload: object, action: str) -> Facts:
    """A workflow ran."""
    run = need_number(payload, "workflow_run", "id")
    facts = Facts(
        "workflow_run",
        str(run),
        text(payload, "repository", "full_name"),
        correlation_id=f"run-{run}",
        commit=sha(payload, "workflow_run", "head_sha"),
        run_id=run,
        run_attempt=number(payload, "workflow_run", "run_attempt"),
        occurred_us=time_us(payload, "workflow_run", "updated_at" if action == "completed" else "created_at"),
    )
    return in_state(facts, text(payload, "workflow_run", "conclusion") or text(payload, "workflow_run", "status"))


def on_workflow_job(payload: object, action: str) -> Facts:
    """A job of a workflow run."""
    run = need_number(payload, "workflow_job", "run_id")
    facts = Facts(
        "workflow_job",
        str(need_number(payload, "workflow_job", "id")),
        text(payload, "workflow_job", "name"),
        correlation_id=f"run-{run}",
        commit=sha(payload, "workflow_job", "head_sha"),
        run_id=run,
        run_attempt=number(payload, "workflow_job", "run_attempt"),
        occurred_us=time_us(payload, "workflow_job", "completed_at" if action == "completed" else "started_at"),
    )
    return in_state(facts, text(payload, "workflow_job", "conclusion") or text(payload, "workflow_job", "status"))


def on_check_run(payload: object, action: str) -> Facts:
    """A check of a commit."""
    facts = Facts(
        "check_run",
        str(need_number(payload, "check_run", "id")),
        text(payload, "check_run", "name"),
        commit=sha(payload, "check_run", "head_sha"),
        occurred_us=time_us(payload, "check_run", "completed_at" if action == "completed" else "started_at"),
    )
    return in_state(facts, text(payload, "check_run", "conclusion") or text(payload, "check_run", "status"))
