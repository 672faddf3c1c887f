"""Programs that a few tests need and that a machine may not have: installed where we may, else left out, loudly."""

from __future__ import annotations

import os
import shutil
import subprocess
import warnings

import pytest


def program(name: str, package: str) -> str:
    """Its path. Installs Debian's package as root; a machine where that cannot be done leaves the test out and says so."""
    found = shutil.which(name)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "--yes", "--quiet", package], check=False, capture_output=True, timeout=300)
        found = shutil.which(name)
    if found is None:
        left_out = f"LEFT OUT: there is no `{name}` here and it could not be installed (package {package})"
        warnings.warn(left_out, stacklevel=2)
        pytest.skip(left_out)
    return found
