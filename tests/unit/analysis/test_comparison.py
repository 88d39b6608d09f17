import math
import random

import pytest
from synthetic_run import compared_sweep, failed, invalid, record, stage

from analysis.comparing.breakdown import compare_frame
from analysis.comparing.comparison import METRICS, ComparisonError, compare, ordered_values, pick_axis, pick_baseline
from analysis.comparing.overall import overall
from analysis.run import frame_of_records
from analysis.statistics import ratio_interval

THROUGHPUT, LATENCY, CPU, NETWORK = METRICS


def comparison_of(*records, by="backend", baseline="socket", run=None):
    frame = compare_frame(frame_of_records(records))
    values = ordered_values(frame, run or {}, by)
    return compare(frame, by, pick_baseline(values, run or {}, by, baseline), values)


def rounds_of(latencies, backend="socket", **changes):
    return [
        record(latency_s=t, throughput_img_s=8 / t, round_=i, backend=backend, **changes)
        for i, t in enumerate(latencies)
    ]


def test_a_ratio_is_the_geometric_mean_of_the_rounds_ratios():
    (pair,) = comparison_of(*rounds_of([0.1, 0.2, 0.4]), *rounds_of([0.2, 0.8, 1.6], "rpc")).pairs
    assert pair.rounds == (0, 1, 2)
    assert pair.ratio(LATENCY).mean == pytest.approx(2 * 2 ** (2 / 3))
    assert pair.ratio(THROUGHPUT).mean == pytest.approx(1 / (2 * 2 ** (2 / 3)))


def test_the_interval_is_the_paired_t_interval_of_the_logs():
    # scipy.stats.ttest_rel(log b, log a).confidence_interval() of the same numbers.
    a, b = [0.10, 0.12, 0.11, 0.15], [0.11, 0.125, 0.12, 0.158]
    (pair,) = comparison_of(*rounds_of(a), *rounds_of(b, "rpc")).pairs
    ratio = pair.ratio(LATENCY)
    scipy = pytest.importorskip("scipy.stats")
    interval = scipy.ttest_rel([math.log(x) for x in b], [math.log(x) for x in a]).confidence_interval(0.95)
    assert (math.log(ratio.low), math.log(ratio.high)) == pytest.approx((interval.low, interval.high))


def test_what_a_round_does_to_both_does_not_widen_the_interval():
    slow = [1.0, 3.0, 0.5, 2.0]
    (pair,) = comparison_of(*rounds_of(slow), *rounds_of([1.1 * t for t in slow], "rpc")).pairs
    assert pair.ratio(LATENCY).low == pytest.approx(1.1)
    assert pair.ratio(LATENCY).high == pytest.approx(1.1)


def test_swapping_the_baseline_inverts_the_ratio():
    records = [*rounds_of([0.1, 0.13]), *rounds_of([0.2, 0.21], "rpc")]
    (one,), (other,) = (comparison_of(*records, baseline=name).pairs for name in ("socket", "rpc"))
    assert one.ratio(LATENCY).mean == pytest.approx(1 / other.ratio(LATENCY).mean)
    assert one.ratio(LATENCY).low == pytest.approx(1 / other.ratio(LATENCY).high)


def test_the_interval_covers_a_known_ratio_in_about_95_percent():
    chance = random.Random(7)
    truth, rounds, trials = 1.3, 5, 2000
    covered = 0
    for _ in range(trials):
        # Noise of a round is common to both; each measurement has 3 % of its own.
        logs = [math.log(truth) + chance.gauss(0, 0.03) - chance.gauss(0, 0.03) for _ in range(rounds)]
        ratio = ratio_interval(logs)
        covered += ratio.low <= truth <= ratio.high
    # Four standard errors of the binomial are 2 %.
    assert 0.93 <= covered / trials <= 0.97


def test_without_any_difference_about_one_in_twenty_pairs_is_beyond_its_interval():
    comparison = comparison_of(*compared_sweep({"socket": 1, "rpc": 1}, n_cuts=49, depths=(1, 2), noise=0.02, seed=3))
    (line,) = [o for o in overall(comparison) if o.metric == LATENCY and o.depth is None]
    assert line.pairs == 98
    assert line.by_chance == pytest.approx(4.9)
    assert 1 <= line.verdicts["faster"] + line.verdicts["slower"] <= 15
    assert line.ratio.low < 1 < line.ratio.high


@pytest.mark.parametrize(
    ("others", "throughput", "latency"),
    [
        ([0.15, 0.151, 0.149], "slower", "slower"),
        ([0.05, 0.051, 0.049], "faster", "faster"),
        ([0.09, 0.1, 0.112], "equal", "equal"),
        ([0.1, 0.1, 0.1], "equal", "equal"),
    ],
)
def test_verdicts(others, throughput, latency):
    (pair,) = comparison_of(*rounds_of([0.1, 0.1, 0.1]), *rounds_of(others, "rpc")).pairs
    assert (pair.verdict(THROUGHPUT), pair.verdict(LATENCY)) == (throughput, latency)


def test_less_cpu_time_is_less():
    socket = [record(round_=i, stages=[stage(cpu_pct=100.0 + i), stage(cpu_pct=50.0)]) for i in range(3)]
    rpc = [record(round_=i, stages=[stage(cpu_pct=140.0 + i), stage(cpu_pct=90.0)], backend="rpc") for i in range(3)]
    (pair,) = comparison_of(*socket, *rpc).pairs
    assert pair.verdict(CPU) == "more"
    assert pair.ratio(CPU).mean == pytest.approx((230 / 150 * 231 / 151 * 232 / 152) ** (1 / 3))


def test_one_round_has_a_ratio_and_no_verdict():
    (pair,) = comparison_of(record(latency_s=0.1), record(latency_s=0.2, backend="rpc")).pairs
    ratio = pair.ratio(LATENCY)
    assert (ratio.mean, ratio.n) == (pytest.approx(2.0), 1)
    assert math.isnan(ratio.low)
    assert pair.verdict(LATENCY) == "n/a"


def test_only_rounds_valid_in_both_count_and_the_rest_is_named():
    records = [
        *rounds_of([0.1, 0.1, 0.1, 0.1]),
        record(backend="rpc", latency_s=0.2, round_=0),
        invalid(backend="rpc", latency_s=9.0, round_=1),
        failed(backend="rpc", round_=2),
    ]
    (pair,) = comparison_of(*records).pairs
    assert pair.rounds == (0,)
    assert pair.lost_rounds == 3
    assert pair.left_out_words == (
        "round 1: rpc invalid (Little's law: off by 12 %); "
        "round 2: rpc failed (out-of-memory on pi2: worker killed (137)); round 3: rpc not measured"
    )


def test_the_same_reason_is_said_once():
    (pair,) = comparison_of(*rounds_of([0.1] * 4), record(backend="rpc")).pairs
    assert pair.left_out_words == "rounds 1, 2, 3: rpc not measured"


@pytest.mark.parametrize("column", ["weight_hash", "graph_hash", "shaper"])
def test_rounds_that_differ_in_more_than_the_axis_are_no_pair(column):
    (pair,) = comparison_of(*rounds_of([0.1, 0.1]), *rounds_of([0.1, 0.1], "rpc", **{column: "other"})).pairs
    assert pair.rounds == ()
    assert pair.left_out_words == f"rounds 0, 1: another {column.replace('_', ' ')}"


def test_profiles_may_have_shapers_of_their_own():
    records = [record(shaper="none"), record(shaper="tc", profile="duress", latency_s=1.0)]
    (pair,) = comparison_of(*records, by="profile", baseline="lan").pairs
    assert pair.rounds == (0,)


@pytest.mark.parametrize(
    "change",
    [{"model": "vgg16"}, {"batch_size": 4}, {"depth": 2}, {"pipeline": "x"}, {"engine": "x"}, {"profile": "x"}],
)
def test_points_that_differ_in_anything_else_are_no_pair(change):
    with pytest.raises(ComparisonError, match="nothing to pair: no cell was measured with socket and with rpc"):
        comparison_of(record(3), record(3, backend="rpc", **change))
    with pytest.raises(ComparisonError, match="nothing to pair"):
        comparison_of(record(3), record(4, backend="rpc"))


def test_points_without_a_counterpart_are_listed():
    comparison = comparison_of(record(3), record(3, backend="rpc"), record(4), record(5, depth=2, backend="rpc"))
    assert [pair.place for pair in comparison.pairs] == ["P3"]
    assert comparison.lone == {"socket": ("P4 depth 1",), "rpc": ("P5 depth 2",)}


def test_network_time_is_compared_at_depth_1_only_and_not_without_a_network():
    records = [
        record(k, depth=depth, backend=backend, network_s=0.01 if depth == 1 else None, stages=stages)
        for backend in ("socket", "rpc")
        for k, stages in ((3, [stage(), stage()]), (20, [stage()]))
        for depth in (1, 2)
    ]
    known = {(p.place, p.key["depth"]): p.ratio(NETWORK).n for p in comparison_of(*records).pairs}
    assert known == {("P3", 1): 1, ("P3", 2): 0, ("local", 1): 0, ("local", 2): 0}


def test_what_is_not_above_zero_has_no_ratio_and_the_rest_of_the_round_counts():
    (pair,) = comparison_of(record(network_s=-0.001), record(backend="rpc")).pairs
    assert pair.ratio(LATENCY).n == 1
    assert pair.ratio(NETWORK).n == 0
    assert pair.left_out_words == "round 0: no ratio of the network, which is not above 0"
    assert pair.lost_rounds == 0


def test_the_axis_is_the_one_that_varies():
    assert pick_axis(compare_frame(frame_of_records([record(), record(engine="fused")])), None) == "engine"
    assert pick_axis(compare_frame(frame_of_records([record()])), "profile") == "profile"
    with pytest.raises(ComparisonError, match=r"several axes vary \(backend, engine\)"):
        pick_axis(compare_frame(frame_of_records([record(), record(engine="fused", backend="rpc")])), None)
    with pytest.raises(ComparisonError, match="one backend, one engine and one profile"):
        pick_axis(compare_frame(frame_of_records([record()])), None)


@pytest.mark.parametrize(
    ("values", "by", "wanted", "profiles", "baseline"),
    [
        (["rpc", "socket"], "backend", None, {}, "socket"),
        (["fused", "eager"], "engine", None, {}, "eager"),
        (["fused", "onnxruntime"], "engine", None, {}, "fused"),
        (["far", "lan"], "profile", None, {}, "lan"),
        (["far", "bare"], "profile", None, {"far": {"links": {"first-egress": {}}}, "bare": {"links": {}}}, "bare"),
        (["far", "farther"], "profile", None, {}, "far"),
        (["rpc", "socket"], "backend", "rpc", {}, "rpc"),
    ],
)
def test_the_baseline(values, by, wanted, profiles, baseline):
    assert pick_baseline(values, {"profiles": profiles}, by, wanted) == baseline


def test_a_baseline_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ComparisonError, match="no backend 'rcp' in this run; --baseline can be socket, rpc"):
        pick_baseline(["socket", "rpc"], {}, "backend", "rcp")
    with pytest.raises(ComparisonError, match=r"one backend \(socket\)"):
        pick_baseline(["socket"], {}, "backend", None)


def test_values_are_in_the_order_of_the_plan():
    frame = compare_frame(frame_of_records([record(backend=name) for name in ("a", "b", "c")]))
    assert ordered_values(frame, {"cells": [{"backend": "c"}, {"backend": "x"}, {"backend": "a"}]}, "backend") == [
        "c",
        "a",
        "b",
    ]


def lines_of(comparison, **wanted):
    return [o for o in overall(comparison) if all(getattr(o, key) == value for key, value in wanted.items())]


def test_overall_is_the_geometric_mean_over_pairs_with_the_extremes_and_counts():
    records = [
        record(
            k,
            latency_s=0.1 * factor * (1 + 0.01 * round_ * (factor > 1)),
            round_=round_,
            backend=backend,
            throughput_img_s=9,
        )
        for k, worse in ((3, 1.2), (4, 2.0), (5, 1.0))
        for backend, factor in (("socket", 1.0), ("rpc", worse))
        for round_ in range(3)
    ]
    (line,) = lines_of(comparison_of(*records), metric=LATENCY)
    expected = (1.2 * 2.0) ** (1 / 3) * (1.01 * 1.02) ** (2 / 9)
    assert line.ratio.mean == pytest.approx(expected)
    assert (line.lowest, line.highest) == pytest.approx((1.0, 2.0 * (1.01 * 1.02) ** (1 / 3)))
    assert dict(line.verdicts) == {"faster": 0, "slower": 2, "equal": 1, "n/a": 0}
    assert line.by_chance == pytest.approx(0.15)
    assert line.ratio.low < expected < line.ratio.high


def test_overall_has_no_interval_where_a_pair_lacks_a_round():
    records = [
        *rounds_of([0.1, 0.1]),
        *rounds_of([0.2, 0.2], "rpc"),
        record(4),
        record(4, backend="rpc", latency_s=0.4),
    ]
    (line,) = lines_of(comparison_of(*records), metric=LATENCY)
    assert line.ratio.mean == pytest.approx(2.0)
    assert math.isnan(line.ratio.low)
    assert line.verdicts["n/a"] == 1


def test_overall_keeps_profiles_apart_and_models_too_but_for_a_last_line():
    records = [
        record(3, model=model, profile=profile, backend=backend, depth=depth)
        for model in ("vgg16", "alexnet")
        for profile in ("lan", "duress")
        for backend in ("socket", "rpc")
        for depth in (1, 4)
    ]
    found = [(o.profile, o.model, o.depth, o.pairs) for o in overall(comparison_of(*records)) if o.metric == LATENCY]
    per_profile = [("alexnet", None, 2), ("alexnet", 1, 1), ("alexnet", 4, 1), ("vgg16", None, 2), ("vgg16", 1, 1)]
    per_profile += [("vgg16", 4, 1), (None, None, 4), (None, 1, 2), (None, 4, 2)]
    assert found == [(profile, *rest) for profile in ("duress", "lan") for rest in per_profile]


def test_pairs_without_a_link_do_not_count_for_backends_but_for_engines():
    def both(k, n_stages, **other):
        return [record(k, stages=[stage()] * n_stages, **changes) for changes in ({}, other)]

    backends = comparison_of(*both(3, 2, backend="rpc"), *both(20, 1, backend="rpc"))
    assert [pair.place for pair in backends.pairs] == ["P3", "local"]
    assert [pair.place for pair in backends.counted] == ["P3"]
    engines = comparison_of(*both(20, 1, engine="fused"), by="engine", baseline="eager")
    assert len(engines.counted) == 1


def test_pairs_follow_the_model_from_front_to_back():
    records = [record(k, depth=d, backend=b) for k in (10, 9, 20, 0) for d in (4, 1) for b in ("rpc", "socket", "zmq")]
    comparison = comparison_of(*records)
    order = [(pair.place, pair.key["depth"], pair.value) for pair in comparison.pairs]
    assert order[:4] == [("remote", 1, "rpc"), ("remote", 1, "zmq"), ("remote", 4, "rpc"), ("remote", 4, "zmq")]
    assert [place for place, depth, value in order if (depth, value) == (1, "rpc")] == [
        "remote",
        "P9",
        "P10",
        "local",
    ]
