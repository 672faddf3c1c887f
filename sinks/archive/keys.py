"""The certified public keys that the sink needs, read again when one is missing: tenants and keys come and go.

Does not hold the archive's private key: that is the signer's.
"""

from __future__ import annotations

from collections.abc import Callable

from sealtrail.certificate import Certificate, Role
from sealtrail.errors import ConfigError, TransientError
from sealtrail.keyring import Keyring

RELOAD_S = 5.0  # an unknown key id in every record must not mean a folder read for every record


class KeyDesk:
    """Certificates by what they are for.

    Args:
        load: reads and verifies all certificates, e.g. `keystore.load_keyring`; may raise ConfigError, EvidenceError.
        clock: seconds since 1970 UTC.
    """

    def __init__(self, load: Callable[[], Keyring], clock: Callable[[], float]) -> None:
        self._load = load
        self._clock = clock
        self._ring = load()
        self._loaded_at = clock()

    def sealer(self, key_id: bytes) -> Certificate | None:
        """The sealer's certificate of a key id, or None."""
        found = self._ring.find(key_id, Role.SEALER)
        if found is None and self.refresh():
            found = self._ring.find(key_id, Role.SEALER)
        return found

    def archive(self) -> tuple[Certificate, ...]:
        """All certificates of archive keys, of other writers too; see `Certificate.speaks_for`."""
        return self._ring.of_role(Role.ARCHIVE)

    def tenant_data(self, tenant: str) -> bytes:
        """The newest data key of a tenant that is valid now: 32 bytes X25519.

        Raises:
            TransientError: the root certified none; contents of this tenant cannot be archived before.
        """
        found = self._tenant(tenant)
        if found is None and self.refresh():
            found = self._tenant(tenant)
        if found is None:
            raise TransientError(
                f"no valid tenant-data key of tenant {tenant} among the certificates (setting certificates)", 10
            )
        return found.public

    def _tenant(self, tenant: str) -> Certificate | None:
        now = self._clock()
        mine = [c for c in self._ring.of_role(Role.TENANT_DATA) if c.name == tenant and c.covers(now)]
        return max(mine, key=lambda c: (c.not_before_s, c.key_id), default=None)

    def require_archive(self, key_id: bytes) -> None:
        """Check that a segment signed with this key now can be verified. Raises ConfigError when not."""
        for _ in range(2):
            found = self._ring.find(key_id, Role.ARCHIVE)
            if found is not None and found.covers(self._clock()):
                return
            if not self.refresh():
                break
        raise ConfigError(f"key archive ({key_id.hex()[:16]}…) has no valid certificate (setting certificates)")

    def refresh(self) -> bool:
        """Read the certificates anew; False when that was done just now."""
        if abs(self._clock() - self._loaded_at) < RELOAD_S:
            return False
        self._loaded_at = self._clock()
        self._ring = self._load()
        return True
