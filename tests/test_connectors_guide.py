"""`docs/connectors.md` is followed to the letter, in a fresh project; and its connector is broken in four ways."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from producers.kit import Audit
from producers.kit.families import Family
from producers.samples.emitter import SampleEmitter
from schemas.policy import Policy
from tests.test_kit import FAMILIES

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "connectors.md").read_text()
LEAK = "samples/plan.json: leak: extension.payload.plan: what /plan of the payload says comes out in clear"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A fresh project's: this working copy importable, its plug-in known to pytest as an installed package's is."""
    folder = tmp_path_factory.mktemp("installed")
    info = folder / "sealtrail_as_installed-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sealtrail-as-installed\nVersion: 0\n")
    entry_points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    (info / "entry_points.txt").write_text("[pytest11]\n" + "".join(f"{k} = {v}\n" for k, v in entry_points.items()))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{folder}",
    }


def run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> tuple[Path, str]:
    """The guide's project, and what its commands printed."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "guide.sh").write_text("\n".join(blocks("sh")))
    done = run(["sh", "guide.sh"], folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "crm", done.stdout


def test_from_nothing_the_guide_leads_to_green_tests_and_its_mistake_is_found(followed: tuple[Path, str]) -> None:
    _, printed = followed
    assert "2 passed" in printed and "1 failed, 1 passed" in printed
    assert LEAK in printed and LEAK in GUIDE


FAULTS: dict[str, tuple[str, str, str, list[str]]] = {
    "a leak": ("crm.py", 'payload["role"] if payload["role"] in ROLES else "other"', 'payload["role"]', [
        "samples/member.json: leak: changes[].after: what /role of the payload says comes out in clear",
    ]),
    "an incomplete event": ("crm.py", 'Actor.user(payload["by"]["id"], ', 'Actor.user("", ', [
        f"samples/{name}.json: complete: actor.id: empty, and the actor is not SYSTEM" for name in ("login", "member", "plan")
    ]),
    "a wrong class": ("test_crm.py", '"crm.login.failed": "security"', '"crm.login.failed": "debug"', [
        "samples/login.json: class: crm.login.failed: stated debug, the policy says security",
    ]),
    "a payload that it cannot parse": ("crm.py", 'payload["member"]["id"]', 'payload["person"]["id"]', [
        "samples/member.json: parse: KeyError in the connector, crm.py:",
    ]),
    "a file that is none": ("samples/login.json", '{"event"', '"event"', [
        "samples/login.json: parse: not JSON (JSONDecodeError)",
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_connector_is_told_its_payload_and_field(
    name: str, followed: tuple[Path, str], environment: dict[str, str]
) -> None:
    folder, _ = followed
    file, old, new, expected = FAULTS[name]
    path = folder / file
    good = path.read_text()
    assert old in good
    try:
        path.write_text(good.replace(old, new))
        done = run([sys.executable, "-m", "pytest", "-q", "-k", "test_samples", "-p", "no:cacheprovider"], folder, environment)
    finally:
        path.write_text(good)
    assert done.returncode == 1
    assert f"{len(expected)} problems in 3 samples:" in done.stdout
    assert all(line in done.stdout for line in expected), done.stdout
    assert not any(value in done.stdout for value in ("Zebulon", "Quixote", "quixote", "Sancho", "u-4711"))


def test_the_plug_in_is_inert_where_nobody_asks_for_it(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "test_x.py").write_text(
        "import sys\ndef test_x():\n"
        "    assert 'producers.samples.plugin' in sys.modules and not {'fastavro', 're2', 'structlog'} & set(sys.modules)\n"
    )
    done = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path, environment)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_the_python_of_the_guide_and_of_the_readme_is_well_typed(tmp_path: Path) -> None:
    for number, block in enumerate(blocks("python")):
        (tmp_path / f"block{number}.py").write_text(block)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path / "cache"),
        *map(str, tmp_path.glob("*.py")),
    ]
    done = run(command, ROOT, dict(os.environ))
    assert done.returncode == 0, done.stdout


def test_the_policys_entry_of_the_guide_entitles_the_connector() -> None:
    entry = blocks("toml")[0]
    base = (resources.files("schemas") / "policy" / "base.toml").read_text()
    assert not Policy(base, {}).entitled("crm", "acme", "crm.login.failed")
    assert Policy(f"{base}\n{entry}", {}).entitled("crm", "acme", "crm.login.failed")


def test_the_table_of_builders_is_that_of_the_code() -> None:
    rows = dict(re.findall(r"^\| `audit\.(\w+)(?:\(…\))?` \| ([^|]+) \|", GUIDE, re.MULTILINE))
    audit = Audit(SampleEmitter(), "crm")
    families = {name: found for name, found in vars(audit).items() if isinstance(found, Family)}
    assert rows.keys() == families.keys() | {"message"}
    listed = {event for row in rows.values() for event in re.findall(r"`([\w.]+)`", row)}
    assert listed == FAMILIES.keys() - {"review.done"}  # each of which a test states


EXAMPLES = {
    "web.py": [
        "orders.access.allowed GET:/orders/{id} SUCCESS USER",
        "orders.access.failed GET:/orders/{id} FAILURE SYSTEM",
    ],
    "job.py": [
        "crm.automation.intended UNKNOWN ATTEMPTED",
        "crm.retention.applied SUCCESS EFFECTIVE",
        "crm.automation.executed PARTIAL EFFECTIVE",
    ],
    "log.py": ["crm.config.changed /enabled false"],
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_and_states_what_it_says(name: str, environment: dict[str, str], tmp_path: Path) -> None:
    done = run([sys.executable, str(ROOT / "docs" / "examples" / name)], tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == EXAMPLES[name]


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "docs" / "examples").iterdir() if path.suffix == ".py"} == EXAMPLES.keys()
