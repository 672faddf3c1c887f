"""Texts that hold no secret and look as if they might: what the net must leave alone.

Made up at run time, but for the payloads' texts, which come from the caller.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Iterator
from random import Random

from tests.leaks.forms import ALNUM, URL, some

# Sentences in which people speak of secrets without telling one.
PROSE = (
    "The password is required for this account.",
    "Password: required",
    "secret: optional",
    "api_key: string",
    "token: expired",
    "Please reset your password; the password was changed yesterday.",
    "secret=None",
    "password=null",
    "password = ********",
    "PASSWORD=$DB_PASSWORD",
    "password=${DB_PASSWORD}",
    "secret={{ vault.secret }}",
    "api_key=os.environ.get('KEY')",
    "client_secret=settings.CLIENT_SECRET",
    "password=getpass()",
    "Use the Authorization header with a bearer token.",
    "Bearer authentication-mechanisms are described elsewhere.",
    "basic authentication",
    "Basic  understanding of the code",
    "The card ends in 4242.",
    "Order 4111 was shipped, order 4112 was not.",
    "call +44 20 7946 0018 or (0)30 1234567",
    "-----BEGIN PUBLIC KEY----- is how a public key begins",
    "-----BEGIN CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 key of ada",
    "https://example.com:8080/path@here",
    "https://user@example.com/",
    "postgres://localhost:5432/db",
    "mailto:ada@example.com",
    "git@github.com:org/repo.git",
    "s3://bucket/key",
    "arn:aws:iam::123456789012:role/deploy",
    "aws-sdk-go-v2 in version 1.30.3",
    "AWS region eu-central-1 has three zones",
    "xoxo, see you later",
    "glpat is GitLab's prefix",
    "ghp_ is GitHub's prefix",
    "the eyJ at its beginning tells a JWT",
    "version 1.2.3.4",
    "2026-01-01T00:00:00.000Z",
    "1767225600000",
    "1767225600000000",
    "1767225600123456789",
    "3.14159265358979323846",
    "192.168.100.200",
    "2001:db8:85a3::8a2e:370:7334",
    "00:1A:2B:3C:4D:5E",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "E = mc^2",
    "key: value",
    "keys: 4",
    "SK-1234",
    "SG.1",
    "npm_config_cache",
    "sha256:" + "0" * 64,
    "access keys rotate every 90 days",
    "passwordless login is on",
    "secret_scanning: enabled",
    "sig=rsa-sha2-512",
    "It's a secret: nobody knows",
    "the secret is out",
    "use --password to be asked for it",
    "--token-file says where the --secret lies",
    '<label for="password">Password</label>',
    "credentials: include",
    "pwd: /usr/local/bin",
    "IBAN and BIC are shown on the card",
)

_WORDS = (
    *("the", "audit", "trail", "of", "a", "message", "says", "who", "sent", "what", "to", "whom", "and", "when"),
    *("password", "key", "token", "secret", "is", "named", "in", "prose", "nothing", "opened", "deployment", "commit"),
)


def texts(random: Random, payloads: object = (), count: int = 40_000) -> Iterator[str]:
    """`count` generated texts, after the sentences and every text of the payloads (parsed JSON)."""
    yield from PROSE
    yield from strings(payloads)
    makers = (_uuid, _digest, _image, _prose, _number, _identifier, _json, _address)
    for at in range(count):
        yield makers[at % len(makers)](random)


def strings(node: object) -> Iterator[str]:
    """Every text of parsed JSON, keys aside."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from strings(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from strings(value)


def _uuid(random: Random) -> str:
    return str(uuid.UUID(int=random.getrandbits(128)))


def _digest(random: Random) -> str:
    raw = random.randbytes(8)
    kind = random.choice(["md5", "sha1", "sha256", "sha512"])
    made = hashlib.new(kind, raw)
    return random.choice(
        [made.hexdigest(), f"{kind}:{made.hexdigest()}", base64.b64encode(made.digest()).decode(), f'W/"{made.hexdigest()}"']
    )


def _image(random: Random) -> str:
    body = base64.b64encode(b"\x89PNG\r\n\x1a\n" + random.randbytes(random.randrange(100, 3000))).decode()
    return random.choice([body, f"data:image/png;base64,{body}"])


def _prose(random: Random) -> str:
    return " ".join(random.choice(_WORDS) for _ in range(random.randrange(5, 60))).capitalize() + "."


def _number(random: Random) -> str:
    """Amounts, counts, times in seconds to nanoseconds, phone numbers, database ids up to twelve digits."""
    now = random.randrange(1_600_000_000, 1_900_000_000)
    return random.choice(
        [
            str(random.randrange(10 ** random.randrange(1, 13))),
            f"{random.random() * 10**6:.2f}",
            str(now),
            str(now * 1000),
            f"{now}{random.randrange(10**6):06d}",
            f"{now}{random.randrange(10**9):09d}",
            f"+{random.randrange(10**10, 10**12)}",
            f"{random.randrange(10**9):,}",
            f"{random.random()!r}",
            f"{random.randrange(10**8)}-{random.randrange(10**4)}",
        ]
    )


def _identifier(random: Random) -> str:
    return random.choice(
        [
            some(random, ALNUM, random.randrange(6, 64)),
            some(random, URL, 43),
            f"room-{random.randrange(10**6)}",
            f"hmac_{random.randbytes(8).hex()}_{base64.urlsafe_b64encode(random.randbytes(32)).decode().rstrip('=')}",
            some(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", 26),
            f"T{some(random, 'ABCDEFGH0123456789', 10)}",
            base64.b32encode(random.randbytes(20)).decode(),
            random.randbytes(12).hex(),
            f"{random.randrange(10**17, 2 * 10**18)}",
        ]
    )


def _json(random: Random) -> str:
    return json.dumps(
        {
            "id": random.randrange(10**11),
            "node_id": base64.b64encode(random.randbytes(18)).decode(),
            "state": "open",
            "sha": random.randbytes(20).hex(),
            "secret_type": "none",
            "secret": "********",
        }
    )


def _address(random: Random) -> str:
    return random.choice(
        [
            f"https://api.example.com/repos/{some(random, ALNUM, 8)}/commits/{random.randbytes(20).hex()}?page=2",
            f"https://example.com:{random.randrange(1024, 65536)}/{_uuid(random)}",
            f"{some(random, ALNUM, 8)}@example.com",
            f"https://avatars.example.com/u/{random.randrange(10**9)}?v=4",
            f"kafka://broker-{random.randrange(9)}:9093/audit.raw",
        ]
    )
