"""All tests, in two processes at once: `python -m tests`; with arguments, one pytest with these.

Tests against servers mostly wait for them; the others mostly compute. Side by side, on two cores, they take little longer
than the former alone. What the second half says is printed when the first has ended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

PYTEST = [sys.executable, "-m", "pytest"]


def main(arguments: list[str]) -> int:
    """Run them; the exit status: 0 if all passed."""
    if arguments:
        return subprocess.run([*PYTEST, *arguments], check=False).returncode
    with tempfile.TemporaryFile() as said:
        beside = subprocess.Popen([*PYTEST, "--servers=without"], stdout=said, stderr=subprocess.STDOUT)
        try:
            status = subprocess.run([*PYTEST, "--servers=with"], check=False).returncode
        finally:
            if sys.exc_info()[0] is not None:
                beside.terminate()
            other = beside.wait()
        said.seek(0)
        sys.stdout.buffer.write(said.read())
        sys.stdout.flush()
    return status or other


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
