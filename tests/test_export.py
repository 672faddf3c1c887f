"""What leaves for a file: under whose eyes it is written, and what is left of it when it is not finished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from auditor.access import Access
from auditor.export import CSV, check_output, export
from sealtrail.errors import ConfigError, TransientError


class Stated:
    """What an `Access` would state, without a trail."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.drafts: list[Mapping[str, Any]] = []

    def digest(self, parts: Iterable[bytes]) -> bytes:
        return b"".join(parts)

    def completed(self, draft: Mapping[str, Any]) -> None:
        if self.refuses:
            raise TransientError("not recorded")
        self.drafts.append(draft)


def exported(output: Path, data: bytes = b"rows", stated: Stated | None = None) -> list[tuple[str, int]]:
    """Export these bytes; names and modes of what lies in the folder while they are written."""
    seen: list[tuple[str, int]] = []

    def write(to: BinaryIO) -> int:
        to.write(data)
        seen.extend((path.name, path.lstat().st_mode & 0o777) for path in output.parent.iterdir())
        return 1

    export(cast("Access", stated or Stated()), output, write, CSV)
    return seen


def test_what_is_not_finished_has_another_name_each_time_and_is_for_this_user_alone(tmp_path: Path) -> None:
    output, stated = tmp_path / "rows", Stated()
    names = set()
    for _ in range(3):
        ((name, mode),) = [found for found in exported(output, stated=stated) if found[0] != "rows"]
        assert mode == 0o600
        names.add(name)
    assert len(names) == 3 and not any("rows" in name for name in names)
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
    assert output.read_bytes() == b"rows" and output.stat().st_mode & 0o777 == 0o600
    assert stated.drafts[0]["content_ref"]["digest"] == b"rows" and stated.drafts[0]["content_ref"]["size"] == 4


@pytest.mark.parametrize("planted", ["file", "link"])
def test_nothing_is_written_to_what_somebody_put_there_first(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"")
    names = [".rows.part", f".{'0' * 32}.part"]  # one that could be known, and the one that is drawn
    for name in names:
        (tmp_path / name).symlink_to(theirs) if planted == "link" else (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr("secrets.token_hex", lambda size: "00" * size)
    with pytest.raises(ConfigError, match="--output"):
        exported(tmp_path / "rows")
    assert {path.name for path in tmp_path.iterdir()} == {"theirs", *names}
    assert not any(path.read_bytes() for path in tmp_path.iterdir())


def test_an_export_that_could_not_be_recorded_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        exported(tmp_path / "rows", stated=Stated(refuses=True))
    assert not list(tmp_path.iterdir())


STOPPED = """
import signal
import sys
from pathlib import Path
from tests.test_export import Stated
from auditor.export import CSV, export

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever ran the tests may ignore it

def write(to):
    to.write(b"in clear")
    to.flush()
    print("written", flush=True)
    sys.stdin.read()

export(Stated(), Path(sys.argv[1]), write, CSV)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_asked_to_end_leaves_nothing_in_clear(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "rows")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as child:
        assert child.stdout is not None and child.stdout.readline() == b"written\n"
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"in clear"]
        child.send_signal(number)
        assert child.wait(timeout=60) == 128 + number
    assert not list(tmp_path.iterdir())


def test_after_an_export_signals_do_what_they_did_before_and_one_that_was_ignored_always_is(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        during = []

        def write(_: BinaryIO) -> int:
            during.extend([signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)])
            return 0

        export(cast("Access", Stated()), tmp_path / "rows", write, CSV)
        assert during[0] is signal.SIG_IGN and callable(during[1])
        assert (signal.getsignal(signal.SIGHUP), signal.getsignal(signal.SIGTERM)) == (signal.SIG_IGN, signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("name", [".", "/", "..", "", "folder", "folder/..", "fifo", "no/rows", "file/rows", "x" * 256])
def test_what_no_file_can_be_called_is_refused_beforehand(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_bytes(b"")
    os.mkfifo("fifo")
    with pytest.raises(ConfigError, match="option --bundle"):
        check_output(Path(name), "--bundle")


@pytest.mark.parametrize("name", ["rows", "file", "x" * 255])
def test_what_a_file_can_be_called_is_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"earlier")
    check_output(tmp_path / name)
    exported(tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"rows"
