"""The command as a whole: every part is found, and a process loads no other part than its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from auditor.cli import build
from auditor.console import EXIT_CONFIGURATION

ALL = {
    "emit", "run", "archive", "hold", "policy", "keys", "schema", "verify", "search", "replay", "show", "reveal", "prove",
    "export", "stack", "demo",
}  # fmt: skip
CLIENTS = {"boto3", "opensearchpy", "faust", "aiohttp", "requests", "auditor.archive", "sinks"}  # not the sealer's


def names(app: typer.Typer) -> set[str | None]:
    groups = [group.typer_instance for group in app.registered_groups]
    return {c.name for c in app.registered_commands} | {group.info.name for group in groups if group}


def test_the_whole_command_has_every_part_and_one_that_is_asked_for_is_alone() -> None:
    assert names(build()) == names(build("--help")) == names(build("serch")) == ALL
    for name in ALL:
        assert names(build(name)) == {name}


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_command_that_is_loaded_alone_goes_by_its_own_name(name: str) -> None:
    alone, whole = (CliRunner().invoke(build(only), [name, "--help"]) for only in (name, ""))
    assert alone.exit_code == 0
    assert alone.output == whole.output


def test_a_sealer_loads_no_client_of_what_it_does_not_talk_to(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").touch()
    command = [sys.executable, "-X", "importtime", "-m", "auditor", "run", "sealer", "--config", str(tmp_path / "empty.toml")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == EXIT_CONFIGURATION, "everything is loaded, and then a setting is missing"
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert {"processors.sealer", "confluent_kafka"} <= loaded
    assert not CLIENTS & loaded
