"""One real stack for the whole test session, on free ports, in a folder that is removed at the end.

A server that does not start fails the tests that need it: nothing is skipped. Tests that need topics of their own take
`deployment`, which provisions a fresh prefix on the shared broker.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

import hypothesis
import pytest
import structlog

from infra.places import Ports
from infra.report import Reporter
from infra.stack import Stack
from kafkaio.admin import provision
from schemas import catalogue
from schemas.settings import Settings
from tests import kitted

DEADLINE_S = 240.0  # a wait ends when its condition holds; only what never comes about takes this long
RAW_PARTITIONS = 2  # fewer than a deployment's 4: each provisioning makes ten topics
SESSION = f"{int(time.time()):x}-{os.getpid()}-" if os.environ.get("TEST_STACK") else ""
BUCKETS = ("sealtrail-test", "sealtrail-test-2", "sealtrail-test-3", "sealtrail-test-4")

T = TypeVar("T")

_numbers = count(1)


# Nothing here is timed: on a busy machine drawing an example, or running one, may take as long as it likes.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

# A thread that outlives its test must not log into what the next one reads as a command's output.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--servers`: a part of the tests; `python -m tests` runs all three at once."""
    parser.addoption(
        "--servers", choices=["search", "kafka", "without"], help="only tests that use OpenSearch; Kafka and S3 alone; none"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other parts."""
    wanted = config.getoption("--servers")
    if wanted is None:
        return
    chosen = [item for item in items if servers_of(item) == wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    items[:] = chosen


def servers_of(item: pytest.Item) -> str:
    """Which servers it takes by name, or says so: a fixture asked for while the test runs is not in its list."""
    fixtures = getattr(item, "fixturenames", ())
    if "search_stack" in fixtures:
        return "search"
    return "kafka" if "stack" in fixtures or item.get_closest_marker("servers") is not None else "without"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A fresh set of topics and rights on the session's stack; `bucket` is shared unless a test asks for another."""

    stack: Stack
    name: str
    topic_prefix: str
    bucket: str

    def settings(self, role: str, **flags: object) -> Settings:
        """The settings of `role` in this deployment."""
        mine = {"topic_prefix": self.topic_prefix, "deployment": self.name}
        if self.stack.settings(role).archive_bucket:
            mine["archive_bucket"] = self.bucket
        return self.stack.settings(role, **{**mine, **flags})


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Stack]:
    """Kafka and the S3 server, up; OpenSearch joins with the tests that need it (`search_stack`).

    TEST_STACK names a state folder whose stack stays up from session to session: for work on one test.
    """
    if pytestconfig.getoption("--servers") == "without":
        pytest.fail("a test that asks for servers while it runs needs the mark `servers`")
    kept = os.environ.get("TEST_STACK")
    made = Stack(
        Path(kept) if kept else tmp_path_factory.mktemp("stack") / "state",
        ports=None if kept else Ports.free(),
        buckets=BUCKETS,
        raw_partitions=RAW_PARTITIONS,
        report=Reporter(quiet=True),
    )
    try:
        made.up(search=False)
        yield made
    finally:
        if not kept:
            made.reset()


@pytest.fixture(scope="session")
def search_stack(stack: Stack) -> Stack:
    """The session's stack with OpenSearch as well."""
    stack.up(search=True)
    return stack


def new_deployment(stack: Stack, *, raw_partitions: int = RAW_PARTITIONS, bucket: str = BUCKETS[0]) -> Deployment:
    """Fresh topics and rights; for tests and fixtures of wider scope than one test."""
    name = f"t{SESSION}{next(_numbers)}"
    made = Deployment(stack=stack, name=name, topic_prefix=f"{name}.", bucket=bucket)
    provision(made.settings("admin"), catalogue.load(), raw_partitions=raw_partitions)
    return made


@pytest.fixture
def deployment(stack: Stack) -> Deployment:
    """A deployment of this test alone."""
    return new_deployment(stack)


@pytest.fixture(scope="module")
def module_deployment(stack: Stack) -> Deployment:
    """A deployment that the tests of one module share."""
    return new_deployment(stack)


@pytest.fixture(scope="session")
def github_payloads() -> Path:
    """The file of 329 real webhook payloads."""
    from infra.artifacts import github_payloads as fetch

    return fetch(Reporter(quiet=True))


@pytest.fixture
def kit() -> kitted.Kit:
    """A connector's kit, over an emitter that keeps what it is told."""
    return kitted.made()


@pytest.fixture
def acme(kit: kitted.Kit) -> Iterator[kitted.Kit]:
    """The same, within a context that says whose and by whom."""
    with kit.audit.context(tenant="acme", actor=kitted.ADA):
        yield kit


def wait_until(condition: Callable[[], T | None], *, deadline_s: float = DEADLINE_S, what: str = "the condition") -> T:
    """The first result of `condition` that is true, asked again every 50 ms; fails the test after `deadline_s`."""
    deadline = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not come about within {deadline_s:.0f} s")
        time.sleep(0.05)  # between two looks at the condition, not instead of one
