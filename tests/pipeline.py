"""A deployment that runs: the pipeline's processes as people start them, and events for them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.settings import PREFIX
from tests.conftest import Deployment

TENANTS = ("acme", "globex", "initech")


def draft(number: int) -> dict[str, Any]:
    """Of each tenant the same mixture: messages, member changes, failed logins, debug."""
    kind = number // len(TENANTS) % 4
    return {
        "tenant": TENANTS[number % len(TENANTS)],
        "event_name": ("chat.message.delivered", "chat.permission.granted", "chat.login.failed", "chat.debug.trace")[kind],
        "event_type": ("MESSAGE", "ADMIN", "AUTHENTICATION", "OTHER")[kind],
        "result": "FAILURE" if kind == 2 else "SUCCESS",
        "effect": "EFFECTIVE",
        "object": {"type": "room", "id": f"room-{number % 5}"},
        "correlation_id": f"lineage-{number // 12}",
        "target_system": "messenger",
        "ticket": "CHG-7" if kind == 1 else None,
        "actor": {"kind": "USER", "id": f"u-{number % 2}", "display": None},
    }


@contextmanager
def processes(deployment: Deployment, roles: tuple[str, ...], folder: Path, **settings: str) -> Iterator[None]:
    """`sealtrail run …`, each as a process of its own. settings: beside those that make it quick; `{role}` is the role."""
    flags = {"topic_prefix": deployment.topic_prefix, "deployment": deployment.name, "archive_bucket": deployment.bucket}
    flags |= {"heartbeat_s": "2", "segment_seconds": "2", "segment_idle_seconds": "4", "accept_weak_store": "true", **settings}
    running = []
    for role in roles:
        environment = {**os.environ, **{PREFIX + name.upper(): value.replace("{role}", role) for name, value in flags.items()}}
        log = (folder / f"{deployment.name}-{role}.log").open("wb")
        command = [sys.executable, "-m", "auditor", "run", role, "--config", str(deployment.stack.role_file(role))]
        running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        log.close()
    try:
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            assert process.wait(120) == 0
