"""The contract's pages are what the generator makes now, true to schemas and policy, and safe to open (CON-7)."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from auditor.commands.schema import app
from auditor.topics import VALUES
from producers.run import CONTENT_TYPE
from schemas import catalogue
from schemas.contract import Contract
from schemas.evolution.released import current, full_name
from schemas.fields import field_tree
from schemas.policy import Policy
from schemas.published.blocks import Block, Code, Heading, Paragraph, Table, code, html, markdown, parse
from schemas.published.events import EMITTER, REGION, load
from schemas.published.examples import KEY, SUBJECT_KEY, event_of, one_a_family, redacted
from schemas.published.pages import published
from schemas.redact import RedactionCheck, Redactor, hash_value
from schemas.registry import AUDIT_EVENT, packaged_registry
from schemas.tokenized import Tokenized
from sealtrail.avro import Codec
from sealtrail.token import SubjectKey
from tests.sent import sent

FOLDER = Path("docs/catalogue")
PAGES = published({topic: codec.text for topic, codec in VALUES.items()})
ENTRIES = load()
TOPICS = catalogue.load()
DOCUMENT: dict[str, Any] = json.loads(PAGES["asyncapi.json"])


def test_the_pages_are_what_the_generator_makes_now() -> None:
    """If a schema, the catalogue or the policy changed: `make docs`."""
    there = {p.relative_to(FOLDER).as_posix(): p.read_text("utf-8") for p in FOLDER.rglob("*") if p.is_file()}
    assert there.keys() == PAGES.keys()
    for name, text in PAGES.items():
        assert there[name] == text, f"{name} is stale: make docs"


def test_docs_makes_what_is_stale_and_check_only_tells(tmp_path: Path) -> None:
    where = shutil.copytree(FOLDER, tmp_path / "catalogue")
    (where / "raci.md").write_text("old")
    (where / "examples" / "hold.json").unlink()
    runner = CliRunner()
    told = runner.invoke(app, ["docs", str(where), "--check"])
    assert (told.exit_code, (where / "raci.md").read_text()) == (1, "old")
    assert "raci.md" in told.output and "hold.json" in told.output and "fields.md" not in told.output
    assert runner.invoke(app, ["docs", str(where)]).exit_code == 0
    assert runner.invoke(app, ["docs", str(where), "--check"]).exit_code == 0


def test_a_file_that_is_no_page_is_told_and_left_alone(tmp_path: Path) -> None:
    where = shutil.copytree(FOLDER, tmp_path / "catalogue")
    (where / "notes.md").write_text("mine")
    done = CliRunner().invoke(app, ["docs", str(where)])
    assert (done.exit_code, (where / "notes.md").read_text()) == (1, "mine")


# -- what they say


def test_every_event_stands_in_the_catalogue_page() -> None:
    for entry in ENTRIES:
        assert f"| `{entry.name}` | {entry.family} | {entry.meaning} |" in PAGES["events.md"]


def test_the_field_reference_has_every_field_and_symbol_of_every_schema() -> None:
    lines = PAGES["fields.md"].splitlines()
    for name, text in current().items():
        assert f"## {name}" in lines
        for leaf in field_tree(text).leaves():
            assert any(line.startswith(f"| `{leaf.path}` |") for line in lines), leaf.path
            node = leaf.items or leaf
            for symbol, said in node.symbol_docs:
                assert f"| `{symbol}` | {said} |" in lines


def test_the_field_reference_shows_nothing_of_what_is_omitted_and_hashes_and_masks_the_rest() -> None:
    rows = {row.split("`")[1]: row for row in PAGES["fields.md"].splitlines() if row.startswith("| `")}
    assert rows["detail"].endswith("| nothing |")
    assert rows["actor.id"].endswith(f"| `{hash_value(KEY, 'alice@example.com')}` |")
    assert rows["actor.display"].endswith("| `***** ****ple` |")
    token = SubjectKey("acme", SUBJECT_KEY).token("alice@example.com")
    assert "| tokenize of `id` |" in rows["actor.login"] and rows["actor.login"].endswith(f"| `{token}` |")


def test_the_raci_table_says_what_the_policy_says_of_every_class() -> None:
    rows = [row for row in PAGES["raci.md"].splitlines() if row.startswith("| ") and not row.startswith("| class")]
    policy = Policy.load()
    assert len(rows) == len(policy.classes) == 5
    for row, (name, table) in zip(rows, policy.classes.items(), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:3] == [name.lower(), table.responsible, table.owner]
        assert all(person in cells[3] for person in table.consulted)
        assert all(role in cells[4] for role, _ in table.readers)
        assert cells[5] == ("; ".join(f"{role} ({', '.join(purposes)})" for role, purposes in table.revealers) or "nobody")
        assert f"every {table.review_days} days" in row


def test_a_policy_need_not_say_who_is_responsible() -> None:
    base = Path("schemas/policy/base.toml").read_text()
    bare = re.sub(r"(?m)^(responsible|consulted) = .*\n", "", base)
    assert bare != base
    assert all(table.responsible is None and table.consulted == () for table in Policy(bare, {}).classes.values())


# -- examples


@pytest.mark.parametrize("family", sorted(dict(field_tree(AUDIT_EVENT.text).fields)["event_type"].symbols))
def test_each_family_has_an_example_that_keeps_the_contract_and_is_what_the_redactor_makes(family: str) -> None:
    entry = one_a_family(ENTRIES)[family]
    registry = packaged_registry()
    event = redacted(event_of(entry))
    Contract(registry, REGION).check(event)
    redact, key = Redactor(AUDIT_EVENT.text, registry, lambda _: KEY), SubjectKey(event["tenant"], SUBJECT_KEY)
    plain = Tokenized(registry)(event, lambda _, text, __: key.open(text))
    assert redact(event_of(entry)) == plain
    assert RedactionCheck(registry)(sent(plain)) == ()
    assert AUDIT_EVENT.decode(AUDIT_EVENT.encode(event)) == event
    shown = json.loads(PAGES[f"examples/{family.lower()}.json"])
    assert (shown["event_type"], shown["event_name"]) == (family, entry.one)
    assert shown["redaction"]["fields"] == event["redaction"]["fields"]


def test_no_example_shows_what_redaction_hides() -> None:
    shown = "".join(text for name, text in PAGES.items() if name.startswith("examples/"))
    assert len(shown) > 10_000
    for value in ("alice@", "bob@", "Alice", "Bob ", "192.0.2", "Whatever", "asked for"):
        assert value not in shown


def test_an_emitters_example_is_of_a_source() -> None:
    assert event_of(one_a_family(ENTRIES)["EMITTER"])["emitter"]["source"] != EMITTER


# -- AsyncAPI


def test_every_topic_is_a_channel_with_its_limits_and_rights() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert list(DOCUMENT["channels"]) == [topic.name for topic in TOPICS.topics]
    for topic in TOPICS.topics:
        channel = DOCUMENT["channels"][topic.name]
        assert channel["address"] == topic.name
        settings = channel["bindings"]["kafka"]["topicConfiguration"]
        assert (settings["max.message.bytes"], settings["retention.ms"]) == (topic.max_message_bytes, topic.retention_ms)
        for action, roles in (("send", topic.writers), ("receive", topic.readers)):
            for role in roles:
                assert DOCUMENT["operations"][f"{role}.{action}.{topic.name}"]["action"] == action
    rights = sum(len(topic.writers) + len(topic.readers) for topic in TOPICS.topics)
    assert len(DOCUMENT["operations"]) == rights


def test_every_reference_leads_somewhere() -> None:
    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for value in node for found in references(value)] if isinstance(node, list) else []

    found = references(DOCUMENT)
    assert len(found) > 40
    for reference in found:
        place: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_messages_carry_the_very_schemas() -> None:
    messages = DOCUMENT["components"]["messages"]
    for topic, codec in VALUES.items():
        (name,) = DOCUMENT["channels"][topic]["messages"]
        payload = messages[name]["payload"]
        assert Codec(json.dumps(payload["schema"])).fingerprint == codec.fingerprint
        assert payload["schema"] == json.loads(codec.text)
    extensions = {full_name(text) for text in current().values()} - {full_name(AUDIT_EVENT.text)}
    assert set(DOCUMENT["components"]["schemas"]) == extensions


def test_topics_without_values_are_those_that_nothing_writes_to_yet() -> None:
    names = {topic.name for topic in TOPICS.topics}
    assert names - VALUES.keys() == {"audit.erasures"}
    assert VALUES.keys() <= names


def test_a_raw_records_headers_are_named() -> None:
    message = DOCUMENT["components"]["messages"][full_name(AUDIT_EVENT.text)]
    assert message["contentType"].encode() == CONTENT_TYPE[1]
    stated = set(re.findall(r'"(st-[a-z]+|content-type|traceparent)"', Path("producers/run.py").read_text()))
    assert set(message["headers"]["properties"]) == stated


# -- HTML and Markdown


class Reader(HTMLParser):
    """Tags that are open, and every tag and address seen."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    reader = read(PAGES["index.html"])
    assert not reader.seen & {"script", "link", "img", "iframe", "object", "form"}
    assert all(re.fullmatch(r"#[a-z0-9-]+|asyncapi\.json", address) for address in reader.addresses)
    anchors = re.findall(r'id="([a-z0-9-]+)"', PAGES["index.html"])
    assert len(anchors) == len(set(anchors))
    assert {address.removeprefix("#") for address in reader.addresses if address.startswith("#")} <= set(anchors)
    assert "@media print" in PAGES["index.html"]
    for chapter in ("Event catalogue", "Field reference", "Who answers for each log class", "Topics", "Examples", "Glossary"):
        assert f">{chapter}</h2>" in PAGES["index.html"] and f">{chapter}</a></li>" in PAGES["index.html"]


HOSTILE = "<script>alert(1)</script> & \"'`|*[x](javascript:alert(1))"


@given(st.text("<>&\"'`|*[]()ab/#:\n ", max_size=60) | st.just(HOSTILE))
def test_no_text_becomes_markup(text: str) -> None:
    blocks: list[Block] = [Heading(2, text), Paragraph(text), Table((text, "b"), ((text, code(text)),)), Code(text, "json")]
    reader = read(html(text, blocks))
    assert reader.seen <= {
        "html", "head", "meta", "title", "style", "body", "nav", "ul", "li", "h1", "h2", "p", "table", "thead", "tbody", "tr",
        "th", "td", "pre", "a", "em", "code",
    }  # fmt: skip
    assert all(":" not in address for address in reader.addresses)
    outside = "".join(part for part in re.split(r"(`[^`\n]*`)", markdown(blocks[1:2])) if not part.startswith("`"))
    assert "<" not in outside


def test_a_page_by_hand_is_read_into_the_same_blocks() -> None:
    blocks = [*parse("# Title\n\nSome *words*,\ntwo lines.\n\n## Part\n\n| a | b |\n|---|---|\n| `x` | y |\n")]
    assert blocks == [
        Heading(1, "Title"),
        Paragraph("Some *words*, two lines."),
        Heading(2, "Part"),
        Table(("a", "b"), (("`x`", "y"),)),
    ]


def test_a_bar_in_a_cell_is_no_column() -> None:
    assert markdown([Table(("a",), ((code("x|y"),),))]).splitlines()[-1] == "| `x\\|y` |"
