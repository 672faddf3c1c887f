"""What a reader of the archive holds from outside it, by its settings: the root's public key, what opens contents.

And, for who reveals, what opens the keys of a tenant's people.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from keystore import Keystore, Signer, load_keyring, load_root, signer_of
from schemas.settings import Settings
from sealtrail.certificate import Certificate, Role
from sealtrail.contents import Openers
from sealtrail.keyring import Keyring
from sealtrail.note import NoteKey

AUDITOR = "auditor"
TENANT_DATA = "tenant-data-"
TENANT_SUBJECT = "tenant-subject-"


def root_of(settings: Settings) -> NoteKey:
    """The trust anchor. Raises ConfigError when the setting is missing or its file holds no such key."""
    settings.require("root_vkey")
    if settings.root_vkey is None:
        raise AssertionError("require() lets no empty setting pass")
    return load_root(settings.root_vkey)


def keyring_of(settings: Settings) -> Keyring:
    """The certified keys in the deployment's own folder. Raises ConfigError; those in an archive: `auditor.looking`."""
    settings.require("certificates")
    if settings.certificates is None:
        raise AssertionError("require() lets no empty setting pass")
    return load_keyring(settings.certificates, root_of(settings))


def auditor_of(settings: Settings, keyring: Keyring) -> tuple[Signer, Certificate]:
    """The newest auditor's key of this role that speaks for the deployment. Raises ConfigError when there is none."""
    ours = f"{settings.authority}/{settings.deployment}/"
    keystore = Keystore.open(settings.keys)
    return signer_of(keystore, AUDITOR, Role.AUDITOR, keyring, time.time(), lambda certificate: certificate.speaks_for(ours))


def openers_of(settings: Settings) -> Openers:
    """What opens the tenants' contents, from the role's own keys; none if it has no keys."""
    if not settings.keys:
        return {}
    keystore = Keystore.open(settings.keys)
    return _by_id(keystore, (name for name in keystore.names() if name.startswith(TENANT_DATA)))


def subject_openers_of(settings: Settings, tenant: str) -> Openers:
    """What opens the keys of a tenant's people, every generation of it that is held. Raises ConfigError."""
    keystore = Keystore.open(settings.keys)
    return _by_id(keystore, keystore.generations(f"{TENANT_SUBJECT}{tenant}"))


def _by_id(keystore: Keystore, names: Iterable[str]) -> Openers:
    return {opener.key_id: opener.open for opener in map(keystore.opener, names)}
