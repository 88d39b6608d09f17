"""The smoke test of a host: are all packages there, and does torch compute?

`python -m paretopipe_runtime.host.smoke [--cuda] [--extra NAME]...` prints a JSON object with versions, times and the
workers' allocator, or one line on standard error (exit status 1). Torch (`paretopipe_runtime.model.self_check`) and the
extras are tried in processes of their own, so that one that dies of an illegal instruction is reported, not suffered.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
from typing import Any

import click

from paretopipe_runtime import __version__
from paretopipe_runtime.allocator import choice as allocator

JsonObject = dict[str, Any]
PACKAGES = ("numpy", "PIL", "psutil", "pynvml", "safetensors")
TIMEOUT_S = 600.0
"""An emulated Raspberry Pi takes a minute for the import of torch alone."""


class SmokeError(Exception):
    """What does not work on this host, and the remedy, in a line."""


def why_it_failed(returncode: int, stderr: str, what: str = "torch") -> str:
    """The line that says why a check ended with this status (negative: the signal, as subprocess has it)."""
    if returncode == -signal.SIGILL:
        return (
            f"{what} died of SIGILL: its wheel uses instructions that this CPU ({platform.machine()}) lacks; "
            "take another version in constraints.txt, or another paretopipe_torch_flavour"
        )
    if returncode == -signal.SIGKILL:
        return f"the check of {what} was killed (137): most likely out of memory; see the kernel's log"
    if returncode < 0:
        return f"{what} died of {signal.Signals(-returncode).name}; reinstall it, or take another version"
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"the check of {what} ended with status {returncode} and said nothing"


def check_packages() -> None:
    """Import what a stage needs beside torch. Raises SmokeError naming the package."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except (ImportError, OSError) as error:
            raise SmokeError(f"cannot import {name}: {error}; provision the host again") from error


def check_torch(cuda: bool) -> JsonObject:
    """Run the check of torch in a process of its own and return its result. Raises SmokeError.

    The process has a worker's allocator, which is compiled now if need be: the first agent finds it there.
    """
    environment = {**os.environ, **allocator.environment(os.environ)}
    command = [sys.executable, "-m", "paretopipe_runtime.model.self_check", *(["--cuda"] if cuda else [])]
    try:
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise SmokeError(f"torch did not finish one convolution within {TIMEOUT_S:.0f} s") from error
    if result.returncode:
        raise SmokeError(why_it_failed(result.returncode, result.stderr))
    found: JsonObject = json.loads(result.stdout)
    return found


def modules_of(extra: str) -> dict[str, list[str]]:
    """Distribution -> its top-level modules, for what an extra of this package adds. Raises SmokeError."""
    wanted = re.compile(rf"^([A-Za-z0-9_.-]+).*;.*\bextra *== *['\"]{re.escape(extra)}['\"]")
    names = [found[1] for line in importlib.metadata.requires("paretopipe") or [] if (found := wanted.match(line))]
    if not names:
        raise SmokeError(f"the paretopipe that is installed has no extra {extra!r}; provision the host again")
    modules: dict[str, list[str]] = {_canonical(name): [] for name in names}
    for module, distributions in importlib.metadata.packages_distributions().items():
        for name in {_canonical(name) for name in distributions} & modules.keys():
            modules[name].append(module)
    return modules


def check_extra(extra: str) -> list[str]:
    """Import what an extra adds, in a process of its own, as torch is; returns the modules. Raises SmokeError."""
    found = modules_of(extra)
    missing = [name for name, modules in found.items() if not modules]
    if missing:
        raise SmokeError(f"extra {extra}: {', '.join(missing)} is not installed; provision the host again")
    public = sorted(module for modules in found.values() for module in modules if not module.startswith("_"))
    command = [sys.executable, "-c", f"import {', '.join(public)}"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise SmokeError(f"extra {extra}: {', '.join(public)} did not load within {TIMEOUT_S:.0f} s") from error
    if result.returncode:
        raise SmokeError(f"extra {extra}: {why_it_failed(result.returncode, result.stderr, ', '.join(public))}")
    return public


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


@click.command()
@click.option("--cuda", is_flag=True, help="A GPU is promised: compute there too.")
@click.option("--extra", "extras", multiple=True, metavar="NAME", help="Optional packages that are promised.")
def main(cuda: bool, extras: tuple[str, ...]) -> None:
    """Check that this host can run stages; print what was found as JSON."""
    try:
        check_packages()
        loaded = {extra: check_extra(extra) for extra in extras}
        found = check_torch(cuda)
    except SmokeError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from error
    click.echo(
        json.dumps(
            {"paretopipe": __version__, "python": platform.python_version(), "machine": platform.machine()}
            | found
            | {"extras": loaded}
        )
    )


if __name__ == "__main__":
    main()
