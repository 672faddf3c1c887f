"""`sealtrail archive …`: what the archive needs beside segments, and a copy of it to take away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from auditor.archive import ArchiveReader
from auditor.console import AsJson, ConfigFile, explained, say, settings_of
from auditor.copying import copy_archive
from sinks.archive.assembly import publish_documents

app = typer.Typer(name="archive", help="The archive itself.", no_args_is_help=True)


@app.command("publish")
def publish(config: ConfigFile = None) -> None:
    """Put schemas, policies, certificates and the glossary into the archive, under lock and legal hold."""
    with explained():
        published = publish_documents(settings_of(config, "publisher"))
        say(f"documents in the archive: {len(published.written)} written now, {published.present} there already")


@app.command("copy")
def copy(
    folder: Annotated[Path, typer.Argument(help="An empty or new folder.")],
    chain: Annotated[str, typer.Option(help="Only chains whose names begin so.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Copy the archive into a folder that `python -m sealtrail FOLDER` verifies offline."""
    with explained():
        count, size = copy_archive(ArchiveReader(settings_of(config, "reader")), folder, chain)
        say(f"{count} objects, {size:,} bytes copied to {folder}")
        if as_json:
            print(json.dumps({"objects": count, "bytes": size, "folder": str(folder)}))
