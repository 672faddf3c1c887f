"""Every shape of secret is found wherever it stands in a text, what only looks like one is not, and what is found is gone."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import secrets
from schemas.secret_shapes import SHAPES
from schemas.secrets import find, may_hold_secret, redact, suspicious
from tests.leaks import benign
from tests.leaks.forms import ALNUM, CONTEXTS, UPPER, Form, grouped, jwt, luhn, made, some
from tests.strategies import texts

FORMS = made(Random(7))
R = Random(11)
CARD = luhn(R, "4", 16)


def test_every_shape_has_a_form_in_the_corpus() -> None:
    assert {form.shape for form in FORMS} == {shape.name for shape in SHAPES}


@pytest.mark.parametrize("form", FORMS, ids=[f"{at}-{form.shape}" for at, form in enumerate(FORMS)])
def test_a_secret_is_found_in_every_context_named_and_gone(form: Form) -> None:
    for context in CONTEXTS:
        text = context.replace("@", form.text)
        redacted, shapes = redact(text)
        assert form.secret not in redacted
        assert form.shape in shapes
        assert suspicious(text.encode()) and may_hold_secret(b"\x41\x30" + text.encode() + b"\x39\x5a")
        assert redact(redacted) == (redacted, ())


def test_the_text_around_a_secret_stays() -> None:
    key = "AKIA" + some(R, UPPER, 16)
    assert redact(f"before {key}, after") == ("before [secret:aws-access-key], after", ("aws-access-key",))
    assert redact(f"{key} {CARD} {key}")[0] == "[secret:aws-access-key] [secret:card-number] [secret:aws-access-key]"
    url = "https://hooks.slack.com/services/"
    assert redact(f"{url}T{some(R, UPPER, 9)}/B{some(R, UPPER, 9)}/{some(R, ALNUM, 24)}")[0] == f"{url}[secret:slack-webhook]"


def changed_digit(number: str) -> str:
    return number[:-1] + str((int(number[-1]) + 1) % 10)


NO_ALGORITHM = base64.urlsafe_b64encode(b'{"typ":"JWT"}').decode().rstrip("=") + ".eyJzdWIiOjF9." + some(R, ALNUM, 43)
NEAR_MISSES = [
    ("too short for an AWS key", "AKIA" + some(R, UPPER, 15)),
    ("too long for an AWS key", "AKIA" + some(R, UPPER, 17)),
    ("within a longer word", "XAKIA" + some(R, UPPER, 16)),
    ("a commit after the word aws", "aws commit " + R.randbytes(20).hex()),
    ("a secret key of one case", "secret_key " + some(R, "abcdef0123456789", 40)),
    ("too short for GitHub", "ghp_" + some(R, ALNUM, 30)),
    ("a JWT's header without alg", NO_ALGORITHM),
    ("a JWT's header that is no JSON", "eyJ" + some(R, ALNUM, 30) + ".eyJ" + some(R, ALNUM, 30) + "." + some(R, ALNUM, 43)),
    ("two parts of a JWT", jwt(R).rpartition(".")[0].partition(".")[0] + "."),
    ("a wrong check digit", changed_digit(CARD)),
    ("part of a longer number", "9" + CARD),
    ("followed by a digit", CARD + "0"),
    ("a card's digits in a UUID", f"12345678-{grouped(CARD, (4, 4, 4), '-')}-{CARD[12:]}00000000"),
    ("a decimal fraction", f"0.{CARD}"),
    ("a range of no scheme", luhn(R, "1", 16)),
    ("one digit again and again", "4" * 16),
    ("groups of other sizes", grouped(CARD, (5, 5, 6), " ")),
    ("an IBAN with a wrong check", "DE00500105175407324931"),
    ("an IBAN of a wrong length", "DE6850010517540732493"),
    ("bearer in prose", "a bearer of-extraordinary-news"),
    ("basic in prose", "basic understanding"),
    ("a port", "https://example.com:8443/a@b"),
    ("a user without a password", "https://ada@example.com/"),
    ("an address's variable", "postgres://app:${PASSWORD}@db/x"),
    ("masked already", "postgres://app:*****@db/x password=********"),
    ("a public key", "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----"),
    ("a Slack webhook's host alone", "https://hooks.slack.com/services/"),
    ("a discord-like name", "Mabcdefghijklmnopqrstuvw.abcdef.abcdefghijklmnopqrstuvwxyz0"),
    ("a mark", "[secret:card-number] password: [secret:assigned-secret]"),
    ("nothing", ""),
]  # fmt: skip


@pytest.mark.parametrize("text", [text for _, text in NEAR_MISSES], ids=[name for name, _ in NEAR_MISSES])
def test_what_only_resembles_a_shape_stays(text: str) -> None:
    assert redact(text) == (text, ())


@pytest.mark.parametrize("text", benign.PROSE)
def test_prose_about_secrets_stays(text: str) -> None:
    assert redact(text) == (text, ())


TRICKS = [
    ("zero width within", f"{CARD[:6]}\u200b{CARD[6:]}"),
    ("soft hyphens within", "\u00ad".join(CARD)),
    ("full-width digits", "".join(chr(ord(c) + 0xFEE0) for c in CARD)),
    ("no-break spaces between groups", grouped(CARD, (4, 4, 4, 4), "\u00a0")),
    ("typographic hyphens between groups", grouped(CARD, (4, 4, 4, 4), "\u2011")),
]


@pytest.mark.parametrize("text", [text for _, text in TRICKS], ids=[name for name, _ in TRICKS])
def test_what_a_reader_sees_through_hides_no_secret(text: str) -> None:
    assert redact(f"№ {text} ende") == ("№ [secret:card-number] ende", ("card-number",))
    assert suspicious(text.encode()) and may_hold_secret(text.encode())


@given(texts)
def test_what_is_left_holds_nothing_and_redacting_it_again_changes_nothing(text: str) -> None:
    redacted, _ = redact(text)
    assert find(redacted) == ()


@given(
    st.lists(
        st.sampled_from([*(form.text for form in FORMS), "[secret:jwt]", " ", ":", "@", "=", "x", "\u200b", "é"]), max_size=8
    )
)
def test_secrets_side_by_side_leave_nothing_that_the_net_would_find(parts: list[str]) -> None:
    redacted, _ = redact("".join(parts))
    assert find(redacted) == ()


@given(st.sampled_from(FORMS), texts, texts)
def test_no_hit_escapes_the_scan_of_the_bytes_that_hold_it(form: Form, before: str, after: str) -> None:
    text = before + form.text + after
    if find(text):
        assert suspicious(text.encode()) and suspicious(b"\x30" + text.encode() + b"\x30")


@pytest.mark.parametrize("index", range(len(SHAPES)), ids=[f"{at}-{shape.name}" for at, shape in enumerate(SHAPES)])
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_shape_has_its_hint_wherever_it_is_found(index: int, data: st.DataObject) -> None:
    """Drawn from the pattern itself: what is looked for only if the hint is there must always have it."""
    drawn = data.draw(st.from_regex(re.compile(SHAPES[index].pattern.replace(rb"\z", rb"\Z"))))
    if list(secrets._spans(index, drawn)):
        assert index in secrets._hinted(drawn) and index in secrets._hinted(b"\x41" + drawn + b"\x30")


OTHER_LETTERS = [
    ("assigned-secret", "password=zürich-straße-9", "[secret:assigned-secret]"),
    ("assigned-secret", 'password: "日本語の秘密の言葉"', "[secret:assigned-secret]"),
    ("url-password", "ftp://é:ñandú9@host/", "[secret:url-password]"),
    ("private-key", "-----BEGIN RSA PRIVATE KEY----- żółć \U0001f511 -----END RSA PRIVATE KEY-----", "[secret:private-key]"),
    ("private-key", "-----BEGIN PRIVATE KEY----- cut off é", "[secret:private-key]"),
]


@pytest.mark.parametrize(("shape", "text", "mark"), OTHER_LETTERS, ids=[text[:20] for _, text, _ in OTHER_LETTERS])
def test_letters_of_any_script_within_a_secret_go_with_it(shape: str, text: str, mark: str) -> None:
    redacted, shapes = redact(f"früher {text} später")
    assert shapes == (shape,) and mark in redacted
    assert not any(part in redacted for part in ("straße", "秘密", "ñandú", "żółć", "cut off"))


@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=3), texts)
def test_hits_are_in_order_and_apart(forms: list[Form], between: str) -> None:
    hits = find(between.join(form.text for form in forms))
    assert all(one.start < one.end <= other.start for one, other in itertools.pairwise(hits))


def test_recall_is_whole_and_false_positives_are_under_one_in_a_thousand(github_payloads: Path) -> None:
    """The corpus of `make leaktest`, in a short form: every form with other values, in every context; then harmless texts."""
    tried = missed = 0
    for seed in range(4):
        for form in made(Random(1000 + seed)):
            for context in CONTEXTS:
                tried += 1
                missed += form.secret in redact(context.replace("@", form.text))[0]
    assert tried > 5_000 and missed == 0
    payloads = json.loads(github_payloads.read_bytes())
    total = hits = 0
    for text in benign.texts(Random(5), payloads, 8_000):
        total += 1
        hits += bool(find(text))
    assert total > 50_000 and hits * 1000 < total


HOSTILE = [
    ("one letter", b"A" * 1_000_000),
    ("beginnings of tokens", b"ey-xox-AKIA-ghp_-4111-SG.-sk_live_" * 20_000),
    ("words of secrets", b"password secret=api_key:token=" * 30_000),
    ("headers without an end", b"-----BEGIN PRIVATE KEY-----" * 30_000),
    ("random bytes", Random(3).randbytes(1_000_000)),
    ("marks", b"[secret:jwt]" * 80_000),
    ("addresses", b"a://b:c://d:" * 80_000),
    ("digits", b"4111 1111 " * 100_000),
]


@pytest.mark.parametrize("data", [data for _, data in HOSTILE], ids=[name for name, _ in HOSTILE])
def test_hostile_bytes_take_time_in_proportion_to_their_length(data: bytes) -> None:
    """8 KiB is the most that a text may have; the first scan sees a megabyte. Bounds are a hundred times what is measured."""
    started = time.process_time()
    suspicious(data)
    may_hold_secret(data)
    assert time.process_time() - started < 10
    text = data[:8192].decode("latin-1")
    started = time.process_time()
    redacted, _ = redact(text)
    assert time.process_time() - started < 10
    assert find(redacted) == ()


def test_the_set_of_hints_finds_after_hostile_bytes_what_it_found_before() -> None:
    """RE2's sets answer nothing, without a word, when their states outgrow their memory."""
    for _, data in HOSTILE:
        suspicious(data)
        assert suspicious(data + FORMS[0].text.encode())
    for form in FORMS:
        assert suspicious(form.text.encode()), form.shape


def test_names_of_shapes_fit_where_they_are_stated() -> None:
    names = {shape.name for shape in SHAPES}
    assert all(len(name) <= 32 and set(name) <= set("abcdefghijklmnopqrstuvwxyz-") for name in names)
    assert find(" ".join(secrets.MARK.format(name) for name in names)) == ()


def _searches(stop: threading.Event) -> None:
    random = Random(5)
    while not stop.is_set():
        suspicious(random.randbytes(2000))  # no two alike: the automaton grows, under its lock


def test_a_child_forked_while_other_threads_search_can_search() -> None:
    stop = threading.Event()
    busy = [threading.Thread(target=_searches, args=(stop,)) for _ in range(2)]
    for thread in busy:
        thread.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)  # one that is stuck ends so
                os._exit(0 if suspicious(FORMS[0].text.encode()) and not suspicious(b"benign" * 99) and find(CARD) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in busy:
            thread.join()
