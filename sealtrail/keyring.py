"""Certified keys, and where those of them that ended did."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sealtrail.certificate import Certificate, Role
from sealtrail.ending import End, Ends, Kept


class Keyring:
    """Certified keys by key id.

    Args:
        certificates: verified ones, as `verify_certificate` gives them.
        ends: verified ones, as `verify_end` gives them.
    """

    __slots__ = ("_by_id", "_ends")

    def __init__(self, certificates: Iterable[Certificate], ends: Iterable[End] = ()) -> None:
        self._by_id = {c.key_id: c for c in certificates}
        self._ends = Ends(ends)

    def find(self, key_id: bytes, role: Role) -> Certificate | None:
        """The certificate of that key in that role, or None."""
        certificate = self._by_id.get(key_id)
        return certificate if certificate is not None and certificate.role is role else None

    def of_role(self, role: Role) -> tuple[Certificate, ...]:
        """All certificates of a role."""
        return tuple(c for c in self._by_id.values() if c.role is role)

    def newest(self, role: Role, time_s: float, fits: Callable[[Certificate], bool]) -> Certificate | None:
        """The key of a role to use at a time, of those that fit: certified last, and not ended."""
        usable = [c for c in self.of_role(role) if c.covers(time_s) and fits(c) and not self.ended(c.key_id)]
        return max(usable, key=lambda c: (c.not_before_s, c.key_id), default=None)

    def ended(self, key_id: bytes) -> bool:
        """Whether a key's end is stated: it must not be used for anything new."""
        return self._ends.ended(key_id)

    def counts(self, key_id: bytes, chain: str, seq: int) -> bool:
        """Whether a key still counted at a seal of a chain, or in a checkpoint whose last seal it is."""
        limit = self._ends.limit(key_id, chain)
        return limit is None or seq < limit

    def kept(self, chain: str) -> tuple[Kept, ...]:
        """What the ends of keys state of a chain's tree."""
        return self._ends.kept(chain)

    @property
    def kept_chains(self) -> frozenset[str]:
        """The chains that the ends of keys speak of."""
        return self._ends.chains

    def succeeded(self) -> tuple[Certificate, ...]:
        """Keys of seals and checkpoints that have a successor and no stated end."""
        return tuple(
            c
            for role in (Role.SEALER, Role.ARCHIVE)
            for c in self.of_role(role)
            if not self.ended(c.key_id)
            and any(s.name == c.name and s.not_before_s > c.not_before_s for s in self.of_role(role))
        )
