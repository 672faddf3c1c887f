"""All tests, in three processes at once: `python -m tests`; with arguments, one pytest with these.

Tests against servers mostly wait for them; the others mostly compute. Two processes have servers of their own, one of them
with OpenSearch. What the other parts say is printed when the first has ended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import ExitStack

PYTEST = [sys.executable, "-m", "pytest"]
BESIDE = ("search", "without")


def main(arguments: list[str]) -> int:
    """Run them; the exit status: 0 if all passed."""
    if arguments:
        return subprocess.run([*PYTEST, *arguments], check=False).returncode
    with ExitStack() as files:
        said = [files.enter_context(tempfile.TemporaryFile()) for _ in BESIDE]
        beside = [
            subprocess.Popen([*PYTEST, f"--servers={part}"], stdout=file, stderr=subprocess.STDOUT)
            for part, file in zip(BESIDE, said, strict=True)
        ]
        try:
            statuses = [subprocess.run([*PYTEST, "--servers=kafka"], check=False).returncode]
        finally:
            if sys.exc_info()[0] is not None:
                for process in beside:
                    process.terminate()
            others = [process.wait() for process in beside]
        for file in said:
            file.seek(0)
            sys.stdout.buffer.write(file.read())
        sys.stdout.flush()
    return next((status for status in (*statuses, *others) if status), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
