"""`sealtrail run …`: the processes of the pipeline, each under its own identity.

Each command imports what its own process needs, and no other one does: memory, and the time of its start.
"""

from __future__ import annotations

import threading
import time
from typing import Annotated

import typer
from prometheus_client import start_http_server

from auditor.console import ConfigFile, explained, log_to_stderr, run_until_stopped, settings_of
from auditor.processes import Processes, check_ports, end_with_parent, of_process, this_command

app = typer.Typer(name="run", help="Run a process of the pipeline until it is told to stop.", no_args_is_help=True)


@app.command("sealer")
def sealer(
    config: ConfigFile = None,
    processes: Annotated[int, typer.Option(min=1, help="How many; more than the raw topic has partitions are of no use.")] = 1,
    process: Annotated[int, typer.Option(min=0, hidden=True, help="Which one this is; stdin is its parent's pipe.")] = 0,
) -> None:
    """Redaction check, class, chain, signature: raw records to sealed ones.

    With --processes N: N processes that share the raw topic's partitions; this one starts them, and again what dies.
    """
    with explained():
        settings = settings_of(config, "sealer")
        if processes > 1 and not process:
            check_ports(settings, processes)
            started = Processes([*this_command(), "--process"], processes)
            run_until_stopped(settings, started.run)
            raise typer.Exit(started.status)
        if process:
            log_to_stderr(process=process)
            settings = of_process(settings, process)
        from auditor.memory import collect_seldom, give_back_blocks
        from processors.assembly import pipeline_of
        from processors.keys import SealerKeys
        from processors.sealer import Sealer

        keys = SealerKeys(settings)
        pipeline = pipeline_of(settings, keys)
        collect_seldom()
        give_back_blocks()

        def run(stop: threading.Event) -> None:
            if process:
                end_with_parent(stop)
            Sealer(settings, pipeline, _now_us, renewed=keys.renewed).run(stop)

        run_until_stopped(settings, run)


@app.command("sink-archive")
def sink_archive(config: ConfigFile = None, accept_weak_store: bool = False) -> None:
    """Sealed records to the archive in S3, under lock."""
    from sinks.archive.assembly import open_sink

    with explained():
        settings = settings_of(config, "sink-archive", accept_weak_store=accept_weak_store or None)
        run_until_stopped(settings, open_sink(settings).run)


@app.command("sink-search")
def sink_search(config: ConfigFile = None) -> None:
    """Sealed records to hot search in OpenSearch."""
    from sinks.search.assembly import open_sink

    with explained():
        settings = settings_of(config, "sink-search")
        run_until_stopped(settings, open_sink(settings).run)


@app.command("sink-siem")
def sink_siem(config: ConfigFile = None) -> None:
    """Sealed records that the policy routes to the SIEM, as OCSF."""
    from sinks.siem.assembly import open_sink

    with explained():
        settings = settings_of(config, "sink-siem")
        run_until_stopped(settings, open_sink(settings).run)


@app.command("detect")
def detect(
    config: ConfigFile = None,
    instance: Annotated[str, typer.Option(help="Which running copy this is; each needs a name of its own.")] = "one",
) -> None:
    """Rules over sealed events, and sources that fall silent: findings go back into the trail."""
    from processors.detect.app import run_detector
    from producers.audit import AuditProducer

    with explained():
        settings = settings_of(config, "detect")
        if settings.metrics_port:
            start_http_server(settings.metrics_port, addr="127.0.0.1")
        emitter = AuditProducer(settings, "detect", instance)
        try:
            run_detector(settings, emitter)
        finally:
            emitter.close()


@app.command("verifier")
def verifier(
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    instance: Annotated[str, typer.Option(help="Which running copy this is; each needs a name of its own.")] = "one",
    config: ConfigFile = None,
) -> None:
    """The archive, verified for ever: new segments as they come, all of it again in each cycle; findings are events."""
    from auditor.archive import ArchiveReader
    from auditor.trust import openers_of, root_of
    from auditor.watch import Kept, Times, Watch
    from producers.audit import AuditProducer
    from sealtrail.verify import Trust

    with explained():
        settings = settings_of(config, "verifier")
        settings.require("verifier_state")
        if settings.verifier_state is None:
            raise AssertionError("require() lets no empty setting pass")
        trust = Trust(root_of(settings), openers_of(settings))
        times = Times(settings.verify_new_s, settings.verify_cycle_s)
        prefix = chain or f"{settings.authority}/{settings.deployment}/"
        with AuditProducer(settings, "verifier", instance) as emitter:
            watch = Watch(ArchiveReader(settings), trust, prefix, emitter, Kept(settings.verifier_state), times)
            run_until_stopped(settings, watch.run)


@app.command("intake")
def intake(
    config: ConfigFile = None,
    instance: Annotated[str, typer.Option(help="Which running copy this is; each needs a name of its own.")] = "intake-1",
) -> None:
    """Events over HTTP, from services in other languages and GitHub's webhooks; answered when they are durable."""
    from producers.intake import Intake

    with explained():
        settings = settings_of(config, "intake")
        run_until_stopped(settings, Intake(settings, instance).run)


def _now_us() -> int:
    return time.time_ns() // 1000
