import math
import random

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_ind
from synthetic_run import failed, invalid, record, write_run

from analysis.gates.run_conditions import compare_conditions
from analysis.gates.run_diff import RATIO, diff_runs, metric_named
from analysis.gates.welch import Moments, welch
from analysis.run import read_run

THROUGHPUT, LATENCY, CPU, NETWORK = map(metric_named, ("throughput", "latency", "cpu", "network"))
HOST = {
    "hostname": "pi1",
    "machine": "aarch64",
    "cpu_model": "Cortex-A72",
    "memory_total_bytes": 4e9,
    "torch": "2.14.1",
}


def sweep(seed=0, slower=None, cuts=range(10), rounds=5, noise=0.02, **changes):
    """Records at depth 1; `slower` maps a cut to the factor of its latency."""
    chance = random.Random(seed)
    out = []
    for k in cuts:
        for round_ in range(1, rounds + 1):
            latency = 0.2 * (1 + 0.05 * k) * (slower or {}).get(k, 1.0) * math.exp(chance.gauss(0, noise))
            out.append(record(k, round_=round_, latency_s=latency, throughput_img_s=8 / latency, **changes))
    return out


def run_of(directory, records, **run):
    run = {"hosts": {"pi1": dict(HOST)}, "testbed": "agents"} | run
    return read_run(write_run(directory, records, run.pop("probes", ()), **run))


def diff(tmp_path, first, second, metric=THROUGHPUT, limit_pct=None):
    return diff_runs(run_of(tmp_path / "a", first), run_of(tmp_path / "b", second), metric, limit_pct)


def test_ratio_interval_and_p_are_welchs_as_scipy_has_them(tmp_path):
    first, second = sweep(1), sweep(2, {3: 1.2}, rounds=4, noise=0.04)
    points = diff(tmp_path, first, second).points
    assert len(points) == 10
    for row in points.to_dict("records"):
        logs = [
            [math.log(r["throughput_img_s"]) for r in records if r["split_index"] == row["split_index"]]
            for records in (second, first)
        ]
        expected = ttest_ind(*logs, equal_var=False)
        interval = expected.confidence_interval(0.95)
        assert row[RATIO] == pytest.approx(math.exp(np.mean(logs[0]) - np.mean(logs[1])))
        assert row[RATIO + "_ci95_low"] == pytest.approx(math.exp(interval.low))
        assert row[RATIO + "_ci95_high"] == pytest.approx(math.exp(interval.high))
        assert row["p"] == pytest.approx(expected.pvalue)
        assert (row["rounds_first"], row["rounds_second"]) == (5, 4)
    assert points["p_adjusted"].tolist() == pytest.approx(false_discovery_control(points["p"].tolist()).tolist())


def test_what_became_slower_comes_first_the_surest_and_largest_on_top(tmp_path):
    second = sweep(2, {2: 1.1, 5: 1.4, 7: 0.7, 8: 1.2})
    for metric in (THROUGHPUT, LATENCY):
        points = diff(tmp_path / metric.name, sweep(1), second, metric).points
        assert points["split"].tolist()[:3] == ["P5", "P8", "P2"]
        assert points["verdict"].tolist() == ["slower"] * 3 + ["equal"] * 6 + ["faster"]
        assert points["split"].tolist()[-1] == "P7"


def test_among_many_equal_points_few_are_called_different(tmp_path):
    points = diff(tmp_path, sweep(1, cuts=range(200)), sweep(2, cuts=range(200))).points
    assert (points["p"] < 0.05).sum() > 3, "some are beyond their own interval"
    assert (points["verdict"] == "equal").sum() >= 198, "and hardly one once their number is counted"


def test_interval_covers_at_unequal_scatter():
    chance = np.random.default_rng(0)
    first, second = chance.normal(0, 1, (20000, 5)), chance.normal(0, 4, (20000, 3))
    found = welch(*(Moments(x.mean(1), x.var(1, ddof=1), np.full(20000, float(x.shape[1]))) for x in (first, second)))
    assert (abs(found.difference) <= found.half_width).mean() >= 0.93


def test_limit_counts_only_what_is_surely_beyond_it(tmp_path):
    second = sweep(2, {5: 1.2})
    (line,) = diff(tmp_path / "10", sweep(1), second, LATENCY, 10.0).beyond
    assert "P5" in line
    assert diff(tmp_path / "19", sweep(1), second, LATENCY, 19.0).beyond == (), "it is 20 %, but not surely above 19 %"
    (line,) = diff(tmp_path / "thr", sweep(1), second, THROUGHPUT, 10.0).beyond
    assert "P5" in line
    assert diff(tmp_path / "faster", second, sweep(1), THROUGHPUT, 10.0).beyond == ()


def test_limit_holds_for_the_mean_of_all_points_too(tmp_path):
    everything = dict.fromkeys(range(10), 1.1)
    found = diff(tmp_path, sweep(1, noise=0.04), sweep(2, everything, noise=0.04), LATENCY, 4.0)
    assert any("mean of 10 points" in line for line in found.beyond)


def test_overall_is_welch_over_the_rounds_means(tmp_path):
    first, second = sweep(1), sweep(2, rounds=4)
    (line,) = diff(tmp_path, first, second, LATENCY).overall
    means = [
        [np.mean([math.log(r["latency_s"]) for r in records if r["round"] == n]) for n in range(1, rounds + 1)]
        for records, rounds in ((second, 4), (first, 5))
    ]
    interval = ttest_ind(*means, equal_var=False).confidence_interval(0.95)
    assert line.ratio.mean == pytest.approx(math.exp(np.mean(means[0]) - np.mean(means[1])))
    assert (line.ratio.low, line.ratio.high) == pytest.approx((math.exp(interval.low), math.exp(interval.high)))
    assert (line.model, line.ratio.n) == ("mobilenet_v2", 10)


def test_models_and_profiles_have_lines_of_their_own(tmp_path):
    records = [*sweep(1, cuts=range(3)), *sweep(2, cuts=range(3), model="alexnet")]
    records += sweep(3, cuts=range(3), profile="slow")
    lines = diff(tmp_path, records, records).overall
    assert {(line.profile, line.model) for line in lines} == {
        *(("lan", "mobilenet_v2"), ("lan", "alexnet"), ("lan", None), ("slow", "mobilenet_v2"))
    }
    assert all(line.ratio.mean == pytest.approx(1) for line in lines)


def test_one_round_has_a_ratio_and_no_verdict(tmp_path):
    found = diff(tmp_path, sweep(1, rounds=1), sweep(2, {3: 2.0}), LATENCY, 5.0)
    assert set(found.points["verdict"]) == {"n/a"}
    assert found.points[RATIO].max() == pytest.approx(2, rel=0.1)
    assert found.points[RATIO + "_ci95_low"].isna().all()
    assert found.beyond == ()
    assert math.isnan(found.overall[0].ratio.low)


def test_invalid_and_failed_rounds_do_not_count(tmp_path):
    second = [*sweep(1, rounds=4), *(invalid(k=k, round_=5, latency_s=9.0) for k in range(5))]
    second += [failed(k=k, round_=5) for k in range(5, 10)]
    points = diff(tmp_path, sweep(1, rounds=4), second, LATENCY).points
    assert set(points["rounds_second"]) == {4}
    assert points[RATIO].tolist() == pytest.approx([1] * 10)


def test_what_has_no_counterpart_is_named(tmp_path):
    second = [*sweep(2, cuts=range(1, 10)), *sweep(3, cuts=[11]), *(invalid(k=12, round_=n) for n in (1, 2))]
    found = diff(tmp_path, [*sweep(1), *sweep(1, cuts=[12])], second)
    assert len(found.only_first) == 1
    assert " 0 " in found.only_first[0]
    assert "P11" in found.only_second[0]
    assert found.left_out[0][1] == "no valid round with its throughput in the second run"
    assert len(found.points) == 9


def test_another_model_behind_the_same_name_is_not_compared(tmp_path):
    found = diff(tmp_path, sweep(1), sweep(1, weight_hash="other"))
    assert found.points.empty
    assert {reason for _, reason in found.left_out} == {"another weight hash"}


def test_network_time_is_of_points_with_a_link_and_cpu_of_seconds_per_image(tmp_path):
    one = sweep(1, cuts=[20], n_stages=1)
    found = diff(tmp_path / "n", sweep(1, cuts=[3]) + one, sweep(1, cuts=[3], network_s=0.02) + one, NETWORK)
    assert found.points["split"].tolist() == ["P3"]
    assert found.points[RATIO].tolist() == pytest.approx([2.0])
    assert found.points["verdict"].tolist() == ["slower"], "declared times scatter not at all: any difference is sure"
    found = diff(tmp_path / "c", sweep(1, cuts=[3]), sweep(1, cuts=[3]), CPU)
    latency = [r["latency_s"] for r in sweep(1, cuts=[3])]
    expected = np.exp(np.mean(np.log([2 * 2.805 * value / 8 for value in latency])))
    assert found.points["first"].tolist() == pytest.approx([expected])


def probes(rtt_s=0.0002, bandwidth_bit_s=9e8, profile="lan"):
    head = {"segment": "s", "pipeline": "pi-to-pi", "profile": profile, "ok": True}
    return [head | {"when": when, "rtt_s": rtt_s, "bandwidth_bit_s": bandwidth_bit_s} for when in ("before", "after")]


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        *(("hostname", "pi9"), ("machine", "x86_64"), ("cpu_model", "Cortex-A76"), ("torch", "2.9.1")),
        *(("memory_total_bytes", 8e9), ("threads", 2), ("gpu_device", {"name": "H200"})),
    ],
)
def test_another_host_forbids(fact, value, tmp_path):
    first = run_of(tmp_path / "a", sweep(1))
    second = run_of(tmp_path / "b", sweep(1), hosts={"pi1": HOST | {fact: value}})
    (words,) = compare_conditions(first, second).forbidding
    assert words.startswith("pi1: ")
    assert compare_conditions(first, first).forbidding == ()


def test_other_hosts_and_testbeds_forbid(tmp_path):
    first = run_of(tmp_path / "a", sweep(1))
    second = run_of(tmp_path / "b", sweep(1), hosts={"pi7": HOST}, testbed="simulated")
    assert len(compare_conditions(first, second).forbidding) == 2


SLOW = {
    "links": {"first-egress": {"delay_s": 0.2, "rate_bit_s": 5e6}},
    "rtt_tolerance_pct": 5,
    "rate_tolerance_pct": 10,
}
FASTER = {"links": {"first-egress": {"delay_s": 0.1, "rate_bit_s": 5e6}}}


@pytest.mark.parametrize(
    ("profile", "declared", "path", "count"),
    [
        ("lan", {"links": {}}, (0.0006, 9e8), 0),
        ("lan", {"links": {}}, (0.001, 9e7), 2),
        ("slow", SLOW, (0.203, 4.9e6), 0),
        ("slow", SLOW, (0.22, 4.9e6), 1),
        ("slow", SLOW, (0.2, 4.2e6), 1),
        ("slow", FASTER, (0.2, 4.9e6), 1),
    ],
)
def test_another_network_forbids(profile, declared, path, count, tmp_path):
    before = {"lan": ({"links": {}}, (0.0002, 9e8)), "slow": (SLOW, (0.2, 4.8e6))}[profile]
    first = run_of(tmp_path / "a", sweep(1), probes=probes(*before[1], profile), profiles={profile: before[0]})
    second = run_of(tmp_path / "b", sweep(1), probes=probes(*path, profile), profiles={profile: declared})
    assert len(compare_conditions(first, second).forbidding) == count


def test_settings_and_software_are_named_and_forbid_nothing(tmp_path):
    model = {"model": "m", "batch_size": 8, "weights": "random", "seed": 0, "input": "synthetic"}
    spec = {"window": {"seconds": 1.0}, "warmup_batches": 3, "matrix": []}
    first = run_of(tmp_path / "a", sweep(1), models=[model], spec=spec, git={"commit": "a" * 40, "dirty": False})
    other = {"models": [model | {"input": "folder:x"}], "spec": spec | {"warmup_batches": 9}}
    hosts = {"pi1": HOST | {"kernel": "6.6"}}
    second = run_of(tmp_path / "b", sweep(1), **other, git={"commit": "b" * 40, "dirty": True}, hosts=hosts)
    found = compare_conditions(first, second)
    assert found.forbidding == ()
    assert list(found.settings) == ["warmup_batches: 3 -> 9", "m, batch 8: input: synthetic -> folder:x"]
    assert list(found.code) == ["git: aaaaaaaaaaaa -> bbbbbbbbbbbb with changes", "pi1: kernel: None -> 6.6"]
