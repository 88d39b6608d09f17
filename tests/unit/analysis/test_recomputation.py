import math
import statistics

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampled_run import sampled

from analysis.gates.checks import BREAKS, NOTE, examine, find_violations
from analysis.gates.recomputation import recompute
from analysis.gates.rules.columns import numbers
from analysis.gates.windows import Windows

CLEAN = sampled(profiles=("lan",), rounds=2)
GPU = sampled(profiles=("lan",), rounds=2, gpu=True, batches=70, seed=3)
FIGURES = (
    *("latency_s", "latency_p50_s", "throughput_img_s", "network_s", "bytes_per_batch", "window_s", "window_batches"),
    *("exec_s", "serialize_s", "recv_s", "queue_s", "out_queue_s", "cpu_pct", "mem_pct"),
    *("rss_bytes", "tx_bytes", "rx_bytes"),
)
GPU_FIGURES = ("latency_p90_s", "kernel_s", "gpu_util_pct", "gpu_power_w", "gpu_mem_bytes", "gpu_mem_pct")


def samples_rule(run, tmp_path, samples="its own"):
    own = run.samples if isinstance(samples, str) else samples
    return next(rule for rule in examine(run.read(tmp_path), own) if rule.rule == "samples")


@pytest.mark.parametrize("run", [CLEAN, GPU], ids=["cpu", "gpu"])
def test_what_the_runtime_wrote_is_found_again(run, tmp_path):
    rule = samples_rule(run, tmp_path)
    assert rule.violations == ()
    assert rule.checked == len(run.records)
    assert rule.remark == ""


@pytest.mark.parametrize("figure", [*FIGURES, *GPU_FIGURES])
def test_a_record_edited_by_one_percent_is_caught(figure, tmp_path):
    run = (GPU if figure in GPU_FIGURES else CLEAN).copy()
    record = run.find(round_=2)
    owner, name = (record, figure) if figure in record else (record["stages"][-1], f"stage2_{figure}")
    owner[figure] *= 1.01
    (violation,) = samples_rule(run, tmp_path).violations
    assert violation.verdict == BREAKS
    assert violation.words.startswith(f"{name} ")
    assert (violation.cell, violation.round, violation.depth) == (record["cell"], 2, 1)


@pytest.mark.parametrize("figure", ["latency_p50_s", "cpu_pct"])
def test_a_figure_left_out_is_caught(figure, tmp_path):
    run = CLEAN.copy()
    record = run.find()
    (record if figure in record else record["stages"][0])[figure] = None
    (violation,) = samples_rule(run, tmp_path).violations
    assert f"{figure} null recorded" in violation.words


def test_a_figure_that_no_sample_supports_is_caught(tmp_path):
    run = CLEAN.copy()
    run.find(depth=2)["network_s"] = 0.01
    run.find(depth=2)["latency_p90_s"] = 0.2
    (violation,) = samples_rule(run, tmp_path).violations
    assert "latency_p90_s 0.2 recorded, none from samples" in violation.words
    assert "network_s 0.01 recorded, none from samples" in violation.words


def test_rounding_of_another_order_of_sums_is_granted_and_more_is_not(tmp_path):
    run = CLEAN.copy()
    run.find()["latency_s"] *= 1 + 5e-10
    assert samples_rule(run, tmp_path).violations == ()
    run.find()["latency_s"] *= 1 + 2e-9
    assert samples_rule(run, tmp_path).violations


def test_a_sample_edited_is_caught(tmp_path):
    run = CLEAN.copy()
    run.samples.loc[run.samples.index[20], "latency_s"] *= 1.01
    assert len(samples_rule(run, tmp_path).violations) == 1


def test_record_without_samples_and_samples_without_record(tmp_path):
    run = CLEAN.copy()
    cell = run.find()["cell"]
    mine = (run.samples["cell"] == cell) & (run.samples["round"] == 1) & (run.samples["depth"] == 1)
    (violation,) = samples_rule(run, tmp_path / "a", run.samples[~mine]).violations
    assert (violation.verdict, violation.words) == (BREAKS, "the record has no samples")
    run.records.remove(run.find())
    (violation,) = samples_rule(run, tmp_path / "b").violations
    assert violation.verdict == NOTE
    assert (violation.cell, violation.round, violation.depth) == (cell, 1, 1)


def test_no_samples_at_all_says_that_nothing_was_computed_again(tmp_path):
    rule = samples_rule(CLEAN, tmp_path, None)
    assert (rule.checked, rule.violations) == (0, ())
    assert "nothing was recomputed" in rule.remark


def test_damaged_samples_file_is_a_violation(tmp_path):
    directory = CLEAN.write(tmp_path)
    path = next((directory / "samples").glob("*/*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    (violation,) = [v for v in find_violations(CLEAN.read(tmp_path)) if v.verdict == BREAKS]
    assert str(path) in violation.words


def test_a_batch_twice_and_a_window_opened_twice(tmp_path):
    run = CLEAN.copy()
    again = run.samples.iloc[[0, 5]]
    run.samples = pd.concat([run.samples, again], ignore_index=True)
    words = " ".join(v.words for v in samples_rule(run, tmp_path).violations)
    assert "1 batches twice" in words
    assert "2 rows that open the window" in words


def test_order_of_rows_does_not_matter(tmp_path):
    run = CLEAN.copy()
    run.samples = run.samples.sample(frac=1, random_state=1)
    assert samples_rule(run, tmp_path).violations == ()


def test_older_samples_without_completion_times_are_used_as_far_as_they_go(tmp_path):
    run = CLEAN.copy()
    clocks = [column for column in run.samples.columns if column.endswith("clock_s")]
    run.samples = run.samples[run.samples["counted"]].drop(columns=["counted", "done_s", *clocks])
    rule = samples_rule(run, tmp_path)
    assert rule.violations == ()
    for name in ("window_s", "throughput_img_s", "stages' cpu_pct", "stages' tx_bytes"):
        assert name in rule.remark
    assert "latency" not in rule.remark
    run.find()["latency_s"] *= 1.01
    assert len(samples_rule(run, tmp_path).violations) == 1


def test_samples_of_declared_times_have_no_more_than_exec_s(tmp_path):
    run = CLEAN.copy()
    keep = ["cell", "round", "depth", "batch_id", "counted", "done_s", "latency_s", "stage1_exec_s", "stage2_exec_s"]
    run.samples = run.samples[keep]
    rule = samples_rule(run, tmp_path)
    assert rule.violations == ()
    assert "network_s" in rule.remark
    run.find()["throughput_img_s"] *= 1.01
    run.find()["stages"][1]["exec_s"] *= 1.01
    (violation,) = samples_rule(run, tmp_path).violations
    assert "throughput_img_s" in violation.words
    assert "stage2_exec_s" in violation.words


def test_memory_that_a_restart_changed(tmp_path):
    run = CLEAN.copy()
    later = CLEAN.copy().run
    later["hosts"]["pi1"]["memory_total_bytes"] = 3_000_000_000
    run.run["resumed"] = [{"hosts": later["hosts"]}]
    stage = run.find(round_=2)["stages"][0]
    stage["mem_pct"] = 100 * stage["rss_bytes"] / 3e9
    assert samples_rule(run, tmp_path).violations == ()
    stage["mem_pct"] *= 1.01
    assert len(samples_rule(run, tmp_path).violations) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30), min_size=1, max_size=6), st.randoms())
def test_windows_against_the_standard_library(values, chance):
    frame = pd.DataFrame({"cell": [f"c{k}" for k in range(len(values))], "round": 1, "depth": 1})
    rows = [
        {"cell": f"c{k}", "round": 1, "depth": 1, "batch_id": i, "done_s": float(i), "counted": True, "x": x}
        for k, window in enumerate(values)
        for i, x in enumerate(window)
    ]
    chance.shuffle(rows)
    windows = Windows(pd.DataFrame(rows), frame)
    assert windows.batches.tolist() == [len(window) for window in values]
    assert windows.last("x").tolist() == [window[-1] for window in values]
    assert windows.maximum("x").tolist() == [max(window) for window in values]
    np.testing.assert_allclose(windows.mean("x"), [statistics.fmean(window) for window in values], rtol=1e-12)
    for part, of in ((1, 2), (9, 10)):
        expected = [statistics.quantiles(w, n=of)[part - 1] if len(w) > 1 else math.nan for w in values]
        np.testing.assert_allclose(windows.quantile("x", part, of), expected, rtol=1e-12)
    halves = [math.log(sum(w[-(len(w) // 2) :]) / sum(w[: len(w) // 2])) if len(w) > 3 else math.nan for w in values]
    np.testing.assert_allclose(windows.half_logs("x"), halves, rtol=1e-6, atol=1e-9)


def test_a_stage_with_an_unknown_duration_has_no_mean(tmp_path):
    run = GPU.copy()
    frame = run.read(tmp_path).measured
    values = recompute(Windows(run.samples, frame), frame, run.run).values
    assert np.isnan(values["stage2_recv_s"]).all(), "rpc does not say; null in every sample"
    two = numbers(frame, "n_stages") == 2
    assert np.isfinite(values["stage2_kernel_s"][two]).all()
    assert np.isnan(values["stage2_kernel_s"][~two]).all()
