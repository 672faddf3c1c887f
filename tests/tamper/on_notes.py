"""Edits of what the archive's key swears: checkpoint, statement, references and frontier of a segment.

Either note, where it is not genuine or speaks of something else, is one finding on the whole segment.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from random import Random

from sealtrail.seal import ZERO_DIGEST
from sealtrail.segment import Segment
from tests.archives import START_S, Archive, checkpoint_of
from tests.archives import statement_of as signed_statement
from tests.tamper.targets import EXPIRED_S, Damage, Draw, Target
from tests.test_tamper import extra_line, flat, other_order

EXPIRED = ("archive-expired",)
FOREIGN = ("forger", "archive-elsewhere")
OTHER_ROLE = ("sealer", "auditor")


def checkpoint_by(names: tuple[str, ...]) -> Draw:
    """The same tree stated by a key that must not."""

    def draw(rng: Random, t: Target) -> Damage:
        name = rng.choice(names)
        return Damage(f"checkpoint by {name}", _noted(t, checkpoint=_checkpoint(t, name)), (_bad(t),))

    return draw


def statement_by(names: tuple[str, ...]) -> Draw:
    """The same statement by a key that must not."""

    def draw(rng: Random, t: Target) -> Damage:
        name = rng.choice(names)
        return Damage(f"statement by {name}", _noted(t, statement=_statement(t, name)), (_bad(t),))

    return draw


def both_by(names: tuple[str, ...]) -> Draw:
    """Both; only the checkpoint has a time, so an expired key shows in it alone."""

    def draw(rng: Random, t: Target) -> Damage:
        name = rng.choice(names)
        archive = _noted(t, checkpoint=_checkpoint(t, name), statement=_statement(t, name))
        return Damage(f"checkpoint and statement by {name}", archive, (_bad(t),) * (1 if name in EXPIRED else 2))

    return draw


def backdated(rng: Random, t: Target) -> Damage:
    """Both by an expired key that says that it spoke while it was valid: before the seals were made."""
    checkpoint = _checkpoint(t, "archive-expired", EXPIRED_S - rng.randrange(3600))
    archive = _noted(t, checkpoint=checkpoint, statement=_statement(t, "archive-expired"))
    return Damage("checkpoint and statement by archive-expired, backdated", archive, (t.whole,))


def one_by_another_archive_key(rng: Random, t: Target) -> Damage:
    """Both keys are certified, but what is made at once has one key."""
    if rng.random() < 0.5:
        return Damage("checkpoint by archive-2", _noted(t, checkpoint=_checkpoint(t, "archive-2")), (_bad(t),))
    return Damage("statement by archive-2", _noted(t, statement=_statement(t, "archive-2")), (_bad(t),))


def replayed_checkpoint(rng: Random, t: Target) -> Damage | None:
    """An older segment's checkpoint."""
    if not t.index:
        return None
    other = t.sibling(rng.randrange(t.index))
    return Damage(f"checkpoint of segment {other.index}", _noted(t, checkpoint=other.segment.checkpoint), (t.whole,))


def later_checkpoint(rng: Random, t: Target) -> Damage | None:
    """A newer segment's checkpoint."""
    if t.is_last:
        return None
    other = t.sibling(rng.randrange(t.index + 1, t.segments))
    return Damage(f"checkpoint of segment {other.index}", _noted(t, checkpoint=other.segment.checkpoint), (t.whole,))


def replayed_statement(rng: Random, t: Target) -> Damage:
    """Another segment's statement, or another chain's."""
    other = rng.choice([t.sibling((t.index + rng.randrange(1, t.segments)) % t.segments), t.elsewhere(rng)])
    what = f"statement of segment {other.index} of {other.chain}"
    return Damage(what, _noted(t, statement=other.segment.statement), (t.whole,))


def replayed_both(rng: Random, t: Target) -> Damage:
    """Both notes of another segment: two notes, two findings."""
    other = t.sibling((t.index + rng.randrange(1, t.segments)) % t.segments)
    archive = _noted(t, checkpoint=other.segment.checkpoint, statement=other.segment.statement)
    return Damage(f"checkpoint and statement of segment {other.index}", archive, (t.whole, t.whole))


def foreign_checkpoint(rng: Random, t: Target) -> Damage:
    """Another chain's checkpoint: its key signs it under that chain's name."""
    other = t.elsewhere(rng)
    what = f"checkpoint of segment {other.index} of {other.chain}"
    return Damage(what, _noted(t, checkpoint=other.segment.checkpoint), (_bad(t),))


def defaced_checkpoint(rng: Random, t: Target) -> Damage:
    """A checkpoint with a line less, a line more, its signatures in another order, another size, or none."""
    now = t.segment.checkpoint
    lines = now.splitlines(keepends=True)
    size = now.replace(f"\n{t.end}\n", f"\n{t.end + rng.choice((-1, 1))}\n")
    made = rng.choice(
        (extra_line(now), "".join(lines[:-1]), "".join([*lines[:4], *lines[5:]]), other_order(now), size, "", now[:-1])
    )
    return Damage("a defaced checkpoint", _noted(t, checkpoint=made), (_bad(t),))


def defaced_statement(rng: Random, t: Target) -> Damage:
    """A statement that is none any more; or one whose words were changed, so that the signature does not fit."""
    now = t.segment.statement
    if rng.random() < 0.5:
        made = now.replace(f"count {t.count}\n", f"count {t.count + 1}\n")
        return Damage("a statement of another count", _noted(t, statement=made), (_bad(t),))
    made = rng.choice((extra_line(now), "", now[:-1], "".join(now.splitlines(keepends=True)[1:])))
    return Damage("a defaced statement", _noted(t, statement=made), (t.whole,))


def frontier(rng: Random, t: Target) -> Damage:
    """A frontier that is not that of the tree before."""
    hashes = list(t.segment.frontier)
    if hashes and rng.random() < 0.7:
        index = rng.randrange(len(hashes))
        hashes[index : index + 1] = rng.choice(([], [rng.randbytes(32)], [hashes[index]] * 2))
    else:
        hashes.append(rng.randbytes(32))
    archive = t.edited(lambda s: replace(s, frontier=tuple(hashes)))
    return Damage("another frontier", archive, (t.found("ALTERED", t.first),))


NAMES = (EXPIRED, FOREIGN, OTHER_ROLE)
DRAWS: tuple[Draw, ...] = (
    *(by(names) for by in (checkpoint_by, statement_by, both_by) for names in NAMES),
    backdated, one_by_another_archive_key, replayed_checkpoint, later_checkpoint, replayed_statement, replayed_both,
    foreign_checkpoint, defaced_checkpoint, defaced_statement, frontier,
)  # fmt: skip


def _bad(t: Target) -> tuple[str, str, int | None, int]:
    return t.found("BAD-SIGNATURE", t.first, t.count)


def _noted(t: Target, checkpoint: str | None = None, statement: str | None = None) -> Archive:
    """The archive with these notes in the segment; None: as it was."""

    def edit(s: Segment) -> Segment:
        return replace(
            s,
            checkpoint=s.checkpoint if checkpoint is None else checkpoint,
            statement=s.statement if statement is None else statement,
        )

    return t.edited(edit)


def _checkpoint(t: Target, name: str, time_s: int = START_S + 10) -> str:
    return checkpoint_of(flat(t.built, t.chain)[: t.end], archive_key=name, time_s=time_s)


def _statement(t: Target, name: str) -> str:
    previous = sha256(t.archive.data(t.sibling(t.index - 1).key)).digest() if t.index else ZERO_DIGEST
    return signed_statement(t.segment, previous, archive_key=name)
