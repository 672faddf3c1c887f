"""Detection: rules that are read strictly, windows that no order and no repeat can change, sources that fall silent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from processors.detect import windows as windows_module
from processors.detect.finding import FINDING, finding_id, of_alarm, of_windows
from processors.detect.records import Matched, matches_of_activity, matches_of_event
from processors.detect.rules import Category, Rule, Rules, parse
from processors.detect.silence import Alarm, ChainWatch, Kind
from processors.detect.windows import LATENESS_US, Match, Windows, all_found, evaluate
from schemas.policy import Policy
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.seal import LogClass, Route
from tests.sealed import full_event, item_of, plain_event

S = 1_000_000
CHAIN = "audit.example/local/audit.raw.1f0c2a9b.0/0"
Given = tuple[str, tuple[str, ...], Match]


# -- rules

BASE = """
title: t
name: base
logsource: {product: sealtrail, category: event}
detection: {selection: {event_type: ADMIN}, condition: selection}
canary: {event_type: ADMIN, tenant: acme, actor: {id: hmac_x}, subject: {id: hmac_y}}
"""
COUNT = """
title: c
name: many
correlation: {type: event_count, rules: [base], group-by: [tenant, actor.id], timespan: 5m, condition: {gte: 3}}
"""


def test_the_packaged_rules_are_those_that_are_asked_for() -> None:
    assert set(Rules.load().by_name) == {
        "repeated_authentication_failures", "export_spike", "admin_rights_misuse", "policy_evasion", "message_fan_out",
    }  # fmt: skip
    assert {rule.category for rule in Rules.load().by_name.values()} == {Category.EVENT, Category.LINEAGE}


def test_a_rule_is_read_as_it_is_written() -> None:
    (rule,) = parse("x.yml", BASE + "---" + COUNT)
    assert (rule.name, rule.level, rule.threshold, rule.span_us, rule.value) == ("many", "medium", 3, 300 * S, None)
    (above,) = parse("x.yml", BASE + "---" + COUNT.replace("gte", "gt"))
    assert above.threshold == 4


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("event_type: ADMIN}, condition", "event_kind: ADMIN}, condition", "unknown field event_kind"),
        ("canary: {event_type: ADMIN", "canary: {event_type: OTHER", "canary"),
        ("canary:", "canaries:", "unknown key canaries"),
        ("category: event", "category: network", "logsource"),
        ("condition: selection", "condition: selektion", "selektion"),
        ("type: event_count", "type: temporal", "event_count or value_count"),
        ("type: event_count", "type: frequency", "x.yml"),
        ("type: event_count", "type: value_count", "without field reference"),
        ("gte: 3", "lte: 3", "gt or gte"),
        ("gte: 3", "gte: 0", "at most"),
        ("gte: 3", "gte: 5000", "at most"),
        ("timespan: 5m", "timespan: 5y", "at most"),
        ("timespan: 5m", "timespan: soon", "x.yml"),
        ("[tenant, actor.id]", "[actor.id]", "begins with tenant"),
        ("[tenant, actor.id]", "[tenant, actor.display]", "actor.display is no field"),
        ("[tenant, actor.id]", "[tenant, sender]", "canary"),
        ("rules: [base]", "rules: [other]", "x.yml"),
        ("name: many", "title2: many", "without a name"),
        ("title: c", "title: c\nname: base\ndetection: {}", "x.yml"),
    ],
)
def test_what_would_never_match_is_refused_by_name(old: str, new: str, problem: str) -> None:
    text = BASE + "---" + COUNT
    assert old in text
    with pytest.raises(ConfigError, match=problem):
        parse("x.yml", text.replace(old, new))


def test_a_rule_that_nothing_counts_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no correlation uses it"):
        parse("x.yml", BASE)
    for text in ("[", "a: b", "- 1", "name: x"):
        with pytest.raises(ConfigError, match=r"x\.yml"):
            parse("x.yml", text)
    with pytest.raises(ConfigError, match="detect_rules"):
        Rules.load(tmp_path)
    (tmp_path / "a.yml").write_text(BASE + "---" + COUNT)
    assert set(Rules.load(tmp_path).by_name) == {"many"}
    (tmp_path / "b.yml").write_text(BASE + "---" + COUNT)
    with pytest.raises(ConfigError, match="there are two"):
        Rules.load(tmp_path)


def named(name: str) -> Rule:
    return Rules.load().by_name[name]


def test_each_packaged_rule_matches_what_it_is_for_and_little_else() -> None:
    rules = Rules.load()

    def hit(**given: Any) -> set[str]:
        item = item_of(full_event(**given))
        return {matched.rule for matched in matches_of_event(rules, item.seal, item.event)}

    assert hit(event_type="AUTHENTICATION", result="FAILURE") == {"repeated_authentication_failures"}
    assert hit(event_type="AUTHENTICATION", result="SUCCESS") == set()
    assert hit(event_type="EXPORT") == {"export_spike"}
    assert hit(event_type="ADMIN") == {"admin_rights_misuse"}
    assert hit(event_type="MESSAGE") == set()
    denied = {**full_event()["authorization"], "decision": "DENY"}
    assert hit(event_type="POLICY", authorization=denied) == {"policy_evasion"}
    assert hit(event_type="DETECTION", result="FAILURE", authorization=denied) == set()


def test_an_event_without_a_value_for_the_group_belongs_to_none() -> None:
    item = item_of(plain_event(event_type="ADMIN", changes=[{"op": "ADD", "path": "/role", "before": None, "after": None}]))
    assert not [m for m in matches_of_event(Rules.load(), item.seal, item.event) if m.rule == "admin_rights_misuse"]


# -- windows

RULES = {
    "count": Rule("count", "low", Category.EVENT, (), ("tenant",), None, 3, 10 * S, bytes(32)),
    "values": Rule("values", "low", Category.EVENT, (), ("tenant",), "subject.id", 3, 10 * S, bytes(32)),
}


def at(second: float, seq: int, value: str | None = None) -> Match:
    return Match(int(second * S), CHAIN, seq, 0, value)


def periods(rule: str, matches: list[Match]) -> list[int]:
    return [found.period for found in evaluate(RULES[rule], ("acme",), sorted(matches))]


def test_enough_within_the_span_is_found_and_one_less_or_later_is_not() -> None:
    assert periods("count", [at(1, 1), at(2, 2)]) == []
    assert periods("count", [at(1, 1), at(2, 2), at(3, 3)]) == [0]
    assert periods("count", [at(1, 1), at(2, 2), at(11, 3)]) == []  # the first is exactly a span away: outside
    assert periods("count", [at(1, 1), at(2, 2), at(10.9, 3)]) == [1]  # across a boundary of periods
    assert periods("count", [at(n, n) for n in range(30)]) == [0, 1, 2]  # a long series: once a period


def test_values_are_counted_once_and_leave_with_the_window() -> None:
    assert periods("values", [at(1, 1, "a"), at(2, 2, "a"), at(3, 3, "b"), at(4, 4, "b")]) == []
    assert periods("values", [at(1, 1, "a"), at(2, 2, "a"), at(3, 3, "b"), at(4, 4, "c")]) == [0]
    assert periods("values", [at(1, 1, "a"), at(2, 2, "b"), at(11.5, 4, "c")]) == []


def stated(rules: Mapping[str, Rule], given: list[Given]) -> list[tuple[str, tuple[str, ...], int]]:
    """What a detector states that gets these matches in this order."""
    windows, found = Windows(rules), []
    for rule, group, match in given:
        found += [(one.rule.name, one.group, one.period) for one in windows.due(rule, group, match)]
        windows.add(rule, group, match)
    return found


matches: st.SearchStrategy[list[Given]] = st.lists(
    st.builds(
        lambda rule, tenant, when, seq, value: (rule, (tenant,), Match(when * S // 4, CHAIN, seq, 0, value)),
        st.sampled_from(sorted(RULES)), st.sampled_from(["acme", "globex"]), st.integers(0, 160), st.integers(0, 30),
        st.sampled_from(["a", "b", "c", "d"]),
    ),
    max_size=40,
)  # fmt: skip


def one_time_each(given: list[Given]) -> list[Given]:
    """A seal has one time: as it is in a chain."""
    times: dict[int, int] = {}
    return [
        (rule, group, Match(times.setdefault(match.seq, match.at_us), CHAIN, match.seq, 0, str(match.seq % 4)))
        for rule, group, match in given
    ]


@given(st.data())
@hypothesis_settings(max_examples=300)
def test_what_is_found_follows_from_the_set_of_matches_whatever_their_order_and_repeats(data: st.DataObject) -> None:
    given_matches = one_time_each(data.draw(matches))
    expected = all_found(RULES, given_matches)
    order = data.draw(st.permutations(given_matches + given_matches[: len(given_matches) // 2]))
    found = stated(RULES, order)
    assert set(found) == expected
    assert len(found) == len(expected), "stated twice"


@given(st.data())
def test_a_detector_that_was_killed_anywhere_states_the_same_and_repeats_only_what_it_had_not_committed(
    data: st.DataObject,
) -> None:
    log = one_time_each(data.draw(matches))
    killed_at = data.draw(st.integers(0, len(log)))
    committed = data.draw(st.integers(0, killed_at))
    before = stated(RULES, log[:killed_at])
    successor, after = Windows(RULES), []
    for rule, group, match in log[:committed]:  # read back: nothing is stated
        successor.add(rule, group, match)
    for rule, group, match in log[committed:]:
        after += [(one.rule.name, one.group, one.period) for one in successor.due(rule, group, match)]
        successor.add(rule, group, match)
    assert set(before) | set(after) == all_found(RULES, log)
    assert set(before) & set(after) <= set(stated(RULES, log[:killed_at])) - set(stated(RULES, log[:committed]))


def test_asking_changes_nothing() -> None:
    windows = Windows(RULES)
    for n in range(2):
        windows.add("count", ("acme",), at(n, n))
    assert [f.period for f in windows.due("count", ("acme",), at(2, 2))] == [0]
    assert [f.period for f in windows.due("count", ("acme",), at(2, 2))] == [0]
    assert len(windows) == 2


def test_memory_is_bounded_by_time_and_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = Windows(RULES)
    for n in range(3):
        windows.add("count", ("old",), at(n, n))
    windows.add("count", ("new",), Match(LATENESS_US + 60 * S, CHAIN, 99, 0))
    assert len(windows) == 1
    monkeypatch.setattr(windows_module, "KEPT", 5)
    for n in range(50):
        windows.add("count", ("new",), Match(LATENESS_US + (61 + n) * S, CHAIN, 100 + n, 0))
    assert len(windows) == 5


def test_a_rule_that_is_gone_finds_nothing() -> None:
    windows = Windows(RULES)
    windows.add("gone", ("acme",), at(1, 1))
    assert windows.due("gone", ("acme",), at(2, 2)) == [] and len(windows) == 0


# -- matches and findings


def test_a_match_reads_back_as_it_was_written_and_groups_stay_together() -> None:
    matched = Matched("many", ("acme", "hmac_x"), Match(5 * S, CHAIN, 7, 1, "v", bytes(16)))
    assert Matched.decode(matched.encode()) == matched
    assert Matched.decode(matched.encode()).match.value == "v"
    assert matched.key == Matched("many", ("acme", "hmac_x"), at(9, 9)).key != Matched("many", ("acme", "hmac_y"), at(9, 9)).key
    with pytest.raises(EvidenceError):
        Matched.decode(b"garbage")


def found_event() -> dict[str, Any]:
    rule = named("repeated_authentication_failures")
    series = [Match(n * S, CHAIN, n, 0, None, bytes(16)) for n in range(1, 6)]
    (found,) = evaluate(rule, ("acme", "hmac_" + "0" * 16 + "_" + "A" * 43), series)
    return of_windows(bytes(32), found)


def test_a_finding_says_what_it_rests_on_and_its_id_is_the_same_again() -> None:
    draft = found_event()
    said = FINDING.decode_body(draft["extension"]["payload"])
    assert said["rule"] == "repeated_authentication_failures" and said["level"] == "high" and said["count"] == 5
    assert [e["seq"] for e in said["evidence"]] == [1, 2, 3, 4, 5]
    assert draft["object"]["id"] == finding_id(bytes(32), said["rule"], ("acme", draft["subject"]["id"]), 0)
    assert draft["object"]["id"] != finding_id(bytes(31) + b"1", said["rule"], ("acme", draft["subject"]["id"]), 0)
    assert draft["occurred_at"] == 5 * S and draft["causation_id"] == bytes(16)


def test_every_finding_is_signed_as_security_and_goes_to_the_siem() -> None:
    alarm = Alarm(Kind.SILENT, "chat", "one", bytes(16), 5 * S, 60 * S, 0, 12)
    for draft in (found_event(), of_alarm(bytes(32), alarm, CHAIN)):
        event = plain_event(**{**draft, "name": draft["event_name"], "region": "eu-central"})
        event["event_name"] = draft["event_name"]
        decision = Policy.load().decide({**full_event(), **event})
        assert decision.log_class is LogClass.SECURITY and decision.sign and decision.routes & Route.SIEM


# -- silence


def activity(second: float, *rows: dict[str, Any], seq: int = 0) -> dict[str, Any]:
    return {
        "chain": CHAIN, "first_seq": seq, "count": 1, "part": 0, "sealed_at": int(second * S), "emitters": list(rows),
        "actors": [], "lineages": [],
    }  # fmt: skip


def heard(instance: str = "one", epoch: int = 1, missing: int = 0, *, closed: bool = False) -> dict[str, Any]:
    return {
        "source": "chat", "instance": instance, "epoch": bytes([epoch]) * 16, "events": 1, "refused": 0, "last_number": 9,
        "missing": missing, "closed": closed,
    }  # fmt: skip


class Watched:
    """A chain with a silence of 10 s and ticks of at most 5, and what was stated."""

    def __init__(self) -> None:
        self.watch = ChainWatch(10 * S, 5 * S)
        self.alarms: list[Alarm] = []

    def see(self, second: float, *rows: dict[str, Any]) -> list[tuple[str, str]]:
        found = self.watch.due(activity(second, *rows))
        assert found == self.watch.due(activity(second, *rows)), "asking changed something"
        self.watch.add(activity(second, *rows))
        self.alarms += found
        return [(alarm.kind.value, alarm.instance) for alarm in found]


def test_a_source_that_says_nothing_is_silent_once_and_again_after_it_came_back() -> None:
    chain = Watched()
    assert chain.see(0, heard()) == []
    assert [chain.see(n) for n in (3, 6, 9, 10)] == [[]] * 4
    assert chain.see(11) == [("silent_source", "one")]
    assert [chain.see(n) for n in (14, 17, 30)] == [[]] * 3
    assert chain.see(33, heard()) == []
    assert [chain.see(n) for n in (36, 39, 42)] == [[]] * 3
    assert chain.see(44) == [("silent_source", "one")]
    assert [alarm.since_us // S for alarm in chain.alarms] == [0, 33]


def test_one_that_pulses_one_that_closed_and_one_with_a_successor_are_not_missed() -> None:
    chain = Watched()
    chain.see(0, heard("pulses"), heard("closes", closed=True), heard("replaced", epoch=1))
    chain.see(4, heard("replaced", epoch=2))
    for n in range(5, 60, 4):
        assert chain.see(n, heard("pulses"), heard("replaced", epoch=2)) == []


def test_a_straggler_of_an_older_run_is_no_sign_of_life() -> None:
    chain = Watched()
    chain.see(0, heard(epoch=2))
    for n in (3, 6, 9):
        chain.see(n, heard(epoch=1))
    assert chain.see(12, heard(epoch=1)) == [("silent_source", "one")]


def test_an_hour_without_a_sealer_accuses_nobody() -> None:
    chain = Watched()
    chain.see(0, heard())
    assert chain.see(3600) == []
    assert chain.see(3601, heard()) == []
    assert chain.see(3605) == []


def test_holes_that_stay_are_a_finding_and_holes_that_fill_are_not() -> None:
    chain = Watched()
    chain.see(0, heard(missing=2))
    chain.see(4, heard(missing=0))
    assert [chain.see(n, heard()) for n in (8, 12, 16)] == [[]] * 3
    chain.see(20, heard(missing=3))
    assert [chain.see(n, heard(missing=3)) for n in (24, 28)] == [[]] * 2
    assert chain.see(31, heard(missing=3)) == [("source_gap", "one")]
    assert chain.see(35, heard(missing=3)) == []
    assert chain.alarms[-1].missing == 3


def test_a_run_that_ends_with_holes_is_told_at_once() -> None:
    chain = Watched()
    assert chain.see(0, heard(missing=4, closed=True)) == [("source_gap", "one")]
    assert chain.see(30) == []


def test_rows_of_activity_are_matched_by_their_own_rules() -> None:
    row = {"tenant": "acme", "correlation_id": "m-1", "stage": "SENT", "events": 1, "recipients": 5000}
    few = {**row, "recipients": 4999}
    found = list(matches_of_activity(Rules.load(), {**activity(1, seq=7), "lineages": [few, row]}))
    assert [(m.rule, m.group, m.match.seq, m.match.row) for m in found] == [("message_fan_out", ("acme", "m-1"), 7, 1)]
    json.dumps(found[0].group)
