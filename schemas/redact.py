"""Redaction: in the producing application, and its check in the sealer (CON-2, CON-3).

    omit       null, or empty
    mask       +44 20 7946 0018  ->  +** ** **** 0018      shape and last characters stay
    hash       hmac_<first 16 hex of the key's id>_<43 characters base64url>      joins within a tenant
    tokenize   the text itself, here: the emitter encrypts it for the sealer once the record has its number

Where a tenant's people have no keys, tokenize is omit.

Redacting twice changes nothing: what already has the form of a mask or a hash passes through. So a *hash form that a
person typed* passes as well, here and in the sealer's check, which holds no hash keys: the form says that a value looks
redacted, not that it was. What it lets through is 43 characters of an alphabet without spaces. Likewise whoever holds a
tenant's hash key can test guesses. Not so with what is to be tokenised: that is encrypted whatever it looks like. The empty
string hides nothing and passes everywhere.

Both are compiled from the schema into closures once; only what the schema marks is visited. Exceptions and violations
name a field, never its value. Secrets that stand elsewhere, or that a mask would show the end of, are taken out before
(`schemas.net`); an event that holds none, as one scan of it tells, is not looked through for them.

Not here: what a secret looks like (`schemas.secrets`); and whether the event is well-formed (`schemas.contract`).
"""

from __future__ import annotations

import base64
import hmac
import marshal
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.fields import Marks, Node, Redact, field_tree
from schemas.net import Net
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import suspicious
from sealtrail.avro import Codec
from sealtrail.errors import ContractError
from sealtrail.token import is_encrypted, secret_key_id

REDACTION_POLICY = "v1"  # this module's rules; stated in redaction.policy
KEPT = "@.-_/: +()"  # characters that a mask keeps wherever they stand
MASK = "*"
SHOWN = 4  # characters at the end that a mask shows, at most, and at most a quarter of the text
MAX_TOKENIZED_BYTES = 4096  # UTF-8, of a text that is to be tokenised: its encrypted form stays within a text's limit

_HASH_CONTEXT = b"sealtrail/hash/v1\n"
_MASKABLE = re.compile(r"[^@.\-_/: +()]")
_MASKED = MASK + KEPT
# 32 bytes in base64url without padding: 43 characters, of which the last carries 4 bits and two zero bits
_HASHED = re.compile(r"hmac_[0-9a-f]{16}_[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")

Event = dict[str, Any]
HashKey = Callable[[str], bytes]
_Clear = Callable[[Mapping[str, Any], str], bool]
_Redact = Callable[[Any, Callable[[str], str], list[str]], Any]
_Check = Callable[[Any, list["Violation"]], None]


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that should have been redacted and is not. Holds no value."""

    field: str
    problem: str


def mask(value: str) -> str:
    """The value with every character but KEPT's replaced by `*`, except the last min(4, a quarter of the length).

    Length counts code points.
    """
    cut = len(value) - min(SHOWN, len(value) // 4)
    return _MASKABLE.sub(MASK, value[:cut]) + value[cut:]


def is_masked(value: str) -> bool:
    """Whether `mask` would leave the value as it is."""
    return not value[: len(value) - min(SHOWN, len(value) // 4)].strip(_MASKED)


def hash_value(key: bytes, value: str) -> str:
    """`hmac_…_…`: HMAC-SHA-256 of the value's UTF-8 under a tenant's hash key, with the key's id in front."""
    return hasher_of(key)(value)


def hasher_of(key: bytes) -> Callable[[str], str]:
    """`hash_value` under one key, whose id is made once."""
    prefix = f"hmac_{secret_key_id(key).hex()[:16]}_"

    def hasher(value: str) -> str:
        digest = hmac.digest(key, _HASH_CONTEXT + value.encode(), "sha256")
        return prefix + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    return hasher


def redaction_of(fields: list[str]) -> dict[str, object]:
    """The event's field `redaction` after these paths were changed, each named once."""
    return {"status": "APPLIED" if fields else "NONE", "policy": REDACTION_POLICY, "fields": fields}


def is_hashed(value: str) -> bool:
    """Whether the value has the form that `hash_value` gives. The form only: see the module's first paragraphs."""
    return _HASHED.fullmatch(value) is not None


class Redactor:
    """Callable: an event to a new, redacted one; the given event is not changed.

    Args:
        codec_text: the event schema's text.
        extensions: whose registered extensions are redacted too: decoded, redacted, encoded again.
        hash_key: the hash key of a tenant, 32 bytes; asked only when something is to be hashed.
        tokenizes: whether a tenant's values can be tokenised; of one whose cannot, they are omitted.

    What is to be tokenised stays as it is, and its path is named: encrypting it is the emitter's, `schemas.tokenized` finds it.
    The result's `redaction` is {status, policy, fields}: `fields` are the paths that were named before and those that changed
    now; status is APPLIED if there are any. Any thread may call.

    Raises:
        ContractError: a marked field is not of its type, or longer than can be tokenised, or the extension is not
            registered or malformed; SecretError: a field holds a secret, and its pattern takes no mark in its place.
    """

    def __init__(
        self, codec_text: str, extensions: Registry, hash_key: HashKey, tokenizes: Callable[[str], bool] = lambda _: True
    ) -> None:
        self._registry = extensions
        self._hash_key = hash_key
        self._tokenizes = tokenizes
        self._net = Net(extensions, Codec(codec_text))
        event = field_tree(codec_text)
        trees = {
            digest: field_tree(codec.text)
            for digest, codec in extensions.extensions.items()
            if digest not in extensions.unclassified
        }
        # By whether the tenant's values are tokenised: the event's, and those of the extensions.
        self._redactors = {
            tokenizes: (
                _redactor(event, "", tokenizes),
                {digest: _redactor(tree, "extension.payload.", tokenizes) for digest, tree in trees.items()},
            )
            for tokenizes in (True, False)
        }

    def __call__(self, event: Mapping[str, object]) -> Event:
        tenant = event.get("tenant")
        if not isinstance(tenant, str):
            raise ContractError("tenant", "missing or not text")
        hasher = self._hasher(tenant)
        redact, extensions = self._redactors[self._tokenizes(tenant)]
        given, leaks = self._net(event) if may_hold_secret(event) else (event, ())
        changed = [leak.field for leak in leaks]
        redacted: Event = dict(given) if redact is None else redact(given, hasher, changed)
        if redacted.get("extension") is not None:
            redacted["extension"] = self._extension(redacted["extension"], extensions, hasher, changed)
        before = redacted.get("redaction")
        earlier = before.get("fields", []) if isinstance(before, Mapping) else []
        if not isinstance(earlier, (list, tuple)) or not all(isinstance(path, str) for path in earlier):
            raise ContractError("redaction.fields", "not a list of paths")
        fields = list(dict.fromkeys((*earlier, *changed)))
        redacted["redaction"] = redaction_of(fields)
        return redacted

    def _extension(
        self,
        extension: object,
        extensions: Mapping[bytes, _Redact | None],
        hasher: Callable[[str], str],
        changed: list[str],
    ) -> object:
        schema, payload = _extension_parts(extension)
        value = self._registry.extension_value(schema, payload)
        redact = extensions.get(schema)
        found: list[str] = []
        redacted = value if redact is None else redact(value, hasher, found)
        if not found:
            return extension
        changed += found
        return {"schema": schema, "payload": self._registry.extensions[schema].encode_body(redacted)}

    def _hasher(self, tenant: str) -> Callable[[str], str]:
        made: Callable[[str], str] | None = None

        def hasher(value: str) -> str:
            nonlocal made
            if made is None:
                made = hasher_of(self._hash_key(tenant))
            return made(value)

        return hasher


class RedactionCheck:
    """Callable: a well-formed event to the violations in it; none means that every marked field looks redacted.

    omit: null or empty (0 or false where there is no empty). mask: `is_masked`, or in clear where the schema allows.
    hash: `is_hashed`. tokenize: `is_encrypted`, for this is asked before tokens are made. An extension is strictly decoded and
    checked by its own schema. Any thread may call.

    Args:
        registry: whose extensions are checked.
        event: the schema that the events were written with.
    """

    def __init__(self, registry: Registry, event: Codec = AUDIT_EVENT) -> None:
        self._registry = registry
        self._event = _checker(field_tree(event.text))
        self._extensions = {
            digest: _checker(field_tree(codec.text), "extension.payload.")
            for digest, codec in registry.extensions.items()
            if digest not in registry.unclassified
        }

    def __call__(self, event: Mapping[str, object]) -> tuple[Violation, ...]:
        found: list[Violation] = []
        if self._event is not None:
            self._event(event, found)
        extension = event.get("extension")
        if extension is not None:
            try:
                schema, payload = _extension_parts(extension)
                value = self._registry.extension_value(schema, payload)
            except ContractError as error:
                found.append(Violation(error.field, error.problem))
            else:
                check = self._extensions.get(schema)
                if check is not None:
                    check(value, found)
        return tuple(found)


def may_hold_secret(event: Mapping[str, object]) -> bool:
    """Whether any text of an event may hold a secret; False is certain.

    `marshal` is the quickest way to have every text of a value in one piece of bytes, as UTF-8; nothing loads them. It
    leaves out no value, and raises on what it does not know: then the event is looked through.
    """
    try:
        return suspicious(marshal.dumps([value for value in event.values() if value is not None]))
    except ValueError:
        return True


def _extension_parts(extension: object) -> tuple[bytes, bytes]:
    if not isinstance(extension, Mapping):
        raise ContractError("extension", "not a record")
    schema, payload = extension.get("schema"), extension.get("payload")
    if not isinstance(schema, bytes) or not isinstance(payload, bytes):
        raise ContractError("extension", "schema or payload is not bytes")
    return schema, payload


def _redactor(node: Node, prefix: str, tokenizes: bool) -> _Redact | None:
    """The closure that redacts a value of this node's type, or None when nothing below is marked."""
    if node.kind == "record":
        return _record_redactor(node, prefix, tokenizes)
    marks = node.marks
    if marks is not None and marks.redact is Redact.OMIT:
        return _omit(node, prefix + node.path)
    if node.kind == "array" and node.items is not None:
        return _array_redactor(node, _redactor(node.items, prefix, tokenizes), prefix)
    if marks is None or marks.redact is None:
        return None
    if marks.redact is Redact.TOKENIZE:
        return _tokenizable(prefix + node.path) if tokenizes else _omit(node, prefix + node.path)
    return _text(marks, prefix + node.path)


def _record_redactor(node: Node, prefix: str, tokenizes: bool) -> _Redact | None:
    members = [(name, redact) for name, below in node.fields if (redact := _redactor(below, prefix, tokenizes)) is not None]
    clear = {name: _clear(below.marks) for name, below in node.fields if below.marks is not None and below.marks.clear_paths}
    if not members:
        return None
    where = (prefix + node.path).rstrip(".")

    def redact_record(value: Any, hasher: Callable[[str], str], changed: list[str]) -> Any:
        if not isinstance(value, Mapping):
            raise ContractError(where, "not a record")
        made = dict(value)
        for name, redact in members:
            old = made.get(name)
            if old is not None and not (name in clear and isinstance(old, str) and clear[name](value, old)):
                made[name] = redact(old, hasher, changed)
        return made

    return redact_record


def _array_redactor(node: Node, redact: _Redact | None, prefix: str) -> _Redact | None:
    if redact is None:
        return None
    where = (prefix + node.path).rstrip(".")

    def redact_array(value: Any, hasher: Callable[[str], str], changed: list[str]) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ContractError(where, "not a list")
        return [None if item is None else redact(item, hasher, changed) for item in value]

    return redact_array


def _omit(node: Node, path: str) -> _Redact:
    empty = None if node.nullable else _EMPTY[node.kind]

    def omit(value: Any, _: Callable[[str], str], changed: list[str]) -> Any:
        if not value:
            return value
        changed.append(path)
        return [] if empty == [] else empty

    return omit


def _tokenizable(path: str) -> _Redact:
    def leave(value: Any, _: Callable[[str], str], changed: list[str]) -> Any:
        if not isinstance(value, str):
            raise ContractError(path, "not text")
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise ContractError(path, "text that UTF-8 cannot carry") from None  # the cause would show the value
        if size > MAX_TOKENIZED_BYTES:
            raise ContractError(path, f"{size} bytes of text to tokenise; at most {MAX_TOKENIZED_BYTES}")
        if value:
            changed.append(path)
        return value

    return leave


def _text(marks: Marks, path: str) -> _Redact:
    hashed = marks.redact is Redact.HASH

    def redact_text(value: Any, hasher: Callable[[str], str], changed: list[str]) -> Any:
        if not isinstance(value, str):
            raise ContractError(path, "not text")
        try:
            redacted = _hashed(value, hasher) if hashed else mask(value)
        except UnicodeEncodeError:
            raise ContractError(path, "text that UTF-8 cannot carry") from None  # the cause would show the value
        if redacted != value:
            changed.append(path)
        return redacted

    return redact_text


def _hashed(value: str, hasher: Callable[[str], str]) -> str:
    return value if not value or is_hashed(value) else hasher(value)


_EMPTY: Mapping[str, object] = {
    "string": "",
    "bytes": b"",
    "boolean": False,
    "int": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "array": [],
}


def _clear(marks: Marks) -> _Clear:
    """Whether a value may stand in clear, given the record that holds it (and its `path`)."""
    paths = marks.clear_paths
    fullmatch = re.compile(marks.clear_values or "").fullmatch

    def clear(record: Mapping[str, Any], value: str) -> bool:
        path = record.get("path")
        return isinstance(path, str) and path in paths and fullmatch(value) is not None

    return clear


def _checker(node: Node, prefix: str = "") -> _Check | None:
    """The closure that appends the violations in a value of this node's type, or None when nothing below is marked."""
    if node.kind == "record":
        return _record_checker(node, prefix)
    if node.marks is not None and node.marks.redact is Redact.OMIT:
        return _leaf_checker(lambda value: not value, prefix + node.path, "not omitted")
    if node.kind == "array" and node.items is not None:
        check = _checker(node.items, prefix)
        return None if check is None else _array_checker(check)
    if node.marks is None or node.marks.redact is None:
        return None
    if node.marks.redact is Redact.HASH:
        return _leaf_checker(lambda value: not value or is_hashed(value), prefix + node.path, "not hashed")
    if node.marks.redact is Redact.TOKENIZE:
        return _leaf_checker(lambda value: not value or is_encrypted(value), prefix + node.path, "not tokenized")
    return _leaf_checker(is_masked, prefix + node.path, "not masked")


def _record_checker(node: Node, prefix: str) -> _Check | None:
    members = [
        (name, check, _clear(below.marks) if below.marks is not None and below.marks.clear_paths else None)
        for name, below in node.fields
        if (check := _checker(below, prefix)) is not None
    ]
    if not members:
        return None

    def check_record(value: Any, found: list[Violation]) -> None:
        for name, check, clear in members:
            below = value.get(name)
            if below is not None and not (clear is not None and clear(value, below)):
                check(below, found)

    return check_record


def _array_checker(check: _Check) -> _Check:
    def check_array(value: Any, found: list[Violation]) -> None:
        for item in value:
            if item is not None:
                check(item, found)

    return check_array


def _leaf_checker(passes: Callable[[Any], bool], path: str, problem: str) -> _Check:
    violation = Violation(path, problem)

    def check_leaf(value: Any, found: list[Violation]) -> None:
        if not passes(value):
            found.append(violation)

    return check_leaf
