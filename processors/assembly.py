"""The sealer from its settings: keys, policy, contract and steps, put together once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from keystore import Keystore, load_keyring, load_root
from processors.authenticate import Authenticate
from processors.chain import Sealer as SealWriter
from processors.decode import Decode
from processors.pipeline import Pipeline
from processors.quarantine import Quarantine
from schemas.catalogue import topic_name
from schemas.contract import Contract
from schemas.policy import Policy
from schemas.redact import RedactionCheck
from schemas.registry import packaged_registry
from schemas.settings import Settings
from sealtrail.certificate import Role
from sealtrail.errors import ConfigError
from sealtrail.session import audience_of


def pipeline_of(settings: Settings, *, clock: Callable[[], float] = time.time) -> Pipeline:
    """The compiled pipeline of a deployment's sealer.

    Raises:
        ConfigError: naming what is missing among settings, keys, certificates and policy.
    """
    settings.require("keys", "root_vkey", "certificates")
    if settings.root_vkey is None or settings.certificates is None:
        raise AssertionError("require() lets no empty setting pass")
    keystore = Keystore.open(settings.keys)
    folder, root = settings.certificates, load_root(settings.root_vkey)
    keyring = load_keyring(folder, root)
    ours = f"{settings.authority}/{settings.deployment}/"
    signer = keystore.signer("sealer")
    certificate = keyring.find(signer.key_id, Role.SEALER)
    if certificate is None or not certificate.speaks_for(ours):
        raise ConfigError(f"the sealer's key has no certificate of role sealer for {ours}: setting certificates")
    quarantine = [c for c in keyring.of_role(Role.QUARANTINE) if c.speaks_for(ours) and c.covers(clock())]
    if not quarantine:
        raise ConfigError(f"no quarantine key is certified for {ours} now: setting certificates")
    openers = [keystore.opener(name) for name in keystore.names() if name.startswith("pipeline")]
    if not openers:
        raise ConfigError("no key named pipeline: setting keys")
    registry = packaged_registry()
    newest = max(quarantine, key=lambda c: (c.not_before_s, c.key_id))
    topic = topic_name(settings.topic_prefix, "audit.raw")
    return Pipeline(
        decode=Decode(registry),
        authenticate=Authenticate(
            lambda: load_keyring(folder, root),
            {opener.key_id: opener.open for opener in openers},
            audience_of(settings.authority, settings.deployment, topic),
            topic,
        ),
        contract=Contract(registry, region=settings.region),
        redaction=RedactionCheck(registry),
        policy=Policy.load(settings.policy),
        quarantine=Quarantine(newest.public),
        sealer=SealWriter(certificate, signer.sign, keystore.secret("disclosure")),
        region=settings.region,
        random=secrets.token_bytes,
    )
