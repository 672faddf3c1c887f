"""pytest plug-in for connectors: the fixtures `sealtrail_connector` and `sealtrail_emitter`.

    def test_samples(sealtrail_connector):
        sealtrail_connector(Path("samples"), mapping=draft_of, classes={"crm.login.failed": "security"})

pytest loads this module in every project that has Sealtrail installed. So it imports nothing but pytest, adds no option
and no hook, and does nothing until a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from producers.samples.checking import Checked, Handle, Map, Samples
    from producers.samples.emitter import SampleEmitter
    from schemas.policy import Policy
    from sealtrail.avro import Codec


class ConnectorCheck:
    """What `sealtrail_connector` gives; see `__call__`."""

    def __call__(
        self,
        samples: Samples,
        *,
        classes: Mapping[str, str],
        mapping: Map | None = None,
        handle: Handle | None = None,
        clear: Sequence[str] = (),
        needs: Sequence[str] = (),
        extensions: Sequence[Codec] = (),
        policy: Policy | None = None,
    ) -> Checked:
        """Check samples; the test fails with every problem named, or goes on with what was looked at.

        Args:
            samples: a folder of .json files; payloads by name; or a list of payloads.
            mapping: from a payload to a draft, to drafts, or to None; or
            handle: takes an emitter and a payload, and states what the payload says.
            classes: event name to log class; every event that comes up must be named.
            clear: places of the payload whose strings may stand in events as they are: /channel/id, */node_id.
            needs: fields that every event must have: object, authorization, correlation_id.
            extensions: codecs of the connector's own schemas, where they are not registered yet.
            policy: the class policy; the packaged one, where it is left out.
        """
        from producers.samples.checking import Expected, check_samples, emitting

        if (mapping is None) == (handle is None):
            raise TypeError("either mapping or handle, not both")
        checked = check_samples(
            samples,
            handle if mapping is None or handle is not None else emitting(mapping),  # type: ignore[arg-type]
            Expected(classes, clear, needs, extensions, policy),
        )
        if checked.problems:
            pytest.fail(checked.report(), pytrace=False)
        return checked


@pytest.fixture
def sealtrail_connector() -> ConnectorCheck:
    """Checks sample payloads of a connector: they parse, are complete, leak nothing, and get the class they should."""
    return ConnectorCheck()


@pytest.fixture
def sealtrail_emitter() -> SampleEmitter:
    """An emitter that checks and redacts as the real one does, and keeps the events in `events`."""
    from producers.samples.emitter import SampleEmitter

    return SampleEmitter()
