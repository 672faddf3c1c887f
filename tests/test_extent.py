"""Verifying a part: by time, from a checkpoint on; and several chains at once. What is looked at is judged as in the whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealtrail.__main__ import main as command
from sealtrail.errors import UndecidedError
from sealtrail.extent import Extent, part_with_neighbours
from sealtrail.parallel import verify_in_processes
from sealtrail.report import Report
from sealtrail.source import Lock, StoredObject
from sealtrail.verify import Trust, listed_chains, verify_archive
from tests.archives import CHAINS, ROOT, TENANTS, Archive, built, checkpoint_of, flipped, openers, opening_key

ENDS = (4, 11, 17, 18, 23)  # seqs after each segment of chain 0
TRUST = Trust(ROOT, openers(*TENANTS))


def time_of(seq: int) -> int:
    """When a seal of chain 0 was sealed."""
    return [e.seal.sealed_at_us for segment in built().chains[CHAINS[0]] for e in segment][seq]


def kept(segments: int) -> bytes:
    """The checkpoint of the first so many segments of chain 0."""
    return checkpoint_of([e for segment in built().chains[CHAINS[0]][:segments] for e in segment]).encode()


def part(archive: Archive, extent: Extent, checkpoint: bytes | None = None) -> Report:
    trust = replace(TRUST, checkpoints={CHAINS[0]: checkpoint} if checkpoint else {})
    return verify_archive(archive, trust, prefix=CHAINS[0], extent=extent)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 22), st.integers(0, 22))
def test_a_time_is_the_segments_that_hold_a_seal_of_it_and_all_of_them_are_valid(one: int, other: int) -> None:
    first, last = sorted((one, other))
    report = part(built().archive, Extent(time_of(first), time_of(last) + 1))
    begins = max([end for end in ENDS if end <= first], default=0)
    ends = min(end for end in ENDS if end > last)
    assert report.good and report.chains[0].seals == ends - begins == report.verdicts["VALID"]
    assert any("only a part of each chain" in caveat for caveat in report.caveats)


@pytest.mark.parametrize(
    ("extent", "seals"),
    [
        (Extent(None, 0), 0),
        (Extent(time_of(22) + 1, None), 5),  # nothing is that new: the last segment stands for it
        (Extent(0, None), 23),
        (Extent(None, time_of(0) + 1), 4),
    ],
)
def test_a_time_without_seals_is_no_error(extent: Extent, seals: int) -> None:
    report = part(built().archive, extent)
    assert not report.findings and report.chains[0].seals == seals


@pytest.mark.parametrize("segments", [1, 2, 3, 4, 5])
def test_after_a_checkpoint_only_what_is_new_and_the_segment_before_it_is_read(segments: int) -> None:
    report = part(built().archive, Extent(after_checkpoint=True), kept(segments))
    assert report.good and report.chains[0].segments == 5 - segments + 1
    assert not any("keeps the trusted checkpoint" in caveat for caveat in report.caveats)


def test_after_a_checkpoint_of_another_history_the_fork_is_found() -> None:
    entries = [e for segment in built().chains[CHAINS[0]][:3] for e in segment]
    forged = checkpoint_of([*entries[:-1], replace(entries[-1], leaf=bytes(32))]).encode()
    report = part(built().archive, Extent(after_checkpoint=True), forged)
    assert [(f.kind, f.step) for f in report.findings] == [("FORKED", 14)]


def test_a_tail_that_was_cut_is_found_after_a_checkpoint() -> None:
    b = built()
    report = part(b.archive.without(b.key(3), b.key(4)), Extent(after_checkpoint=True), kept(5))
    assert [(f.kind, f.seq, f.count) for f in report.findings] == [("TRUNCATED", 17, 6)]


def test_a_time_before_a_checkpoints_end_says_that_it_could_not_be_compared() -> None:
    report = part(built().archive, Extent(None, time_of(5)), kept(5))
    assert report.good and any("lies beyond what was verified" in caveat for caveat in report.caveats)


def test_damage_within_the_part_is_found_and_damage_outside_is_not_looked_for() -> None:
    b = built()
    damaged = b.edited(2, lambda s: replace(s, seals=(flipped(s.seals[0], 400), *s.seals[1:])))
    within = part(damaged, Extent(time_of(11), time_of(16)))
    assert [(f.kind, f.seq) for f in within.findings] == [("ALTERED", 11)]
    assert part(damaged, Extent(time_of(18), None)).good
    assert part(damaged, Extent(None, time_of(10))).good


def test_a_segment_removed_within_the_part_is_missing() -> None:
    b = built()
    report = part(b.archive.without(b.key(2)), Extent(time_of(5), None))
    assert [(f.kind, f.seq, f.count) for f in report.findings] == [("MISSING", 11, 6)]


def test_a_segment_that_cannot_be_read_never_makes_the_part_smaller() -> None:
    b = built()
    report = part(b.archive.replaced(b.key(2), b"rubbish"), Extent(time_of(13), time_of(14)))
    assert [(f.kind, f.seq, f.count) for f in report.findings] == [("ALTERED", 11, 6)]


@settings(max_examples=60, deadline=None)
@given(st.none() | st.integers(0, 22), st.none() | st.integers(0, 23))
def test_with_its_neighbours_a_time_shows_its_bounds(since: int | None, until: int | None) -> None:
    segments = dict(listed_chains(built().archive, CHAINS[0], Report()))[CHAINS[0]]
    to_us = None if until is None else time_of(22) + 1 if until > 22 else time_of(until)
    extent = Extent(None if since is None else time_of(since), to_us)
    part = part_with_neighbours(built().archive, segments, extent)
    firsts = [int(stored.key[-25:-5]) for stored, _ in part.segments]
    assert part.from_start == (firsts[0] == 0) and part.reaches_end == (firsts[-1] == 18)
    assert part.from_start or (since is not None and firsts[0] < since)  # begins before, or where the chain does
    last = next(end for end in ENDS if end > firsts[-1]) - 1
    assert part.reaches_end or (until is not None and last >= until)
    inner = [n for n, end in enumerate(ENDS) if end > (since or 0) and (until is None or [0, *ENDS][n] < until)]
    assert len(firsts) <= max(len(inner), 1) + 2


# -- several chains at once


def same(one: Report, other: Report) -> bool:
    return one.as_json() == other.as_json()


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_at_once_or_one_after_the_other_the_report_is_the_same(jobs: int) -> None:
    b = built()
    for archive in (b.archive, b.archive.without(b.key(2)), b.archive.without(*(b.key(n, CHAINS[1]) for n in range(5)))):
        counted = [0, 0, 0]

        def progress(segments: int, seals: int, counted: list[int] = counted) -> None:
            counted[0] += segments
            counted[1] += seals

        def started(segments: int, counted: list[int] = counted) -> None:
            counted[2] = segments

        report = verify_in_processes(lambda a=archive: a, TRUST, jobs=jobs, started=started, progress=progress)  # type: ignore[misc]
        assert same(report, verify_archive(archive, TRUST))
        assert counted == [counted[2], sum(c.seals for c in report.chains), sum(c.segments for c in report.chains)]


class Deadly:
    """A source whose reader is killed where it reads a chain; and no other way to tell parent from worker."""

    def __init__(self, inner: Archive, parent: int) -> None:
        self._inner, self._parent = inner, parent

    def list(self, prefix: str) -> Iterator[StoredObject]:
        return self._inner.list(prefix)

    def read(self, key: str, version: str) -> bytes:
        if os.getpid() != self._parent and key.startswith("chains/"):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._inner.read(key, version)

    def lock(self, key: str, version: str) -> Lock | None:
        return self._inner.lock(key, version)


def test_a_worker_that_is_killed_leaves_the_outcome_undecided() -> None:
    with pytest.raises(UndecidedError, match="ended"):
        verify_in_processes(lambda: Deadly(built().archive, PARENT), TRUST, jobs=2)


PARENT = os.getpid()


# -- the command


def test_the_command_verifies_a_part_of_a_copy_with_several_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built().archive.write_to(tmp_path / "copy")
    (tmp_path / "root.vkey").write_text(ROOT.vkey)
    keys = tmp_path / "keys"
    keys.mkdir()
    for tenant in TENANTS:
        (keys / f"{tenant}.key").write_bytes(opening_key(f"tenant-data-{tenant}").private_bytes_raw())
    given = [str(tmp_path / "copy"), "--root", str(tmp_path / "root.vkey"), "--keys", str(keys), "--jobs", "2"]
    assert command(given) == 0
    assert command([*given, "--from", "2020-01-01", "--to", "2030-01-01T00:00:00Z"]) == 0
    assert "only a part of each chain was verified, 10 segments" in capsys.readouterr().err
    with pytest.raises(SystemExit) as refused:
        command([*given, "--from", "yesterday"])
    assert refused.value.code == 2
