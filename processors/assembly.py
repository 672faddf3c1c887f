"""The sealer from its settings: keys, policy, contract and steps, put together once."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import structlog

from processors.authenticate import Authenticate
from processors.decode import Decode
from processors.keys import SealerKeys
from processors.native import load
from processors.pipeline import Pipeline
from processors.quick import Quick
from schemas.catalogue import topic_name
from schemas.contract import Contract
from schemas.net import Net
from schemas.policy import Policy
from schemas.redact import RedactionCheck
from schemas.registry import packaged_registry
from schemas.settings import Settings
from schemas.tokenized import Tokenized
from sealtrail.session import audience_of

_log = structlog.get_logger()


def pipeline_of(settings: Settings, keys: SealerKeys | None = None, *, clock: Callable[[], float] = time.time) -> Pipeline:
    """The compiled pipeline of a deployment's sealer.

    Args:
        keys: what the caller keeps, to renew the pipeline's keys from; default: as they are now.

    Raises:
        ConfigError: naming what is missing among settings, keys, certificates and policy.
    """
    held = keys or SealerKeys(settings, clock)
    registry, policy = packaged_registry(), Policy.load(settings.policy)
    kernel = load() if settings.native else None
    _log.info("how good records are sealed", form="Python" if kernel is None else "native kernel")
    topic = topic_name(settings.topic_prefix, "audit.raw")
    return Pipeline(
        decode=Decode(registry),
        authenticate=Authenticate(
            held.looked_up, held.openers, audience_of(settings.authority, settings.deployment, topic), topic
        ),
        contract=Contract(registry, region=settings.region),
        redaction=RedactionCheck(registry),
        net=Net(registry),
        tokenized=Tokenized(registry),
        tenant_keys=held.tenant_keys,
        policy=policy,
        quick=Quick(registry, settings.region, policy, kernel),
        quarantine=held.quarantine,
        sealer=held.sealer,
        region=settings.region,
        random=secrets.token_bytes,
    )
