"""Step 14 of `verify`, for one chain: what is known of its tree from elsewhere, against the tree that is there.

Known are a checkpoint that the caller kept, and the trees that the ends of keys state. They mark sizes; at each of them the
walk over the chain leaves the root that it found. Of several that do not fit the first is reported, of several beyond the
archive's end the last: the others only follow.
"""

from __future__ import annotations

import base64

from sealtrail.ending import Kept
from sealtrail.errors import EvidenceError
from sealtrail.keyring import Keyring
from sealtrail.report import Finding, FindingKind
from sealtrail.sworn import genuine_checkpoint

CHECKPOINT = "checkpoint"


class Marks:
    """The sizes at which a chain's root is known; `roots` takes the roots that were found there.

    Args:
        trusted: a checkpoint of the chain that the caller kept, a signed note's bytes.
    """

    def __init__(self, chain: str, keyring: Keyring, trusted: bytes | None) -> None:
        self._chain = chain
        self._kept = list(keyring.kept(chain))
        self._findings: list[Finding] = []
        self.roots: dict[int, bytes] = {}
        if trusted is not None:
            self._trust(trusted, keyring)
        self._kept.sort(key=lambda kept: (kept.size, kept.where != CHECKPOINT))
        self.sizes = frozenset(kept.size for kept in self._kept)

    def finish(self, end: int, *, reached_end: bool) -> tuple[list[Finding], list[str]]:
        """Findings and caveats.

        Args:
            end: how many seals the chain has, or the seq after the last one that was verified.
            reached_end: that is the chain's end.
        """
        caveats = []
        forked = False
        for kept in self._kept:
            found = self.roots.get(kept.size)
            if kept.size > end and not reached_end:
                caveats.append(f"{self._chain}: the tree of {kept.size} seals, of {kept.where}, lies beyond what was verified")
            elif kept.size <= end and found is None:
                caveats.append(
                    f"{self._chain}: what was verified, or damage before seq {kept.size}, keeps the tree of {kept.where} from "
                    "being compared"
                )
            elif found is not None and found != kept.root and not forked:
                forked = True
                ours = base64.b64encode(found).decode()
                detail = f"{kept.where} states another root for the first {kept.size} seals than {ours}"
                self._find(FindingKind.FORKED, 0, kept.size, kept.where, detail)
        last = self._kept[-1] if self._kept else None
        if last is not None and last.size > end and reached_end:
            detail = f"{last.where} covers {last.size} seals; the archive ends at {end}"
            self._find(FindingKind.TRUNCATED, end, last.size - end, last.where, detail)
        return self._findings, caveats

    def _trust(self, data: bytes, keyring: Keyring) -> None:
        """The caller's checkpoint must be the archive's own word, genuine as those in segments are."""
        try:
            stated = genuine_checkpoint(data, keyring)[0].checkpoint
            if stated.origin != self._chain:
                raise EvidenceError("it is another chain's")
        except EvidenceError as error:
            detail = f"the checkpoint given for this chain is not this archive's: {error}"
            self._find(FindingKind.UNKNOWN_KEY, 0, 1, CHECKPOINT, detail)
            return
        self._kept.append(Kept(stated.size, stated.root, CHECKPOINT))

    def _find(self, kind: FindingKind, seq: int, count: int, where: str, detail: str) -> None:
        self._findings.append(Finding(kind, 14, self._chain, seq, count, where, detail))
