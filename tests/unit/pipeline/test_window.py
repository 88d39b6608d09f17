"""From completions to figures, and the checks that a point must pass."""

from __future__ import annotations

import math
from statistics import fmean

import pytest

from paretopipe_runtime.pipeline.window import Completion, Window, WindowPlan, check, sample_rows, summarise
from paretopipe_runtime.transport.frame import StageTimes

EXEC_S = (0.10, 0.06)


def times(exec_s: float, k: int, period_s: float, sent_bytes: int = 1000) -> StageTimes:
    """A stage that used 90 % of its core between batches `period_s` apart; its clock starts anywhere."""
    unknown = dict.fromkeys(("kernel_s", "gpu_busy_s", "gpu_energy_j", "gpu_mem_bytes"), math.nan)
    return StageTimes(
        recv_s=0.0,
        queue_s=0.0,
        exec_s=exec_s,
        out_queue_s=0.0,
        serialize_s=0.001,
        cpu_time_s=50 + 0.9 * k * period_s,
        clock_s=9000 + k * period_s,
        peak_rss_bytes=5e6,
        sent_bytes=sent_bytes,
        tx_bytes=7000.0 + 1100 * k,
        rx_bytes=math.nan,
        **unknown,
    )


def steady(depth: int, n: int, period_s: float, latency_s: float) -> Window:
    """A window of `n` batches that came back every `period_s`."""
    done = [
        Completion(k, 100 + k * period_s, latency_s, tuple(times(one, k, period_s) for one in EXEC_S))
        for k in range(n + 1)
    ]
    return Window(depth, done[0], warmup_batches=3, warmup_s=0.5, completions=done[1:])


def test_figures_of_a_steady_window() -> None:
    measured = summarise(steady(2, 12, period_s=0.1, latency_s=0.2), batch_size=8)
    assert measured["throughput_img_s"] == pytest.approx(80.0)
    assert measured["latency_s"] == pytest.approx(0.2)
    assert measured["latency_p50_s"] == pytest.approx(0.2)
    assert measured["latency_p90_s"] is None
    assert measured["network_s"] is None
    assert measured["window_s"] == pytest.approx(1.2)
    assert measured["window_batches"] == 12
    assert measured["bytes_per_batch"] == 1000, "the last stage's result does not count"
    assert [s["exec_s"] for s in measured["stages"]] == pytest.approx(list(EXEC_S))
    assert [s["cpu_pct"] for s in measured["stages"]] == pytest.approx([90.0, 90.0])
    assert [s["tx_bytes"] for s in measured["stages"]] == [13_200, 13_200]
    assert [s["rx_bytes"] for s in measured["stages"]] == [None, None], "an unknown counter is no zero"
    assert [s["gpu_util_pct"] for s in measured["stages"]] == [None, None]
    assert measured["valid"], measured["invalid_reason"]


def test_network_time_is_what_the_stages_do_not_explain() -> None:
    measured = summarise(steady(1, 5, period_s=0.2, latency_s=0.2), batch_size=8)
    assert measured["network_s"] == pytest.approx(0.2 - sum(EXEC_S) - 2 * 0.001)
    assert measured["latency_p50_s"] is None, "5 samples are too few for a median"


def test_percentiles_appear_with_enough_samples() -> None:
    measured = summarise(steady(2, 64, period_s=0.1, latency_s=0.2), batch_size=8)
    assert measured["latency_p90_s"] == pytest.approx(0.2)


POINT = {"depth": 1, "batch_size": 8, "n": 50, "latency_s": 0.2, "throughput_img_s": 40.0, "exec_s": [0.1, 0.06]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"exec_s": [0.15, 0.06]}, "below the stages' own"),
        ({"depth": 4, "latency_s": 0.2, "throughput_img_s": 90.0}, "exceeds the slowest stage's 80 img/s"),
        ({"depth": 4, "latency_s": 0.2, "throughput_img_s": 80.0}, "Little's law"),
        ({"depth": 2, "latency_s": 0.2, "throughput_img_s": 80.0}, None),
    ],
)
def test_a_point_that_contradicts_itself_is_invalid(change: dict, reason: str | None) -> None:
    found = check(**(POINT | change))
    if reason is None:
        assert found is None
    else:
        assert reason in str(found)


@pytest.mark.parametrize(
    ("plan", "completed", "elapsed_s", "over"),
    [
        (WindowPlan(10, None, 1), 9, 99.0, False),
        (WindowPlan(10, None, 1), 10, 0.1, True),
        (WindowPlan(None, 1.0, 5), 4, 60.0, False),
        (WindowPlan(None, 1.0, 5), 5, 0.9, False),
        (WindowPlan(None, 1.0, 5), 5, 1.0, True),
        (WindowPlan(10, 1.0, 5), 10, 0.5, True),
        (WindowPlan(10, 1.0, 5), 6, 1.5, True),
    ],
)
def test_a_window_ends_by_batches_or_by_seconds_with_a_least_number(
    plan: WindowPlan, completed: int, elapsed_s: float, over: bool
) -> None:
    assert plan.is_over(completed, elapsed_s) is over


def test_the_samples_are_the_opening_completion_and_every_batch() -> None:
    window = steady(2, 5, 0.1, 0.2)
    rows = sample_rows(window)
    assert [(row["batch_id"], row["counted"]) for row in rows] == [(0, False), *((n, True) for n in range(1, 6))]
    assert rows[1]["stage2_exec_s"] == EXEC_S[1]
    assert (rows[0]["done_s"], rows[0]["stage1_clock_s"]) == (0, 0)
    assert {"depth", "latency_s", "stage1_queue_s", "stage1_sent_bytes", "stage2_rss_bytes"} <= set(rows[0])


def test_a_record_can_be_computed_again_from_its_samples() -> None:
    window = steady(2, 5, 0.1, 0.2)
    measured = summarise(window, 8)
    rows = sample_rows(window)
    counted = rows[1:]
    assert rows[-1]["done_s"] == pytest.approx(measured["window_s"])
    assert len(counted) * 8 / rows[-1]["done_s"] == pytest.approx(measured["throughput_img_s"])
    assert fmean(row["latency_s"] for row in counted) == pytest.approx(measured["latency_s"])
    cpu_s = rows[-1]["stage1_cpu_time_s"] - rows[0]["stage1_cpu_time_s"]
    assert 100 * cpu_s / rows[-1]["stage1_clock_s"] == pytest.approx(measured["stages"][0]["cpu_pct"])
    assert fmean(row["stage1_sent_bytes"] for row in counted) == measured["bytes_per_batch"]
