"""`sealtrail run …`: the processes of the pipeline, each under its own identity."""

from __future__ import annotations

import time

import typer

from auditor.console import ConfigFile, explained, run_until_stopped, settings_of
from processors.assembly import pipeline_of
from processors.sealer import Sealer
from sinks.archive.assembly import open_sink
from sinks.search.assembly import open_sink as open_search_sink
from sinks.siem.assembly import open_sink as open_siem_sink

app = typer.Typer(name="run", help="Run a process of the pipeline until it is told to stop.", no_args_is_help=True)


@app.command("sealer")
def sealer(config: ConfigFile = None) -> None:
    """Redaction check, class, chain, signature: raw records to sealed ones."""
    with explained():
        settings = settings_of(config, "sealer")
        pipeline = pipeline_of(settings)
        run_until_stopped(settings, lambda stop: Sealer(settings, pipeline, _now_us).run(stop))


@app.command("sink-archive")
def sink_archive(config: ConfigFile = None, accept_weak_store: bool = False) -> None:
    """Sealed records to the archive in S3, under lock."""
    with explained():
        settings = settings_of(config, "sink-archive", accept_weak_store=accept_weak_store or None)
        run_until_stopped(settings, open_sink(settings).run)


@app.command("sink-search")
def sink_search(config: ConfigFile = None) -> None:
    """Sealed records to hot search in OpenSearch."""
    with explained():
        settings = settings_of(config, "sink-search")
        run_until_stopped(settings, open_search_sink(settings).run)


@app.command("sink-siem")
def sink_siem(config: ConfigFile = None) -> None:
    """Sealed records that the policy routes to the SIEM, as OCSF."""
    with explained():
        settings = settings_of(config, "sink-siem")
        run_until_stopped(settings, open_siem_sink(settings).run)


def _now_us() -> int:
    return time.time_ns() // 1000
