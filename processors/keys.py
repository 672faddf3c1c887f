"""The keys that a sealer works with, as keystore and certificates are now: keys rotate while it runs.

Looked at once a second. A newer key of the same purpose is taken up between two transactions; so is the end of one. What
cannot be used is refused, loudly, and what was known stays in use, except a sealer's key that ended: nothing is sealed
with that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import structlog

from keystore import Certificates, Keystore, load_root, signer_of
from processors.authenticate import Open
from processors.chain import Sealer as SealWriter
from processors.pipeline import Pipeline
from processors.quarantine import Quarantine
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import ConfigError
from sealtrail.keyring import Keyring

CHECK_S = 1.0

_LOG = structlog.get_logger("processors.keys")


@dataclass(frozen=True, slots=True)
class InUse:
    """What is in use: to seal with, to open sessions with by key id, to encrypt what is refused to."""

    sealer: SealWriter
    openers: Mapping[bytes, Open]
    quarantine: Quarantine


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
        self._seen = self._state()
        self.in_use = self._read()

    @property
    def keyring(self) -> Keyring:
        """The certified keys of everybody, as they are now."""
        return self._certificates.current()

    def renewed(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline with the keys of now; itself, if nothing changed. Call it between transactions."""
        now = self._monotonic()
        if now < self._look_at:
            return pipeline
        self._look_at = now + CHECK_S
        seen = self._state()
        if seen == self._seen:
            return pipeline
        try:
            before, self.in_use = self.in_use, self._read()
        except ConfigError as error:
            _LOG.error("keys refused; those before stay in use", reason=str(error))
            ended = self.keyring.ended(pipeline.sealer.certificate.key_id)
            return replace(pipeline, sealer=pipeline.sealer.retired()) if ended else pipeline
        self._seen = seen
        pipeline.authenticate.renew(self.keyring, self.in_use.openers)
        if before.sealer.certificate != self.in_use.sealer.certificate:
            _LOG.info("sealing with another key", key=self.in_use.sealer.certificate.key_id.hex())
        return replace(pipeline, sealer=self.in_use.sealer, quarantine=self.in_use.quarantine)

    def _state(self) -> tuple[Keyring, tuple[str, ...]]:
        return self.keyring, self._keystore.names()

    def _read(self) -> InUse:
        keyring, keystore, now = self.keyring, self._keystore, self._clock()
        signer, certificate = signer_of(keystore, "sealer", Role.SEALER, keyring, now, self._speaks)
        quarantine = keyring.newest(Role.QUARANTINE, now, self._speaks)
        if quarantine is None:
            raise ConfigError(f"no quarantine key is certified for {self._ours} now: setting certificates")
        openers = [keystore.opener(name) for name in keystore.generations("pipeline")]
        if not openers:
            raise ConfigError("no key named pipeline: setting keys")
        return InUse(
            SealWriter(certificate, signer.sign, keystore.secret("disclosure")),
            {opener.key_id: opener.open for opener in openers},
            Quarantine(quarantine.public),
        )

    def _speaks(self, certificate: Certificate) -> bool:
        return certificate.speaks_for(self._ours)
