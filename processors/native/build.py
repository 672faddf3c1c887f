"""Build the native kernel beside its source; without a compiler, say so.

    python -m processors.native.build [--sanitize]

`make` runs it at set-up. It never fails: what cannot be built is said in one line, and the sealer uses its Python form.
`--sanitize`: with AddressSanitizer and UBSan, for `tests.native`; Python then needs libasan preloaded.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from processors.native import SOURCE, built

FLAGS = ("-std=c11", "-O3", "-fPIC", "-Wall", "-Wextra", "-fno-strict-aliasing", "-fstack-protector-strong")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g")
PATIENCE_S = 300.0


def main() -> None:
    """Build, and say what came of it."""
    print(build(SANITIZERS if "--sanitize" in sys.argv[1:] else ()))


def build(more: tuple[str, ...] = ()) -> str:
    """Build with these flags over ours; one line of what came of it."""
    target = built()
    if target.is_file() and not more:
        return f"native kernel: {target.name} is there"
    shared = shlex.split(sysconfig.get_config_var("LDSHARED") or "cc -shared")
    compiler = shlex.split(os.environ.get("CC", "")) or shared[:1]
    include = Path(sysconfig.get_paths()["include"])
    if not (include / "Python.h").is_file():
        return "native kernel: not built, no Python.h; the sealer uses its Python form"
    try:
        with tempfile.TemporaryDirectory(dir=SOURCE.parent, prefix=".build-") as folder:
            made = Path(folder) / "kernel.so"
            command = [*compiler, *shared[1:], *FLAGS, *more, f"-I{include}", str(SOURCE), "-o", str(made), "-lm"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
                return f"native kernel: not built ({lines[0][:200]}); the sealer uses its Python form"
            for older in SOURCE.parent.glob(f"_kernel-*{sysconfig.get_config_var('EXT_SUFFIX')}"):
                older.unlink(missing_ok=True)
            made.replace(target)
    except (OSError, subprocess.SubprocessError) as error:
        return f"native kernel: not built ({type(error).__name__}); the sealer uses its Python form"
    return f"native kernel: built {target.name}"


if __name__ == "__main__":
    main()
