"""Locating damage in a run of seals: which one was changed, removed, added or put elsewhere.

Every seal states its own number and the leaf hash of the one before it. `place` weighs both: each number that the
segment should hold is held by the one stored seal that stands for it; what is left over, or lacking, is damage.
`broken_links` then looks at holders of neighbouring numbers that do not fit each other. One damage is one finding.
These are the rules of step 6 in `docs/evidence-format.md`, and the letters are its letters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sealtrail.report import FindingKind
from sealtrail.seal import Seal


@dataclass(frozen=True, slots=True)
class Damage:
    """`count` seals from number `seq` on; of those that are gone any number may be claimed, so never make a set of them."""

    kind: FindingKind
    seq: int
    count: int
    detail: str
    step: int = 6


@dataclass(frozen=True, slots=True)
class Run:
    """Seals as stored, None where the bytes are not one, and their leaf hashes.

    They should be numbered from `first_seq` to `end`, exclusive. `prev` is the leaf hash of the seal before, None if it is
    not known.
    """

    seals: Sequence[Seal | None]
    leaves: Sequence[bytes]
    first_seq: int
    end: int
    prev: bytes | None

    def number(self, index: int) -> int | None:
        """The number that the seal stored there states; None if there is none."""
        seal = self.seals[index] if 0 <= index < len(self.seals) else None
        return None if seal is None else seal.seq

    def prev_of(self, index: int) -> bytes | None:
        """The leaf hash that the seal stored there names."""
        seal = self.seals[index]
        return None if seal is None else seal.prev


@dataclass(frozen=True, slots=True)
class Placement:
    """Who stands for which number.

    Args:
        positions: for each stored seal the number that it stands for; None if it should not be there.
        holders: by number, in order, the index of the seal that states it and holds it.
    """

    positions: list[int | None]
    holders: dict[int, int]
    damages: list[Damage]


def place(run: Run, is_signed: Callable[[int], bool]) -> Placement:
    """The number of each stored seal, and what the numbers show.

    Args:
        is_signed: whether the seal stored at an index has a valid signature; asked where a number is stated twice.
    """
    if len(run.seals) == run.end - run.first_seq:
        stated: list[int | None] = [None if seal is None else seal.seq for seal in run.seals]
        if stated == list(range(run.first_seq, run.end)):  # nearly always
            return Placement(stated, {run.first_seq + index: index for index in range(len(run.seals))}, [])
    holders = _holders(run, is_signed)
    positions: list[int | None] = [None] * len(run.seals)
    for seq, index in holders.items():
        positions[index] = seq
    damages = [*_reordered(holders), *_holes(run, holders, positions)]
    return Placement(positions, holders, [*damages, *_extra(run, holders, positions)])


def broken_links(run: Run, holders: Mapping[int, int], known: Sequence[Damage], signed: frozenset[int]) -> list[Damage]:
    """(e) Holders of neighbouring numbers of which the later does not name the earlier's leaf hash.

    Args:
        holders: as `place` gives them.
        known: damages of `place`: no holder next to an altered seal is blamed for it.
        signed: indices whose signature is valid.
    """
    altered = {d.seq for d in known if d.kind is FindingKind.ALTERED}
    damages = []
    for seq, index in holders.items():
        before = holders.get(seq - 1)
        leaf = run.leaves[before] if before is not None else run.prev if seq == run.first_seq else None
        if leaf is None or run.prev_of(index) == leaf or not altered.isdisjoint((seq - 1, seq)):
            continue
        after = holders.get(seq + 1)
        vouched = index in signed or (after is not None and run.prev_of(after) == run.leaves[index])
        if vouched and before is not None and before not in signed:
            damages.append(Damage(FindingKind.ALTERED, seq - 1, 1, "its successor names another leaf hash"))
        else:
            damages.append(Damage(FindingKind.ALTERED, seq, 1, "it does not name its predecessor's leaf hash"))
        altered.add(damages[-1].seq)
    return damages


def _holders(run: Run, is_signed: Callable[[int], bool]) -> dict[int, int]:
    """(a) By number, in order, the index of the seal that holds it: the one of those that state it that most vouches for."""
    stating: dict[int, list[int]] = {}
    for index in range(len(run.seals)):
        seq = run.number(index)
        if seq is not None and run.first_seq <= seq < run.end:
            stating.setdefault(seq, []).append(index)
    lengths = _lengths(run) if len(stating) < len(run.seals) else []
    holders = {}
    for seq, indices in sorted(stating.items()):
        holders[seq] = indices[0]
        if len(indices) == 1:
            continue
        before = {run.leaves[i] for i in stating.get(seq - 1, ())} if seq > run.first_seq else {run.prev}
        after = {run.prev_of(i) for i in stating.get(seq + 1, ())}
        rank = {i: ((run.prev_of(i) in before) + (run.leaves[i] in after) + is_signed(i), lengths[i]) for i in indices}
        holders[seq] = max(indices, key=lambda i: rank[i])  # of equals the first
    return holders


def _lengths(run: Run) -> list[int]:
    """For each stored seal, how many stand with it in one stretch of numbers that go up by one."""
    lengths: list[int] = []
    while (start := len(lengths)) < len(run.seals):
        stop = start + 1
        while (seq := run.number(stop)) is not None and run.number(stop - 1) == seq - 1:
            stop += 1
        lengths += [stop - start] * (stop - start)
    return lengths


def _reordered(holders: Mapping[int, int]) -> Iterator[Damage]:
    """(b) Each shortest stretch of holders that need only be sorted."""
    stored = sorted(holders, key=lambda seq: holders[seq])
    rank = {seq: n for n, seq in enumerate(holders)}
    start = highest = 0
    for n, seq in enumerate(stored):
        highest = max(highest, rank[seq])
        if highest == n:
            if n > start:
                first = min(stored[start : n + 1])
                yield Damage(FindingKind.REORDERED, first, n + 1 - start, "in another order than their numbers")
            start = n + 1


def _holes(run: Run, holders: Mapping[int, int], positions: list[int | None]) -> Iterator[Damage]:
    """(c) Numbers that no seal holds: ALTERED where others stand in their place, in `positions` from now on; else gone."""
    before, seq = -1, run.first_seq
    for held, index in [*holders.items(), (run.end, len(run.seals))]:
        spare = (i for i in range(before + 1, index) if positions[i] is None)
        while seq < held and (i := next(spare, None)) is not None:
            positions[i] = seq
            stated = run.number(i)
            detail = (
                "its bytes are no seal of this chain" if stated is None else f"a seal that states {stated} stands in its place"
            )
            yield Damage(FindingKind.ALTERED, seq, 1, detail)
            seq += 1
        if seq < held and held < run.end:
            yield Damage(FindingKind.MISSING, seq, held - seq, "removed from the segment")
        elif seq < held:
            yield Damage(FindingKind.TRUNCATED, seq, held - seq, f"the segment reaches to {run.end - 1}", 10)
        before, seq = index, held + 1


def _extra(run: Run, holders: Mapping[int, int], positions: Sequence[int | None]) -> Iterator[Damage]:
    """(d) Seals that stand for no number."""
    by_index = {index: seq for seq, index in holders.items()}
    last = max((i for i, seq in enumerate(positions) if seq is not None), default=-1)
    here, appended = run.first_seq, 0
    for index, position in enumerate(positions):
        stated = run.number(index)
        if index in by_index:
            here = by_index[index] + 1
        elif position is not None:
            here = position + 1
        elif stated is not None and stated in holders:
            yield Damage(FindingKind.INSERTED, stated, 1, f"another seal of its number, at index {index}")
        elif index < last:
            yield Damage(FindingKind.INSERTED, here, 1, f"it does not belong where it stands, at index {index}")
        else:
            appended += 1
    if appended:
        yield Damage(FindingKind.INSERTED, run.end, appended, f"the segment reaches to {run.end - 1} only", 10)
