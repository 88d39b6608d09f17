"""The smoke program: it says yes on a machine that works, and names what does not."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from paretopipe_runtime.allocator import building
from paretopipe_runtime.host import smoke
from paretopipe_runtime.model import self_check


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("PARETOPIPE_CACHE", str(directory))
    return directory


def test_this_machine_computes() -> None:
    result = CliRunner().invoke(smoke.main)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["torch"] == torch.__version__
    assert found["conv_s"] > 0
    assert found["gpu"] is None


def test_the_allocator_is_compiled_where_the_agent_looks_for_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert smoke.check_torch(cuda=False)["allocator"] == "pages"
    (built,) = (cache / "allocator").iterdir()
    monkeypatch.setattr(building, "COMPILERS", ())
    assert building.library() == built


def test_a_host_without_a_compiler_computes_too(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "COMPILERS", ("no-such-compiler-here",))
    result = CliRunner().invoke(smoke.main)
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["allocator"] == "glibc (there is no C compiler)"
    assert not cache.exists()


def test_a_stale_build_is_not_believed(cache: Path) -> None:
    """What counts is what a process gets, not which file is there."""
    building.library().write_bytes(b"")
    assert smoke.check_torch(cuda=False)["allocator"] == "glibc (pages did not load)"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that is promised")
def test_a_promised_gpu_that_is_not_there() -> None:
    result = CliRunner().invoke(smoke.main, ["--cuda"])
    assert result.exit_code == 1
    assert "CUDA is promised (paretopipe_torch_flavour: cuda)" in result.output
    assert len(result.output.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("returncode", "stderr", "words"),
    [
        (-signal.SIGILL, "", "died of SIGILL: its wheel uses instructions that this CPU"),
        (-signal.SIGKILL, "", "most likely out of memory"),
        (-signal.SIGSEGV, "noise", "died of SIGSEGV"),
        (1, "Traceback ...\nRuntimeError: operator torchvision::nms does not exist\n", "torchvision::nms does not"),
        (3, "", "ended with status 3 and said nothing"),
    ],
)
def test_why_it_failed(returncode: int, stderr: str, words: str) -> None:
    line = smoke.why_it_failed(returncode, stderr)
    assert words in line
    assert "\n" not in line


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "PACKAGES", ("json", "no_such_package_here"))
    result = CliRunner().invoke(smoke.main)
    assert result.exit_code == 1
    assert "cannot import no_such_package_here" in result.output


REQUIRES = ["click>=8.1", 'safe_tensors>=1; extra == "fast"', 'No.Such-Thing; extra == "slow"', 'x; extra == "dev"']
"""As metadata has it: extras are conditions."""


@pytest.fixture
def metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke.importlib.metadata, "requires", lambda _name: REQUIRES)
    found = {"safetensors": ["Safe-Tensors"], "_safetensors_impl": ["safe.tensors"], "click": ["click"]}
    monkeypatch.setattr(smoke.importlib.metadata, "packages_distributions", lambda: found)


@pytest.mark.usefixtures("metadata")
def test_what_an_extra_adds_is_loaded() -> None:
    assert smoke.modules_of("fast") == {"safe-tensors": ["safetensors", "_safetensors_impl"]}
    assert smoke.check_extra("fast") == ["safetensors"]


@pytest.mark.usefixtures("metadata")
@pytest.mark.parametrize(
    ("extra", "words"),
    [("none", "has no extra 'none'; provision"), ("slow", "extra slow: no-such-thing is not installed; provision")],
)
def test_an_extra_that_is_not_there_is_named(extra: str, words: str) -> None:
    result = CliRunner().invoke(smoke.main, ["--extra", extra])
    assert result.exit_code == 1
    assert words in result.output


@pytest.mark.usefixtures("metadata")
def test_an_extra_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"no_such_module_here": ["safe-tensors"]}
    monkeypatch.setattr(smoke.importlib.metadata, "packages_distributions", lambda: broken)
    with pytest.raises(smoke.SmokeError, match=r"extra fast: ModuleNotFoundError: No module named 'no_such_module"):
        smoke.check_extra("fast")


def test_a_torch_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nkill -ILL $$\n")
    program.chmod(0o755)
    monkeypatch.setattr(smoke.sys, "executable", str(program))
    with pytest.raises(smoke.SmokeError, match="SIGILL"):
        smoke.check_torch(cuda=False)


def test_wrong_numbers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = self_check.conv2d
    monkeypatch.setattr(self_check, "conv2d", lambda image, kernel: honest(image, kernel) + 1)
    with pytest.raises(self_check.SelfCheckError, match="wrong numbers"):
        self_check.check_convolution("cpu")


def test_the_numbers_are_exact() -> None:
    """Any order of summation gives them: all partial sums are integers that float32 holds."""
    assert 8 * 9 * 16 < 2**24
    assert np.float32(2**24) == 2**24
    assert self_check.check_convolution("cpu") > 0
