"""`sealtrail verify`: the archive in S3, or a file that was made of it, against what it swears. Exit 0 only if all is good."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from auditor.archive import ArchiveReader
from auditor.console import EXIT_FAILED, EXIT_PARTIAL, EXIT_USAGE, AsJson, ConfigFile, explained, say, settings_of
from auditor.trust import openers_of, root_of
from keystore import load_root
from schemas.settings import Settings
from sealtrail.__main__ import at_us, read_checkpoints, verify_file
from sealtrail.errors import ConfigError, EvidenceError
from sealtrail.extent import Extent
from sealtrail.note import NoteKey
from sealtrail.parallel import verify_in_processes
from sealtrail.report import Report
from sealtrail.text import lines
from sealtrail.verify import WHOLE, Trust


def verify(
    file: Annotated[
        Path | None, typer.Argument(help="A bundle or a .tlog-proof, instead of the archive itself; offline.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="Of a file: the root's vkey; default: the one that the settings name.")
    ] = None,
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint kept from earlier; may be given for each chain.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Only what was sealed at or after: 2026-11-25T08:00, UTC.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Only what was sealed before.")] = None,
    after_checkpoint: Annotated[
        bool, typer.Option("--after-checkpoint", help="Only from where the checkpoint given ends: what is new since.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Chains at once, a process each.")] = os.cpu_count() or 1,
    save_checkpoints: Annotated[
        Path | None, typer.Option(help="Folder to keep each chain's checkpoint in, for the next time.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Verify chain, signatures, contents, locks, offsets and numbers of the archive; or a bundle, or a proof."""
    if file is not None:
        if chain or since or until or after_checkpoint or save_checkpoints:
            say("of a file, all is verified: only --root, --checkpoint and --json go with one")
            raise typer.Exit(EXIT_USAGE)
        with explained():
            trust = Trust(_root(root, config), {}, _kept(checkpoint or []))
            code = _verify_file(file, trust, as_json=as_json)
        raise typer.Exit(code)
    with explained():
        settings = settings_of(config, "verifier")
        extent = Extent(_at_us(since, "--from"), _at_us(until, "--to"), after_checkpoint)
        report = verify_store(settings, chain, checkpoint or [], extent=extent, jobs=jobs)
        if save_checkpoints is not None:
            _save(report, save_checkpoints)
    if as_json:
        print(json.dumps(report.as_json(), indent=2))
    for line in lines(report):
        say(line)
    if not report.good:
        raise typer.Exit(EXIT_PARTIAL if report.intact else EXIT_FAILED)


def _at_us(text: str | None, option: str) -> int | None:
    if text is None:
        return None
    try:
        return at_us(text)
    except ValueError:
        raise ConfigError(f"option {option}: not a day or an RFC 3339 time") from None


def verify_store(
    settings: Settings,
    chain: str,
    checkpoints: list[Path],
    *,
    extent: Extent = WHOLE,
    jobs: int = 1,
    show_progress: bool = True,
) -> Report:
    """Verify the archive that the settings name, with the tenant keys that they give.

    Raises:
        ConfigError: a setting or a checkpoint file is unusable.
        UndecidedError: the store does not answer a listing.
    """
    trust = Trust(root_of(settings), openers_of(settings), _kept(checkpoints))
    columns = (
        TextColumn("{task.completed} of {task.total} segments"),
        BarColumn(),
        TextColumn("{task.fields[seals]:,} seals, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    began, seals = time.monotonic(), 0
    with Progress(*columns, console=Console(file=sys.stderr), disable=not show_progress or not sys.stderr.isatty()) as bar:
        task = bar.add_task("verified", total=None, seals=0, rate=0.0)

        def progress(segments: int, more: int) -> None:
            nonlocal seals
            seals += more
            bar.update(task, advance=segments, seals=seals, rate=seals / max(time.monotonic() - began, 0.001))

        return verify_in_processes(
            lambda: ArchiveReader(settings),
            trust,
            jobs=jobs,
            prefix=chain,
            extent=extent,
            started=lambda segments: bar.update(task, total=segments),
            progress=progress,
        )


def _kept(checkpoints: list[Path]) -> dict[str, bytes]:
    try:
        return read_checkpoints(checkpoints)
    except (OSError, EvidenceError) as error:
        raise ConfigError(f"--checkpoint: {error}") from error


def _root(file: Path | None, config: Path | None) -> NoteKey:
    return root_of(settings_of(config, "verifier")) if file is None else load_root(file)


def _verify_file(file: Path, trust: Trust, *, as_json: bool) -> int:
    try:
        return verify_file(file, trust, as_json=as_json)
    except (OSError, EvidenceError) as error:
        raise ConfigError(str(error)) from error


def _save(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for chain in report.chains:
        if chain.checkpoint:
            (folder / f"{chain.chain.replace('/', '_')}.checkpoint").write_text(chain.checkpoint)
