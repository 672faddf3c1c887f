"""What is true of all that is stated for a while: whose, by whom, on what authority, in which trace.

    with context(tenant="acme", actor=Actor.user("ada")):
        …

It follows the flow of control, as `contextvars` do: into what is called, into tasks of asyncio, into threads started with
`copy_context().run`. Contexts nest: the inner one adds and overrides. What a builder is told explicitly wins over it.

Generators: between two steps of a generator its caller runs, in the same context. A `with context(…)` inside a generator
would be seen out there, so a generator that has one is marked `@own_context`: its context is put down at each `yield` and
taken up again at the next step. Leaving a context takes away that one alone, in whatever order contexts are left.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from inspect import isasyncgenfunction, isgeneratorfunction
from typing import TypedDict, TypeVar, Unpack, cast

from producers.kit.values import Actor, Authorization


class Context(TypedDict, total=False):
    """What a context may say. None: explicitly nothing, whatever an outer one says.

    credential: a reference, never the credential. cause: the id of the event that caused what follows. ticket: the
    reference of a change request. traceparent: W3C, version 00.
    """

    tenant: str
    actor: Actor
    authorization: Authorization | None
    credential: str | None
    source_ip: str | None
    ticket: str | None
    correlation_id: str | None
    cause: bytes | None
    traceparent: str | None


F = TypeVar("F", bound=Callable[..., object])

_Frames = tuple[Context, ...]  # outermost first; told apart by identity
_FRAMES: ContextVar[_Frames] = ContextVar("sealtrail_audit", default=())
NAMES = frozenset(Context.__annotations__)


@contextmanager
def context(**given: Unpack[Context]) -> Iterator[None]:
    """All that is stated inside is of this context. Raises TypeError for a name that no context has."""
    unknown = given.keys() - NAMES
    if unknown:
        raise TypeError(f"context() got an unexpected keyword argument {min(unknown)!r}")
    mine = cast("Context", dict(given))
    _FRAMES.set((*_FRAMES.get(), mine))
    try:
        yield
    finally:
        _FRAMES.set(tuple(frame for frame in _FRAMES.get() if frame is not mine))


def current() -> Context:
    """What holds here and now."""
    merged: dict[str, object] = {}
    for frame in _FRAMES.get():
        merged.update(frame)
    return cast("Context", merged)


class Steps:
    """A context that is put down and taken up again: around each step of a generator, `with steps:`.

    Begins with what holds where it is made, and under it `given`.
    """

    def __init__(self, **given: Unpack[Context]) -> None:
        self._own: _Frames = (*_FRAMES.get(), given)
        self._outside: _Frames = ()

    def __enter__(self) -> None:
        self._outside = _FRAMES.get()
        _FRAMES.set(self._own)

    def __exit__(self, *_: object) -> None:
        self._own = _FRAMES.get()
        _FRAMES.set(self._outside)


B = TypeVar("B", bound=Steps)

Ended = Callable[[BaseException | None, object], None]  # why a generator ended early, or None and what it returned


def _unheard(error: BaseException | None, returned: object) -> None:
    """Nobody asked how it ended."""


def own_context(function: F) -> F:
    """A generator function, plain or asynchronous, whose generators have a context of their own."""
    return stepwise(function, Steps, lambda _: _unheard)


def stepwise(function: F, begin: Callable[[], B], ended: Callable[[B], Ended]) -> F:
    """A generator function whose generators run each step within what `begin` made before the first one.

    Values, exceptions and closing go through (PEP 342, 525). `ended(…)` is told once how it ended.
    """
    if isasyncgenfunction(function):

        @wraps(function)
        def apart_async(*args: object, **kwargs: object) -> AsyncGenerator[object, object]:
            return _stepped_async(function(*args, **kwargs), begin, ended)

        return cast("F", apart_async)
    if not isgeneratorfunction(function):
        raise TypeError("not a generator function")

    @wraps(function)
    def apart(*args: object, **kwargs: object) -> Generator[object, object, object]:
        return _stepped(cast("Generator[object, object, object]", function(*args, **kwargs)), begin, ended)

    return cast("F", apart)


def _stepped(
    generator: Generator[object, object, object], begin: Callable[[], B], ended: Callable[[B], Ended]
) -> Generator[object, object, object]:
    steps = begin()
    try:
        with steps:
            yielded = next(generator)
        while True:
            try:
                sent = yield yielded
            except GeneratorExit:
                with steps:
                    generator.close()
                raise
            except BaseException as thrown:
                with steps:
                    yielded = generator.throw(thrown)
            else:
                with steps:
                    yielded = generator.send(sent)
    except StopIteration as stop:
        ended(steps)(None, stop.value)
        return stop.value
    except BaseException as error:
        ended(steps)(error, None)
        raise


async def _stepped_async(
    generator: AsyncGenerator[object, object], begin: Callable[[], B], ended: Callable[[B], Ended]
) -> AsyncGenerator[object, object]:
    steps = begin()
    try:
        with steps:
            yielded = await anext(generator)
        while True:
            try:
                sent = yield yielded
            except GeneratorExit:
                with steps:
                    await generator.aclose()
                raise
            except BaseException as thrown:
                with steps:
                    yielded = await generator.athrow(thrown)
            else:
                with steps:
                    yielded = await generator.asend(sent)
    except StopAsyncIteration:
        ended(steps)(None, None)
    except BaseException as error:
        ended(steps)(error, None)
        raise
