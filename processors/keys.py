"""The keys that a sealer works with, as keystore and certificates are now: keys rotate while it runs.

Looked at once a second, each purpose by itself: what to sign with, what to open with, what to encrypt what is refused to.
A newer key is taken up between two transactions, and so is the end of one. What cannot be used is refused, loudly, and
what was known stays in use, except a sealer's key that ended: nothing is sealed with that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

import structlog

from keystore import Certificates, Keystore, load_root, signer_of
from processors.authenticate import Open
from processors.chain import Sealer as SealWriter
from processors.pipeline import Pipeline
from processors.quarantine import Quarantine
from processors.tokens import NoTenantKeysError, TenantKeys
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import ConfigError
from sealtrail.keyring import Keyring

CHECK_S = 1.0

T = TypeVar("T")
_LOG = structlog.get_logger("processors.keys")


class SealerKeys:
    """One sealer's keys. One thread.

    Args:
        clock: seconds since 1970 UTC.

    Raises:
        ConfigError: naming what is missing among settings, keys and certificates.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        settings.require("keys", "root_vkey", "certificates")
        if settings.root_vkey is None or settings.certificates is None:
            raise AssertionError("require() lets no empty setting pass")
        self._keystore = Keystore.open(settings.keys)
        self._certificates = Certificates(settings.certificates, load_root(settings.root_vkey), monotonic)
        self._ours = f"{settings.authority}/{settings.deployment}/"
        self._clock = clock
        self._monotonic = monotonic
        self._look_at = monotonic() + CHECK_S
        self.sealer = self._sealer()
        self.openers = self._openers()
        self._quarantine_key = self._newest_quarantine()
        self._said: set[str] = set()

    @property
    def keyring(self) -> Keyring:
        """The certified keys of everybody, as they are now."""
        return self._certificates.current()

    def looked_up(self) -> Keyring:
        """As `keyring`, looked at now: for a record under a key that is not known."""
        return self._certificates.refreshed()

    @property
    def quarantine(self) -> Quarantine:
        """What encrypts what is refused."""
        return Quarantine(self._quarantine_key)

    def tenant_keys(self, tenant: str) -> TenantKeys:
        """What making a key of one of its subjects takes. Raises NoTenantKeysError."""
        newest = self._tenant_subject(self.keyring, tenant) or self._tenant_subject(self.looked_up(), tenant)
        if newest is None:
            raise NoTenantKeysError(f"no key tenant-subject-{tenant} is certified")
        try:
            return TenantKeys(self._keystore.secret(f"tenant-index-{tenant}"), newest.public)
        except ConfigError:
            raise NoTenantKeysError(f"no key named tenant-index-{tenant} in the sealer's keystore") from None

    def _tenant_subject(self, keyring: Keyring, tenant: str) -> Certificate | None:
        """The key certified last of those in force, and did not end; one whose time is over still opens for its holder."""
        begun = [
            certificate
            for certificate in keyring.of_role(Role.TENANT_SUBJECT)
            if certificate.name == tenant
            and certificate.not_before_s <= self._clock()
            and not keyring.ended(certificate.key_id)
        ]
        return max(begun, key=lambda certificate: (certificate.not_before_s, certificate.key_id), default=None)

    def renewed(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline with the keys of now; itself, if nothing changed. Call it between transactions."""
        now = self._monotonic()
        if now < self._look_at:
            return pipeline
        self._look_at = now + CHECK_S
        sealer = self._or_before(self._sealer, pipeline.sealer)
        quarantine = self._or_before(self._newest_quarantine, self._quarantine_key)
        self.openers = self._or_before(self._openers, self.openers)
        pipeline.authenticate.renew(self.keyring, self.openers)
        ended = self.keyring.ended(sealer.certificate.key_id)
        if sealer.certificate == pipeline.sealer.certificate and quarantine == self._quarantine_key and not ended:
            return pipeline
        if sealer.certificate != pipeline.sealer.certificate:
            _LOG.info("sealing with another key", key=sealer.certificate.key_id.hex())
        self.sealer, self._quarantine_key = sealer, quarantine
        return replace(pipeline, sealer=sealer.retired() if ended else sealer, quarantine=self.quarantine)

    def _or_before(self, read: Callable[[], T], before: T) -> T:
        """What is there now, or, said once a cause, what was before."""
        try:
            return read()
        except ConfigError as error:
            if str(error) not in self._said:
                self._said.add(str(error))
                _LOG.error("keys refused; those before stay in use", reason=str(error))
            return before

    def _sealer(self) -> SealWriter:
        keystore = self._keystore
        signer, certificate = signer_of(keystore, "sealer", Role.SEALER, self.keyring, self._clock(), self._speaks)
        return SealWriter(certificate, signer, keystore.secret("disclosure"))

    def _openers(self) -> Mapping[bytes, Open]:
        openers = [self._keystore.opener(name) for name in self._keystore.generations("pipeline")]
        if not openers:
            raise ConfigError("no key named pipeline: setting keys")
        return {opener.key_id: opener.open for opener in openers}

    def _newest_quarantine(self) -> bytes:
        newest = self.keyring.newest(Role.QUARANTINE, self._clock(), self._speaks)
        if newest is None:
            raise ConfigError(f"no quarantine key is certified for {self._ours} now: setting certificates")
        return newest.public

    def _speaks(self, certificate: Certificate) -> bool:
        return certificate.speaks_for(self._ours)
