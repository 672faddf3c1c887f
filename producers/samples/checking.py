"""Do a connector's samples parse, are its events complete, do they leak nothing, are they of the class they should be? (CON-6)

For each sample:

1. It parses, and the connector takes it without an exception.
2. Its events are complete: the contract admits them, and what `needs` names is there.
3. They are of the class that `classes` states by event name; the class is computed from the policy, as the sealer does.
4. The sample with marks in the place of its strings (`planting`) leads to the same events, and no mark is in them (`leaks`).

A problem names sample, check and field, and for a leak the place in the payload; never a value.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producers.samples.emitter import SampleEmitter
from producers.samples.leaks import leaks
from producers.samples.planting import Pointer, settled, strings, with_marks
from schemas.emitter import Emitter
from schemas.policy import Policy
from schemas.redact import Event
from sealtrail.avro import Codec
from sealtrail.errors import ContractError

Draft = Mapping[str, object]
Mapped = Draft | Iterable[Draft] | None
# A payload as its author's own parser gives it: no type of ours fits them all.
Map = Callable[[Any], Mapped]
Handle = Callable[[Emitter, Any], object]
Samples = Path | Sequence[object] | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a sample. check: parse, complete, class or leak; field: of the event, or empty."""

    sample: str
    check: str
    field: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.sample, self.check, self.field, self.problem) if part)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at. words: places of strings that the connector knows as words, so that no mark stands there."""

    samples: int
    events: int
    marks: int
    words: frozenset[str]
    problems: tuple[Problem, ...]

    def report(self) -> str:
        """For a person: one line a problem."""
        return "\n".join([f"{len(self.problems)} problems in {self.samples} samples:", *map(str, self.problems)])


@dataclass(frozen=True, slots=True)
class Expected:
    """What holds of a connector's events.

    classes: event name to log class, as the policy spells it: {"crm.login.failed": "security"}. clear: strings of the
    payload that may stand in an event as they are, opaque identifiers of things, by pointer with stars: /channel/id,
    */node_id. needs: fields that every event must have. extensions: codecs of schemas that are not yet registered.
    """

    classes: Mapping[str, str]
    clear: Sequence[str] = ()
    needs: Sequence[str] = ()
    extensions: Sequence[Codec] = ()
    policy: Policy | None = None


def emitting(mapping: Map) -> Handle:
    """A mapping, from a payload to drafts, as a connector that emits."""

    def handle(emitter: Emitter, payload: Any) -> None:
        mapped = mapping(payload)
        for draft in [mapped] if isinstance(mapped, Mapping) else mapped or ():
            emitter.emit(draft)

    return handle


def check_samples(samples: Samples, handle: Handle, expected: Expected) -> Checked:
    """All checks over all samples.

    Args:
        samples: a folder of .json files; payloads by name; or payloads.
        handle: takes an emitter and a payload, and states what it says; see `emitting`.
    """
    check = _Check(handle, expected)
    named = _named(samples)
    for name, payload in named:
        check.sample(name, payload)
    if not named:
        check.problems.append(Problem("samples", "parse", "", "there are none"))
    return Checked(len(named), check.events, check.marks, frozenset(check.words), tuple(check.problems))


class _Check:
    def __init__(self, handle: Handle, expected: Expected) -> None:
        self.problems: list[Problem] = []
        self.words: set[str] = set()
        self.events = 0
        self.marks = 0
        self._handle = handle
        self._expected = expected
        self._policy = expected.policy or Policy.load()
        self._emitter = SampleEmitter(extensions=expected.extensions)

    def sample(self, name: str, payload: object) -> None:
        """All checks of one sample; `payload` as parsed, or the bytes of a file."""
        if isinstance(payload, bytes):
            try:
                payload = json.loads(payload)
            except (ValueError, RecursionError) as error:  # the parser's own message may quote the payload
                self._note(name, "parse", "", f"not JSON ({type(error).__name__})")
                return
        events, trouble = self._run(deepcopy(payload))  # a connector may write into what it is given
        if isinstance(trouble, ContractError):
            self._note(name, "complete", trouble.field, trouble.problem)
        elif trouble is not None:
            self._note(name, "parse", "", f"{type(trouble).__name__} in the connector{_line(trouble)}")
        for event in events:
            self._complete(name, event)
            self._class(name, event)
        self.events += len(events)
        if trouble is None:
            self._leaks(name, payload, [event["event_name"] for event in events])

    def _run(self, payload: object) -> tuple[list[Event], Exception | None]:
        """What the connector states of a payload, and what went wrong: its exception, or what the contract refused."""
        emitter = self._emitter
        emitter.events.clear()
        emitter.refused.clear()
        raised: Exception | None = None
        try:
            self._handle(emitter, payload)
        except Exception as error:  # whatever a connector raises is a finding of the check, not its end
            raised = error
        return list(emitter.events), emitter.refused[0] if emitter.refused else raised

    def _complete(self, name: str, event: Event) -> None:
        for field in self._expected.needs:
            value: object = event
            for part in field.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is None or value == "":
                self._note(name, "complete", field, f"missing in {event['event_name']}")

    def _class(self, name: str, event: Event) -> None:
        event_name = event["event_name"]
        stated = self._expected.classes.get(event_name)
        computed = self._policy.decide(event).log_class.lower()
        if stated is None:
            self._note(name, "class", event_name, f"no class is stated for it; the policy says {computed}")
        elif stated.lower() != computed:
            self._note(name, "class", event_name, f"stated {stated.lower()}, the policy says {computed}")

    def _leaks(self, name: str, payload: object, names: list[str]) -> None:
        def behaves(marked: object) -> bool:
            events, trouble = self._run(marked)
            return trouble is None and [event["event_name"] for event in events] == names

        places = [(pointer, text) for pointer, text in strings(payload) if not self._may_be_clear(pointer)]
        planted = settled(payload, places, behaves)
        events, _ = self._run(with_marks(payload, planted))
        marked = {one.pointer for one in planted}
        self.words.update(_place(pointer) for pointer, _ in places if pointer not in marked)
        self.marks += len(planted)
        for event in events:
            for leak in leaks(event, planted, self._emitter.registry):
                source = f"what {leak.place} of the payload says" if leak.place else "a part of the payload"
                self._note(name, "leak", leak.field, f"{source} comes out {leak.form}")

    def _may_be_clear(self, pointer: Pointer) -> bool:
        place = _place(pointer)
        return any(fnmatch.fnmatchcase(place, pattern) for pattern in self._expected.clear)

    def _note(self, sample: str, check: str, field: str, problem: str) -> None:
        self.problems.append(Problem(sample, check, field, problem))


def _place(pointer: Pointer) -> str:
    return "".join(f"/{part}" for part in pointer)


def _line(error: Exception) -> str:
    """Where it was raised: file and line, not the message, which may quote the payload."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f", {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"


def _named(samples: Samples) -> list[tuple[str, object]]:
    if isinstance(samples, Path):
        return [(str(path.relative_to(samples.parent)), path.read_bytes()) for path in sorted(samples.rglob("*.json"))]
    if isinstance(samples, Mapping):
        return list(samples.items())
    return [(f"sample {number}", payload) for number, payload in enumerate(samples)]
