"""Locating damage in a run of seals: which one was changed, removed, added or swapped.

Every seal names its own number and the leaf hash of the one before it, and a valid signature vouches
for one seal by itself. First `number` gives every stored seal the position that it stands for, from the
numbers around it; then `broken_links` looks at the links where the numbers meet. A seal is *vouched for*
if its signature is valid or its successor's `prev` is its leaf hash. Where a link is broken, the side
that nothing vouches for is the altered one. One damage is reported once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sealtrail.report import FindingKind
from sealtrail.seal import Seal


@dataclass(frozen=True, slots=True)
class Damage:
    """`count` seals from number `seq` on; of MISSING ones any number may be claimed, so never make a set of them."""

    kind: FindingKind
    seq: int
    count: int
    detail: str


@dataclass(frozen=True, slots=True)
class Run:
    """Seals as stored, None where the bytes are not one, and their leaf hashes.

    They should be numbered from `first_seq` on; `prev` is the leaf hash of the seal before, None if it is not known.
    """

    seals: Sequence[Seal | None]
    leaves: Sequence[bytes]
    first_seq: int
    prev: bytes | None

    def linked(self, index: int) -> bool:
        """Whether a seal names the leaf hash of the one stored before it."""
        seal = self.seals[index]
        before = self.leaves[index - 1] if index else self.prev
        return seal is not None and (before is None or seal.prev == before)

    def number(self, index: int) -> int | None:
        """The number that the seal stored there says; None beyond the end."""
        seal = self.seals[index] if index < len(self.seals) else None
        return None if seal is None else seal.seq


def number(run: Run, end: int) -> tuple[list[int], list[Damage]]:
    """The position of each stored seal, and where their numbers do not go up by one.

    Args:
        end: the number after the last one that the segment should hold.
    """
    positions: list[int] = []
    damages: list[Damage] = []
    present = {seal.seq for seal in run.seals if seal is not None}
    expected = run.first_seq
    while (index := len(positions)) < len(run.seals):
        stated = run.number(index)
        if stated == expected:
            positions.append(expected)
            expected += 1
            continue
        swapped = _permutation(run, index, expected) if expected in present else 0
        if swapped:
            damages.append(Damage(FindingKind.REORDERED, expected, swapped, "in another order than their numbers"))
            positions += [seal.seq for seal in islice(run.seals, index, index + swapped) if seal is not None]
            expected += swapped
        elif run.number(index + 1) == expected:
            seq = stated if stated is not None and run.first_seq <= stated < expected else expected
            damages.append(Damage(FindingKind.INSERTED, seq, 1, f"stored at index {index}, where it does not belong"))
            positions.append(seq)
        elif stated is None:
            damages.append(Damage(FindingKind.ALTERED, expected, 1, "its bytes are not a seal"))
            positions.append(expected)
            expected += 1
        elif _renumbered(run, index, expected, end):
            damages.append(Damage(FindingKind.ALTERED, expected, 1, f"its number was changed to {stated}"))
            positions.append(expected)
            expected += 1
        elif stated > expected and not expected <= _following(run, index, stated) < stated:
            damages.append(Damage(FindingKind.MISSING, expected, stated - expected, "removed from the segment"))
            positions.append(stated)
            expected = stated + 1
        else:
            damages.append(Damage(FindingKind.INSERTED, stated, 1, f"stored at index {index}, out of its place"))
            positions.append(stated)
    return positions, damages


def broken_links(run: Run, positions: Sequence[int], known: Sequence[Damage], signed: frozenset[int]) -> list[Damage]:
    """Broken links that none of the `known` damages explains.

    Args:
        signed: indices whose signature is valid.
    """

    def vouched(index: int) -> bool:
        return index in signed or (index + 1 < len(run.seals) and run.linked(index + 1))

    # A link next to a removed or swapped seal is broken because of it: one damage, one finding.
    touched = {seq for d in known if d.kind is not FindingKind.MISSING for seq in range(d.seq, d.seq + d.count)}
    damages = []
    for index, position in enumerate(positions):
        if run.seals[index] is None or run.linked(index):
            continue
        if (positions[index - 1] + 1 if index else run.first_seq) != position:
            continue  # numbers do not meet here: `number` spoke of it
        if not touched.isdisjoint((position - 1, position)):
            continue
        if vouched(index) and index and index - 1 not in signed:
            damages.append(Damage(FindingKind.ALTERED, position - 1, 1, "its successor names another leaf hash"))
        else:
            damages.append(Damage(FindingKind.ALTERED, position, 1, "it does not name its predecessor's leaf hash"))
        touched.add(damages[-1].seq)
    return damages


def _permutation(run: Run, index: int, expected: int) -> int:
    """Length of the shortest run from `index` on that holds the expected numbers in another order, or 0."""
    highest = 0
    numbers: set[int] = set()
    for length, seal in enumerate(islice(run.seals, index, None), start=1):
        if seal is None or seal.seq < expected or seal.seq in numbers:
            return 0
        numbers.add(seal.seq)
        highest = max(highest, seal.seq)
        if highest == expected + length - 1:
            after = run.number(index + length)
            return length if after is None or after > highest else 0
    return 0


def _following(run: Run, index: int, otherwise: int) -> int:
    """The number of the next seal that is one; `otherwise` if none follows."""
    after = (seal.seq for seal in islice(run.seals, index + 1, None) if seal is not None)
    return next(after, otherwise)


def _renumbered(run: Run, index: int, expected: int, end: int) -> bool:
    """Whether only this seal's number is wrong: those after it go on as if it were right, or none may follow."""
    stated, after = run.number(index), run.number(index + 1)
    if stated is None or after == stated + 1 or (index and run.number(index - 1) == stated - 1):
        return False  # its neighbours' numbers go with what it says: something is missing, or was put there
    if after == expected + 1 or stated >= end or (index == len(run.seals) - 1 and expected == end - 1):
        return True
    return (index > 0 or run.prev is not None) and run.linked(index)
