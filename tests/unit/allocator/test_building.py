"""The allocator's library: built once, tried, kept; and why there is none."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from own_process import Run

from paretopipe_runtime.allocator import building
from paretopipe_runtime.allocator.building import UnavailableError

GCC = shutil.which("gcc") or "gcc"
OUTPUT = 'while [ "$1" != -o ]; do shift; done\n'  # then it is $2

Compiler = Callable[[str], None]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"PARETOPIPE_CACHE": str(tmp_path / "cache")}


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """Makes a shell script the C compiler."""

    def install(script: str) -> None:
        program = tmp_path / "bin" / "cc"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def left(environment: dict[str, str]) -> list[str]:
    """Everything in the allocator's directory, directories too."""
    return [path.name for path in Path(environment["PARETOPIPE_CACHE"], "allocator").iterdir()]


def test_it_is_built_once(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = building.library(environment)
    assert left(environment) == [first.name]
    assert platform.machine() in first.name
    built = first.stat().st_mtime_ns
    monkeypatch.setenv("PATH", "")  # a second time there would be no compiler
    assert building.library(environment) == first
    assert first.stat().st_mtime_ns == built


def test_another_source_is_another_library(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So an upgrade does not go on with what the version before it built."""
    first = building.library(environment)
    source = tmp_path / "pages.c"
    source.write_text(building.SOURCE.read_text() + "\n")
    monkeypatch.setattr(building, "SOURCE", source)
    assert building.library(environment) != first


def test_the_users_cache_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert building.library({}).parent == tmp_path / ".cache/paretopipe/allocator"
    assert building.library({"PARETOPIPE_CACHE": "~/mine"}).parent == tmp_path / "mine/allocator"


def test_two_builds_at_once_do_not_disturb_each_other(
    environment: dict[str, str], compiler: Compiler, tmp_path: Path, run_with_pages: Run
) -> None:
    started = tmp_path / "started"
    started.mkdir()
    compiler(  # each waits for the other to have started
        f': > {started}/$$\nboth() {{ set -- {started}/*; [ $# -eq 2 ]; }}\nuntil both; do :; done\nexec {GCC} "$@"\n'
    )
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(building.library, [environment] * 2)
    assert first == second
    assert left(environment) == [first.name]
    assert run_with_pages("print(json.dumps(figures()))", preload=str(first)) is not None


# Where there is none --------------------------------------------------------------------------------------------


def test_no_compiler(environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"^there is no C compiler$"):
        building.library(environment)


def test_another_system(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    with pytest.raises(UnavailableError, match=r"Linux.*Darwin"):
        building.library(environment)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'pages.c: In function' >&2; echo ' pages.c:3:1: error: odd' >&2; echo 'error: 2' >&2; exit 1",
            "3:1: error: odd",
        ),
        ("echo first >&2; echo last >&2; exit 1", "last"),
        ("exit 1", "no word of why"),
    ],
)
def test_a_compiler_that_fails_is_quoted(
    environment: dict[str, str], compiler: Compiler, script: str, said: str
) -> None:
    compiler(script)
    with pytest.raises(UnavailableError) as caught:
        building.library(environment)
    assert said in str(caught.value)
    assert "error: 2" not in str(caught.value)
    assert left(environment) == []


def test_a_compiler_that_hangs_is_given_up(
    environment: dict[str, str], compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "never")
    compiler(f"read line < {tmp_path}/never\n")
    monkeypatch.setattr(building, "_TIMEOUT_S", 0.2)
    with pytest.raises(UnavailableError, match="cc failed: not done within"):
        building.library(environment)
    assert left(environment) == []


@pytest.mark.parametrize(
    "script",
    [
        f"exec {GCC} -shared -o $2 -x c /dev/null\n",  # a library with nothing in it
        "echo no library > $2\n",
        "exit 0\n",
        f"echo 'int paretopipe_pages(unsigned long *figures) {{ return 0; }}' | {GCC} -shared -fPIC -o $2 -x c -\n",
    ],
    ids=["empty", "text", "nothing", "declining"],
)
def test_a_library_that_does_not_work_is_not_kept(environment: dict[str, str], compiler: Compiler, script: str) -> None:
    """The reason is the same each time: it is recorded, and compared when a run is resumed."""
    compiler(OUTPUT + script)
    reasons = set()
    for _ in range(2):
        with pytest.raises(UnavailableError, match="it does not work with this kernel or C library") as caught:
            building.library(environment)
        reasons.add(str(caught.value))
        assert left(environment) == []
    assert len(reasons) == 1


@pytest.mark.parametrize("name", ["a file", "n" * 300], ids=["file", "too-long"])
def test_a_cache_that_cannot_be_used_is_named(tmp_path: Path, name: str) -> None:
    cache = tmp_path / name
    if len(name) < 255:
        cache.touch()
    with pytest.raises(UnavailableError) as caught:
        building.library({"PARETOPIPE_CACHE": str(cache)})
    assert str(cache) in str(caught.value)
    assert "cannot be used" in str(caught.value)


@pytest.mark.parametrize("name", ["a space", "a:colon"])
def test_a_cache_that_cannot_be_in_ld_preload_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnavailableError, match="LD_PRELOAD"):
        building.library({"PARETOPIPE_CACHE": str(tmp_path / name)})


def test_a_compiler_that_is_no_program_is_not_the_caches_fault(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "cc"
    program.write_bytes(b"\x7fELF of another machine")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"^cc failed"):
        building.library(environment)


def test_a_compiler_that_does_not_speak_utf_8_is_quoted(environment: dict[str, str], compiler: Compiler) -> None:
    compiler(r"printf 'pages.c: error: \351\n' >&2; exit 1")
    with pytest.raises(UnavailableError, match=r"cc failed: .*error"):
        building.library(environment)
