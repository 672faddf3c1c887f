"""RFC 6962 Merkle tree: hashes, a compact frontier, inclusion and consistency proofs.

Pure hashing: nothing here fetches, and nothing knows what a leaf means. Domain bytes keep leaf
(0x00) and node (0x01) apart; the tree of n leaves splits at the largest power of two below n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sealtrail.errors import EvidenceError

EMPTY_ROOT = hashlib.sha256(b"").digest()
HASH_SIZE = 32


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a growing tree: enough to append leaves and to give the root.

    Args:
        size: number of leaves so far.
        hashes: roots of the perfect subtrees that `size` splits into, largest first; one for each
            bit set in `size`.

    Raises:
        EvidenceError: the number of hashes does not fit the size.
    """

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._hashes = list(hashes)
        if size < 0 or len(self._hashes) != size.bit_count() or any(len(h) != HASH_SIZE for h in self._hashes):
            raise EvidenceError(f"frontier of {len(self._hashes)} hashes does not fit {size} leaves")
        self.size = size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Roots of the perfect subtrees, largest first."""
        return tuple(self._hashes)

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        return Frontier(self.size, self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash; amortised two hashes."""
        size = self.size
        hashes = self._hashes
        while size & 1:
            leaf = hashlib.sha256(b"\x01" + hashes.pop() + leaf).digest()
            size >>= 1
        hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """Root of the tree as it stands; SHA-256 of nothing when empty."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Hashes from the leaf's sibling up (RFC 6962 §2.1.1)."""
    if not 0 <= index < len(leaves):
        raise ValueError(f"no leaf {index} among {len(leaves)}")
    if len(leaves) == 1:
        return []
    split = split_of(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), root_of(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), root_of(leaves[:split])]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Hashes that show the tree of `old_size` leaves to be a prefix (RFC 6962 §2.1.2)."""
    if not 0 < old_size <= len(leaves):
        raise ValueError(f"no tree of {old_size} within {len(leaves)}")
    return _subproof(leaves, old_size, complete=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, complete: bool) -> list[bytes]:
    if old_size == len(leaves):
        return [] if complete else [root_of(leaves)]
    split = split_of(len(leaves))
    if old_size <= split:
        return [*_subproof(leaves[:split], old_size, complete=complete), root_of(leaves[split:])]
    return [*_subproof(leaves[split:], old_size - split, complete=False), root_of(leaves[:split])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check an inclusion proof (RFC 9162 §2.1.3.2).

    Raises:
        EvidenceError: the leaf is not shown to be entry `index` of the tree of that root.
    """
    if not 0 <= index < size:
        raise EvidenceError(f"index {index} outside a tree of {size}")
    node, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise EvidenceError("inclusion proof too long")
        if node & 1 or node == last:
            result = node_hash(sibling, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise EvidenceError("inclusion proof too short")
    if result != root:
        raise EvidenceError("inclusion proof leads to another root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check a consistency proof (RFC 9162 §2.1.4.2); the empty tree is a prefix of every tree.

    Raises:
        EvidenceError: the old tree is not shown to be a prefix of the new one.
    """
    if not 0 <= old_size <= new_size:
        raise EvidenceError(f"a tree of {old_size} cannot be a prefix of one of {new_size}")
    if old_size in (0, new_size):
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if proof or old_root != expected:
            raise EvidenceError("trees of trivial relation with a proof, or with different roots")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:
        path.insert(0, old_root)
    if not path:
        raise EvidenceError("consistency proof empty")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise EvidenceError("consistency proof too long")
        if node & 1 or node == last:
            old = node_hash(sibling, old)
            new = node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    if last != 0:
        raise EvidenceError("consistency proof too short")
    if old != old_root or new != new_root:
        raise EvidenceError("consistency proof leads to other roots")


def split_of(size: int) -> int:
    """The largest power of two below `size`, for size > 1."""
    return 1 << ((size - 1).bit_length() - 1)
