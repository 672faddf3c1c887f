"""A process's own keys: who signs, who opens, and symmetric secrets, by URI.

    keystore = Keystore.open("file:/var/lib/sealtrail/keys/sealer")
    keystore.signer("sealer").sign(message)        # Ed25519
    keystore.opener("pipeline").open(sealed, info) # HPKE, X25519
    keystore.secret("disclosure")                  # 32 bytes

Private bytes never enter a repr, a log or an error. A key serves one role: its name says which, and `signer`, `opener`
and `secret` refuse a name of another kind. Backends so far: `file:`. Public keys, and who certified them:
`load_keyring`.

Not here: making keys and certificates for a deployment (its operator does; `keystore.file.generate` is the pure part).
"""

from __future__ import annotations

from keystore.file import FileKeystore, generate, write_private
from keystore.keyring import load_keyring, load_root
from keystore.store import KeyKind, Keystore, Opener, Signer, kind_of

__all__ = [
    "FileKeystore",
    "KeyKind",
    "Keystore",
    "Opener",
    "Signer",
    "generate",
    "kind_of",
    "load_keyring",
    "load_root",
    "write_private",
]
