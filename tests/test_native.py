"""The native kernel against the Python form: what it locates, what it takes, and what calls may do to it meanwhile."""

from __future__ import annotations

import gc
import hmac
import json
import shutil
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kafkaio.group import read_records
from processors.chain import Plan
from processors.native import Kernel, NativeHints, NativeSealing, NativeSigner, load
from processors.native.build import build
from processors.records import Batch, RawRecord
from schemas.beginnings import Beginning
from schemas.contract import FLOAT_MAX
from schemas.locator import Located
from schemas.policy import Decision
from schemas.program import CLASS, PICKS, program, repeated_class
from schemas.redact import mask
from schemas.registry import AUDIT_EVENT, Registry
from schemas.secrets import find, suspicious, text_beginnings
from sealtrail.avro import HEADER_SIZE, Codec
from sealtrail.errors import ConfigError
from sealtrail.seal import SEAL, SEALED_EVENT, decode_sealed_event, leaf_hash
from sealtrail.session import RUN_SESSION
from sealtrail.token import FieldCipher
from tests.leaks.forms import Form, made
from tests.locators import Both
from tests.strategies import GITHUB, encodings, events, github_extensions, minimal_event, schema_pairs, values_of
from tests.test_beginnings import stands_in
from tests.test_contract import full_event
from tests.test_locator import ASKED, PERSON, REGION, REGISTRY, SCHEMA, WALK_PEOPLE, WITH_PEOPLE, redacted
from tests.test_pipeline import MESSAGE, NOW_US, TOPIC, Speaker, World, at, fresh, made_world


def _kernel() -> Kernel:
    said = build()
    found = load()
    if found is None:
        if shutil.which("cc") or shutil.which("gcc"):
            pytest.fail(said)
        pytest.skip(f"NO C COMPILER: the native kernel is not tested here ({said})", allow_module_level=True)
    return found


KERNEL = _kernel()
BOTH = Both(KERNEL, REGISTRY, REGION, ASKED)
FEW = Both(KERNEL, REGISTRY, REGION, ("tenant", "event_name"))
HINTS = KERNEL.Hints(tuple(tuple(map(bytes, beginning)) for beginning in text_beginnings()))
FORMS = made(Random(12))
ANY_TEXT = KERNEL.Hints(((bytes(range(256)),) * 2,))
PEOPLE = Both(KERNEL, REGISTRY, REGION, ASKED, WITH_PEOPLE)


# -- locating


def mutated(data: st.DataObject, made: bytearray) -> bytes:
    """The bytes after one to four changes behind the header."""
    for _ in range(data.draw(st.integers(1, 4))):
        if len(made) <= HEADER_SIZE:
            break
        place = data.draw(st.integers(HEADER_SIZE, len(made) - 1))
        match data.draw(st.sampled_from(["flip", "set", "drop", "insert", "cut", "double"])):
            case "flip":
                made[place] ^= 1 << data.draw(st.integers(0, 7))
            case "set":
                made[place] = data.draw(st.sampled_from([0, 1, 2, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF, *range(2, 60, 2)]))
            case "drop":
                del made[place]
            case "insert":
                made[place:place] = data.draw(st.binary(min_size=1, max_size=12))
            case "cut":
                del made[place:]
            case "double":
                made[place:place] = made[place : place + data.draw(st.integers(1, 40))]
    return bytes(made)


@settings(max_examples=80)
@given(events(), st.data())
def test_a_good_event_and_any_encoding_of_it_are_located_alike(event: dict[str, Any], data: st.DataObject) -> None:
    event = redacted(event)
    BOTH(AUDIT_EVENT.encode(event))
    BOTH(AUDIT_EVENT.header + data.draw(encodings(AUDIT_EVENT, event)))


@settings(max_examples=300)
@given(events(), st.data())
def test_mutated_events_are_located_alike(event: dict[str, Any], data: st.DataObject) -> None:
    event = redacted(event) if data.draw(st.booleans()) else event
    BOTH(mutated(data, bytearray(AUDIT_EVENT.encode(event))))


@settings(max_examples=60)
@given(events(extension=False), github_extensions(), st.data())
def test_mutated_extensions_are_located_alike(event: dict[str, Any], extension: dict[str, Any], data: st.DataObject) -> None:
    event = redacted({**event, "extension": {"schema": GITHUB.sha256, "payload": GITHUB.encode_body(extension)}})
    payload = event["extension"]["payload"]
    BOTH(AUDIT_EVENT.encode(event))
    for bent in (
        bytes(mutated(data, bytearray(payload))) if payload else b"",
        data.draw(encodings(GITHUB, GITHUB.decode_body(payload))),
        payload + b"\0",
        payload[:-1],
    ):
        BOTH(AUDIT_EVENT.encode({**event, "extension": {"schema": GITHUB.sha256, "payload": bent}}))


def test_every_byte_of_a_full_event_set_to_many_values_is_located_alike() -> None:
    event = redacted({**full_event(), "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})
    good = AUDIT_EVENT.encode(event)
    assert BOTH(good) is not None
    for place in range(len(good)):
        for value in (0, 1, 2, 3, 4, 0x20, 0x41, 0x7F, 0x80, 0x82, 0xC3, 0xFF, good[place] ^ 1, good[place] ^ 0x80):
            BOTH(good[:place] + bytes([value]) + good[place + 1 :])
        BOTH(good[:place])
        BOTH(good[:place] + good[place + 1 :])
        BOTH(good[:place] + good[place : place + 1] + good[place:])


@settings(max_examples=80)
@given(events(), st.lists(PERSON, max_size=4), st.data())
def test_encrypted_values_and_whom_they_are_about_are_located_alike(
    event: dict[str, Any], people: list[dict[str, Any]], data: st.DataObject
) -> None:
    cipher, event = FieldCipher(bytes(32)), {**redacted(event), "people": people}
    event = WALK_PEOPLE(event, lambda path, text, _: cipher.encrypt(3, 0, bytes(16), path, text.encode()).decode())
    good = WITH_PEOPLE.encode(event)
    PEOPLE(good)
    PEOPLE(mutated(data, bytearray(good)))


def test_a_value_that_only_nearly_looks_encrypted_is_for_the_oracle_in_both() -> None:
    event = {
        **redacted(minimal_event()),
        "people": [dict.fromkeys(("id", "login", "address", "name", "manager", "late", "after"))],
    }
    for text in (
        "ada",
        "enc_",
        "enc_" + "A" * 27,
        "enc_" + "A" * 28,
        "enc_" + "A" * 27 + "=",
        "enc_" + "ü" * 30,
        "Enc_" + "A" * 30,
    ):
        event["people"][0]["name"] = text
        assert (PEOPLE(WITH_PEOPLE.encode(event)) is not None) == (text == "enc_" + "A" * 28)


@settings(max_examples=40)
@given(schema_pairs(), events(), st.data())
def test_fields_of_every_type_are_located_alike_in_the_event_and_in_an_extension(
    texts: tuple[str, str], event: dict[str, Any], data: st.DataObject
) -> None:
    """Schemas drawn: every type, nullable or not, records and arrays within; and a policy that reads their fields."""
    inner, text = json.loads(texts[0]), texts[1]
    codec = Codec(json.dumps({**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "thing", "type": inner}]}))
    try:
        registry = Registry([codec], [Codec(text)], [RUN_SESSION])
    except ConfigError:
        assume(False)
    asked = [*ASKED, "thing", *(f"thing.{field['name']}" for field in inner["fields"])]
    both = Both(KERNEL, registry, REGION, data.draw(st.sampled_from([asked, asked[-1:], ASKED])), codec)
    extension = Codec(text)
    payload = extension.encode_body(data.draw(values_of(text)))
    thing = data.draw(values_of(texts[0]))
    event = {**redacted({**event, "extension": None}), "thing": thing}
    good = codec.encode({**event, "extension": {"schema": extension.sha256, "payload": payload}})
    both(good)
    both(codec.encode(event))
    for _ in range(4):
        both(mutated(data, bytearray(good)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_slow_and_the_largest_are_not(bad: float) -> None:
    kinds = [{"name": kind, "type": kind, "doc": "x", "dataClass": "public"} for kind in ("float", "double")]
    codec = Codec(json.dumps({**SCHEMA, "fields": [*SCHEMA["fields"], *kinds]}))
    both = Both(KERNEL, REGISTRY, REGION, (), codec)
    event = redacted(minimal_event())
    assert both(codec.encode({**event, "float": -FLOAT_MAX, "double": 1.7e308})) is not None
    assert both(codec.encode({**event, "float": bad, "double": 0.0})) is None
    assert both(codec.encode({**event, "float": 0.0, "double": bad})) is None


def test_numbers_at_the_edges_of_their_types_are_read_alike() -> None:
    event = redacted(minimal_event())
    good = AUDIT_EVENT.encode(event)
    place = good.index(event["emitter"]["epoch"]) + 16
    for number in (0, 1, 63, 64, -1, 2**31, 2**62, 2**63 - 1, -(2**63)):
        BOTH(AUDIT_EVENT.encode({**event, "emitter": {**event["emitter"], "seq": number}}))
    for text in (
        b"\xfe" + b"\xff" * 8 + b"\x01",
        b"\xfe" + b"\xff" * 8 + b"\x02",
        b"\xff" * 9 + b"\x81",
        b"\x80" * 9 + b"\x01",
        b"\x80\x00",
    ):
        BOTH(good[:place] + text + good[place + 1 :])
        BOTH(good[:place] + text)
    for filling in (b"\xff", b"\x80"):
        assert BOTH(good[:place] + filling * 1_000_000 + good[place:]) is None


def test_texts_of_every_length_about_the_length_of_their_length_are_located_alike() -> None:
    for size in (0, 1, 62, 63, 64, 65, 127, 128, 129, 4095, 8191, 8192, 8193, 20_000):
        BOTH(AUDIT_EVENT.encode(redacted(minimal_event(reason=mask("x" * size)))))
        BOTH(AUDIT_EVENT.encode({**redacted(minimal_event()), "correlation_id": "x" * size}))


@given(st.binary(max_size=400))
def test_random_bytes_are_located_by_neither(data: bytes) -> None:
    assert BOTH(data) is None and BOTH(AUDIT_EVENT.header + data) is None


def test_a_pattern_is_a_class_only_if_it_is_one() -> None:
    assert repeated_class("^[a-c]{1,3}$") == (b"abc", b"abc", 1, 3)
    assert repeated_class("^[ab][b-]{0,9}$") == (b"ab", b"-b", 1, 10)
    for other in (
        "^[^a]{1,3}$",
        "^[a\\w]{1,3}$",
        "^[a-c]+$",
        "^[a-c]{1,3}",
        "^([a-c]{1,3})$",
        "^[a]{1,3}[b]{1,2}$",
        "^[ü]{1,2}$",
    ):
        assert repeated_class(other) is None
    assert any(operation[0] == CLASS for operation in program(REGISTRY, REGION).operations)


def test_a_program_that_lacks_what_sealing_needs_or_is_malformed_is_refused() -> None:
    made = program(REGISTRY, REGION)
    head = (made.header, made.most, made.region, made.open, made.system, made.none)
    malformed: tuple[Any, ...] = (
        (),
        made.operations[1:],
        ((99, 0, -1),),
        ((0, 0, -1, 0, 2, (64,), ()),),
        ((2, 0, -1),),
        ((2, 0, -1, -1, 0, b"\xff", b"a", 0, 5),),
        ((8, 0, PICKS.index("event_id"), 0, 12, 0),),
        ((8, 0, -1, 0, -1, 0),),
        ((10, 0, PICKS.index("tenant"), 0, 0, 5),),
        ((14, 0, -1, 0, 2, ((1, 0, -1, 0, ()),)),),
        ((15, 0, -1, bytes(32), ()),),
        ((1, 0, -1, 0, 7),),
        (7,),
    )
    for operations in malformed:
        with pytest.raises((ValueError, TypeError)):
            KERNEL.Locator(*head, operations)
    nested: tuple[Any, ...] = ()
    for _ in range(100):
        nested = ((1, 0, -1, 0, nested),)
    with pytest.raises(ValueError, match="too deep"):
        KERNEL.Locator(*head, nested)


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_its_hmac_is_pythons(key: bytes, message: bytes) -> None:
    assert KERNEL.mac(key, message) == hmac.digest(key, message, "sha256")


# -- sealing


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return made_world(tmp_path_factory.mktemp("keys"), native=True)


@pytest.fixture
def source(world: World) -> Speaker:
    return world.speaker()


class Driven:
    """A `Sealing` whose calls a test may bend; the rest as the pipeline has it."""

    def __init__(self, source: Speaker, hints: NativeHints = ANY_TEXT, /, *, signs: bool = False, **calls: Any) -> None:
        self.output: list[bytes] = []
        self.asked: list[str] = []
        run = source.run.run
        self.session = KERNEL.Session(
            source.run._mac_key,
            TOPIC.encode(),
            run.source.encode(),
            run.instance.encode(),
            run.epoch,
            run.key.encode(),
            0,
            1 << 40,
        )
        words = bytes([2, 2, 0, 2, 0, 2])
        self.plan = Plan((words, words), False, 0, bytes(32), bytes(32), bytes(32), (self.output,))
        self.sort: object = self._plan(sign=signs)
        given: dict[str, Callable[..., Any]] = {
            "secret": lambda text: False,
            "run": lambda header: (self.session, 0, source),
            "plan": lambda key, value: self.sort,
            "content": lambda value, *_: value + b"!",
            "attest": lambda leaf: b"\x02" + bytes(96),
            "flush": lambda: (7, bytes(32)),
            "random": bytes,
        }
        bent = {name: self._told(name, calls.get(name, call)) for name, call in given.items()}
        self.sealing: NativeSealing = KERNEL.Sealing(
            (FEW.native,), hints, b"emitter.close", SEAL.header, SEALED_EVENT.header, b"\x02", b"\x06abc", *bent.values()
        )

    def _plan(self, **changes: Any) -> object:
        parts: dict[str, Any] = {
            "words": self.plan.words[0], "signed": self.plan.words[1], "sign": False, "until": b"\x02", "scope": bytes(32),
            "policy": bytes(32), "schema": bytes(32), "outputs": (self.output,), "plan": self.plan, **changes,
        }  # fmt: skip
        return KERNEL.Plan(*parts.values())

    def _told(self, name: str, call: Any) -> Any:
        if not callable(call):
            return call

        def told(*given: Any) -> Any:
            self.asked.append(name)
            return call(*given)

        return told

    def take(self, records: tuple[Any, ...]) -> Any:
        return self.sealing.take(records, 0, 0, b"", 0)


def good(source: Speaker, count: int = 3, **fields: Any) -> tuple[RawRecord, ...]:
    return at([source.record(number, **fields) for number in range(1, count + 1)])


def with_token(source: Speaker) -> tuple[RawRecord, ...]:
    event = source.event(1)
    event["actor"]["login"] = "ada"
    return at([source.record(1, AUDIT_EVENT.encode(source.encrypted(1, event)))])


def test_a_stretch_ends_at_the_first_record_that_is_not_good(source: Speaker) -> None:
    records = good(source, 5)
    for place in range(5):
        driven = Driven(source)
        bent = (*records[:place], records[place]._replace(key=b"x"), *records[place + 1 :])
        taken = driven.take(bent)
        assert (None if place == 0 else taken[0]) == (place or None)
        assert len(driven.output) == max(place - 1, 0)  # the newest is held
    assert Driven(source).take(()) is None


def test_what_flush_attest_and_random_raise_is_passed_on(source: Speaker) -> None:
    def raising(*_: Any) -> Any:
        raise ZeroDivisionError

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    for name in ("flush", "attest", "random", "run", "plan", "content"):
        driven = Driven(source, signs=name == "attest", **{name: raising})
        records = with_token(source) if name == "content" else good(source)
        with pytest.raises(ZeroDivisionError):
            driven.take(records)
        assert driven.asked[-1] == name
    assert Driven(source, secret=raising).take(good(source)) is None  # asked again in Python, and heard of there
    with pytest.raises(KeyboardInterrupt):
        Driven(source, secret=interrupted).take(good(source))


def test_python_is_asked_of_a_secret_only_in_texts_that_have_a_hint(source: Speaker) -> None:
    asked: list[bytes] = []

    def secret(text: bytes) -> bool:
        asked.append(text)
        return text == b"xx-bad"

    hints = KERNEL.Hints(((b"x", b"xy", b"-"),))
    for ticket, expected in (("T-1", 1), ("xy-1", 1), ("x-xx", 1), ("xx-bad", None)):
        taken = Driven(source, hints, secret=secret).take(good(source, 1, ticket=ticket))
        assert (taken and taken[0]) == expected
    assert asked == [b"xy-1", b"xx-bad"]


places = st.lists(st.frozensets(st.sampled_from(b"abc\x00\xff"), min_size=1), min_size=2, max_size=4).map(tuple)


@given(st.lists(places, max_size=6), st.lists(st.lists(st.sampled_from(b"abcd\x00\xff"), max_size=12).map(bytes), max_size=8))
def test_hints_stand_where_they_stand(beginnings: list[Beginning], data: list[bytes]) -> None:
    hints = KERNEL.Hints(tuple(tuple(map(bytes, one)) for one in beginnings))
    for text in data:
        assert hints.stand_in(text) == stands_in(text, tuple(beginnings))


@pytest.mark.parametrize("count", [127, 128, 129, 300])
def test_hints_are_found_however_many_there_are(count: int) -> None:
    random = Random(count)
    beginnings = [
        tuple(frozenset(random.sample(b"abcdefgh", random.randint(1, 2))) for _ in range(random.randint(4, 40)))
        for _ in range(count)
    ]
    hints = KERNEL.Hints(tuple(tuple(map(bytes, one)) for one in beginnings))
    for one in beginnings:
        text = bytes(random.choice(sorted(members)) for members in one)
        for found in (text, b"h" * random.randint(0, 9) + text, text + b"a"):
            assert hints.stand_in(found)
        assert hints.stand_in(text[:-1]) == stands_in(text[:-1], tuple(beginnings))


@given(st.sampled_from(FORMS), st.text(max_size=20), st.text(max_size=20))
def test_a_text_with_a_secret_has_a_hint(form: Form, before: str, after: str) -> None:
    text = before + form.text + after
    assert HINTS.stand_in(text.encode()) or not find(text)


@pytest.mark.parametrize(
    "wrong", [None, [], (b"ab",), ((b"a",),), ((),), ((b"a", "b"),), ((b"a",) * 65,), ((b"a", b"b"),) * 4097, (("a", b"b"),)]
)
def test_hints_of_another_form_are_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        KERNEL.Hints(wrong)
    with pytest.raises(TypeError):
        HINTS.stand_in("text")  # type: ignore[arg-type]


def test_answers_that_are_none_leave_the_record_to_python(source: Speaker) -> None:
    for name in ("run", "plan", "content"):
        nothing: Any = {name: lambda *_: None}
        assert Driven(source, **nothing).take(with_token(source)) is None
    assert Driven(source, secret=lambda _: True).take(good(source)) is None


@pytest.mark.parametrize(
    "rubbish", [7, "x", b"", b"short", (), (1,), [], object(), (1, 2, 3), (-1, bytes(32)), (1 << 70, bytes(32))]
)
def test_an_answer_of_another_type_or_size_is_an_error_and_no_more(source: Speaker, rubbish: Any) -> None:
    for name in ("flush", "random", "run", "plan", "content", "attest"):
        driven = Driven(source, signs=name == "attest", **{name: lambda *_: rubbish})
        if isinstance(rubbish, bytes) and name in ("content", "attest"):
            continue  # bytes are what is due
        with pytest.raises((TypeError, ValueError, OverflowError)):
            driven.take(with_token(source) if name == "content" else good(source))


WRONG = (None, "x", 1.5, 1 << 80, -(1 << 80), bytearray(b"x"), [7], (7,), ((),), (("a",),), ((b"st-mac", b""),))


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("wrong", WRONG)
def test_a_record_of_other_parts_is_left_alone(source: Speaker, place: int, wrong: Any) -> None:
    record = good(source, 1)[0]
    assert Driven(source).take((record,))[0] == 1
    assert Driven(source).take(((*record[:place], wrong, *record[place + 1 :]),)) is None
    assert Driven(source).take((wrong,)) is None
    assert Driven(source).take((record[:place],)) is None


def test_headers_may_be_a_list_that_a_call_changes(source: Speaker) -> None:
    records = [record._replace(headers=list(record.headers)) for record in good(source)]  # type: ignore[arg-type]

    def clear(*_: Any) -> Any:
        for record in records:
            record.headers.clear()  # type: ignore[attr-defined]
        return False

    assert Driven(source, secret=clear).take(tuple(records))[0] == 1  # the next one has none


def test_a_stretch_within_a_stretch_is_refused(source: Speaker) -> None:
    driven: Driven = Driven(source, secret=lambda _: driven.take(good(source)))
    assert driven.take(good(source)) is None
    driven = Driven(source, flush=lambda: driven.take(good(source)))
    with pytest.raises(RuntimeError, match="while it runs"):
        driven.take(good(source))
    assert driven.sealing.take((), 0, 0, b"", 0) is None


def test_a_session_that_is_forgotten_and_texts_that_are_forgotten_meanwhile_do_no_harm(source: Speaker) -> None:
    def forget(*_: Any) -> Any:
        driven.session = driven.sort = None
        driven.output.clear()
        return bytes(1024)

    driven = Driven(source, random=forget)
    assert driven.take(good(source, 80, actor={"kind": "SYSTEM", "id": "", "display": None, "login": None}))[0] == 80


@pytest.mark.parametrize(
    "given", [(-1, 0, b"", 0), (0, -1, b"", 0), (0, (1 << 63) - 1, b"", 0), (0, 0, b"", 1), (0, 0, b"", -1)]
)
def test_numbers_out_of_range_are_refused(source: Speaker, given: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="out of range"):
        Driven(source).sealing.take(good(source), *given)
    assert Driven(source).sealing.take(good(source), 99, 0, b"", 0) is None


def test_parts_of_another_size_are_refused(source: Speaker) -> None:
    driven = Driven(source)
    wrong: tuple[dict[str, Any], ...] = (
        {"words": b"12345"}, {"signed": b"1234567"}, {"until": bytes(11)}, {"policy": b""}, {"schema": bytes(33)},
        {"outputs": ((),)}, {"outputs": [[]]}, {"scope": "text"},
    )  # fmt: skip
    for changes in wrong:
        with pytest.raises((ValueError, TypeError)):
            driven._plan(**changes)
    with pytest.raises(ValueError, match="time"):
        KERNEL.Session(b"", b"", b"", b"", b"", b"", 0, 1 << 60)
    with pytest.raises(ValueError, match="too long"):
        KERNEL.Sealing((BOTH.native,), ANY_TEXT, b"", b"", b"", b"", bytes(2000), bool, str, str, str, str, str, str)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Locators"):
        KERNEL.Sealing((BOTH.native, 7), ANY_TEXT, b"", b"", b"", b"", b"", bool, str, str, str, str, str, str)  # type: ignore[arg-type]


# -- whole batches


def test_good_records_are_taken_by_the_kernel_and_plans_are_asked_for_once(
    world: World, source: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the other tests test what they say: the policy is asked once for each sort of event; Python locates none."""
    located, decided = list[int](), list[str]()
    quick, python = world.pipeline.quick, world.pipeline.quick.locate
    policy, decide = world.pipeline.policy, world.pipeline.policy.decide

    def asked(event: dict[str, Any]) -> Decision:
        decided.append(event["tenant"])
        return decide(event)

    def locate(data: bytes) -> Located | None:
        located.append(1)
        return python(data)

    monkeypatch.setattr(quick, "locate", locate)
    monkeypatch.setattr(policy, "decide", asked)
    state = fresh()
    for _ in range(3):
        first = state.head.next_offset
        made = [source.record(n, tenant=("acme", "globex")[n % 2] if n else "@deployment") for n in range(first, first + 300)]
        state, outputs = world.pipeline.seal_batch(state, Batch(at(made, first)), NOW_US)
        assert len(outputs.archive) == 300
    assert len(located) == 1 and len(decided) <= 3  # the opening, and two sorts


def test_a_hint_without_a_secret_keeps_no_record_from_the_kernel(
    world: World, source: Speaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes first with a sort: RE2 would send the record to the steps, and with it all others of its sort."""
    located, python = list[bytes](), world.pipeline.quick.locate

    def locate(data: bytes) -> Located | None:
        located.append(data)
        return python(data)

    monkeypatch.setattr(world.pipeline.quick, "locate", locate)
    texts = ["xoxb-", "T-1", "T-2", "xoxb-", "T-3"]
    assert suspicious(b"xoxb-") and not find("xoxb-")
    made = [source.record(0), *(source.record(n, tenant="globex", ticket=text) for n, text in enumerate(texts, 1))]
    _, outputs = world.pipeline.seal_batch(fresh(), Batch(at(made)), NOW_US)
    assert (len(outputs.archive), len(located)) == (6, 1)  # the opening


@pytest.mark.parametrize("what", ["good", "bad", "tokens"])
def test_batches_leave_nothing_in_memory(world: World, source: Speaker, what: str) -> None:
    """Objects and the kernel's own bytes: all come from what tracemalloc sees."""
    records = good(source, 300)
    if what == "bad":
        records = tuple(record._replace(key=b"x") if record.offset % 3 else record for record in records)
    if what == "tokens":
        events = [source.event(n, message=MESSAGE, correlation_id=f"m-{n}") for n in range(1, 301)]
        for event in events:
            event["actor"]["login"] = f"ada-{event['emitter']['seq'] % 9}"
        encrypted = [source.encrypted(number, event) for number, event in enumerate(events, 1)]
        records = at([source.record(number, AUDIT_EVENT.encode(event)) for number, event in enumerate(encrypted, 1)])
    state, _ = world.pipeline.seal_batch(fresh(), Batch(at([source.record(0)])), NOW_US)
    moved = tuple(record._replace(offset=record.offset + 1) for record in records)

    def held() -> int:
        world.pipeline.seal_batch(state, Batch(moved), NOW_US)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = [held() for _ in range(4)][-1]
        after = [held() for _ in range(12)][-1]
    finally:
        tracemalloc.stop()
    assert after - before < 4096, f"{after - before} bytes after twelve batches"


def test_errors_leave_nothing_in_memory(source: Speaker) -> None:
    def raising(*_: Any) -> Any:
        raise ZeroDivisionError

    def once() -> None:
        for name in ("flush", "attest", "random", "run", "plan", "content", "secret"):
            for call in (raising, lambda *_: 7, lambda *_: None):
                driven = Driven(source, signs=True, **{name: call})
                with suppress(ZeroDivisionError, TypeError, ValueError):
                    driven.take(records)

    records = (*with_token(source), *good(source, 90)[1:])
    tracemalloc.start()
    try:
        for _ in range(3):
            once()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(6):
            once()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 4096, f"{after - before} bytes"


# -- signatures


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.binary(min_size=32, max_size=32))
@example(bytes(32), b"", bytes(32))
@example(bytes([255]) * 32, bytes(64), bytes(32))
def test_a_leaf_is_signed_as_python_signs_it(private: bytes, context: bytes, leaf: bytes) -> None:
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(context + leaf)
    assert KERNEL.Signer(private, context, b"tail").sign(leaf) == signature


@pytest.mark.parametrize("signed", [1, 7, 8, 9, 40])
def test_signatures_made_apart_are_those_of_their_leaves(source: Speaker, signed: int) -> None:
    """Of too few for a thread, and of more; the last one is held, and not signed yet."""
    signer = KERNEL.Signer(bytes(range(32)), b"context", b"\x02" + bytes(32))
    driven = Driven(source, signs=True, attest=signer)
    taken = driven.take(good(source, signed + 1))
    public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
    assert taken[0] == signed + 1 and len(driven.output) == signed
    for value in driven.output:
        event = decode_sealed_event(value)
        assert event.signature is not None and event.signature.key_id == bytes(32)
        public.verify(event.signature.value, b"context" + leaf_hash(event.seal))


def test_what_is_raised_while_signatures_are_made_apart_ends_the_stretch(source: Speaker) -> None:
    calls = iter(range(100))

    def random(count: int) -> bytes:
        if next(calls) == 1:
            raise ZeroDivisionError
        return bytes(count)

    driven = Driven(source, signs=True, attest=KERNEL.Signer(bytes(32), b"", b""), random=random)
    with pytest.raises(ZeroDivisionError):
        driven.take(good(source, 80))
    assert len(driven.take(good(source, 3))) == 9, "another stretch is not kept out"


def test_a_libcrypto_without_ed25519_leaves_the_kernel_and_signs_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> Any:
        raise NotImplementedError("this libcrypto does not sign with Ed25519")

    monkeypatch.setattr(KERNEL, "Signer", refused)
    monkeypatch.setattr("processors.native._module", lambda _: KERNEL)
    assert load.__wrapped__() is KERNEL
    world = made_world(tmp_path, native=True)
    records = at([world.speaker().record(number) for number in range(9)])
    assert world.pipeline.sealer.lent(KERNEL) is None
    assert len(world.pipeline.seal_batch(fresh(), Batch(records), NOW_US)[1].archive) == 9


def test_a_key_whose_signatures_fail_in_the_kernel_signs_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def take(self, *_: Any) -> Any:
            raise NotImplementedError("libcrypto does not sign")

    world = made_world(tmp_path, native=True)
    pipeline, records = world.pipeline, at([world.speaker().record(number) for number in range(9)])
    assert pipeline.sealer.lent(KERNEL) is not None
    with monkeypatch.context() as patched:
        patched.setattr(KERNEL, "Sealing", lambda *_: Failing())
        with pytest.raises(NotImplementedError):
            pipeline.seal_batch(fresh(), Batch(records), NOW_US)
    assert pipeline.sealer.lent(KERNEL) is None
    assert len(pipeline.seal_batch(fresh(), Batch(records), NOW_US)[1].archive) == 9


@pytest.mark.parametrize(
    "wrong", [(bytes(31), b"", b""), (bytes(32), bytes(65), b""), (bytes(32), b"", bytes(65)), ("", b"", b"")]
)
def test_a_signer_of_another_form_is_refused(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        KERNEL.Signer(*wrong)
    with pytest.raises(ValueError, match="32 bytes"):
        KERNEL.Signer(bytes(32), b"", b"").sign(bytes(31))


# -- what a poll brought


class Polled:
    """A message of a client library: what its methods return, or raise."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Callable[[], Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        value = self._fields[name]

        def asked() -> Any:
            if isinstance(value, BaseException):
                raise value
            return value

        return asked


few_bytes = st.none() | st.sampled_from([b"", b"a", b"b", bytes(400)])
polled = st.builds(
    Polled,
    error=st.none() | st.none() | st.just("an error"),
    partition=st.integers(0, 2) | st.just(1000),
    offset=st.integers(0, 1 << 62),
    key=few_bytes,
    value=few_bytes,
    headers=st.none()
    | st.lists(st.tuples(st.sampled_from(["st-mac", "st-session", "ä"]), few_bytes), max_size=3)
    | st.sampled_from([SystemError("lost"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no")]),
    timestamp=st.tuples(st.just(2), st.integers(-1, 1 << 50)),
)


@given(st.lists(polled, max_size=12))
def test_messages_become_records_as_python_makes_them(messages: list[Polled]) -> None:
    records, others = KERNEL.records(RawRecord, messages)
    assert (records, others) == read_records(messages)
    assert all(type(record) is RawRecord for found in records.values() for record in found)


def test_what_a_record_has_in_common_with_the_one_before_is_held_once() -> None:
    def message(number: int) -> Polled:
        headers = [("session", bytes(bytearray(400))), ("mac", bytes([number]))]
        fields = {"key": bytes(bytearray(9)), "value": b"v", "headers": headers, "timestamp": (2, 5)}
        return Polled(error=None, partition=0, offset=number, **fields)

    one, other = KERNEL.records(RawRecord, [message(1), message(2)])[0][0]
    assert one.key is other.key and one.headers[0] is other.headers[0] and one.headers[1] != other.headers[1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"error": ZeroDivisionError()}, {"partition": []}, {"partition": ZeroDivisionError()}, {"offset": ZeroDivisionError()},
        {"key": "text"}, {"value": 5}, {"headers": (("a", b""),)}, {"headers": [("a",)]}, {"headers": [(b"a", b"")]},
        {"headers": [("a", "b")]}, {"headers": ZeroDivisionError()}, {"timestamp": 5}, {"timestamp": (1,)},
    ],
)  # fmt: skip
def test_messages_of_another_form_are_no_records(wrong: dict[str, Any]) -> None:
    fields = {"error": None, "partition": 0, "offset": 1, "key": b"k", "value": b"v", "headers": None, "timestamp": (2, 5)}
    with pytest.raises((TypeError, ZeroDivisionError)):
        KERNEL.records(RawRecord, [Polled(**fields), Polled(**{**fields, **wrong})])


@pytest.mark.parametrize("wrong", [int, list, type("Own", (tuple,), {}), tuple[int]])
def test_records_are_of_a_plain_sort_of_tuple(wrong: Any) -> None:
    with pytest.raises(TypeError):
        KERNEL.records(wrong, [])


def test_without_the_kernel_and_when_it_is_turned_off_the_python_form_is_used(world: World) -> None:
    assert len(world.pipeline.quick.native) == 2
    assert not made_world(world.places.keys.parent, native=False).pipeline.quick.native


def test_what_cannot_be_built_is_said_and_fails_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("processors.native.build.built", lambda: tmp_path / "none.so")
    monkeypatch.setenv("CC", "/nonexistent/cc")
    assert "not built" in build() and "Python form" in build()
    monkeypatch.setenv("CC", "false")
    assert "not built" in build()


def test_a_kernel_whose_digests_or_signatures_are_not_pythons_or_that_does_not_load_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Wrong:
        def mac(self, key: bytes, message: bytes) -> bytes:
            return bytes(32)

    class Forging:
        """Signs with another key than the one it was given."""

        mac = staticmethod(KERNEL.mac)

        def Signer(self, private: bytes, context: bytes, tail: bytes) -> NativeSigner:
            return KERNEL.Signer(bytes(32), context, tail)

    for wrong in (Wrong(), Forging()):
        monkeypatch.setattr("processors.native._module", lambda _, wrong=wrong: wrong)
        assert load.__wrapped__() is None
        monkeypatch.undo()
    (tmp_path / "broken.so").write_bytes(b"no library")
    monkeypatch.setattr("processors.native.built", lambda: tmp_path / "broken.so")
    assert load.__wrapped__() is None
    monkeypatch.setattr("processors.native.built", lambda: tmp_path / "absent.so")
    assert load.__wrapped__() is None
