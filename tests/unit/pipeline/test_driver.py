"""The driver and the stage loop in one process: credits, windows, failures."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from paretopipe_runtime.pipeline.driver import Driver, LocalSink, MeasurePlan, OutputCheck, compare_outputs
from paretopipe_runtime.pipeline.inputs import Input
from paretopipe_runtime.pipeline.stage_loop import ComputeError, StageLoop
from paretopipe_runtime.pipeline.window import WindowPlan
from paretopipe_runtime.transport.errors import TransportError

IMAGES = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)


def plan(depths: tuple[int, ...], batches: int = 6) -> MeasurePlan:
    return MeasurePlan(depths, WindowPlan(batches, None, 1), warmup_batches=2, batch_size=1)


class Run:
    """A pipeline of one stage whose computation takes `exec_s`, counting what is in flight."""

    def __init__(self, measure: MeasurePlan, exec_s: float = 0.004, reference: torch.Tensor = IMAGES) -> None:
        self.windows: list[tuple[dict, OutputCheck]] = []
        self.most_in_flight = 0
        self.exec_s = exec_s
        self.driver = Driver(
            Input((IMAGES,)), measure, reference, lambda *window: self.windows.append(window), self._done
        )
        self.loop = StageLoop(self.driver, self._compute, LocalSink(self.driver), held_inputs=0)

    def _compute(self, images: torch.Tensor) -> torch.Tensor:
        self.most_in_flight = max(self.most_in_flight, self.driver._in_flight)
        time.sleep(self.exec_s)
        return images.clone()

    def _done(self) -> None:
        self.loop.fail(TransportError("finished", "done"))

    def run(self) -> None:
        with pytest.raises(TransportError, match="done"):
            self.loop.run()


def test_every_depth_gets_a_window_and_credits_bound_what_is_in_flight() -> None:
    run = Run(plan((1, 2, 4)))
    run.run()
    assert [window["depth"] for window, _ in run.windows] == [1, 2, 4]
    assert run.most_in_flight == 4
    assert all(window["measured"]["window_batches"] == 6 for window, _ in run.windows)
    assert run.windows[0][1] == OutputCheck(True, 0.0)


def test_latency_grows_with_depth_and_throughput_does_not() -> None:
    run = Run(plan((1, 4), batches=20), exec_s=0.01)
    run.run()
    one, four = (window["measured"] for window, _ in run.windows)
    assert 3 < four["latency_s"] / one["latency_s"] < 5
    assert four["throughput_img_s"] < 1.5 * one["throughput_img_s"]
    assert one["valid"], one["invalid_reason"]
    assert four["valid"], four["invalid_reason"]


def test_a_wrong_output_is_seen() -> None:
    run = Run(plan((1,)), reference=(IMAGES + 1))
    run.run()
    assert run.windows[0][1].bitwise is False
    assert run.windows[0][1].max_rel_err > 0


def test_output_comparison() -> None:
    reference = torch.tensor([1.0, -4.0])
    assert compare_outputs(reference.clone(), reference) == OutputCheck(True, 0.0)
    assert compare_outputs(torch.tensor([1.0, -4.4]), reference).max_rel_err == pytest.approx(0.1)
    assert compare_outputs(torch.tensor([1.0, float("nan")]), reference).max_rel_err == float("inf")
    assert compare_outputs(torch.zeros(3), reference).max_rel_err == float("inf")


def test_depths_must_rise() -> None:
    with pytest.raises(ValueError, match="rise"):
        Run(plan((4, 1)))


def test_an_error_of_the_model_ends_the_stage() -> None:
    def broken(_images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes cannot be multiplied\nmore")

    driver = Driver(Input((IMAGES,)), plan((1,)), IMAGES, lambda *_: None, lambda: None)
    loop = StageLoop(driver, broken, LocalSink(driver), held_inputs=0)
    with pytest.raises(ComputeError, match=r"^shapes cannot be multiplied$"):
        loop.run()


def test_stopping_from_outside_ends_a_stage_that_waits() -> None:
    class Silent:
        def __init__(self) -> None:
            self.closed = threading.Event()

        def recv(self) -> None:
            self.closed.wait()
            raise TransportError("aborted", "closed")

        def close(self) -> None:
            self.closed.set()

    driver = Driver(Input((IMAGES,)), plan((1,)), IMAGES, lambda *_: None, lambda: None)
    loop = StageLoop(Silent(), lambda x: x, LocalSink(driver))
    threading.Timer(0.1, loop.fail, args=(TransportError("aborted", "stopped by the controller"),)).start()
    with pytest.raises(TransportError, match="stopped by the controller"):
        loop.run()


def test_a_result_that_nobody_asked_for_is_an_error() -> None:
    driver = Driver(Input((IMAGES,)), plan((1,)), IMAGES, lambda *_: None, lambda: None)
    with pytest.raises(TransportError, match="batch 5"):
        driver.completed(5, IMAGES, (), time.monotonic())
