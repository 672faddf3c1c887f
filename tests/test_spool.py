"""The spool's contract, on the disk of the tests and on the real one."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest

from producers.spool import MAX_BYTES, RawRecord, Spool, SpoolFullError
from producers.spool.files import Files, OsFiles
from producers.spool.spool import FRAME_BYTES
from sealtrail.errors import ConfigError, ContractError
from tests.spooling.disk import Disk, Faults
from tests.spooling.life import EMITTER, KEY, number_of, record, sequence

Open = Callable[..., Spool]

SMALL = 40_000  # of which a file takes a quarter


@pytest.fixture(params=["disk of the tests", "operating system"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Files]:
    if request.param == "operating system":
        return tmp_path / "spool" / "one", OsFiles()
    return Path("spool"), Disk(Random(1)).files()


@pytest.fixture
def opened(where: tuple[Path, Files]) -> Open:
    directory, files = where

    def opened(max_bytes: int = MAX_BYTES, key: bytes = KEY, name: str = EMITTER) -> Spool:
        return Spool.open(directory, key, name, max_bytes, files=files)

    return opened


def numbers(spool: Spool, position: int = 0, **limits: int) -> list[int]:
    return [number_of(one) for _, one in spool.read(position, **limits)]


def test_what_was_committed_is_read_again_with_bytes_headers_and_positions(opened: Open) -> None:
    spool = opened()
    first, second = sequence(range(3)), [RawRecord(b""), RawRecord(b"x", (("a", b""), ("a", b"1"), ("ünïcode", b"\0")))]
    spool.append(first)
    assert spool.read(0) == []  # not durable yet
    assert spool.commit() == 3
    spool.append(second)
    assert spool.commit() == 5
    expected = list(enumerate([*first, *second]))
    assert spool.read(0) == expected
    spool.close()
    again = opened()
    assert (again.released, again.durable, again.waiting, again.found.records) == (0, 5, 5, 5)
    assert again.read(0) == expected


def test_reading_goes_on_goes_back_and_keeps_its_limits(opened: Open) -> None:
    spool = opened(SMALL)
    for start in range(0, 60, 6):
        spool.append(sequence(range(start, start + 6)))
        spool.commit()
    assert spool._pieces[1:]
    assert numbers(spool, 0, max_records=10) == list(range(10))
    assert numbers(spool, 10, max_records=25) == list(range(10, 35))
    assert numbers(spool, 3, max_records=4) == [3, 4, 5, 6]
    assert numbers(spool, 59) == [59]
    assert numbers(spool, 60) == []
    size = len(record(0, 300).value)
    assert numbers(spool, 20, max_bytes=3 * size) == [20, 21, 22]
    assert numbers(spool, 20, max_bytes=3 * size + 1) == [20, 21, 22, 23]


def test_released_files_go_and_positions_count_on(opened: Open, where: tuple[Path, Files]) -> None:
    spool = opened(SMALL)
    for start in range(0, 60, 6):
        spool.append(sequence(range(start, start + 6)))
        spool.commit()
    held = spool.used_bytes
    spool.release(40)
    assert spool.used_bytes < held
    assert spool.waiting == 20
    assert numbers(spool, 0)[0] == 40
    spool.release(60)
    spool.release(10)  # said again, and late
    assert (spool.released, spool.waiting) == (60, 0)
    spool.close()
    again = opened(SMALL)
    assert (again.released, again.durable, again.waiting) == (60, 60, 0)
    again.append(sequence([60]))
    assert again.commit() == 61
    directory, files = where
    assert sorted(name for name in files.names(directory) if name.endswith(".spool")) == [f"{60:020d}.spool"]


def test_a_position_that_is_not_durable_cannot_be_released(opened: Open) -> None:
    spool = opened()
    spool.append(sequence([0]))
    with pytest.raises(ContractError):
        spool.release(1)


def test_a_full_spool_takes_nothing_of_a_list_and_takes_again_when_something_was_released(opened: Open) -> None:
    spool = opened(SMALL)
    taken = 0
    while True:
        try:
            spool.append(sequence(range(taken, taken + 7)))
        except SpoolFullError as refused:
            assert refused.retry_after_s > 0  # noqa: PT017 -- which call is refused depends on sizes
            break
        taken += 7
    assert spool.used_bytes <= SMALL
    assert spool.waiting == taken
    assert spool.commit() == taken
    spool.release(taken)
    spool.append(sequence(range(taken, taken + 7)))
    assert spool.commit() == taken + 7
    assert numbers(spool, taken) == list(range(taken, taken + 7))


def test_a_spool_that_is_full_of_one_file_of_released_records_takes_more(opened: Open) -> None:
    spool = opened(SMALL)
    for start in range(0, 400, 20):
        spool.append(sequence(range(start, start + 20), 1000))
        spool.release(spool.commit())
    assert spool.durable == 400


def test_a_list_beyond_the_bound_is_refused_for_good(opened: Open) -> None:
    spool = opened(SMALL)
    with pytest.raises(ConfigError, match="max_bytes"):
        spool.append(sequence(range(50), 1000))
    assert spool.waiting == 0


def test_a_list_of_several_frames_is_one(opened: Open) -> None:
    spool = opened()
    records = sequence(range(5), FRAME_BYTES // 2)
    spool.append(records)
    spool.commit()
    assert [one for _, one in spool.read(0, max_bytes=10 * FRAME_BYTES)] == records


def test_a_record_that_no_frame_holds_is_refused(opened: Open) -> None:
    with pytest.raises(ContractError, match="too large"):
        opened().append([RawRecord(bytes(9_000_000))])


def test_a_second_opener_is_refused_until_the_first_has_closed(opened: Open) -> None:
    first = opened()
    with pytest.raises(ConfigError, match="in use by another process"):
        opened()
    first.append(sequence([0]))
    first.close()
    first.close()
    assert opened().waiting == 1
    with pytest.raises(ConfigError, match="closed"):
        first.append(sequence([1]))


@pytest.mark.parametrize(("key", "name"), [(bytes(32), EMITTER), (KEY, "github/two")])
def test_another_key_or_emitter_is_told_apart_from_damage(opened: Open, key: bytes, name: str) -> None:
    spool = opened()
    spool.append(sequence([0]))
    spool.close()
    with pytest.raises(ConfigError, match="another spool key, or by another emitter"):
        opened(key=key, name=name)
    assert numbers(opened()) == [0]


def test_a_key_of_another_length_is_refused(opened: Open) -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        opened(key=b"short").append(sequence([0]))


def test_a_long_backlog_takes_no_more_memory_than_a_frame(opened: Open) -> None:
    spool = opened(4_000_000)
    for start in range(0, 3000, 100):
        spool.append(sequence(range(start, start + 100)))
        spool.commit()
        assert not spool._pending
    position = 0
    while found := spool.read(position, max_records=7):
        position = found[-1][0] + 1
        assert len(spool._reader._batch) <= 100
    assert position == 3000


def test_nothing_of_a_record_is_readable_in_the_files(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, KEY, EMITTER)
    spool.append([RawRecord(b"a secret of some length", (("a header's name", b"a header's value"),))])
    spool.close()
    text = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert text
    for plain in (b"secret", b"header", EMITTER.encode(), KEY):
        assert plain not in text


def test_directory_and_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool.open(tmp_path / "a" / "b", KEY, EMITTER)
        spool.append(sequence([0]))
        spool.close()
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / part).stat().st_mode) for part in ("a", "a/b")} == {0o700}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a" / "b").iterdir()}
    assert modes == {"lock": 0o600, "marks": 0o600, f"{0:020d}.spool": 0o600}


def test_a_directory_that_cannot_be_used_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="spool directory"):
        Spool.open(tmp_path / "file" / "below", KEY, EMITTER)
    (tmp_path / "x.spool").write_bytes(b"")
    with pytest.raises(ConfigError, match="no file of a spool"):
        Spool.open(tmp_path, KEY, EMITTER)


def test_a_forked_child_can_neither_use_nor_hold_its_parents_spool(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, KEY, EMITTER)
    reader, writer = os.pipe()
    seen, tell = os.pipe()
    child = os.fork()
    if not child:
        os.close(writer)
        status = 1
        try:
            spool.append(sequence([0]))
        except ConfigError:
            status = 0
        finally:
            os.write(tell, b"x")
            os.read(reader, 1)  # the parent has closed its spool and opened it again, or failed
            os._exit(status)
    os.close(reader)
    os.close(tell)
    try:
        os.read(seen, 1)  # the child runs
        spool.close()
        Spool.open(tmp_path, KEY, EMITTER).close()
    finally:
        os.close(writer)
        os.close(seen)
        ended = os.waitpid(child, 0)[1]
    assert ended == 0


def test_both_file_systems_keep_the_interface_that_the_spool_relies_on(where: tuple[Path, Files]) -> None:
    directory, files = where
    files.make_directory(directory)
    files.make_directory(directory)
    a, b = directory / "a", directory / "b"
    file = files.create(a)
    file.write(0, b"0123456789")
    file.write(8, b"89ab")
    file.sync()
    assert (file.size(), file.read(0, 99), file.read(4, 3), file.read(50, 1)) == (
        12,
        b"0123456789ab"[:8] + b"89ab",
        b"456",
        b"",
    )
    file.truncate(3)
    file.write(5, b"x")
    assert file.read(0, 9) == b"012\0\0x"
    files.create(b).close()
    files.rename(a, b)
    files.sync_directory(directory)
    assert files.names(directory) == ["b"]
    assert files.open(b).read(0, 3) == b"012"
    replaced = files.create(b)
    assert (replaced.size(), file.size()) == (0, 6)  # another file; the old one lives as long as it is open
    files.remove(b)
    assert files.names(directory) == []
    for missing in (files.open, files.remove):
        with pytest.raises(FileNotFoundError):
            missing(a)
    first = files.lock(directory / "lock")
    assert first is not None
    assert first.held
    assert files.lock(directory / "lock") is None
    first.release()
    assert not first.held
    assert files.lock(directory / "lock") is not None


APPENDER = """
import sys
from pathlib import Path
from producers.spool import Spool
from tests.spooling.life import EMITTER, KEY, sequence
spool = Spool.open(Path(sys.argv[1]), KEY, EMITTER, 2_000_000)
number = spool.durable
spool.release(number // 2)
while True:
    spool.append(sequence(range(number, number + 3)))
    number += 3
    if number % 2:
        print(spool.commit(), flush=True)
"""


def test_a_process_killed_while_it_appends_leaves_all_that_it_said_was_durable(tmp_path: Path) -> None:
    said = 0
    for lines in (1, 7, 30):
        process = subprocess.Popen([sys.executable, "-c", APPENDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(lines):
            said = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        said = max([said, *(int(line) for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n"))])
        process.stdout.close()
        process.wait()
        spool = Spool.open(tmp_path, KEY, EMITTER, 2_000_000)
        assert spool.durable >= said
        assert numbers(spool, 0, max_records=10**6, max_bytes=10**9) == list(range(spool.released, spool.durable))
        spool.close()


def test_a_full_disk_refuses_and_takes_again_and_drains_meanwhile() -> None:
    disk = Disk(Random(3))
    spool = Spool.open(Path("spool"), KEY, EMITTER, SMALL, files=disk.files())
    taken = 0
    for _ in range(9):
        spool.append(sequence(range(taken, taken + 5)))
        taken += 5
    disk.faults.capacity = disk.used + 100
    with pytest.raises(SpoolFullError, match="No space left"):
        spool.append(sequence(range(taken, taken + 5)))
    assert (spool.waiting, spool.commit()) == (taken, taken)
    disk.kill()
    disk.faults.capacity = 0
    again = Spool.open(Path("spool"), KEY, EMITTER, SMALL, files=disk.files())
    assert numbers(again) == list(range(again.durable))
    again.release(again.durable)
    disk.faults.capacity = None
    again.append(sequence(range(taken, taken + 5)))
    assert again.commit() == taken + 5
    assert numbers(again, taken - 1) == list(range(taken, taken + 5))


def test_after_a_failed_fsync_the_records_are_written_anew_and_a_second_failure_is_said() -> None:
    disk = Disk(Random(4))
    spool = Spool.open(Path("spool"), KEY, EMITTER, files=disk.files())
    spool.append(sequence(range(5)))
    spool.commit()
    spool.append(sequence(range(5, 10)))
    disk.faults = Faults(sync=1.0)
    with pytest.raises(Exception, match="beginning a file"):
        spool.commit()
    assert (spool.durable, spool.waiting) == (5, 10)
    disk.faults = Faults()
    assert spool.commit() == 10
    disk.lose_power()
    assert numbers(Spool.open(Path("spool"), KEY, EMITTER, files=disk.files())) == list(range(10))


def test_what_becomes_durable_is_synced_on_the_real_file_system_too(tmp_path: Path) -> None:
    synced: list[str] = []
    right = os.fsync

    def fsync(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        right(fd)

    with patch.object(os, "fsync", fsync):
        spool = Spool.open(tmp_path / "one", KEY, EMITTER)
        assert synced[-3:] == [tmp_path.name, "marks.new", "one"]
        spool.append(sequence([0]))
        assert synced[-2:] == [f"{0:020d}.spool.new", "one"]
        synced.clear()
        spool.commit()
        assert synced == [f"{0:020d}.spool"]
        spool.commit()
        assert len(synced) == 1
