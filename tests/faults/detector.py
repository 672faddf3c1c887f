"""A detector in a process of its own that kills itself when its first finding is acknowledged, before anything is committed.

`python -m tests.faults.detector --config FILE --instance NAME`
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from processors.detect.app import run_detector
from producers.audit import AuditProducer
from schemas.settings import Settings


class Deadly(AuditProducer):
    """Dies with the first acknowledgement that somebody waits for."""

    def await_broker(self, timeout_s: float) -> bool:
        """Wait, and do not live to tell."""
        if super().await_broker(timeout_s):
            os.kill(os.getpid(), signal.SIGKILL)
        return False


def main(config: str, instance: str) -> None:
    """Run until the fault."""
    settings = Settings.load(Path(config))
    run_detector(settings, Deadly(settings, "detect", instance))


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[4])
