"""What a reader of the archive holds from outside it, by its settings: the root's public key, and what opens contents."""

from __future__ import annotations

from keystore import Keystore, load_root
from schemas.settings import Settings
from sealtrail.contents import Openers
from sealtrail.note import NoteKey

TENANT_DATA = "tenant-data-"


def root_of(settings: Settings) -> NoteKey:
    """The trust anchor. Raises ConfigError when the setting is missing or its file holds no such key."""
    settings.require("root_vkey")
    if settings.root_vkey is None:
        raise AssertionError("require() lets no empty setting pass")
    return load_root(settings.root_vkey)


def openers_of(settings: Settings) -> Openers:
    """What opens the tenants' contents, from the role's own keys; none if it has no keys."""
    if not settings.keys:
        return {}
    keystore = Keystore.open(settings.keys)
    openers = [keystore.opener(name) for name in keystore.names() if name.startswith(TENANT_DATA)]
    return {opener.key_id: opener.open for opener in openers}
