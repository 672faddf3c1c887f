"""The shapes of secrets that the net knows, each with the published source of its form.

`hint` is what a text of the shape cannot be without: true of UTF-8 and of any bytes around it, in the syntax that
`schemas.beginnings` reads, and with few states where it stands in long runs of digits or letters. `pattern` is the shape; its
group 1, or without one all of it, is what must go. Both are RE2, over Latin-1 bytes. `check` decides what a pattern cannot:
(text, start, end of what must go) to whether it is one.

Specific shapes come before general ones: where two overlap, the first gives its name.

Not here: how texts are searched (`schemas.secrets`).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

Check = Callable[[bytes, int, int], bool]


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape; see the module."""

    name: str
    hint: bytes
    pattern: bytes
    check: Check | None = None


def _unbase64(text: bytes) -> bytes:
    """What a base64 or base64url text says; empty if it is none."""
    try:
        return base64.b64decode(
            text.translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=") + b"=" * (-len(text.rstrip(b"=")) % 4)
        )
    except (binascii.Error, ValueError):
        return b""


def _has_header(data: bytes, start: int, end: int) -> bool:
    """RFC 7515 §4.1.1: the header is a JSON object with `alg`."""
    try:
        header = json.loads(_unbase64(data[start:end].split(b".", 1)[0]))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


def _is_snowflake(data: bytes, start: int, end: int) -> bool:
    return re.fullmatch(rb"[0-9]{17,20}", _unbase64(data[start:end].split(b".", 1)[0])) is not None


def _has_both_cases(data: bytes, start: int, end: int) -> bool:
    """40 characters of base64 have, save for one key in a thousand million; a commit's hash has not."""
    found = data[start:end]
    return found != found.upper() and found != found.lower()


def _is_pair(data: bytes, start: int, end: int) -> bool:
    """RFC 7617 §2: base64 of `user:password`."""
    pair = _unbase64(data[start:end])
    return b":" in pair and re.search(rb"[\x00-\x1f\x7f]", pair) is None


def _has_digit(data: bytes, start: int, end: int) -> bool:
    """What follows the word bearer in prose has none."""
    return re.search(rb"[0-9]", data[start:end]) is not None


_PLACEHOLDERS = frozenset(
    b"none null nil true false undefined empty required optional string str text value changed redacted hidden removed "
    b"filtered masked omitted missing invalid incorrect wrong expired unknown placeholder example".split()
)
# A variable, a template, a name of code, and one character again and again: what is masked already.
_CODE = re.compile(rb"\$[{(].*|\$[A-Z_][A-Z0-9_]*|%\(.*|%[a-z]|\{.*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+\.?|(.)\1*", re.DOTALL)


def _is_value(data: bytes, start: int, end: int) -> bool:
    """A value, rather than a placeholder, a variable, a call, or what is masked already."""
    value = data[start:end]
    return value.lower().rstrip(b".!?") not in _PLACEHOLDERS and _CODE.fullmatch(value) is None and data[end : end + 1] != b"("


def _is_strong_value(data: bytes, start: int, end: int) -> bool:
    """A value that no prose has: letters and digits mixed, or one of the signs that passwords have."""
    value = data[start:end]
    mixed = re.search(rb"[0-9]", value) and re.search(rb"[A-Za-z]", value)
    signs = re.search(rb"[!#$%^&*+=?@~|]", value.rstrip(b"!?"))
    return _is_value(data, start, end) and bool(mixed or signs)


def _is_url_password(data: bytes, start: int, end: int) -> bool:
    return _CODE.fullmatch(data[start:end]) is None


def _is_card(data: bytes, start: int, end: int) -> bool:
    """ISO/IEC 7812-1 Annex B (the check digit), and no part of a longer number. A date or a code may follow after a space."""
    before, found, after = data[max(0, start - 5) : start], data[start:end], data[end : end + 6]
    if re.search(rb"(?:[0-9A-Za-z_]|[0-9][.,:-])\Z", before) or re.match(rb"[0-9A-Za-z_]|[.,:-][0-9]", after):
        return False
    if b" " in found and (re.search(rb"[0-9]{4} \Z", before) or re.match(rb" [0-9]{4}(?![0-9])", after)):
        return False
    digits = [byte - 48 for byte in found if 48 <= byte <= 57]
    doubled = sum(digit if at % 2 == 0 else digit * 2 - 9 * (digit > 4) for at, digit in enumerate(reversed(digits)))
    return doubled % 10 == 0 and len(set(digits)) > 1


# Length of a country's IBANs: ISO 13616 registry (SWIFT, "IBAN Registry").
_IBAN_LENGTHS = MappingProxyType(
    {
        country: length
        for length, countries in {
            15: "NO", 16: "BE BI", 18: "DK FI FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK",
            21: "CH HR LI LV", 22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL",
            24: "AD CZ ES MD PK RO SA SE SK TN VG", 25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM",
            28: "AL AZ BY CY DO GT HU LB NI PL SV", 29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
        }.items()
        for country in countries.split()
    }
)  # fmt: skip


def _is_iban(data: bytes, start: int, end: int) -> bool:
    """ISO 13616-1 §6: of its country's length, and 1 modulo 97."""
    text = data[start:end].replace(b" ", b"").decode("latin-1")
    number = "".join(str(int(character, 36)) for character in text[4:] + text[:4])
    return _IBAN_LENGTHS.get(text[:2]) == len(text) and int(number) % 97 == 1


_SECRET_WORD = (
    rb"(?:pass(?:word|wd|phrase)|pwd|secret|(?:api|access|auth|secret|private|signing|encryption|account)[ _-]?key|"
    rb"(?:api|access|auth|bot|bearer|refresh|session|security|id)[ _-]?token|client[ _-]?secret|credentials?)"
)

SHAPES: tuple[Shape, ...] = (
    # RFC 7468 §10 and §11 (PKCS#8), RFC 1421 style of OpenSSL, OpenSSH's PROTOCOL.key, RFC 9580 §6.2 (PGP), SSH2's own.
    # To its end line, or to the text's end: line breaks are real, spaces, or `\n` as in JSON. Any dashes: a copy may lose some.
    Shape(
        "private-key",
        rb"PRIVATE KEY",
        rb"(?s)-{2,5} ?BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)? ?-{2,5}.*?"
        rb"(?:-{2,5} ?END (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)? ?-{2,5}|\z)",
    ),
    # PuTTY manual, appendix C "PPK file format".
    Shape("putty-key", rb"PuTTY-User-Key-File-", rb"(?s)PuTTY-User-Key-File-[0-9]: .*?(?:Private-MAC: ?[0-9a-f]+|\z)"),
    # RFC 7519 §3, RFC 7516 §3.1 (five parts).
    Shape(
        "jwt",
        rb"ey[A-Za-z0-9_-]{8}[A-Za-z0-9_-]*\.",
        rb"\b(ey[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2})",
        _has_header,
    ),
    # AWS IAM user guide, "IAM identifiers", unique ID prefixes: access keys, temporary ones, bearer tokens, context keys.
    Shape("aws-access-key", rb"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}", rb"\bA(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}\b"),
    # AWS IAM user guide, "Manage access keys": 40 characters, known by what stands before them alone.
    Shape(
        "aws-secret-key",
        rb"(?i)(?:aws[a-z0-9 _.-]{0,40}|secret[ _-]?(?:access)?[ _-]?key)(?:[\"'\\:=>\s]|</)",
        rb"(?i:\baws[a-z0-9 _.-]{0,40}|secret[ _-]?(?:access)?[ _-]?key)"
        rb"(?:[\"'\\:=>\s]{1,8}(?:is\s{1,3})?|</[A-Za-z]{1,30}>\s{0,3}<[A-Za-z]{1,30}>)[\"'\\]{0,2}"
        rb"([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+=]|\z)",
        _has_both_cases,
    ),
    # Google Cloud docs, "Manage API keys"; Google Identity docs, OAuth clients, access and refresh tokens.
    Shape("gcp-api-key", rb"AIza[0-9A-Za-z_-]{8}", rb"\bAIza[0-9A-Za-z_-]{35,}"),
    Shape(
        "google-oauth",
        rb"GOCSPX-|ya29\.|1//0[0-9A-Za-z_-]{8}",
        rb"\bGOCSPX-[0-9A-Za-z_-]{20,}|\bya29\.[0-9A-Za-z_-]{20,}|\b1//0[0-9A-Za-z_-]{40,}",
    ),
    # Azure docs, "Configure connection strings": 64 bytes in base64 (storage), 32 (service bus, event hubs).
    Shape(
        "azure-key",
        rb"(?i)(?:account|shared|access)_?key",
        rb"(?i:(?:account|sharedaccess|shared_access|shared|access)_?key)[\"'\\]{0,2}\s{0,3}[=:]\s{0,3}[\"'\\]{0,2}([A-Za-z0-9+/]{43,86}={1,2})",
    ),
    # Azure docs, "Create a service SAS": `sig`, an HMAC-SHA-256 in base64, escaped or not; also of Power Automate's addresses.
    Shape("azure-sas", rb"sig=[A-Za-z0-9%+/_-]{16}", rb"\bsig=([A-Za-z0-9%+/_-]{40,}={0,2})"),
    # Microsoft Entra docs, application secrets: a digit, `Q~` at the fifth place, 40 characters in all.
    Shape("azure-client-secret", rb"[0-9]Q~[A-Za-z0-9_~.-]{8}", rb"\b[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}"),
    # Slack docs, "Token types" (xoxb, xoxp, xapp, xoxe of rotation, xoxa, xoxr, xoxs, xoxc and xoxd of sessions).
    Shape(
        "slack-token",
        rb"xox[a-z](?:\.xox[bp])?-|xapp-[0-9]",
        rb"\bxox[a-z](?:\.xox[bp])?-[0-9A-Za-z%+/=-]{10,}|\bxapp-[0-9]-[0-9A-Za-z-]{10,}",
    ),
    # Slack docs, "Sending messages using incoming webhooks": whoever has the address may post.
    Shape(
        "slack-webhook",
        rb"hooks\.slack",
        rb"hooks\.slack(?:-gov)?\.com/(?:services|workflows|triggers)/([A-Za-z0-9_/-]{16,})",
    ),
    # Microsoft Teams docs, "Create incoming webhooks"; the address's path is its secret.
    Shape(
        "teams-webhook",
        rb"(?i)webhook\.office\.com/|outlook\.office(?:365)?\.com/webhook",
        rb"(?i:webhook\.office\.com/webhookb2|outlook\.office(?:365)?\.com/webhook)/([A-Za-z0-9@_/-]{32,})",
    ),
    # Discord developer docs, "Webhook resource", and "Reference": the first part of a token is the bot's id in base64.
    Shape(
        "discord-webhook",
        rb"(?i)discord(?:app)?\.com/api/",
        rb"(?i:discord(?:app)?\.com/api/)(?:v[0-9]{1,2}/)?webhooks/[0-9]{17,20}/([A-Za-z0-9_-]{60,})",
    ),
    Shape(
        "discord-token",
        rb"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}",  # from its dots on: what stands before them begins everywhere in base64
        rb"\b[MNO][A-Za-z0-9_-]{22,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}",
        _is_snowflake,
    ),
    # Telegram Bot API, "Authorizing your bot"; of the bots of today the part after the colon begins with AA.
    Shape("telegram-token", rb"[0-9]{8}:AA", rb"[0-9]{8,10}:AA[A-Za-z0-9_-]{33}(?:\b|\z)"),
    # GitHub docs, "About authentication to GitHub", token formats.
    Shape("github-token", rb"gh[pousr]_|github_pat_", rb"\bgh[pousr]_[A-Za-z0-9_.-]{36,}|\bgithub_pat_[A-Za-z0-9_]{22,}"),
    # GitLab docs, "Token overview", prefixes.
    Shape(
        "gitlab-token",
        rb"gl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct|wt)-",
        rb"\bgl(?:pat|oas|dt|rt|rtr|cbt|ptt|ft|imt|agent|soat|ffct|wt)-[A-Za-z0-9_.-]{20,}",
    ),
    # Stripe docs, "API keys", and "Webhook signatures".
    Shape(
        "stripe-key",
        rb"[sr]k_(?:live|test)_|whsec_",
        rb"\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,}|\bwhsec_[0-9A-Za-z+/]{24,}={0,2}",
    ),
    # Twilio docs, "API keys" (SK and 32 hex digits) and "Auth tokens" (32 hex digits, known by what stands before them).
    Shape(
        "twilio-key",
        rb"SK[0-9a-f]{8}|(?i:twilio)",
        rb"\bSK[0-9a-f]{32}\b|"
        rb"(?i:twilio[a-z0-9 _.-]{0,30}(?:token|secret|key)[\"'\\]{0,2}\s{0,3}(?:is|[:=])\s{0,3}[\"'\\]{0,2})([0-9a-f]{32})\b",
    ),
    # SendGrid (Twilio) docs, "API keys".
    Shape("sendgrid-key", rb"SG\.[A-Za-z0-9_-]{8}", rb"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    # Salesforce docs, "Session IDs": the organisation's id (15 or 18), an exclamation mark, the session.
    Shape("salesforce-session", rb"00D[A-Za-z0-9]{12,15}!", rb"\b00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]{60,}"),
    # npm docs, "About access tokens"; GitHub's announcement of the format: `npm_` and 36 characters.
    Shape("npm-token", rb"npm_[A-Za-z0-9]{8}", rb"\bnpm_[A-Za-z0-9]{36,}"),
    # PyPI help, "API tokens": a macaroon behind `pypi-`; its version byte makes it begin with AgE.
    Shape("pypi-token", rb"pypi-AgE", rb"\bpypi-AgE[A-Za-z0-9_-]{32,}"),
    # RFC 9110 §11.6.2, RFC 6750 §2.1, RFC 7617 §2.
    Shape(
        "bearer-token",
        rb"(?i)bearer(?:\s|%20|\+|\\u0020)",
        rb"(?i)\bbearer(?:\s|%20|\+|\\u0020){1,3}[\"'\\]{0,2}([A-Za-z0-9._~+/-]{12,}=*)",
        _has_digit,
    ),
    Shape("basic-credentials", rb"(?i)basic\s", rb"(?i)\bbasic\s{1,3}([A-Za-z0-9+/_-]{6,}={0,2})", _is_pair),
    # RFC 3986 §3.2.1: user information with a password.
    Shape(
        "url-password",
        rb"://[^\s/?#@]*:[^\s/@]*@",
        rb"(?i)\b[a-z][a-z0-9+.-]{1,30}://[^\s/?#:@\"'<>\[\]]{0,256}:([^\s/?#@\"'<>\[\]]{1,512})@[A-Za-z0-9\[]",
        _is_url_password,
    ),
    # No standard: configuration, queries, JSON, XML, command lines. Tight (`password=x`, `"password":"x"`): whatever is no
    # placeholder, all of it if it is quoted. Loose (`password: x`, `password is x`): what no prose has.
    Shape(
        "assigned-secret",
        rb"(?i)" + _SECRET_WORD + rb"[\"'\\]{0,4}(?:=|%3D|\s{0,3}[:=])",
        rb"(?i:" + _SECRET_WORD + rb"(?:[\"'\\]{0,4}(?:=|%3D)[\"'\\]{0,4}|[\"'\\]{1,4}\s{0,3}:\s{0,3}[\"'\\]{1,4}))"
        rb"([^\s\"'\\,;&<>\[\](){}]{4,512})",
        _is_value,
    ),
    *(
        Shape(
            "assigned-secret",
            rb"(?i)" + _SECRET_WORD + rb"[\"'\\]{0,4}\s{0,3}[:=]{1,2}>?\s{0,3}\\?" + quote,
            rb"(?i:"
            + _SECRET_WORD
            + rb"[\"'\\]{0,4}\s{0,3}(?:=>|:=|[:=])\s{0,3})\\?"
            + quote
            # to the closing quote; a quote, a mark or a line's end within means that it is another thing
            + rb"([^\n\\\["
            + quote
            + rb"]{4,512})\\?"
            + quote,
            _is_value,
        )
        for quote in (b'"', b"'")
    ),
    Shape(
        "assigned-secret",
        rb"(?i)" + _SECRET_WORD + rb">",
        rb"(?i:<[a-z0-9:._-]{0,40}" + _SECRET_WORD + rb">)([^<>\[]{4,512})</",
        _is_value,
    ),
    Shape(
        "assigned-secret",
        rb"(?i)--[a-z-]{0,40}" + _SECRET_WORD + rb"\s",
        rb"(?i:--[a-z-]{0,40}" + _SECRET_WORD + rb"\s{1,3}[\"']?)([^-\s\"'\\,;&<>\[\](){}][^\s\"'\\,;&<>\[\](){}]{3,512})",
        _is_strong_value,
    ),
    Shape(
        "stated-secret",
        rb"(?i)" + _SECRET_WORD + rb"[\"'\\]{0,2}\s{0,3}(?:[:=]|is\s)",
        rb"(?i:"
        + _SECRET_WORD
        + rb"[\"'\\]{0,2}\s{0,3}(?:=>|:=|[:=]|is\s)\s{0,3})[\"'\\]{0,2}([^\s\"'\\,;&<>\[\](){}]{8,512})",
        _is_strong_value,
    ),
    # ISO/IEC 7812-1 and the schemes' published ranges: Visa 16, 19; Mastercard 16; American Express 15; Diners 14;
    # Discover 16, 19; JCB 16; UnionPay 16, 19. In one piece, or in the groups that stand on the card.
    Shape(
        "card-number",
        rb"[0-9]{16}|[2-6][0-9]{3}(?: [0-9]{4}){3}|[2-6][0-9]{3}(?:-[0-9]{4}){3}",
        rb"(?:4[0-9]{3}|5[1-5][0-9]{2}|2(?:22[1-9]|2[3-9][0-9]|[3-6][0-9]{2}|7[01][0-9]|720)|6(?:011|4[4-9][0-9]|5[0-9]{2}|2[0-9]{2})|"
        rb"35(?:2[89]|[3-8][0-9]))(?:[0-9]{12}(?:[0-9]{3})?|(?: [0-9]{4}){3}(?: [0-9]{3}\b)?|(?:-[0-9]{4}){3}(?:-[0-9]{3}\b)?)",
        _is_card,
    ),
    Shape(
        "card-number",
        rb"[0-9]{14}|3[04-9][0-9]{2} [0-9]{6} [0-9]{4}|3[04-9][0-9]{2}-[0-9]{6}-[0-9]{4}",
        rb"3[47][0-9]{2}(?:[0-9]{11}| [0-9]{6} [0-9]{5}|-[0-9]{6}-[0-9]{5})|"
        rb"3(?:0[0-59]|[689][0-9])[0-9](?:[0-9]{10}| [0-9]{6} [0-9]{4}|-[0-9]{6}-[0-9]{4})",
        _is_card,
    ),
    Shape(
        "iban",
        rb"[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4} ?[0-9A-Z]{3}",
        rb"\b[A-Z]{2}[0-9]{2}(?:(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?|[A-Z0-9]{11,30})\b",
        _is_iban,
    ),
)
