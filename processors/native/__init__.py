"""The native kernel: the good case of a whole batch in one call, where a C compiler was at set-up (ADR 20).

`kernel.c` does what `schemas.locator`, `processors.authenticate`, `processors.chain` and `processors.activity` do of records
that are as they should be, to the byte. It takes records until one is not; that one is for Python, which stays the oracle and
the form without a compiler. `python -m processors.native.build` builds it.

`load` gives it only if its SHA-256 and its signatures are Python's. Its file is named for its source and for Python's ABI:
another is never loaded.

Not here: how a batch is driven (`processors.pipeline`); the program that it follows (`schemas.program`).
"""

from __future__ import annotations

import hmac
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, Protocol, cast

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kafkaio.record import RawRecord
from processors.chain import Plan
from schemas.program import Operation

MODULE = "processors.native._kernel"
SOURCE = Path(__file__).with_name("kernel.c")
_log = structlog.get_logger()

Run = tuple[object, int, object]
"""The session (the kernel's), the run's high-water mark, and what the caller knows it by."""
HoleFound = tuple[int, int, str, bytes, bytes | None]
"""As `schemas.locator.Hole`."""
Held = tuple[Plan, bytes, bytes, bytes, int]
"""Of a seal that is not linked yet: plan, event id, salt, content, raw offset."""
Acted = tuple[bytes, bytes, bytes, int, int]
"""Tenant, actor, event name, result as Avro has it; events."""
Passed = tuple[bytes, bytes, int, int, int]
"""Tenant, correlation id, stage as Avro has it; events, recipients."""
Taken = tuple[int, int, bytes, Held, bytes, int, list[tuple[object, int, int]], list[Acted], list[Passed]]
"""How many records; next seq and prev, without the held seal; the held seal; salts and how many bytes of them are used; runs
(what the caller knows each by, high-water mark, events); activity. All in the order in which they came first."""


class NativeLocator(Protocol):
    """A program (`schemas.program`), ready to be followed. Any thread may call."""

    def locate(self, data: bytes, /) -> tuple[object, ...] | None:
        """The fields of `Located`, the key as bytes, holes as tuples; None: for the oracle. The secret scan is the caller's."""


class NativeHints(Protocol):
    """What secrets begin with (`schemas.beginnings`). Any thread may call."""

    def stand_in(self, text: bytes, /) -> bool:
        """Whether one of them is somewhere in the text."""


class NativeSealing(Protocol):
    """The good case of one transaction of a chain. One thread."""

    def take(self, records: tuple[object, ...], first: int, offset: int, salts: bytes, salted: int, /) -> Taken | None:
        """Seal records from `first` on as long as they are good; None: that one is not.

        Args:
            records: `RawRecord`s; offset: the next one of the chain.
            salts, salted: bytes for salts, and how many of them are used.

        Raises:
            whatever a call raised, NotImplementedError if a `NativeSigner` failed: nothing of the transaction may be used then.
        """


class NativeSigner(Protocol):
    """An Ed25519 key. Any thread may call."""

    def sign(self, leaf: bytes, /) -> bytes:
        """The signature of context and leaf hash. Raises ValueError: not 32 bytes."""


class Kernel(Protocol):
    """The module; arguments by position, as `kernel.c` takes them."""

    def Locator(  # noqa: N802  # a type
        self, header: bytes, most: int, region: bytes, open_: bytes, system: int, none: int, program: tuple[Operation, ...], /
    ) -> NativeLocator:
        """As the fields of `Program`. Raises ValueError or TypeError: no program."""

    def Hints(self, beginnings: tuple[tuple[bytes, ...], ...], /) -> NativeHints:  # noqa: N802
        """By place, the bytes that may stand there; two places at least. Raises ValueError or TypeError."""

    def Session(  # noqa: N802
        self,
        mac_key: bytes,
        topic: bytes,
        source: bytes,
        instance: bytes,
        epoch: bytes,
        key: bytes,
        not_before_s: int,
        not_after_s: int,
        /,
    ) -> object:
        """A run that was verified: its MAC's key, what it says of itself, the key of its records, its certificate's time."""

    def Signer(self, private: bytes, context: bytes, tail: bytes, /) -> NativeSigner:  # noqa: N802
        """Of 32 private bytes.

        Args:
            context: before what is signed; tail: before the signature, in a sealed event.

        Raises NotImplementedError: this libcrypto does not sign with Ed25519; ValueError.
        """

    def Plan(  # noqa: N802
        self,
        words: bytes,
        signed_words: bytes,
        sign: bool,
        until: bytes,
        scope_key: bytes,
        policy: bytes,
        content_schema: bytes,
        outputs: tuple[list[bytes], ...],
        plan: Plan,
        /,
    ) -> object:
        """The parts of a `Plan`, `until` as it stands in a seal; and itself."""

    def Sealing(  # noqa: N802
        self,
        locators: tuple[NativeLocator, ...],
        hints: NativeHints,
        close: bytes,
        seal_header: bytes,
        event_header: bytes,
        sealed_at: bytes,
        chain: bytes,
        secret: Callable[[bytes], bool],
        run: Callable[[bytes], Run | None],
        plan: Callable[[bytes, bytes], object | None],
        content: Callable[[bytes, object, bytes, bytes, int, list[HoleFound]], bytes | None],
        attest: NativeSigner | Callable[[bytes], bytes],
        flush: Callable[[], tuple[int, bytes]],
        random: Callable[[int], bytes],
        /,
    ) -> NativeSealing:
        """For one transaction.

        Args:
            locators: one at least; of each version of the event.
            close: an event name that is never good.
            seal_header, event_header: single-object headers; sealed_at, chain: as they stand in a seal, its length before it.
            secret: whether a text of an event holds one; asked where a hint stands in it.
            run: of a session's header; None: not known, not here, or without a state.
            plan: of a key and an event that has it; None: for the oracle.
            content: with tokens: event, what its run is known by, tenant, event id, number, holes; None: for the oracle.
            attest: of a leaf hash: what a sealed event ends with; or what signs, on another thread while the stretch goes on.
            flush: link what Python's writer holds; next seq, and prev.
            random: n -> n bytes.
        """

    def records(self, record: type[RawRecord], messages: list[Any], /) -> tuple[dict[int, list[RawRecord]], list[Any]]:
        """As `kafkaio.group.read_records`, of any tuple type without attributes of its own that has the fields of a record.

        What a record has in common with the one before it in its partition (key, headers) is shared.

        Raises:
            whatever a message raised; TypeError: it answers with something else than a client library's.
        """

    def mac(self, key: bytes, message: bytes, /) -> bytes:
        """HMAC-SHA-256."""


def built() -> Path:
    """Where the kernel of this source and this Python is, if it was built."""
    digest = sha256(SOURCE.read_bytes()).hexdigest()[:16]
    return SOURCE.with_name(f"_kernel-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}")


@cache
def load() -> Kernel | None:
    """The kernel; None: not built, or not to be used here."""
    path = built()
    if not path.is_file():
        return None
    try:
        kernel = _module(path)
    except ImportError as error:
        _log.warning("native kernel not used", problem=str(error))
        return None
    for key, message in ((b"", b""), (bytes(range(32)), b"x" * 55), (b"k" * 200, bytes(1000))):
        if kernel.mac(key, message) != hmac.digest(key, message, "sha256"):
            _log.error("native kernel not used", problem="its SHA-256 is not Python's")
            return None
    private, context, leaf = bytes(range(32)), b"context", bytes(range(32, 64))
    with suppress(NotImplementedError):  # then the sealer signs in Python
        signature = Ed25519PrivateKey.from_private_bytes(private).sign(context + leaf)
        if kernel.Signer(private, context, b"").sign(leaf) != signature:
            _log.error("native kernel not used", problem="its signatures are not Python's")
            return None
    return kernel


def _module(path: Path) -> Kernel:
    loader = ExtensionFileLoader(MODULE, str(path))
    spec = spec_from_loader(MODULE, loader)
    if spec is None:
        raise ImportError("no loader")
    module = module_from_spec(spec)
    loader.exec_module(module)
    sys.modules[MODULE] = module
    return cast("Kernel", module)
