"""The smoke test of a host: are all packages there, and does torch compute?

`python -m paretopipe_runtime.host.smoke [--cuda]` prints a JSON object with versions and times, or one line on
standard error (exit status 1). What needs torch runs in a process of its own (`paretopipe_runtime.model.self_check`),
so that a torch that dies of an illegal instruction is reported, not suffered.
"""

from __future__ import annotations

import importlib
import json
import platform
import signal
import subprocess
import sys
from typing import Any

import click

from paretopipe_runtime import __version__

JsonObject = dict[str, Any]
PACKAGES = ("numpy", "PIL", "psutil", "pynvml", "safetensors")
TIMEOUT_S = 600.0
"""An emulated Raspberry Pi takes a minute for the import of torch alone."""


class SmokeError(Exception):
    """What does not work on this host, and the remedy, in a line."""


def why_it_failed(returncode: int, stderr: str) -> str:
    """The line that says why the check of torch ended with this status (negative: the signal, as subprocess has it)."""
    if returncode == -signal.SIGILL:
        return (
            f"torch died of SIGILL: its wheel uses instructions that this CPU ({platform.machine()}) lacks; "
            "take another version in constraints.txt, or another paretopipe_torch_flavour"
        )
    if returncode == -signal.SIGKILL:
        return "the check of torch was killed (137): most likely out of memory; see the kernel's log"
    if returncode < 0:
        return f"torch died of {signal.Signals(-returncode).name}; reinstall it, or take another version"
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"the check of torch ended with status {returncode} and said nothing"


def check_packages() -> None:
    """Import what a stage needs beside torch. Raises SmokeError naming the package."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            raise SmokeError(f"cannot import {name}: {error}; provision the host again") from error


def check_torch(cuda: bool) -> JsonObject:
    """Run the check of torch in a process of its own and return its result. Raises SmokeError."""
    command = [sys.executable, "-m", "paretopipe_runtime.model.self_check", *(["--cuda"] if cuda else [])]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise SmokeError(f"torch did not finish one convolution within {TIMEOUT_S:.0f} s") from error
    if result.returncode:
        raise SmokeError(why_it_failed(result.returncode, result.stderr))
    found: JsonObject = json.loads(result.stdout)
    return found


@click.command()
@click.option("--cuda", is_flag=True, help="A GPU is promised: compute there too.")
def main(cuda: bool) -> None:
    """Check that this host can run stages; print what was found as JSON."""
    try:
        check_packages()
        found = check_torch(cuda)
    except SmokeError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from error
    click.echo(
        json.dumps(
            {"paretopipe": __version__, "python": platform.python_version(), "machine": platform.machine()} | found
        )
    )


if __name__ == "__main__":
    main()
