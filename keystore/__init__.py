"""A process's own keys: who signs, who opens, and symmetric secrets, by URI.

    keystore = Keystore.open("file:/var/lib/sealtrail/keys/sealer")
    keystore.signer("sealer").sign(message)        # Ed25519
    keystore.opener("pipeline").open(sealed, info) # HPKE, X25519
    keystore.secret("disclosure")                  # 32 bytes

Private bytes never enter a repr, a log or an error. A key serves one role: its name says which, and `signer`, `opener`
and `secret` refuse a name of another kind. Backends so far: `file:`. Public keys, and who certified them:
`load_keyring`.

A key is followed by a newer one of the same purpose, `sealer@2` after `sealer`; those who sign use the newest that is
certified (`signer_of`), those who open hold all. Making and certifying keys: `keystore.ceremony`.
"""

from __future__ import annotations

from keystore.file import FileKeystore, generate, write_private
from keystore.keyring import Certificates, load_keyring, load_root, signer_of
from keystore.store import KeyKind, Keystore, Opener, Signer, base_of, kind_of

__all__ = [
    "Certificates",
    "FileKeystore",
    "KeyKind",
    "Keystore",
    "Opener",
    "Signer",
    "base_of",
    "generate",
    "kind_of",
    "load_keyring",
    "load_root",
    "signer_of",
    "write_private",
]
