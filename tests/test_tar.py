"""The one form of a tar: what we write, tar and Python's tarfile read; what deviates by a byte is not read."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.errors import EvidenceError
from sealtrail.tar import BLOCK, MAX_SIZE, TRAILER, Member, header, members_of, padding
from tests.archives import flipped
from tests.tools import program

PARTS = st.from_regex(r"[A-Za-z0-9@_][A-Za-z0-9@_.-]{0,40}", fullmatch=True)
NAMES = st.lists(PARTS, min_size=1, max_size=8).map("/".join).filter(lambda name: len(name) <= 100)
LONG = f"chains/{'a' * 60}/{'b' * 50}/c/0/segments/{0:020d}.avro"


def packed(files: dict[str, bytes]) -> bytes:
    """The tar of these files."""
    return b"".join(header(n, len(files[n])) + files[n] + padding(len(files[n])) for n in sorted(files)) + TRAILER


def read(data: bytes) -> dict[str, bytes]:
    """The files of a tar."""
    members = members_of(lambda offset, size: data[offset : offset + size], len(data))
    return {m.name: data[m.offset : m.offset + m.size] for m in members}


def by_python(files: dict[str, bytes]) -> bytes:
    """As Python's tarfile packs the same, up to the end of its last member."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(files[name]), 0o644, 0
            tar.addfile(info, io.BytesIO(files[name]))
        end = tar.offset
    return out.getvalue()[:end]


def without_clashes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {n: d for n, d in files.items() if not any(other != n and n.startswith(f"{other}/") for other in files)}


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=1100), max_size=6).map(without_clashes))
def test_what_is_packed_is_read_and_is_what_pythons_tarfile_packs(files: dict[str, bytes]) -> None:
    data = packed(files)
    assert read(data) == files
    assert data[: -len(TRAILER)] == by_python(files)


def test_a_name_of_more_than_100_bytes_is_split_as_tar_does_and_unpacks(tmp_path: Path) -> None:
    files = {LONG: b"long", "a": b"short"}
    assert read(packed(files)) == files and packed(files)[: -len(TRAILER)] == by_python(files)
    (tmp_path / "b.tar").write_bytes(packed(files))
    subprocess.run([program("tar", "tar"), "xf", "b.tar"], cwd=tmp_path, check=True)
    assert (tmp_path / LONG).read_bytes() == b"long"


@pytest.mark.parametrize(
    "name",
    [
        "", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "-x", "a/-rf", "a b", "a\nb", "ä", "a\\b", "x" * 101,
        f"{'p' * 156}/a", f"{'p' * 20}/{'n' * 101}",
    ],
)  # fmt: skip
def test_a_name_that_could_lead_elsewhere_or_does_not_fit_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        header(name, 1)


@pytest.mark.parametrize("size", [-1, MAX_SIZE + 1])
def test_a_size_over_the_limit_is_refused(size: int) -> None:
    with pytest.raises(EvidenceError):
        header("a", size)


GOOD = {"MANIFEST": b"m" * 700, "a/b": b"", "c": b"c"}


def resummed(block: bytes) -> bytes:
    """A header with the checksum that belongs to it."""
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def head(at: int, new: bytes) -> Callable[[bytes], bytes]:
    """Other bytes in the first header, with its checksum made right again."""
    return lambda data: resummed(data[:at] + new + data[at + len(new) : BLOCK]) + data[BLOCK:]


def members(*names: str) -> Callable[[bytes], bytes]:
    """A tar of these names in this order."""
    return lambda _: b"".join(header(name, 0) for name in names) + TRAILER


BAD: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "an end of one block": lambda data: data[:-BLOCK],
    "an end of three blocks": lambda data: data + bytes(BLOCK),
    "trailing byte": lambda data: data + b"\0",
    "no end": lambda data: data[: -len(TRAILER)],
    "cut in a body": lambda data: data[: BLOCK + 100],
    "cut in the padding": lambda data: data[: BLOCK + 900],
    "a byte in the padding": lambda data: data[: BLOCK + 1000] + b"x" + data[BLOCK + 1001 :],
    "repeated": members("a", "a"),
    "not sorted": members("b", "a"),
    "a file in a file": members("a", "a.b", "a/b"),
    "another checksum": lambda data: data[:148] + b"000000\0 " + data[156:],
    "absolute": head(0, b"/ANIFEST"),
    "upwards": head(0, b"../a\0\0\0\0"),
    "bytes after the name": head(20, b"x"),
    "an executable": head(100, b"0000755\0"),
    "an owner": head(108, b"0000001\0"),
    "an owner's name": head(265, b"root"),
    "a time": head(136, b"00000000001\0"),
    "a link": head(156, b"2"),
    "a folder": head(156, b"5"),
    "an old file": head(156, b"\0"),
    "an extended header": head(156, b"x"),
    "a link's target": head(157, b"/etc/passwd"),
    "gnu's magic": head(257, b"ustar  \0"),
    "a prefix where none is needed": head(345, b"a"),
    "a size in blanks": head(124, b"       1274\0"),
    "a size in base 256": head(124, b"\x80" + bytes(10) + b"\x01"),
    "a size beyond the end": head(124, b"00000100000\0"),
    "a size over the limit": head(124, b"77777777777\0"),
    "rubbish after the header": head(505, b"x"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_in_the_one_form_is_refused(name: str) -> None:
    assert read(packed(GOOD)) == GOOD
    with pytest.raises(EvidenceError):
        read(BAD[name](packed(GOOD)))


def test_an_index_tells_where_the_bytes_lie() -> None:
    data = packed(GOOD)
    index = members_of(lambda offset, size: data[offset : offset + size], len(data))
    assert index == (Member("MANIFEST", 512, 700), Member("a/b", 2048, 0), Member("c", 2560, 1))


def test_every_bit_that_is_not_a_bodys_is_given() -> None:
    data = packed(GOOD)
    bodies = {n for m in members_of(lambda o, s: data[o : o + s], len(data)) for n in range(m.offset, m.offset + m.size)}
    for bit in range(0, len(data) * 8, 3):
        if bit // 8 not in bodies:
            with pytest.raises(EvidenceError):
                read(flipped(data, bit))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_bytes_are_a_tar_or_an_evidence_error(data: st.DataObject) -> None:
    whole = packed(GOOD)
    at = data.draw(st.integers(0, len(whole)))
    changed = whole[:at] + data.draw(st.binary(max_size=600)) + whole[data.draw(st.integers(at, len(whole))) :]
    try:
        read(changed)
    except EvidenceError:
        return
    assert len(changed) % BLOCK == 0
