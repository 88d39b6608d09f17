"""Making the allocator of `pages.c` loadable on a host: compiled once by its C compiler, tried, kept in the cache."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

SOURCE = Path(__file__).with_name("pages.c")
COMPILERS = ("cc", "gcc", "clang")
REMEDY = "install gcc and libc6-dev there"
_TIMEOUT_S = 60.0
_TRIAL = (
    "import ctypes; from paretopipe_runtime.allocator.pages import figures; before = figures(); "
    "ctypes.CDLL(None).malloc(ctypes.c_size_t(1 << 22)); after = figures(); "
    "assert before and after and after.live_bytes > before.live_bytes"
)


class UnavailableError(Exception):
    """Why this host cannot have the allocator, in a few words."""


def library(environment: Mapping[str, str] = os.environ) -> Path:
    """The compiled allocator, compiled now if need be (half a second). Raises UnavailableError.

    It is in `$PARETOPIPE_CACHE/allocator`, else in `~/.cache/paretopipe/allocator`.
    """
    source = SOURCE.read_bytes()
    name = f"pages-{platform.machine()}-{blake2b(source, digest_size=8).hexdigest()}.so"
    cache = environment.get("PARETOPIPE_CACHE")
    try:
        directory = Path(cache).expanduser() if cache else Path.home() / ".cache" / "paretopipe"
    except RuntimeError as error:  # a user without a home
        raise UnavailableError(f"there is no directory for it ({error}); set PARETOPIPE_CACHE") from error
    path = directory / "allocator" / name
    try:
        if not path.is_file():
            _build(path)
    except OSError as error:
        raise UnavailableError(f"{path.parent} cannot be used: {error.strerror or error}") from error
    return path


def _build(path: Path) -> None:
    if platform.system() != "Linux":
        raise UnavailableError(f"it is for Linux, this is {platform.system()}")
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        raise UnavailableError("there is no C compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="building-") as directory:
        built = Path(directory) / path.name
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl", "-lpthread"]
        _run(command, os.environ | {"LC_ALL": "C"}, f"{Path(compiler).name} failed", directory)
        trial = os.environ | {"LD_PRELOAD": str(built)}
        _run([sys.executable, "-c", _TRIAL], trial, "it does not work with this kernel or C library", directory)
        with built.open("rb") as file:
            os.fsync(file.fileno())  # a host that loses its power must not keep half of it
        built.replace(path)


def _run(command: list[str], environment: Mapping[str, str], failure: str, directory: str) -> None:
    try:
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{failure}: not done within {_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise UnavailableError(f"{failure}: {error.strerror or error}") from error
    if result.returncode:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no word of why")
        # Without the directory, whose name is chance: a reason is recorded, and compared when a run is resumed.
        raise UnavailableError(f"{failure}: {said.replace(directory, '.')[:200]}")
