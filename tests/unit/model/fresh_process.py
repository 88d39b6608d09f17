"""Run code in a Python of its own, to see its memory or its independence."""

from __future__ import annotations

import subprocess
import sys
from textwrap import dedent

RESIDENT_MB = """
def resident_mb():
    import resource
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1e6
"""


def run_python(code: str, *arguments: str) -> str:
    """What the code prints; it may call `resident_mb()`."""
    program = RESIDENT_MB + dedent(code)
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
