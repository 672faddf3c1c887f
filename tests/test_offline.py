"""The base alone: the wheel holds the nine packages, and `python -m sealtrail` verifies a copy with nothing else installed.

Nothing is fetched: the wheel is built with what is here, and the fresh environment gets the base dependencies' files from
the running one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.archives import CHAINS, ROOT, TENANTS, built, checkpoint_of, seed
from tests.bundles import of_an_hour, signed, unpacked

PROJECT = Path(__file__).parents[1]
PACKAGES = {"sealtrail", "schemas", "kafkaio", "keystore", "producers", "processors", "sinks", "auditor", "infra"}
BASE = {"cryptography", "fastavro", "cffi", "pycparser"}  # the base dependencies, and what they need


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the project's own back end without an environment of its own, so without a download."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(folder)!r}))"
    built_name = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True, text=True)
    return folder / built_name.stdout.strip().splitlines()[-1]


@dataclass(frozen=True)
class Stranger:
    """Someone with the base alone, a copy of an archive, the root's key and the tenants' data keys."""

    python: Path
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m sealtrail` in the environment, with its own folders and no others."""
        command = [str(self.python), "-I", "-m", "sealtrail", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, env={"PATH": os.defpath})

    def verify(self, *more: str) -> subprocess.CompletedProcess[str]:
        """The command on the copy, with everything given."""
        return self.run("copy", "--root", "root.vkey", "--keys", "keys", "--json", *more)


@pytest.fixture(scope="module")
def stranger(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    """A fresh environment with the unpacked wheel and the base dependencies, beside an archive's copy."""
    folder = tmp_path_factory.mktemp("stranger")
    environment = venv.EnvBuilder(with_pip=False, symlinks=True)
    environment.create(folder / "venv")
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in needed():
        _link(name, site)
    (folder / "root.vkey").write_text(ROOT.vkey + "\n")
    (folder / "keys").mkdir()
    for tenant in TENANTS:
        (folder / "keys" / f"{tenant}.key").write_bytes(seed(f"tenant-data-{tenant}"))
    return Stranger(folder / "venv" / "bin" / "python", folder)


def needed() -> set[str]:
    """The base dependencies and theirs, as far as this platform asks for them."""
    pending = [*tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]]
    found: set[str] = set()
    while pending:
        requirement = Requirement(pending.pop())
        if requirement.name not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.add(requirement.name)
            pending += distribution(requirement.name).requires or []
    return found


def _link(name: str, site: Path) -> None:
    """Show a distribution's own top-level files in another environment."""
    for path in distribution(name).files or ():
        top = path.parts[0]
        if top not in ("..", "__pycache__") and not (site / top).exists():
            (site / top).symlink_to(Path(str(distribution(name).locate_file(top))))


@pytest.fixture
def copy(stranger: Stranger) -> Iterator[Path]:
    """A fresh copy of a good archive where the stranger looks for it."""
    import shutil

    folder = stranger.folder / "copy"
    built().archive.write_to(folder)
    yield folder
    shutil.rmtree(folder)


def test_the_wheels_top_level_is_the_nine_packages_and_its_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == PACKAGES
    assert len(top) == len(PACKAGES) + 1


def test_the_wheel_carries_schemas_policies_and_type_marker_but_no_tests_and_no_state(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in (PROJECT / "sealtrail").rglob("*.avsc"):
        assert path.relative_to(PROJECT).as_posix() in names
    assert {"sealtrail/py.typed", "schemas/audit_event.avsc", "schemas/policy/base.toml"} <= names
    assert not [n for n in names if "test" in Path(n).name or n.endswith((".key", ".pyc"))]


def test_the_base_needs_cryptography_and_fastavro_and_nothing_beyond_what_these_need() -> None:
    assert needed() <= BASE
    assert {"cryptography", "fastavro"} <= needed()


def test_the_environment_has_nothing_but_the_base(stranger: Stranger) -> None:
    code = "import sealtrail, importlib.util as u, sys; sys.exit(any(map(u.find_spec, sys.argv[1:])))"
    others = ["boto3", "confluent_kafka", "pydantic", "typer", "rich", "structlog", "pytest", "yaml", "re2", "sigma"]
    assert subprocess.run([str(stranger.python), "-I", "-c", code, *others], check=False).returncode == 0


def test_a_good_copy_exits_0_and_reports_every_record(stranger: Stranger, copy: Path) -> None:
    result = stranger.verify()
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["good"]
    assert (report["seals"], report["records"], report["verdicts"]) == (46, 38, {"VALID": 46})
    assert "VERIFIED: 46 seals, 38 records, 0 findings" in result.stderr


def test_one_changed_byte_exits_1_and_names_the_record(stranger: Stranger, copy: Path) -> None:
    path = copy / built().key(1)
    data = bytearray(path.read_bytes())
    seal = built().segment(1).seals[3]
    data[bytes(data).index(seal) + 50] ^= 1
    path.write_bytes(data)
    result = stranger.verify()
    assert result.returncode == 1
    (finding,) = json.loads(result.stdout)["findings"]
    assert (finding["finding"], finding["chain"], finding["seq"], finding["count"]) == ("ALTERED", CHAINS[0], 7, 1)
    assert "NOT VERIFIED" in result.stderr


def test_a_cut_tail_exits_1_with_the_checkpoint_that_was_kept(stranger: Stranger, copy: Path) -> None:
    entries = [entry for segment in built().chains[CHAINS[0]] for entry in segment]
    (stranger.folder / "kept").write_text(checkpoint_of(entries))
    (copy / built().key(4)).unlink()
    result = stranger.verify("--checkpoint", "kept")
    assert result.returncode == 1
    assert [f["finding"] for f in json.loads(result.stdout)["findings"]] == ["TRUNCATED"]


def test_a_bundle_is_verified_with_the_base_alone_and_a_record_that_was_withheld_is_found(stranger: Stranger) -> None:
    file = stranger.folder / "acme.bundle"
    file.write_bytes(of_an_hour())
    result = stranger.run("acme.bundle", "--root", "root.vkey", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["verdicts"] == {"VALID": 6}
    file.write_bytes(signed({name: data for name, data in unpacked(of_an_hour()).items() if not name.startswith("records/")}))
    result = stranger.run("acme.bundle", "--root", "root.vkey", "--json")
    assert result.returncode == 1
    assert {(f["finding"], f["step"]) for f in json.loads(result.stdout)["findings"]} == {("MISSING", "B4")}


def test_what_is_given_wrongly_exits_2_or_3(stranger: Stranger, copy: Path) -> None:
    assert stranger.run("copy").returncode == 2
    for root in ("nowhere", "keys"):
        assert stranger.run("copy", "--root", root).returncode == 3
    (stranger.folder / "bad.vkey").write_bytes(b"\xff")
    assert stranger.run("copy", "--root", "bad.vkey").returncode == 3
    assert stranger.run("nowhere", "--root", "root.vkey").returncode == 3
