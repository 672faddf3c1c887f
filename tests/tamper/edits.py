"""Edits at random of an archive of several chains: each is found, where it was made, and nothing else is.

What must be found is computed by whoever makes the edit. A fourth of the edits damages two or three chains at once; a third
is judged beside checkpoints that somebody kept, and those that only such a checkpoint shows always are.
"""

from __future__ import annotations

from random import Random

from sealtrail.report import Report
from sealtrail.verify import Trust, verify_archive
from tests.archives import ROOT, TENANTS, checkpoint_of, openers
from tests.tamper import on_history, on_notes, on_objects, on_seals, on_signatures
from tests.tamper.judging import Edit, problem
from tests.tamper.remembered import Memory
from tests.tamper.targets import Damage, Draw, Target, trail
from tests.test_tamper import flat

DRAWS = on_seals.DRAWS + on_signatures.DRAWS + on_notes.DRAWS + on_objects.DRAWS + on_history.DRAWS
ALONE: tuple[Draw, ...] = (on_objects.certificate, on_objects.lost_certificate)  # they concern all chains
SHARED = tuple(draw for draw in DRAWS if draw not in ALONE)
MORE_CHAINS = 0.25
KEPT = 0.3
CONTROL_EVERY = 101  # edits that are verified with nothing remembered as well


class Edits:
    """The trial of one edit, by its number."""

    what = "edits"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._built = trail()
        self._lengths = {chain: len(flat(self._built, chain)) for chain in self._built.chains}
        self._memory = Memory()
        self._openers = openers(*TENANTS)
        assert self._verified(Edit(self._built.archive, {}, {}, self._lengths)).good

    def __call__(self, number: int) -> str | None:
        """Draw it, verify with the tenants' keys, and compare."""
        edit = self.drawn(number)
        told: str | None
        try:
            told = self._looked_at(edit, control=number % CONTROL_EVERY == 0)
        except Exception as error:  # whatever it is: a verifier says what it found
            told = repr(error)
        return None if told is None else f"edit {number} of seed {self._seed}: {told}; {edit}"

    def drawn(self, number: int) -> Edit:
        """One damage a chain; each archive has the damages before it too."""
        rng = Random(f"{self._seed}/{number}")
        draw = rng.choice(DRAWS)
        alone = draw in ALONE
        chains = rng.sample(list(self._lengths), 1 if alone or rng.random() >= MORE_CHAINS else rng.randint(2, 3))
        archive, damages, kinds = self._built.archive, dict[str, Damage](), dict[str, str]()
        for chain in chains:
            damage = None
            while damage is None:
                damage = draw(rng, Target(archive, self._built, chain, rng.randrange(len(self._built.chains[chain]))))
            damages[chain], archive = damage, damage.archive
            kinds[chain] = f"{draw.__module__.rpartition('.')[2]}.{draw.__qualname__.partition('.')[0]}"
            draw = rng.choice(SHARED)
        return Edit(archive, damages, kinds, {} if alone else self._kept(rng, damages))

    def _kept(self, rng: Random, damages: dict[str, Damage]) -> dict[str, int]:
        kept = {}
        for chain, segments in self._built.chains.items():
            damage, from_seq = damages.get(chain), 0
            if damage is not None and not damage.found:
                from_seq = max(damage.end or 0, damage.fork or 0)  # nothing else tells
            elif rng.random() >= KEPT:
                continue
            ends = (entries[-1].seal.seq + 1 for entries in segments)
            kept[chain] = rng.choice([end for end in ends if end > from_seq])
        return kept

    def _looked_at(self, edit: Edit, *, control: bool) -> str | None:
        with self._memory.in_use():
            report = self._verified(edit)
        told = problem(edit, report, self._lengths)
        if told is None and control and self._verified(edit).as_json() != report.as_json():
            return "another report than with nothing remembered"
        return told

    def _verified(self, edit: Edit) -> Report:
        checkpoints = {c: checkpoint_of(flat(self._built, c)[:size]).encode() for c, size in edit.kept.items()}
        return verify_archive(edit.archive, Trust(ROOT, self._openers, checkpoints))
