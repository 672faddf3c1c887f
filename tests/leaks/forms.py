"""Secrets of every shape, made up at run time from their published forms, so that none stands in this repository.

`made(random)` gives one of each form; the text around a secret that makes it one (a header, a key's name) is part of it. What
must be gone from a text is the secret itself: `Form.secret`. Written from the vendors' descriptions, not from the patterns.
"""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

ALNUM = string.ascii_letters + string.digits
URL = ALNUM + "-_"
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + "234567"


@dataclass(frozen=True, slots=True)
class Form:
    """A text of one shape, and the part of it that opens something."""

    shape: str
    text: str
    secret: str


def some(random: Random, letters: str, count: int) -> str:
    """`count` of these letters; ends in a letter or digit, and has a letter of each case and a digit where it can."""
    made = [random.choice(letters) for _ in range(count)]
    for at, kind in enumerate((string.ascii_lowercase, string.ascii_uppercase, string.digits)):
        usable = [c for c in letters if c in kind]
        if usable and count > 8:
            made[at] = random.choice(usable)
    made[-1] = random.choice([c for c in letters if c in ALNUM])
    return "".join(made)


def jwt(random: Random, algorithm: str = "RS256") -> str:
    """RFC 7519 §3.1, with a signature of random bytes."""
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": some(random, ALNUM, 12), "exp": random.randrange(10**9, 2 * 10**9)})
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{body}.{some(random, URL, 86)}"


def luhn(random: Random, prefix: str, length: int) -> str:
    """A number of this prefix and length with its check digit."""
    body = prefix + some(random, string.digits, length - 1 - len(prefix))
    total = sum(d if at % 2 else d * 2 - 9 * (d > 4) for at, d in enumerate(map(int, reversed(body))))
    return body + str(-total % 10)


def grouped(number: str, sizes: tuple[int, ...], by: str) -> str:
    """The number in groups."""
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    return by.join(parts)


def iban(random: Random) -> str:
    """ISO 13616: of Germany (22) and the United Kingdom (22)."""
    country, body = random.choice([("DE", some(random, string.digits, 18)), ("GB", "WEST" + some(random, string.digits, 14))])
    number = "".join(str(int(c, 36)) for c in f"{body}{country}00")
    return f"{country}{98 - int(number) % 97:02d}{body}"


def pem(random: Random) -> str:
    """A private key in one of the usual files; seldom in clear lines alone."""
    made: list[ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey]
    made = [ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()]
    key = random.choice(made)
    kind = random.choice([PrivateFormat.PKCS8, PrivateFormat.OpenSSH])
    lock = random.choice([NoEncryption(), BestAvailableEncryption(b"x" * 8)]) if kind is PrivateFormat.PKCS8 else NoEncryption()
    text = key.private_bytes(Encoding.PEM, kind, lock).decode().strip()
    label = random.choice(["", "RSA ", "EC ", "DSA "])
    if label:
        body = "\n".join(some(random, ALNUM + "+/", 64) for _ in range(12))
        text = f"-----BEGIN {label}PRIVATE KEY-----\n{body}\n-----END {label}PRIVATE KEY-----"
    return random.choice([text, text.replace("\n", "\\n"), text.replace("\n", " "), text.replace("\n", "\r\n")])


def pgp(random: Random) -> str:
    """RFC 9580 §6.2: an armoured private key block."""
    body = "\n".join(some(random, ALNUM + "+/", 64) for _ in range(6))
    return f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{body}\n={some(random, ALNUM, 4)}\n-----END PGP PRIVATE KEY BLOCK-----"


def putty(random: Random) -> tuple[str, str]:
    """PuTTY's own file, and its private lines."""
    public, private = ("\n".join(some(random, ALNUM + "+/", 64) for _ in range(2)) for _ in range(2))
    head = f"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: c\nPublic-Lines: 2\n{public}"
    return f"{head}\nPrivate-Lines: 2\n{private}\nPrivate-MAC: {some(random, HEX, 64)}", private


def _of(shape: str, text: str, secret: str | None = None) -> Form:
    return Form(shape, text, text if secret is None else secret)


def _cloud(r: Random) -> list[Form]:
    key, storage, bus = some(r, ALNUM + "+/", 40), some(r, ALNUM + "+/", 86) + "==", some(r, ALNUM + "+/", 43) + "="
    signature = some(r, ALNUM, 40) + "%2B" + some(r, ALNUM, 3) + "%3D"
    ending = pem(r).replace("\n", "\\n")
    account = json.dumps({"type": "service_account", "private_key_id": some(r, HEX, 40), "private_key": "@"})
    return [
        _of("aws-access-key", r.choice(["AKIA", "ASIA"]) + some(r, UPPER, 16)),
        _of("aws-secret-key", f"aws_secret_access_key = {key}", key),
        _of("aws-secret-key", f'"SecretAccessKey": "{key}"', key),
        _of("aws-secret-key", f"AWS_SECRET_ACCESS_KEY={key}", key),
        _of("gcp-api-key", "AIza" + some(r, URL, 35)),
        _of("private-key", account.replace("@", ending), ending),
        _of("google-oauth", "GOCSPX-" + some(r, URL, 28)),
        _of("google-oauth", "ya29." + some(r, URL, 120)),
        _of("azure-key", f"AccountName=store;AccountKey={storage};EndpointSuffix=core.windows.net", storage),
        _of("azure-key", f"Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey={bus}", bus),
        _of(
            "azure-sas", f"https://s.blob.core.windows.net/c/b?sv=2022-11-02&se=2026-01-01&sr=b&sp=r&sig={signature}", signature
        ),
        _of("azure-client-secret", some(r, ALNUM, 3) + "8Q~" + some(r, ALNUM + "_~.-", 34)),
    ]


def _chat(r: Random) -> list[Form]:
    number = some(r, string.digits, 12)
    snowflake = base64.urlsafe_b64encode(str(r.randrange(10**17, 10**18)).encode()).decode().rstrip("=")
    services = f"T{some(r, UPPER, 9)}/B{some(r, UPPER, 9)}/{some(r, ALNUM, 24)}"
    uuid = "-".join(some(r, HEX, n) for n in (8, 4, 4, 4, 12))
    teams = f"{uuid}@{uuid}/IncomingWebhook/{some(r, HEX, 32)}/{uuid}"
    webhook = some(r, URL, 68)
    return [
        *(_of("slack-token", f"xox{kind}-{number}-{some(r, string.digits, 12)}-{some(r, ALNUM, 24)}") for kind in "bpar"),
        _of("slack-token", f"xapp-1-A{some(r, UPPER, 10)}-{number}-{some(r, HEX, 64)}"),
        _of("slack-token", f"xoxe.xoxp-1-{some(r, ALNUM, 160)}"),
        _of("slack-webhook", f"https://hooks.slack.com/services/{services}", services),
        _of("teams-webhook", f"https://corp.webhook.office.com/webhookb2/{teams}", teams),
        _of("discord-token", f"{snowflake}.{some(r, URL, 6)}.{some(r, URL, 38)}"),
        _of("discord-webhook", f"https://discord.com/api/webhooks/{r.randrange(10**17, 10**18)}/{webhook}", webhook),
        _of("telegram-token", f"{r.randrange(10**8, 10**10)}:AA{some(r, URL, 33)}"),
        _of("salesforce-session", f"00D{some(r, ALNUM, 12)}!{some(r, ALNUM + '._', 96)}"),
    ]


def _services(r: Random) -> list[Form]:
    auth = some(r, HEX, 32)
    return [
        *(_of("github-token", f"gh{kind}_{some(r, ALNUM, 36)}") for kind in "pousr"),
        _of("github-token", f"github_pat_{some(r, ALNUM, 22)}_{some(r, ALNUM, 59)}"),
        _of("gitlab-token", f"glpat-{some(r, URL, 20)}"),
        _of("stripe-key", f"{r.choice('sr')}k_{r.choice(['live', 'test'])}_{some(r, ALNUM, r.choice([24, 99]))}"),
        _of("twilio-key", f"SK{some(r, HEX, 32)}"),
        _of("twilio-key", f"TWILIO_AUTH_TOKEN={auth}", auth),
        _of("sendgrid-key", f"SG.{some(r, URL, 22)}.{some(r, URL, 43)}"),
        _of("npm-token", f"npm_{some(r, ALNUM, 36)}"),
        _of("pypi-token", f"pypi-AgEIcHlwaS5vcmc{some(r, URL, 140)}"),
    ]


def _credentials(r: Random) -> list[Form]:
    token, password = some(r, URL, 40), some(r, ALNUM + "!#$%^*+", 14)
    pair = base64.b64encode(f"user{r.randrange(10**6)}:{password}".encode()).decode()
    plain = some(r, ALNUM, 16)
    phrase = " ".join(some(r, string.ascii_lowercase, 7) for _ in range(4))
    return [
        _of("jwt", jwt(r)),
        _of("jwt", jwt(r, "none").rpartition(".")[0] + "."),
        _of("bearer-token", f"Authorization: Bearer {token}", token),
        _of("bearer-token", f"curl -H 'authorization: bearer {token}'", token),
        _of("basic-credentials", f"Authorization: Basic {pair}", pair),
        _of("url-password", f"postgres://app:{plain}@db.internal:5432/audit", plain),
        _of("url-password", f"https://deploy:{plain}@git.example.com/x.git", plain),
        *(_of("assigned-secret", f"{name}={plain}", plain) for name in ("password", "DB_PASSWORD", "client_secret", "api_key")),
        _of("assigned-secret", json.dumps({"password": plain}), plain),
        _of("assigned-secret", f'password: "{phrase}"', phrase),
        _of("assigned-secret", f"passphrase = '{phrase}'", phrase),
        _of("assigned-secret", f"<soap:Password>{phrase}</soap:Password>", phrase),
        _of("assigned-secret", f"deploy --dry-run --client-secret {plain} --now", plain),
        _of("stated-secret", f"password: {password}", password),
        _of("stated-secret", f"secret: {plain}", plain),
        _of("stated-secret", f"api key is {plain}", plain),
        _of("private-key", pem(r)),
        _of("private-key", pgp(r)),
        _of("putty-key", *putty(r)),
    ]


def _numbers(r: Random) -> list[Form]:
    visa, master, amex = luhn(r, "4", 16), luhn(r, str(r.randrange(51, 56)), 16), luhn(r, r.choice(["34", "37"]), 15)
    others = [luhn(r, "6011", 16), luhn(r, "3530", 16), luhn(r, "62", 16), luhn(r, "2221", 16), luhn(r, "36", 14)]
    number = iban(r)
    return [
        *(_of("card-number", n) for n in (visa, master, amex, *others)),
        _of("card-number", grouped(visa, (4, 4, 4, 4), " ")),
        _of("card-number", grouped(master, (4, 4, 4, 4), "-")),
        _of("card-number", grouped(amex, (4, 6, 5), " ")),
        _of("iban", number),
        _of("iban", " ".join(number[at : at + 4] for at in range(0, len(number), 4))),
    ]


_FAMILIES: tuple[Callable[[Random], list[Form]], ...] = (_cloud, _chat, _services, _credentials, _numbers)


def made(random: Random) -> list[Form]:
    """One of every form."""
    return [form for family in _FAMILIES for form in family(random)]


# Where people and programs put secrets; `@` is the place.
CONTEXTS = (
    "@",
    "see @",
    "@ is what I used",
    "it said: @.",
    "(@)",
    '"@"',
    "'@'",
    "`@`",
    "<@>",
    "a, @, b",
    "x=@",
    "key: @;",
    "line one\n@\nline three",
    "\t@\t",
    "Gruß, @ – danke",
    "日本語@日本語",
    "…@…",
    "https://example.com/?next=@",
    '{"k": "@", "n": 1}',
    "- @",
    "* @ *",
    "@!",
    "@?",
    "@\u200b",
    "x\u200b@\u200bx",
    "env:\n  - name: X\n    value: @\n",
    "error while calling the service with @ (attempt 3 of 5)",
    "|@|",
)
