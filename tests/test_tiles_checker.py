"""What `sealtrail export --tiles` writes is accepted by a checker that is not ours, and what was tampered with is not."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor.tiling import export_tiles
from sealtrail.checkpoint import parse_checkpoint
from sealtrail.note import COSIGNATURE, NoteKey
from tests.archives import CHAINS, built, flipped, public_of
from tests.checker import check
from tests.test_proof import keyring


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An exported log of 23 entries."""
    b = built()
    export_tiles(b.archive, keyring(b.archive), tmp_path, CHAINS[0])
    return tmp_path / CHAINS[0]


def test_an_exported_log_is_accepted_with_its_size_and_root(log: Path) -> None:
    verdict = check(log)
    stated = parse_checkpoint((log / "checkpoint").read_bytes())[0]
    assert verdict.accepted, verdict.said
    assert (verdict.size, verdict.root) == (stated.size, base64.b64encode(stated.root).decode())


def test_its_cosignature_is_accepted_under_the_same_key(log: Path) -> None:
    (log / "log.vkey").write_text(NoteKey(CHAINS[0], COSIGNATURE, public_of("archive")).vkey)
    assert check(log).accepted


DAMAGES: dict[str, Callable[[Path], object]] = {
    "an entry": lambda log: flip(log / "tile" / "entries" / "000.p" / "23", 800),
    "a hash": lambda log: flip(log / "tile" / "0" / "000.p" / "23", 80),
    "the root": lambda log: change(log / "checkpoint", 2),
    "the size": lambda log: change(log / "checkpoint", 1),
    "the key": lambda log: (log / "log.vkey").write_text(NoteKey(CHAINS[0], 1, public_of("somebody")).vkey),
    "a missing tile": lambda log: (log / "tile" / "0" / "000.p" / "23").unlink(),
}


def flip(path: Path, bit: int) -> None:
    path.write_bytes(flipped(path.read_bytes(), bit))


def change(path: Path, line: int) -> None:
    lines = path.read_text().split("\n")
    lines[line] = ("2" if lines[line][0] != "2" else "1") + lines[line][1:]
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("name", DAMAGES)
def test_a_log_that_was_tampered_with_is_refused(name: str, log: Path) -> None:
    DAMAGES[name](log)
    assert not check(log).accepted
