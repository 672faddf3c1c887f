"""What a person sees on stderr while the stack comes up: one line a step, and bars for downloads on a terminal only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

BIG_BYTES = 20 << 20  # downloads above this get a line of their own when there is no terminal


class Reporter:
    """Lines and bars on stderr. Threads may share one; `quiet` says nothing at all (tests)."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._lock = threading.Lock()
        self._started = monotonic()
        self._progress: Progress | None = None

    def line(self, text: str) -> None:
        """One line, with the seconds since the start in front."""
        with self._lock:
            self._console.print(f"{monotonic() - self._started:5.1f} s  {text}", markup=False, soft_wrap=True)

    @contextmanager
    def counting(self, what: str, total: int) -> Generator[Callable[[int], None]]:
        """A bar for something counted up to `total`, on a terminal only; the block gets a function that takes the count."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            task = bars.add_task(what, total=total)
            yield lambda count: bars.update(task, completed=count)

    @contextmanager
    def downloads(self, files: int) -> Generator[None]:
        """The block in which files are checked or downloaded; says so once."""
        self.line(f"checking {files} downloaded files (SHA-256)")
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bars:
            self._progress = bars
            try:
                yield
            finally:
                self._progress = None

    @contextmanager
    def download(self, name: str, size: int) -> Generator[Callable[[int], None]]:
        """One download of `size` bytes; the block gets a function that takes the bytes of each piece."""
        bars = self._progress
        if bars is None or not self._console.is_terminal:
            if bars is None or size >= BIG_BYTES:
                self.line(f"downloading {name} ({size / 1e6:.1f} MB)")
            yield lambda count: None
            return
        task = bars.add_task(name, total=size)
        try:
            yield lambda count: bars.update(task, advance=count)
        finally:
            bars.remove_task(task)
