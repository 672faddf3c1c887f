"""C2SP tlog-tiles: a chain's seals as a static log that any tool for the format can check.

    tile/entries/<N>[.p/<W>]     256 entries: each its length (2 bytes, big-endian) and the seal's bytes
    tile/<L>/<N>[.p/<W>]         256 hashes of level 8·L, 32 bytes each
    checkpoint                   the archive's, as it signed it

N is written in groups of three digits, all but the last with an `x` in front: 1234067 is `x001/x234/067`. A tile that is not
full is partial: `.p/<W>` with its width. Memory: one tile a level. Source: C2SP `tlog-tiles`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sealtrail.errors import EvidenceError
from sealtrail.merkle import root_of
from sealtrail.seal import MAX_SEAL_SIZE, leaf_hash

WIDTH = 256
File = tuple[str, bytes]
"""Path below the log's folder, and the file's bytes."""


def tile_path(level: int | str, number: int, width: int = WIDTH) -> str:
    """Where a tile lies; `level` is a number, or `entries`."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.insert(0, f"x{number % 1000:03d}")
    path = f"tile/{level}/{'/'.join(groups)}"
    return path if width == WIDTH else f"{path}.p/{width}"


class Tiler:
    """Feed it every seal of a chain in order; take the tiles as they fill, and what is partial at the end."""

    def __init__(self) -> None:
        self.size = 0
        self._bundle = bytearray()
        self._levels: list[list[bytes]] = []  # hashes of the open tile of each level
        self._filled: list[int] = []  # tiles that are full, by level

    def add(self, seal: bytes) -> Iterator[File]:
        """One more entry. Raises EvidenceError for one that the format cannot carry."""
        if len(seal) > MAX_SEAL_SIZE:
            raise EvidenceError(f"entry of {len(seal)} bytes; at most {MAX_SEAL_SIZE}")
        self._bundle += len(seal).to_bytes(2, "big") + seal
        self.size += 1
        if self.size % WIDTH == 0:
            yield tile_path("entries", self.size // WIDTH - 1), bytes(self._bundle)
            self._bundle.clear()
        yield from self._put(0, leaf_hash(seal))

    def rest(self) -> Iterator[File]:
        """The partial tiles of the tree as it stands."""
        if self._bundle:
            yield tile_path("entries", self.size // WIDTH, self.size % WIDTH), bytes(self._bundle)
        for level, hashes in enumerate(self._levels):
            if hashes:
                yield tile_path(level, self._filled[level], len(hashes)), b"".join(hashes)

    def _put(self, level: int, hash_: bytes) -> Iterator[File]:
        if level == len(self._levels):
            self._levels.append([])
            self._filled.append(0)
        hashes = self._levels[level]
        hashes.append(hash_)
        if len(hashes) < WIDTH:
            return
        yield tile_path(level, self._filled[level]), b"".join(hashes)
        self._filled[level] += 1
        root = root_of(hashes)
        hashes.clear()
        yield from self._put(level + 1, root)
