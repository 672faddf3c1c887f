"""The keys that the sink needs, as keystore and certificates are now: tenants and keys come and go while it runs.

That a sealer's key ended at a position is not for the sink to judge: what is committed is archived, and a verifier says so.
"""

from __future__ import annotations

from collections.abc import Callable

from keystore import Certificates, Keystore, Signer, signer_of
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import ConfigError, TransientError

KEY = "archive"


class KeyDesk:
    """Keys by what they are for.

    Args:
        certificates: all certified keys.
        keystore: holds the archive's key, and newer ones.
        origin: `<authority>/<deployment>/`, for which the archive's key must speak.
        clock: seconds since 1970 UTC.
    """

    def __init__(self, certificates: Certificates, keystore: Keystore, origin: str, clock: Callable[[], float]) -> None:
        self._certificates = certificates
        self._keystore = keystore
        self._origin = origin
        self._clock = clock

    def sealer(self, key_id: bytes) -> Certificate | None:
        """The sealer's certificate of a key id, or None. A sealer may take up a new key a moment before we look."""
        found = self._certificates.current().find(key_id, Role.SEALER)
        return found or self._certificates.refreshed().find(key_id, Role.SEALER)

    def archive(self) -> tuple[Certificate, ...]:
        """All certificates of archive keys, of other writers too; see `Certificate.speaks_for`."""
        return self._certificates.refreshed().of_role(Role.ARCHIVE)

    def tenant_data(self, tenant: str) -> bytes:
        """The newest data key of a tenant that is valid now: 32 bytes X25519.

        Raises:
            TransientError: the root certified none; contents of this tenant cannot be archived before.
        """
        found = self._certificates.current().newest(Role.TENANT_DATA, self._clock(), lambda c: c.name == tenant)
        if found is None:
            raise TransientError(
                f"no valid tenant-data key of tenant {tenant} among the certificates (setting certificates)", 10
            )
        return found.public

    def signer(self) -> Signer:
        """The archive's newest key, with which a segment signed now can be verified. Raises ConfigError when there is none."""
        now = self._clock()
        signer, certificate = signer_of(
            self._keystore, KEY, Role.ARCHIVE, self._certificates.current(), now, lambda c: c.speaks_for(self._origin)
        )
        if not certificate.covers(now):
            raise ConfigError(f"key archive ({signer.key_id.hex()[:16]}…) has no valid certificate (setting certificates)")
        return signer
