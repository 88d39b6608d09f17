"""Running this machine's own programs, with their words in the error when they fail."""

import os
import subprocess
from pathlib import Path


def run(*words: str | Path, low_priority: bool = False, timeout_s: float | None = None, **environment: str) -> str:
    """Run a program and return its standard output; AssertionError with what it said where it fails."""
    command = [str(word) for word in (("nice", "-n", "19", *words) if low_priority else words)]
    done = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr)[-3000:]
        raise AssertionError(f"{' '.join(command)} failed with status {done.returncode}:\n{said}")
    return done.stdout
