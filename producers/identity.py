"""Who an emitter is: its source's key, the pipeline's public key, its tenants' hash keys; whose values it may tokenise.

Reads the keystore and the certificates once, when the emitter is made; a wrong one is a ConfigError then, not later.
Private bytes stay in the keystore's signer.
"""

from __future__ import annotations

import re

from keystore import Keystore, Signer, load_keyring, load_root
from producers.run import OpenRun
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.errors import ConfigError, ContractError
from sealtrail.keyring import Keyring
from sealtrail.session import Run, audience_of, open_run

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")  # as the schema's emitter.source and emitter.instance
TENANT_HASH = "tenant-hash-"


class Identity:
    """The keys of one emitter.

    Args:
        settings: `keys`, `certificates` and `root_vkey` are needed.
        source: the certified source; the keystore holds `source-<source>`.
        instance: one running copy of it, stable over restarts.

    Raises:
        ConfigError: a name or key is missing or unusable.
    """

    def __init__(self, settings: Settings, source: str, instance: str) -> None:
        for what, name in (("source", source), ("instance", instance)):
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{what} of an emitter: expected lower case letters, digits and ._-, at most 128")
        settings.require("keys", "certificates", "root_vkey")
        assert settings.certificates is not None
        assert settings.root_vkey is not None
        self._authority = settings.authority
        self._deployment = settings.deployment
        self.source = source
        self.instance = instance
        self._keystore = Keystore.open(settings.keys)
        self._keyring: Keyring = load_keyring(settings.certificates, load_root(settings.root_vkey))
        self._signer: Signer = self._newest_signer(f"source-{source}")
        self._hash_keys: dict[str, bytes] = {}
        self._subject_keys: dict[str, list[Certificate]] = {}
        for certificate in self._keyring.of_role(Role.TENANT_SUBJECT):
            if not self._keyring.ended(certificate.key_id):
                self._subject_keys.setdefault(certificate.name, []).append(certificate)

    @property
    def name(self) -> str:
        """The Kafka key of its records: source/instance."""
        return f"{self.source}/{self.instance}"

    def tenants(self) -> tuple[str, ...]:
        """The tenants whose hash keys the keystore holds, sorted; `@deployment` left out."""
        held = (name.removeprefix(TENANT_HASH) for name in self._keystore.names() if name.startswith(TENANT_HASH))
        return tuple(sorted(tenant for tenant in held if not tenant.startswith("@")))

    def hash_key(self, tenant: str) -> bytes:
        """The key that hashes a tenant's values. Raises ContractError("tenant") when this emitter has none."""
        key = self._hash_keys.get(tenant)
        if key is None:
            try:
                key = self._keystore.secret(TENANT_HASH + tenant)
            except ConfigError:
                raise ContractError("tenant", "this emitter holds no hash key of that tenant") from None
            self._hash_keys[tenant] = key
        return key

    def tokenizes(self, tenant: str, now_s: float) -> bool:
        """Whether the sealer can make keys of a tenant's people: the tenant's own key is certified, and valid now."""
        return any(certificate.covers(now_s) for certificate in self._subject_keys.get(tenant, ()))

    def secret(self, name: str) -> bytes:
        """A secret of this emitter's keystore, 32 bytes. Raises ConfigError."""
        return self._keystore.secret(name)

    def open(self, epoch: bytes, session_key: bytes, topic: str, now_s: float) -> OpenRun:
        """A new run, its session key wrapped to the pipeline key that is certified at `now_s`. Raises ConfigError."""
        run = Run(self.source, self.instance, epoch)
        pipeline = self._pipeline(now_s)
        to = audience_of(self._authority, self._deployment, topic)
        session = open_run(run, to, session_key, pipeline.public, self._signer.public, self._signer.sign)
        return OpenRun(run, session, session_key, topic)

    def _pipeline(self, now_s: float) -> Certificate:
        ours = f"{self._authority}/{self._deployment}/"
        newest = self._keyring.newest(Role.PIPELINE, now_s, lambda c: c.speaks_for(ours))
        if newest is None:
            raise ConfigError("setting certificates: none for the pipeline that is valid now")
        return newest

    def _newest_signer(self, base: str) -> Signer:
        """The newest of the source's keys that did not end; whether it is certified is the sealer's to judge."""
        signers = [self._keystore.signer(name) for name in self._keystore.generations(base) or (base,)]
        return next((signer for signer in signers if not self._keyring.ended(signer.key_id)), signers[0])
