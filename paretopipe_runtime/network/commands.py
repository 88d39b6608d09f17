"""Running the system's own tools (ip, tc, ethtool), and trying them where nothing can break."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from paretopipe_runtime.network.errors import NetworkError

TIMEOUT_S = 30.0
_PACKAGES = {
    "ip": "iproute2",
    "tc": "iproute2",
    "ethtool": "ethtool",
    "unshare": "util-linux",
    "wirefilter": "vde2",
    "vde_plug2tap": "vde2",
}
# A user's PATH on Debian lacks the sbin directories; LC_ALL keeps the tools' words as we know them.
_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class CommandError(NetworkError):
    """A tool said no; the message holds its command line and its own words."""

    def __init__(self, args: Sequence[str], words: str) -> None:
        super().__init__(f"`{shlex.join(args)}` failed: {words}")
        self.words = words


def tool_path(name: str) -> str:
    """Where a tool is; raises NetworkError naming the Debian package that has it."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        package = _PACKAGES.get(name, name)
        raise NetworkError(f"{name} is not installed; apt install {package}")
    return path


def run(args: Sequence[str], *, given: str | None = None) -> str:
    """Run a tool and return what it printed; `given` is its standard input.

    Raises CommandError if it fails or takes more than TIMEOUT_S, NetworkError if it is not installed.
    """
    command = [tool_path(args[0]), *args[1:]]
    try:
        result = subprocess.run(
            command,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={**os.environ, "PATH": _PATH, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(args, f"no answer in {TIMEOUT_S:g} s") from error
    if result.returncode:
        words = " ".join((result.stderr or result.stdout).split())
        raise CommandError(args, words or f"exit status {result.returncode}")
    return result.stdout


def run_json(args: Sequence[str]) -> Any:
    """Run a tool that prints JSON; nothing printed is an empty list. Raises as `run` does."""
    text = run(args)
    try:
        return json.loads(text) if text.strip() else []
    except ValueError as error:
        raise CommandError(args, f"printed no JSON: {text[:80]!r}") from error


def run_elsewhere(commands: Sequence[Sequence[str]]) -> str:
    """Run tools in a network namespace of their own, which is gone afterwards; return what they printed.

    Raises CommandError naming the last command, with the words of the first that failed (unshare(1)).
    """
    script = "\n".join(["set -e", *(shlex.join([tool_path(args[0]), *args[1:]]) for args in commands)])
    try:
        return run(["unshare", "--net", "sh", "-s"], given=script)
    except CommandError as error:
        raise CommandError(commands[-1], f"{error.words} (tried in a network namespace of its own)") from error
