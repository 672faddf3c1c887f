"""The archive that is edited, a place in it, and what an edit says that it did and must give.

Three chains of seven segments, of one seal to some dozens, with every kind of seal, two sources, three tenants, two classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import accumulate
from random import Random

from sealtrail import layout
from sealtrail.certificate import Role
from sealtrail.seal import Kind, LogClass, Reason
from sealtrail.segment import Segment, encode_segment
from sinks.archive.checking import Entry
from tests.archives import (
    CHAINS,
    PART,
    START_S,
    TENANTS,
    TOPIC_UUID,
    Archive,
    Built,
    ChainScript,
    RunScript,
    build,
    certificate,
    epoch,
    public_of,
)
from tests.tamper.repeatable import repeatable
from tests.test_tamper import flat

NAMES = (*CHAINS, layout.chain_name("audit.example", "local", "audit.raw", TOPIC_UUID, 0, len(CHAINS)))
SIZES = (1, 2, 5, 8, 13, 21, 34)  # seals a segment, in another order each chain
EXPIRED_S = START_S - 3_600  # long enough before the seals that a checkpoint of that time cannot be meant for them

ChainFound = tuple[str, str, int | None, int]
"""Chain, or "" where a finding is of no chain; kind; first seq; count."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was done to one chain, and what must come of it.

    Args:
        found: beside what only an earlier checkpoint shows.
        end: where the chain now ends, for whoever reads it, if that is not where it did: such a checkpoint tells.
        fork: the seq from which on the seals are others, with all signatures right: likewise.
        copied: records that a finding names stand elsewhere too, and are good there.
    """

    what: str
    archive: Archive
    found: tuple[ChainFound, ...]
    end: int | None = None
    fork: int | None = None
    copied: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """One segment of one chain of an archive, `archive`, in which this chain is as it was built."""

    archive: Archive
    built: Built
    chain: str
    index: int

    @property
    def entries(self) -> Sequence[Entry]:
        """What was sealed into the segment."""
        return self.built.chains[self.chain][self.index]

    @property
    def first(self) -> int:
        """Its first seq."""
        return self.entries[0].seal.seq

    @property
    def count(self) -> int:
        """Its number of seals."""
        return len(self.entries)

    @property
    def end(self) -> int:
        """The seq after its last one."""
        return self.first + self.count

    @property
    def key(self) -> str:
        """Its name."""
        return self.built.key(self.index, self.chain)

    @property
    def segment(self) -> Segment:
        """As it was built."""
        return self.built.segment(self.index, self.chain)

    @property
    def segments(self) -> int:
        """How many the chain has."""
        return len(self.built.chains[self.chain])

    @property
    def is_last(self) -> bool:
        """Nothing follows it."""
        return self.index == self.segments - 1

    @property
    def length(self) -> int:
        """Seals of the whole chain."""
        return len(flat(self.built, self.chain))

    def sibling(self, index: int) -> Target:
        """Another segment of the chain."""
        return Target(self.archive, self.built, self.chain, index)

    def elsewhere(self, rng: Random) -> Target:
        """A segment of another chain, as it was built."""
        chain = rng.choice([c for c in self.built.chains if c != self.chain])
        return Target(self.built.archive, self.built, chain, rng.randrange(len(self.built.chains[chain])))

    def edited(self, edit: Callable[[Segment], Segment]) -> Archive:
        """The archive with this segment changed, by whoever holds no key."""
        return self.replaced(encode_segment(edit(self.segment)))

    def replaced(self, data: bytes) -> Archive:
        """The archive with other bytes for this segment."""
        return self.archive.replaced(self.key, data)

    def found(self, kind: str, seq: int, count: int = 1) -> ChainFound:
        """A finding in this chain."""
        return self.chain, kind, seq, count

    @property
    def whole(self) -> ChainFound:
        """The finding for a segment all of whose records are in doubt, while its numbers are known."""
        return self.found("ALTERED", self.first, self.count)

    @property
    def unreadable(self) -> ChainFound:
        """The finding for an object that is not this segment: the next one's name alone says how many records it held."""
        return self.found("ALTERED", self.first, 1 if self.is_last else self.count)

    @property
    def unreadable_end(self) -> int | None:
        """Where the chain then ends, if that changes."""
        return self.first + 1 if self.is_last and self.count > 1 else None


Draw = Callable[[Random, Target], Damage | None]
"""One kind of edit, drawn at random for a place; None if there is none of its kind at this place."""


@cache
def trail() -> Built:
    """The archive. Shared: damage copies."""
    with repeatable():
        chains = {chain: _chain(chain, number) for number, chain in enumerate(NAMES)}
    built = build(chains)
    expired = certificate("archive-expired", Role.ARCHIVE, PART, after_s=EXPIRED_S)
    built.archive.put(certificate_key_of("archive-expired"), expired)
    return built


def certificate_key_of(name: str) -> str:
    """Where the certificate of `signing_key(name)` lies."""
    return layout.certificate_key(sha256(public_of(name)).digest())


def _chain(chain: str, number: int) -> list[list[Entry]]:
    rng = Random(f"trail {chain}")
    sizes = list(SIZES)
    rng.shuffle(sizes)
    script = ChainScript(chain)
    runs = RunScript("github", epoch(2 * number)), RunScript("chat", epoch(2 * number + 1))
    script.note(Kind.GENESIS, Reason.NONE, 0, signed=True, topic_uuid=TOPIC_UUID, partitions=len(NAMES))
    cuts = list(accumulate(sizes))
    while len(script.entries) < cuts[-1]:
        if len(script.entries) in cuts:
            script.sign_last()
        _act(script, rng.choice(runs), rng)
    script.sign_last()
    return [script.entries[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]


def _act(script: ChainScript, run: RunScript, rng: Random) -> None:
    """What a sealer may seal next."""
    if not run.number:
        script.open(run)
        return
    match rng.randrange(12):
        case 0:
            script.rejected()
        case 1:
            script.rejected(run)
        case 2:
            script.duplicate(run, rng.randrange(run.number))
        case 3:
            script.gap(rng.randrange(1, 9))
        case 4:
            script.heartbeat()
        case _:
            log_class = rng.choice((LogClass.OPERATIONAL, LogClass.SECURITY))
            script.event(run, rng.choice(TENANTS[:2]), log_class, signed=rng.random() < 0.2)
