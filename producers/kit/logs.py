"""Events from an application's log: only records that carry an `Act` as `extra={"audit": …}`, nothing of their text.

    logging.getLogger("crm").addHandler(AuditHandler(audit))
    log.info("rule switched off", extra={"audit": Act("config.changed", EventType.ADMIN, Result.SUCCESS, Effect.EFFECTIVE)})

The context says whose and by whom; the record's time is the event's. A record's message, arguments and exception are no
audit event and stand nowhere.

- It never raises into the application: what is refused is counted, by field, in `refused`.
- It takes no lock, and records without an `Act` do not come as far as `emit`: an emitter that logs, under a lock of its own or
  in a thread that others wait for, waits for nobody.
- What is logged while an event is stated is not an event, even with an `Act`: no recursion. Counted as well.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from datetime import UTC, datetime

from producers.kit.audit import Audit
from producers.kit.statement import Act
from sealtrail.errors import ContractError, SealtrailError

EXTRA = "audit"


class AuditHandler(logging.Handler):
    """See the module. `refused`: how many records did not become events, by field of the contract or by what was wrong."""

    def __init__(self, audit: Audit, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.refused: Counter[str] = Counter()
        self._audit = audit
        self._here = threading.local()
        self._counting = threading.Lock()  # around a number alone

    def createLock(self) -> None:  # noqa: N802 - the name that logging calls
        """None: emitters take any thread. Held while one states, a lock would meet the emitter's own from the other side."""
        self.lock = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Only what carries the extra; before anything else is done with it."""
        return hasattr(record, EXTRA) and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """State the record's act."""
        act = getattr(record, EXTRA, None)
        if not isinstance(act, Act):
            self._refuse("not-an-act")
        elif getattr(self._here, "stating", False):
            self._refuse("within-a-statement")
        else:
            self._here.stating = True
            try:
                self._audit.state(act, occurred_at=datetime.fromtimestamp(record.created, UTC))
            except ContractError as error:
                self._refuse(error.field)
            except SealtrailError as error:
                self._refuse(type(error).__name__)
            except Exception as error:  # a logging call must not end the application's work, whatever an emitter raises
                self._refuse(type(error).__name__)
            finally:
                self._here.stating = False

    def _refuse(self, what: str) -> None:
        with self._counting:
            self.refused[what] += 1
