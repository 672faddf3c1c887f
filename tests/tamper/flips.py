"""Single bits of a segment of 1,000 seals: each flip is found, where it is, and the report is never good.

What a flip must give follows from the part of the format that it hits, alone. Contents objects are not flipped here.
"""

from __future__ import annotations

from dataclasses import replace

from sealtrail.report import Report, Verdict
from sealtrail.verify import Trust, verify_archive
from tests.archives import CHAINS, ROOT, TENANTS, Built, ChainScript, RunScript, build, epoch, flipped, openers
from tests.tamper.places import Part, Place, places_of
from tests.tamper.remembered import Memory
from tests.tamper.repeatable import repeatable
from tests.test_tamper import Found, findings

SEALS = 1_000
SIGNED_EVERY = 25
CONTROL_EVERY = 2_003  # flips that are tried three times; a prime, so that they wander through every field
UNREADABLE: Found = ("ALTERED", 0, 1)  # the object as a whole; the last segment of a chain counts as one record
WHOLE = (0, SEALS)


def thousand() -> Built:
    """One chain of one segment."""
    script, run = ChainScript(), RunScript("github", epoch(9))
    script.genesis()
    with repeatable():
        script.open(run)
    while len(script.entries) < SEALS - 2:
        script.event(run, ("acme", "globex")[run.number % 2], signed=len(script.entries) % SIGNED_EVERY == 0)
    script.close(run)
    script.heartbeat()
    assert len(script.entries) == SEALS
    return build({CHAINS[0]: [script.entries]})


def problem(place: Place, report: Report) -> str | None:
    """What a report lacks that must tell of a flip there; None if it is as it must be."""
    found = findings(report)
    if report.good or not found:
        return "GOOD" if report.good else "no finding"
    return None if _as_it_must(place, found) else str(found)


def _as_it_must(place: Place, found: list[Found]) -> bool:
    seq = place.seq or 0
    match place.part:
        case Part.SEAL:
            # Nothing but its own signature vouches for the last seal beside the tree.
            kinds = ("ALTERED", "BAD-SIGNATURE") if seq == SEALS - 1 else ("ALTERED",)
            return len(found) == 1 and found[0][0] in kinds and found[0][1:] == (seq, 1)
        case Part.LENGTH:
            # As a rule the rest does not read; where it does, borders between seals moved, from this one on.
            moved = ("ALTERED", seq, 1) in found and all(n is not None and seq <= n < SEALS for _, n, _ in found)
            return moved or found == [UNREADABLE]
        case Part.SIGNATURE_KEY:
            return found == [("UNKNOWN-KEY", seq, 1)]
        case Part.SIGNATURE:
            return found == [("BAD-SIGNATURE", seq, 1)]
        case Part.SIGNATURE_SEQ:
            # One is missing here, and stands where none belongs, of whatever number.
            whole = ("BAD-SIGNATURE", seq, 1) in found and all((kind, n) == ("BAD-SIGNATURE", 1) for kind, _, n in found)
            return whole or found == [UNREADABLE]
        case Part.REFERENCES:
            others = [f for f in found if f != ("ALTERED", *WHOLE)]
            return found == [UNREADABLE] or (len(others) == len(found) - 1 and all(_of_contents(f) for f in others))
        case Part.CHECKPOINT:
            return found in ([("BAD-SIGNATURE", *WHOLE)], [UNREADABLE])
        case Part.STATEMENT:
            return found in ([("BAD-SIGNATURE", *WHOLE)], [("ALTERED", *WHOLE)], [UNREADABLE])
    return found == [UNREADABLE]


def _of_contents(found: Found) -> bool:
    kind, seq, _ = found
    return kind in ("ALTERED", "MISSING", "WRONG-LOCK") and seq is not None and 0 <= seq < SEALS


class Flips:
    """The trial of one bit, by its number in the segment's object."""

    what = "bits"

    def __init__(self) -> None:
        built = thousand()
        self._key = built.key(0)
        self._archive = built.archive.copy()
        self._version = self._archive.objects[self._key][-1]
        self._whole = built.archive.data(self._key)
        self._places = places_of(self._whole)
        self._memory = Memory()
        self._closed, self._opened = Trust(ROOT), Trust(ROOT, openers(*TENANTS))
        assert verify_archive(built.archive, self._opened).good
        with self._memory.in_use():
            assert not verify_archive(built.archive, self._closed).findings

    def __len__(self) -> int:
        """How many bits there are."""
        return 8 * len(self._whole)

    def __call__(self, number: int) -> str | None:
        """Without tenants' keys, so that contents stay closed; now and then with them, and with nothing remembered."""
        place = self._places[number // 8]
        self._archive.objects[self._key] = [replace(self._version, data=flipped(self._whole, number))]
        told: str | None
        try:
            told = self._looked_at(place, control=number % CONTROL_EVERY == 0)
        except Exception as error:  # whatever it is: a verifier says what it found
            told = repr(error)
        return None if told is None else f"bit {number % 8} of byte {number // 8}, {place}: {told}"

    def _looked_at(self, place: Place, *, control: bool) -> str | None:
        with self._memory.in_use():
            report = verify_archive(self._archive, self._closed)
        told = problem(place, report)
        if told is None and report.verdicts[Verdict.VALID]:
            return f"{report.verdicts[Verdict.VALID]} records VALID"
        return self._control(place, report) if told is None and control else told

    def _control(self, place: Place, report: Report) -> str | None:
        if verify_archive(self._archive, self._closed).as_json() != report.as_json():
            return "another report than with nothing remembered"
        told = problem(place, verify_archive(self._archive, self._opened))
        return None if told is None else f"with contents opened: {told}"
