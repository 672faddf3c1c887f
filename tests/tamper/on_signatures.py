"""Edits of a segment's signatures: found at the seal that they are for.

Not here: revoked keys, which the format does not know yet. Nor a seal of a chain's last segment signed anew by another
certified sealer: whoever holds that key may sign; in every other segment the next one's statement binds the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from random import Random

from sealtrail.seal import Signature
from sealtrail.segment import Segment
from tests.archives import public_of
from tests.tamper.targets import Damage, Draw, Target
from tests.test_tamper import at, reseal, signature_by

EXPIRED = ("sealer-expired",)
FOREIGN = ("forger", "sealer-elsewhere")
OTHER_ROLE = ("auditor", "archive", "source-github")

Given = tuple[int, Signature]


def resigned_by(names: tuple[str, ...]) -> Draw:
    """A seal signed anew by a key that must not."""

    def draw(rng: Random, t: Target) -> Damage:
        name, seq = rng.choice(names), _signed(rng, t)
        return Damage(f"seq {seq} signed by {name}", t.edited(signature_by(name, seq)), (t.found("UNKNOWN-KEY", seq),))

    return draw


def resigned_by_another_sealer(rng: Random, t: Target) -> Damage | None:
    """Of a segment that another follows: the whole object is not the one that was sworn to."""
    if t.is_last:
        return None
    seq = _signed(rng, t)
    return Damage(f"seq {seq} signed by another sealer", t.edited(signature_by("sealer-2", seq)), (t.whole,))


def altered_and_resigned(rng: Random, t: Target) -> Damage:
    """A seal changed and signed by whoever changed it: its successor tells, and if it has none, the key."""
    seq = rng.choice([t.end - 1, _signed(rng, t)])
    changed = at(seq - t.first, reseal(content_digest=rng.randbytes(32)))
    name = rng.choice(EXPIRED + FOREIGN + OTHER_ROLE)
    archive = t.edited(lambda s: signature_by(name, seq)(changed(s)))
    kind = "UNKNOWN-KEY" if seq == t.end - 1 else "ALTERED"
    return Damage(f"seq {seq} altered and signed by {name}", archive, (t.found(kind, seq),))


def changed(rng: Random, t: Target) -> Damage:
    """Other bytes for a signature."""
    seq = _signed(rng, t)
    edit = _each(lambda n, s: (n, Signature(s.key_id, rng.randbytes(64))) if n == seq else (n, s))
    return Damage(f"signature of seq {seq} changed", t.edited(edit), (t.found("BAD-SIGNATURE", seq),))


def ascribed(rng: Random, t: Target) -> Damage:
    """A signature that names another certified sealer's key."""
    seq, key_id = _signed(rng, t), sha256(public_of("sealer-2")).digest()
    edit = _each(lambda n, s: (n, Signature(key_id, s.value)) if n == seq else (n, s))
    return Damage(f"signature of seq {seq} ascribed to sealer-2", t.edited(edit), (t.found("BAD-SIGNATURE", seq),))


def removed(rng: Random, t: Target) -> Damage:
    """Some signatures gone, or all."""
    seqs = _signed_seqs(t)
    gone = sorted(rng.sample(seqs, rng.randint(1, len(seqs))))
    archive = t.edited(lambda s: replace(s, signatures=tuple(g for g in s.signatures if g[0] not in gone)))
    return Damage(f"signatures of {gone} removed", archive, tuple(t.found("BAD-SIGNATURE", seq) for seq in gone))


def doubled(rng: Random, t: Target) -> Damage:
    """A signature twice."""
    seq = _signed(rng, t)
    archive = t.edited(lambda s: replace(s, signatures=tuple(g for g in s.signatures for _ in range(1 + (g[0] == seq)))))
    return Damage(f"signature of seq {seq} twice", archive, (t.found("BAD-SIGNATURE", seq),))


def exchanged(rng: Random, t: Target) -> Damage | None:
    """Two seals' signatures in each other's place."""
    seqs = _signed_seqs(t)
    if len(seqs) < 2:
        return None
    a, b = sorted(rng.sample(seqs, 2))
    by_seq = dict(t.segment.signatures)
    edit = _each(lambda n, s: (n, by_seq[{a: b, b: a}.get(n, n)]))
    found = t.found("BAD-SIGNATURE", a), t.found("BAD-SIGNATURE", b)
    return Damage(f"signatures of seqs {a} and {b} exchanged", t.edited(edit), found)


def misplaced(rng: Random, t: Target) -> Damage | None:
    """A signature, of this chain or another, for a seal that has none, or for none at all."""
    unsigned = [e.seal.seq for e in t.entries if not e.seal.signed]
    seq = rng.choice([*unsigned, t.end + rng.randrange(1000)])
    taken = rng.choice([t, t.elsewhere(rng)]).segment.signatures[0][1]
    archive = t.edited(lambda s: replace(s, signatures=tuple(sorted((*s.signatures, (seq, taken)), key=lambda g: g[0]))))
    found = t.found("BAD-SIGNATURE", seq)
    return Damage(
        f"a signature for seq {seq}", archive, (found,), copied=seq >= t.end
    )  # of that number a later segment has one


def of_another_chain(rng: Random, t: Target) -> Damage:
    """A signature of another chain's seal."""
    seq, other = _signed(rng, t), t.elsewhere(rng)
    taken = rng.choice(other.segment.signatures)[1]
    edit = _each(lambda n, s: (n, taken) if n == seq else (n, s))
    return Damage(f"signature of seq {seq} from {other.chain}", t.edited(edit), (t.found("BAD-SIGNATURE", seq),))


DRAWS: tuple[Draw, ...] = (
    resigned_by(EXPIRED), resigned_by(FOREIGN), resigned_by(OTHER_ROLE), resigned_by_another_sealer, altered_and_resigned,
    changed, ascribed, removed, doubled, exchanged, misplaced, of_another_chain,
)  # fmt: skip


def _signed_seqs(t: Target) -> list[int]:
    return [e.seal.seq for e in t.entries if e.seal.signed]


def _signed(rng: Random, t: Target) -> int:
    return rng.choice(_signed_seqs(t))


def _each(edit: Callable[[int, Signature], Given]) -> Callable[[Segment], Segment]:
    return lambda s: replace(s, signatures=tuple(edit(seq, signature) for seq, signature in s.signatures))
