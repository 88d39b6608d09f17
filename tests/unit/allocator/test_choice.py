"""What a worker is started with, what it says of it, and what it leaves to the programs that it starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_runtime.allocator import choice

PRELOADS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@pytest.fixture
def before(library: Path) -> dict[str, str]:
    """The environment of an agent that has built the allocator."""
    cache = {"PARETOPIPE_CACHE": str(library.parents[1])}
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"} | cache


@pytest.fixture
def without_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("PATH", str(tmp_path))
    return {"PARETOPIPE_CACHE": str(tmp_path / "cache")}


def run(environment: dict[str, str], code: str) -> Any:
    """The JSON that the code prints."""
    program = "import json, os, subprocess, sys\nfrom paretopipe_runtime.allocator import choice\n" + dedent(code)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "ld.so" not in done.stderr
    return json.loads(done.stdout)


IN_USE = "print(json.dumps(choice.in_use(os.environ)))"


@pytest.mark.parametrize("preload", [None, "", "libm.so.6", "libm.so.6:libdl.so.2"])
def test_a_worker_has_the_allocator_and_what_was_loaded_before(
    before: dict[str, str], library: Path, preload: str | None
) -> None:
    if preload is not None:
        before["LD_PRELOAD"] = preload
    added = choice.environment(before)
    assert added["LD_PRELOAD"].split(":") == [str(library), *(preload.split(":") if preload else [])]
    assert run(before | added, IN_USE) == "pages"


@pytest.mark.parametrize("preload", ["", "libm.so.6:libdl.so.2"])
def test_what_a_worker_starts_has_the_environment_from_before(before: dict[str, str], preload: str) -> None:
    if preload:
        before["LD_PRELOAD"] = preload
    own, preloaded, loaded = run(
        before | choice.environment(before),
        """
        choice.settle(os.environ)
        child = (
            "import json, os; from paretopipe_runtime.allocator import choice; "
            "print(json.dumps([os.environ.get('LD_PRELOAD', ''), choice.in_use(os.environ)]))"
        )
        done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
        print(json.dumps([choice.in_use(os.environ), *json.loads(done.stdout)]))
        """,
    )
    assert own == "pages"
    assert preloaded == preload
    assert loaded.startswith("glibc")


@given(preload=st.none() | PRELOADS, now=PRELOADS)
def test_settling_leaves_the_preloads_from_before(preload: str | None, now: str) -> None:
    before = {} if preload is None else {"LD_PRELOAD": preload}
    with mock.patch.object(choice, "library", return_value=Path("/cache/pages.so")):
        added = choice.environment(before)
    with mock.patch.dict(os.environ, before | added, clear=True):
        choice.settle(os.environ)
        assert os.environ.get("LD_PRELOAD", "") == (preload or "")
    with mock.patch.dict(os.environ, {"LD_PRELOAD": now}, clear=True):  # started without a choice
        choice.settle(os.environ)
        assert dict(os.environ) == {"LD_PRELOAD": now}


def test_without_a_compiler_glibc_keeps_blocks_and_the_worker_says_why(
    without_compiler: dict[str, str], before: dict[str, str]
) -> None:
    before["LD_PRELOAD"] = "libm.so.6"
    added = choice.environment(before | without_compiler)
    assert "LD_PRELOAD" not in added
    said, faults, preload = run(
        before | added,
        """
        import ctypes, resource

        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

        def faults_of_a_block():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            block = libc.malloc(ctypes.c_size_t(64 << 20))
            ctypes.memset(block, 1, 64 << 20)
            libc.free(block)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        faults = [faults_of_a_block() for _ in range(2)]
        choice.settle(os.environ)
        print(json.dumps([choice.in_use(os.environ), faults, os.environ["LD_PRELOAD"]]))
        """,
    )
    assert said == "glibc (there is no C compiler)"
    assert faults[1] < faults[0] / 100
    assert preload == "libm.so.6"


def test_a_library_that_does_not_load_is_not_called_in_use(before: dict[str, str]) -> None:
    """As after an upgrade of the C library, or on another host that shares the cache."""
    added = choice.environment(before) | {"LD_PRELOAD": ""}
    assert run(before | added, IN_USE) == "glibc (pages did not load)"
