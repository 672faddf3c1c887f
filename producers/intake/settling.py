"""One wait for many requests: whoever asks while a wait is under way shares the next one.

A wait covers what was handed over before it began, so a request never joins one that has begun. Two are enough, however many
ask: one thread a source, none a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor


class Settling:
    """Of one emitter. One event loop calls.

    Args:
        wait: blocks until all that was handed over so far is durable, or so many seconds; whether it is.
        thread: in which it blocks; this object's alone.
        timeout_s: of one wait.
    """

    def __init__(self, wait: Callable[[float], bool], thread: Executor, timeout_s: float) -> None:
        self._wait = wait
        self._thread = thread
        self._timeout_s = timeout_s
        self._next: asyncio.Future[bool] | None = None
        self._task: asyncio.Task[None] | None = None

    async def settled(self) -> bool:
        """Whether all that was handed over before this call became durable in time. May be cancelled."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> None:
        while (asked := self._next) is not None:
            self._next = None
            try:
                durable = await asyncio.get_running_loop().run_in_executor(self._thread, self._wait, self._timeout_s)
            except Exception as error:  # theirs, who asked
                asked.set_exception(error)
            else:
                asked.set_result(durable)
