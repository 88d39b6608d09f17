"""Picking the fastest engine, and saying why one cannot be had; no engine computes here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from paretopipe_runtime.model.engines import compiled, onnx_runtime
from paretopipe_runtime.model.engines.base import Compute, EngineError
from paretopipe_runtime.model.engines.best import pick
from paretopipe_runtime.model.engines.builder import Chain
from paretopipe_runtime.model.engines.registry import CANDIDATES, ENGINES, missing, require

CPU, GPU = torch.device("cpu"), torch.device("cuda")
EXAMPLE = torch.zeros(1)


class Clock:
    """Time passes only where an engine computes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now_s

    def engine(self, name: str, *seconds: float) -> Callable[[], Compute]:
        """An engine whose passes take the given seconds in turn, the last one for ever."""
        left = list(seconds)

        def compute(tensor: torch.Tensor) -> torch.Tensor:
            self.calls.append(name)
            self.now_s += left.pop(0) if len(left) > 1 else left[0]
            return tensor

        return lambda: compute


def test_the_fastest_is_picked_by_its_median_without_the_first_pass() -> None:
    clock = Clock()
    found = pick({"slow": clock.engine("slow", 0.3), "fast": clock.engine("fast", 5.0, 0.2)}, {}, EXAMPLE, clock)
    assert found.engine == "fast"
    assert found.exec_s == {"slow": pytest.approx(0.3), "fast": pytest.approx(0.2)}
    assert found.profiling_s == clock.now_s > 5


def test_engines_take_turns_and_the_second_round_goes_backwards() -> None:
    clock = Clock()
    pick({"a": clock.engine("a", 1.0), "b": clock.engine("b", 1.0)}, {}, EXAMPLE, clock)
    assert clock.calls == [*"aa", *"bb", *"bb", *"aa"]  # one pass unmeasured, one measured: a second is enough


def test_short_passes_are_repeated() -> None:
    clock = Clock()
    pick({"a": clock.engine("a", 0.01)}, {}, EXAMPLE, clock)
    assert len(clock.calls) == 2 * (1 + 5)


def test_an_engine_that_fails_is_left_out_with_its_reason() -> None:
    clock = Clock()

    def unable() -> Compute:
        raise EngineError("cannot export this stage")

    found = pick({"a": unable, "b": clock.engine("b", 1.0)}, {"c": "not installed"}, EXAMPLE, clock)
    assert (found.engine, list(found.exec_s)) == ("b", ["b"])
    assert found.left_out == {"a": "cannot export this stage", "c": "not installed"}


def test_without_any_engine_all_reasons_are_given() -> None:
    def unable() -> Compute:
        raise RuntimeError("out of memory\nlong text")

    with pytest.raises(EngineError, match=r"a: out of memory; c: not installed|c: not installed; a: out of memory$"):
        pick({"a": unable}, {"c": "not installed"}, EXAMPLE)


def test_best_never_compiles_unasked() -> None:
    assert set(CANDIDATES) == set(ENGINES) - {"compiled"}


def test_a_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda name: None if name == "onnxruntime" else object())
    assert missing(CPU)["onnxruntime"] == "the package onnxruntime is not installed"
    with pytest.raises(EngineError, match="engine onnxruntime cannot be had: the package onnxruntime is not") as raised:
        require("onnxruntime", CPU)
    assert "pip install 'paretopipe[onnxruntime]'" in str(raised.value.remedy)
    assert "paretopipe_extras: [onnxruntime]" in str(raised.value.remedy)


def test_onnxruntime_for_cpus_is_no_engine_of_a_gpu_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_runtime, "find_spec", lambda _name: object())
    monkeypatch.setattr(onnx_runtime, "_installed", lambda _package: False)
    with pytest.raises(EngineError, match="onnxruntime-gpu is not installed"):
        require("onnxruntime", GPU)
    assert missing(CPU)["onnxruntime"] is None


def test_a_missing_compiler_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda _name: None)
    monkeypatch.setenv("CXX", "g++-99")
    with pytest.raises(EngineError, match=r"there is no C\+\+ compiler \(g\+\+-99\)") as raised:
        require("compiled", CPU)
    assert "apt-get install g++" in str(raised.value.remedy)


def test_an_unknown_engine_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(EngineError, match="'quick' is not in this version") as raised:
        require("quick", CPU)
    assert "eager, fused, onnxruntime, compiled, best" in str(raised.value.remedy)


def test_a_chain_tells_the_time_of_the_part_on_an_accelerator() -> None:
    class Staged:
        kernel_s = 0.25

        def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
            return tensor + 1

    assert Chain([torch.neg, Staged()]).kernel_s == 0.25
    assert Chain([torch.neg, Staged()])(torch.ones(1)).item() == 0.0
    assert Chain([torch.neg]).kernel_s != Chain([torch.neg]).kernel_s  # NaN
