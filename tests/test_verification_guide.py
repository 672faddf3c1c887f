"""`docs/verification.md` is followed to the letter: its commands run, on good records and on forged ones."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sealtrail.bundle import MANIFEST, SUMS
from sealtrail.certificate import Role
from tests.archives import CHAINS, PART, ROOT, START_S, built, ending, mark_of, public_of
from tests.bundles import edited, of_an_hour, packed, signed, unpacked
from tests.test_proof import FORGED, a_proof, laid_out
from tests.tools import program

GUIDE = Path(__file__).parent.parent / "docs" / "verification.md"


def steps(heading: str) -> list[str]:
    """The commands under a heading of the guide."""
    section = GUIDE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


RECORD, BUNDLE = steps("One record by hand"), steps("A bundle")


def follow(folder: Path, commands: list[str] = RECORD) -> subprocess.CompletedProcess[str]:
    """All steps in one shell that ends at the first command that fails."""
    program("openssl", "openssl")
    script = "set -eu\n" + "\n".join(commands)
    return subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_there_is_a_step_for_each_claim() -> None:
    assert len(RECORD) == 7 and len(BUNDLE) == 2


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


def with_end(folder: Path, name: str, role: Role, size: int, root: bytes = b"") -> None:
    """Beside the proof, the end of a key after so many seals of its chain."""
    entries = [entry for segment in built().chains[CHAINS[0]] for entry in segment]
    mark = mark_of(entries, size)
    archive = ending(built().archive, name, role, {CHAINS[0]: replace(mark, root=root or mark.root)})
    for key in archive.keys("keys/"):
        (folder / key).write_bytes(archive.data(key))


@pytest.mark.parametrize(("name", "role", "size"), [("sealer", Role.SEALER, 11), ("archive", Role.ARCHIVE, 11)])
def test_by_hand_a_record_is_verified_whose_keys_ended_later(name: str, role: Role, size: int, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof())
    with_end(tmp_path, name, role, size)
    done = follow(tmp_path)
    assert done.returncode == 0 and f"ended after {size} seals of this chain" in done.stdout, done.stderr


ENDS: dict[str, Callable[[Path], None]] = {
    "a seal beyond the end of its key": lambda folder: with_end(folder, "sealer", Role.SEALER, 6),
    "a checkpoint beyond the end of its key": lambda folder: with_end(folder, "archive", Role.ARCHIVE, 10),
    "another tree": lambda folder: with_end(folder, "sealer", Role.SEALER, 11, bytes(32)),
}


@pytest.mark.parametrize("name", ENDS)
def test_by_hand_a_record_beyond_the_end_of_a_key_is_found_out(name: str, tmp_path: Path) -> None:
    laid_out(tmp_path, a_proof())
    ENDS[name](tmp_path)
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


# -- a bundle


def unpacked_at(folder: Path, data: bytes) -> subprocess.CompletedProcess[str]:
    """The bundle, and what the guide's commands say of it."""
    (folder / "acme.bundle").write_bytes(data)
    (folder / "root.vkey").write_text(ROOT.vkey)
    return follow(folder, BUNDLE)


def test_by_hand_a_bundle_is_complete_and_signed_by_an_auditor(tmp_path: Path) -> None:
    done = unpacked_at(tmp_path, of_an_hour())
    assert done.returncode == 0, done.stderr
    assert f"signed by an auditor of {PART} at 2026-09-22T18:00:00Z, for " in done.stdout and '"tenant":"acme"' in done.stdout


RECORDS = next(name for name in unpacked(of_an_hour()) if name.startswith("records/"))
FORGED_BUNDLES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "a member altered": lambda files: packed(edited(files, RECORDS, lambda data: data[:-1] + b"x")),
    "a member dropped": lambda files: packed({name: data for name, data in files.items() if name != RECORDS}),
    "a member added": lambda files: packed({**files, "keys/more": b"more"}),
    "other sums": lambda files: packed(edited(files, SUMS, lambda data: data.replace(b"a", b"b"))),
    "another time": lambda files: packed(edited(files, MANIFEST, lambda data: data.replace(b"\nmade 2026", b"\nmade 2027"))),
    "a key that is certified for nothing": lambda files: signed(files, key="nobody"),
    "a key of another role": lambda files: signed(files, key="archive"),
    "an expired key": lambda files: signed(files, key="auditor-expired"),
    "a time before its key's": lambda files: signed(files, lambda manifest: replace(manifest, made_s=START_S - 1_000_000)),
    "a key of another deployment": lambda files: signed(files, key="auditor-elsewhere", name="audit.example/other"),
    "another count": lambda files: signed(files, lambda manifest: replace(manifest, files=3)),
}


@pytest.mark.parametrize("name", FORGED_BUNDLES)
def test_by_hand_a_forged_bundle_is_found_out(name: str, tmp_path: Path) -> None:
    assert unpacked_at(tmp_path, FORGED_BUNDLES[name](unpacked(of_an_hour()))).returncode != 0


def test_by_hand_another_of_several_auditors_is_found(tmp_path: Path) -> None:
    done = unpacked_at(tmp_path, signed(unpacked(of_an_hour()), key="auditor-2"))
    assert done.returncode == 0, done.stderr
