"""`docs/verification.md` is followed to the letter: its commands run, on good records and on forged ones."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.archives import ROOT, public_of
from tests.test_proof import FORGED, a_proof, laid_out
from tests.tools import program

GUIDE = Path(__file__).parent.parent / "docs" / "verification.md"
STEPS = re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


def follow(folder: Path) -> subprocess.CompletedProcess[str]:
    """All steps in one shell that ends at the first command that fails."""
    program("openssl", "openssl")
    script = "set -eu\n" + "\n".join(STEPS)
    return subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_there_is_a_step_for_each_claim() -> None:
    assert len(STEPS) == 6


@pytest.mark.parametrize("signed", [True, False])
def test_by_hand_a_record_is_verified(signed: bool, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof(signed))
    done = follow(tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert sum("certified by the root" in line for line in said) == len(list((tmp_path / "keys").iterdir()))
    assert any("the archive swore to 11 seals" in line for line in said)
    assert any("is in the tree" in line for line in said)
    assert any("its content is" in line for line in said)
    assert any("sealer" in line and line.startswith("signed by") for line in said) == signed


@pytest.mark.parametrize("name", FORGED)
def test_by_hand_a_forged_record_is_found_out(name: str, tmp_path: Path) -> None:
    laid_out(tmp_path, FORGED[name](a_proof()))
    assert follow(tmp_path).returncode != 0


DAMAGES: dict[str, Callable[[Path], object]] = {
    "another root": lambda folder: (folder / "root.vkey").write_text(replace(ROOT, public=public_of("somebody")).vkey),
    "a certificate under another name": lambda folder: next((folder / "keys").iterdir()).rename(folder / "keys" / "x.cert"),
    "an altered certificate": lambda folder: edit(next((folder / "keys").iterdir()), b"name audit", b"name anything"),
    "another schema": lambda folder: edit_all(folder / "schemas"),
}


def edit_all(folder: Path) -> None:
    for path in folder.iterdir():
        edit(path, b'"doc": "', b'"doc": "N')


def edit(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize("name", DAMAGES)
def test_by_hand_what_lies_beside_the_proof_is_checked_too(name: str, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof())
    DAMAGES[name](tmp_path)
    assert follow(tmp_path).returncode != 0
