import math
import random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from synthetic_run import failed, record

from analysis.fronts.dominance import nondominated
from analysis.fronts.indicators import knee_points
from analysis.operating_points import operating_points
from analysis.recommending.criterion import BY_LATENCY, BY_THROUGHPUT, KNEE, WEIGHTS, Constraint, Criterion
from analysis.recommending.more_rounds import NoCommand, more_rounds
from analysis.recommending.recommendation import RecommendationError, Wish, recommend
from analysis.recommending.recommendation_words import recommendation_lines
from analysis.recommending.telling_apart import MOST_ROUNDS, rounds_for_power, rounds_for_width, tell_apart
from analysis.run import frame_of_records

WOBBLE = (0.0, 0.01, -0.01, 0.005, -0.005)


def rounds(k, latency_s, throughput_img_s, n=5, spread=1.0, **changes):
    """Records of one point: n rounds around a mean, slow and fast as a whole."""
    wobble = [spread * w for w in WOBBLE[:n]]
    return [
        record(k, round_=r, latency_s=latency_s * (1 + w), throughput_img_s=throughput_img_s * (1 - w), **changes)
        for r, w in enumerate(wobble)
    ]


def recommended(records, run=None, **wish):
    frame = frame_of_records(records)
    return recommend(operating_points(frame), frame, Wish(**wish), run)


def words(recommendation, tmp_path):
    return "\n".join(recommendation_lines(recommendation, tmp_path / "run"))


# Latency in s, images/s: 3 and 6 are the ends, 5 is far towards the ideal, 4 is dominated by it.
FOUR = [*rounds(3, 0.1, 40.0), *rounds(4, 0.22, 60.0), *rounds(5, 0.15, 90.0), *rounds(6, 0.5, 100.0)]


@pytest.mark.parametrize(
    ("wish", "split"),
    [
        ({}, "P5"),
        ({"latency_max_s": 0.2}, "P5"),
        ({"latency_max_s": 0.6}, "P6"),
        ({"latency_max_s": 0.6, "knee": True}, "P5"),
        ({"throughput_min_img_s": 30.0}, "P3"),
        ({"throughput_min_img_s": 95.0}, "P6"),
        ({"latency_max_s": 0.3, "throughput_min_img_s": 10.0}, "P5"),
        ({"weights": (1.0, 0.0)}, "P3"),
        ({"weights": (0.0, 1.0)}, "P6"),
        ({"weights": (1.0, 1.0)}, "P5"),
    ],
)
def test_the_rule_follows_from_the_wish(wish, split):
    (answer,) = recommended(FOUR, **wish).answers
    assert answer.choice.split == split


def test_losses_by_hand():
    latency, throughput = np.array([1.0, 2.0, 4.0, 0.5]), np.array([10.0, 30.0, 40.0, 99.0])
    meets = np.array([True, True, True, False])

    def losses(rule, *weights):
        return Criterion(rule, *weights).losses(latency, throughput, meets)

    near = {"abs": 1e-7}
    assert losses(BY_THROUGHPUT)[:3] == pytest.approx([math.log(4), math.log(4 / 3), 0], **near)
    assert losses(BY_LATENCY)[:3] == pytest.approx([0, math.log(2), math.log(4)], **near)
    # Factors to the ideal (1 s, 40/s): latency 1, 2, 4; throughput 4, 4/3, 1. The larger of both: 4, 2, 4.
    assert losses(WEIGHTS)[:3] == pytest.approx([math.log(2), 0, math.log(2)], **near)
    # Latency at half weight: max(sqrt(2), 4/3) is the least.
    assert losses(WEIGHTS, (0.5, 1.0))[:3] == pytest.approx(
        [math.log(4 / math.sqrt(2)), 0, math.log(math.sqrt(2))], **near
    )
    # In spans (3 s, 30/s): (0, 1), (1/3, 1/3), (1, 0).
    assert losses(KNEE)[:3] == pytest.approx([1 / 3, 0, 1 / 3], **near)
    assert all(math.isinf(losses(rule)[3]) for rule in (BY_THROUGHPUT, BY_LATENCY, WEIGHTS, KNEE))


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=12))
@example([(1, 5), (2, 7), (3, 8), (8, 12)])  # two knees, but for rounding
@settings(max_examples=60, deadline=None)
def test_the_knee_is_the_fronts_where_it_has_one(values):
    points = np.array(values, dtype=float)
    front = nondominated(points, (False, True))
    knees = knee_points(points, front, (False, True))
    choice = int(Criterion(KNEE).losses(points[:, 0], points[:, 1], np.ones(len(points), dtype=bool)).argmin())
    assert front[choice]
    assert not knees.any() or knees[choice]


def test_a_front_of_two_has_no_knee_and_takes_the_better_bargain(tmp_path):
    # From P3 to P6: 5 times the latency for 2.5 times the throughput.
    found = recommended([*rounds(3, 0.1, 40.0), *rounds(6, 0.5, 100.0)])
    assert found.answers[0].choice.split == "P3"
    assert "no knee here" in words(found, tmp_path)
    # 400 / s / s against 200: not in spans, which may be noise.
    assert "The choice has 100.0 % more throughput per latency (95 % interval 100.0" in words(found, tmp_path)


def test_excess_is_the_factor_that_is_missing():
    values = np.array([0.5, 1.0, 2.0, math.nan, 0.0])
    assert Constraint("latency_s", 1.0, True).excess(values) == pytest.approx([1, 1, 2, math.inf, 1])
    assert Constraint("throughput_img_s", 1.0, False).excess(values) == pytest.approx([2, 1, 1, math.inf, math.inf])
    assert Constraint("bytes_per_batch", 0.0, True).excess(np.array([5.0, 0.0])) == pytest.approx([math.inf, 1])


def test_nothing_meets_the_constraints(tmp_path):
    found = recommended(FOUR, latency_max_s=0.05, throughput_min_img_s=50.0)
    (answer,) = found.answers
    assert answer.choice is None
    assert not found.complete
    assert answer.broken == {"latency_s": 4, "throughput_img_s": 1}
    assert (answer.nearest.split, answer.nearest_factor) == ("P3", pytest.approx(2.0))
    text = words(found, tmp_path)
    assert "**No operating point of 4 meets the constraints.**" in text
    assert "- Latency at most 50 ms: 4 of 4 break it." in text
    assert "- Throughput at least 50 images/s: 1 of 4 break it." in text
    assert "The nearest is P3, depth 1, off by a factor of 2" in text


def test_a_network_budget_keeps_out_what_sends_more():
    few = rounds(6, 0.5, 100.0, bytes_per_batch=1000)
    found = recommended([*rounds(3, 0.1, 400.0, bytes_per_batch=1001), *few], network_budget_bytes=1000.0)
    assert found.answers[0].choice.split == "P6"
    unknown = recommended([*rounds(3, 0.1, 400.0, bytes_per_batch=None), *few], network_budget_bytes=1e9)
    assert unknown.answers[0].choice.split == "P6"
    assert unknown.answers[0].broken == {"bytes_per_batch": 1}


@pytest.mark.parametrize(
    ("k", "n_stages", "words_"),
    [
        (20, 1, "**Do not split: run it all on pi1.** Nothing crosses the network."),
        (0, 2, "**Do not split: run it all on pi2**; pi1 only sends the images."),
        (7, 2, "**Split at P7**, after features.6."),
    ],
)
def test_where_to_run(k, n_stages, words_, tmp_path):
    records = [*rounds(3, 0.2, 40.0), *rounds(k, 0.1, 80.0, n_stages=n_stages)]
    text = words(recommended(records), tmp_path)
    assert words_ in text
    assert "No other point is better at either" in text
    assert "It is 100.0 % further from the ideal than the choice" in text


def test_probabilities_are_joint_over_constraints_and_ranking():
    # Two points, each slow where the other is fast, around the same mean: either is the best in half of the draws.
    noise = (0.02, -0.02, 0.01, -0.01, 0.0)
    records = [
        record(k, round_=r, latency_s=0.1, throughput_img_s=100 * (1 + sign * w))
        for k, sign in ((3, 1), (4, -1))
        for r, w in enumerate(noise)
    ]
    (answer,) = recommended(records, latency_max_s=1.0).answers
    assert answer.candidates["p_best"].tolist() == pytest.approx([0.5, 0.5], abs=0.06)
    assert answer.candidates["p_meets"].tolist() == [1.0, 1.0]
    (answer,) = recommended(records, throughput_min_img_s=100.0).answers
    assert answer.candidates["p_meets"].tolist() == pytest.approx([0.5, 0.5], abs=0.06)
    assert answer.candidates["p_best"].sum() <= 1.0
    (answer,) = recommended(FOUR, latency_max_s=0.6).answers
    assert answer.choice.p_best == 1.0


def test_a_mean_inside_a_bound_that_its_interval_crosses_is_said(tmp_path):
    found = recommended(rounds(3, 0.1, 80.0), latency_max_s=0.1001)
    assert found.answers[0].choice
    assert 0.3 < found.answers[0].choice.p_meets < 0.7
    assert found.answers[0].choice.p_best == found.answers[0].choice.p_meets
    assert "Its mean keeps the bound, latency at most 100.1 ms; the interval crosses it." in words(found, tmp_path)
    assert "crosses it" not in words(recommended(rounds(3, 0.1, 80.0), latency_max_s=0.2), tmp_path)


@pytest.mark.parametrize(("ratio", "needed"), [(1.0, 10), (0.5, 34)])
def test_rounds_for_power_are_those_of_a_paired_t_test(ratio, needed):
    assert rounds_for_power(-ratio, 1.0) == needed
    chance = np.random.default_rng(0)
    samples = chance.normal(ratio, 1.0, (20_000, needed))
    t = samples.mean(axis=1) / samples.std(axis=1, ddof=1) * math.sqrt(needed)
    quantile = {10: 2.262, 34: 2.035}[needed]
    assert (abs(t) > quantile).mean() == pytest.approx(0.8, abs=0.02)


def test_rounds_beyond_reason_are_none():
    assert rounds_for_power(0.1, 1.0) is None
    assert rounds_for_power(0.1, 1.0, most=1000) == 787
    assert rounds_for_power(0.0, 1.0) is None
    assert rounds_for_width(0.05, 0.1) == 18
    assert rounds_for_width(0.05, 1.0) is None


def test_pairing_takes_common_drift_out():
    drift = (1.0, 1.2, 0.9, 1.1, 0.8)
    first = {r: (0.1, 100 * d) for r, d in enumerate(drift)}
    second = {r: (0.1, 98 * d * (1 + 0.002 * (-1) ** r)) for r, d in enumerate(drift)}
    criterion = Criterion(BY_THROUGHPUT)
    scale = criterion.scale(np.array([0.1, 0.1]), np.array([100.0, 98.0]), np.array([True, True]))
    apart = tell_apart(first, second, criterion, scale)
    assert apart.told_apart
    assert apart.difference.mean == pytest.approx(math.log(100 / 98), abs=0.001)
    assert apart.worth_measuring is None
    # The same values in another order of rounds have nothing in common, and nothing is told apart.
    shuffled = {r: second[(r + 2) % 5] for r in second}
    assert not tell_apart(first, shuffled, criterion, scale).told_apart
    assert not tell_apart({0: first[0]}, second, criterion, scale).known


def test_a_runner_up_that_is_told_apart(tmp_path):
    text = words(recommended(FOUR, latency_max_s=0.6), tmp_path)
    assert "Runner-up: P5, depth 1" in text
    assert "The choice has 11.1 % more throughput (95 % interval 11.1 to 11.1 %, paired over 5 rounds)" in text
    assert "the data tells the two apart" in text


CLOSE = [
    record(k, round_=r, latency_s=0.1, throughput_img_s=mean * (1 + w))
    for k, mean, noise in ((3, 100.0, (0.1, -0.1, 0.05, -0.05, 0.0)), (4, 93.0, (-0.05, 0.1, -0.1, 0.0, 0.05)))
    for r, w in enumerate(noise)
]


def spec(**changes):
    base = {
        **{"models": ["mobilenet_v2"], "splits": ["all"], "granularity": "block", "backends": ["socket"]},
        **{"engines": ["eager"], "profiles": ["lan"], "batch_sizes": [8], "depths": [1], "pipelines": ["pi-to-pi"]},
        **{"weights": "random", "input": "synthetic", "input_encoding": "raw", "streams": "auto"},
        **{"window": {"batches": None, "seconds": 0.8, "min_batches": 5}, "warmup_batches": 3, "cell_timeout_s": None},
        **{"seed": 0, "rounds": 5, "matrix": []},
    }
    return base | changes


def run_json(testbed="agents", **changes):
    cuts = [{"index": k, "name": f"features.{k - 1}", "paper_name": f"P{k}"} for k in range(21)]
    models = [{"model": "mobilenet_v2", "granularity": "block", "cuts": cuts}]
    return {"testbed": testbed, "spec": spec(**changes), "inventory": {"path": "/x/virtual.yml"}, "models": models}


def test_not_enough_rounds_names_how_many_and_the_command(tmp_path):
    found = recommended(CLOSE, run_json(), latency_max_s=1.0)
    apart = found.answers[0].apart
    assert not apart.told_apart
    differences = np.log(100 * (1 + np.array([0.1, -0.1, 0.05, -0.05, 0.0]))) - np.log(
        93 * (1 + np.array([-0.05, 0.1, -0.1, 0.0, 0.05]))
    )
    assert apart.rounds_needed == rounds_for_power(differences.mean(), differences.std(ddof=1))
    assert 5 < apart.rounds_needed <= MOST_ROUNDS
    text = words(found, tmp_path)
    n = apart.rounds_needed
    assert f"Not enough rounds to tell these two apart: {n} would, {n - 5} more than there are" in text
    options = "--inventory /x/virtual.yml --pipeline pi-to-pi --model mobilenet_v2 --split P3,P4 --backend socket"
    options += " --engine eager --profile lan --batch-size 8 --depth 1 --seconds 0.8 --min-batches 5"
    command = f"    pp-matrix run {options} --rounds {n} --out {tmp_path}/run-P3-or-P4-{n}-rounds"
    assert command in text.splitlines()


@pytest.mark.parametrize(
    ("testbed", "why"),
    [
        ("simulated", "the times were declared, so more rounds would measure nothing"),
        ("imported", "these results were imported, so they cannot be measured again from here"),
        ("", "run.json does not say how these points were measured"),
    ],
)
def test_no_command_where_nothing_can_be_measured_again(testbed, why, tmp_path):
    run = run_json(testbed) if testbed else {"testbed": "agents"}
    found = recommended(CLOSE, run, latency_max_s=1.0)
    text = words(found, tmp_path)
    assert f"No command for it: {why}." in text
    assert "pp-matrix run" not in text
    assert ("Simulated testbed" in text, "Imported results" in text) == (testbed == "simulated", testbed == "imported")


def test_two_that_no_number_of_rounds_tells_apart_are_equal(tmp_path):
    same = [(3, (0.01, -0.01, 0.0, 0.005, -0.005)), (4, (-0.01, 0.01, 0.0, -0.005, 0.0049))]
    records = [
        record(k, round_=r, latency_s=0.1, throughput_img_s=100 * (1 + w)) for k, ws in same for r, w in enumerate(ws)
    ]
    text = words(recommended(records, run_json(), latency_max_s=1.0), tmp_path)
    assert "for practical purposes they are equal" in text
    assert "More than 100 rounds" in text
    assert "pp-matrix" not in text
    wide = [
        record(k, round_=r, latency_s=0.1, throughput_img_s=100 * (1 + 5 * w))
        for k, ws in same
        for r, w in enumerate(ws)
    ]
    found = recommended(wide, run_json(), latency_max_s=1.0)
    assert found.answers[0].apart.rounds_needed is None
    assert f"{found.answers[0].apart.rounds_to_narrow}, " in words(found, tmp_path)
    assert "would narrow the interval to ± 5 %" in words(found, tmp_path)


def test_one_round_gives_point_estimates_only(tmp_path):
    found = recommended([*rounds(3, 0.1, 40.0, n=1), *rounds(4, 0.2, 90.0, n=1)], latency_max_s=1.0)
    (answer,) = found.answers
    assert answer.choice.split == "P4"
    assert math.isnan(answer.choice.p_best)
    text = words(found, tmp_path)
    assert "One valid round: these are point estimates" in text
    assert "Probabilities are n/a" in text
    assert "Whether the two differ is n/a: 1 round valid in both." in text


def test_a_runner_up_that_is_better_at_the_rest_is_said(tmp_path):
    half = [r | {"latency_s": 0.05} if r["split"] == "P4" else r for r in CLOSE]
    text = words(recommended(half, run_json(), latency_max_s=1.0), tmp_path)
    assert "The runner-up does it with 0.500 x the latency, which the rule does not count." in text
    assert "which the rule does not count" not in words(recommended(CLOSE, latency_max_s=1.0), tmp_path)
    more = [r | {"throughput_img_s": 200.0 if r["split"] == "P3" else 100.0} for r in CLOSE]
    shaken = [r | {"latency_s": 0.1 * (1 + 0.1 * (-1) ** r["round"] * (r["split"] == "P3"))} for r in more]
    text = words(recommended(shaken, throughput_min_img_s=1.0), tmp_path)
    assert "The runner-up does it with 2.00 x the throughput, which the rule does not count." in text


def test_points_without_a_valid_round_do_not_compete(tmp_path):
    found = recommended([*FOUR, *(failed(k=9, round_=r) for r in range(5))])
    assert found.answers[0].choice.split == "P5"
    assert "1 point without a valid round could not compete." in words(found, tmp_path)
    with pytest.raises(RecommendationError, match="no operating point has a valid round"):
        recommended([failed(k=9)])


def test_a_null_depth_is_a_depth_of_its_own(tmp_path):
    found = recommended([r | {"depth": None} for r in FOUR], depths=())
    assert found.answers[0].choice.depth is None
    assert "P5" in words(found, tmp_path)
    assert "Depth unknown" in words(found, tmp_path)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"profile": "lann"}, r"no profile 'lann' here \(did you mean lan\?\); there is lan"),
        ({"backends": ("rpc",)}, "no backend 'rpc' here; there is socket"),
        ({"depths": (2,)}, "no depth '2' here; there is 1"),
        ({"model": "vgg16"}, "no model 'vgg16' here"),
    ],
)
def test_unknown_names_are_refused(wish, message):
    with pytest.raises(RecommendationError, match=message):
        recommended(FOUR, **wish)


def two_networks(lan, slow, **changes):
    """Points (index -> throughput) under two networks."""
    return [
        one
        for profile, points in (("lan", lan), ("slow", slow))
        for k, throughput in points.items()
        for one in rounds(k, 0.1, throughput, profile=profile, **changes)
    ]


def test_regret_and_the_robust_choice(tmp_path):
    # Regrets: P3 1 and 50 / 20, P4 100 / 90 and 50 / 45, P5 2 and 1: the greatest is the least for P4.
    records = two_networks({3: 100.0, 4: 90.0, 5: 50.0}, {3: 20.0, 4: 45.0, 5: 50.0})
    found = recommended(records, latency_max_s=1.0)
    lan, slow = found.answers
    assert (lan.choice.split, slow.choice.split) == ("P3", "P5")
    assert [math.exp(r.value) for r in (*lan.regrets, *slow.regrets)] == pytest.approx([2.5, 2.0])
    assert found.robust_picks["lan"].split == found.robust_picks["slow"].split == "P4"
    assert {p: math.exp(v) for p, v in found.robust.regrets.items()} == pytest.approx({"lan": 10 / 9, "slow": 10 / 9})
    assert found.robust.probability == 1.0
    text = words(found, tmp_path)
    assert "Under slow it has latency" in text
    assert "a factor of 2.500 in throughput behind the best of the 3 points measured under both networks, P5" in text
    assert "**P4, depth 1** has the least greatest regret of the 3 points measured under all networks" in text


def test_the_greatest_regret_counts_and_not_the_sum():
    # P4 loses a factor of 1.6 under both, P5 2.0 under one and nothing under the other.
    found = recommended(two_networks({3: 100.0, 4: 62.5, 5: 50.0}, {3: 20.0, 4: 31.25, 5: 50.0}), latency_max_s=1.0)
    assert found.robust_picks["slow"].split == "P4"
    assert math.exp(found.robust.worst) == pytest.approx(1.6)


def test_a_draw_without_a_feasible_point_speaks_for_nobody():
    # Under slow both points meet the bound or none does; P3 is the better one whenever it can be told.
    records = two_networks({3: 100.0, 4: 50.0}, {3: 100.0, 4: 50.0})
    records = [r | {"latency_s": r["latency_s"] * (0.5 if r["profile"] == "lan" else 1)} for r in records]
    found = recommended(records, latency_max_s=0.1001)
    assert 0.3 < found.answers[1].choice.p_meets < 0.7
    assert (found.robust_picks["lan"].split, found.robust.probability) == ("P3", 1.0)


def test_regret_compares_what_was_measured_under_both():
    # P6 is the best under slow, but nobody knows it under lan.
    records = two_networks({3: 100.0, 4: 90.0}, {3: 40.0, 4: 45.0, 6: 80.0})
    lan, slow = recommended(records, latency_max_s=1.0).answers
    (regret,) = lan.regrets
    assert (regret.n_common, math.exp(regret.value)) == (2, pytest.approx(45 / 40))
    assert (slow.choice.split, slow.regrets[0].measured) == ("P6", False)


def test_a_choice_that_breaks_the_constraints_elsewhere_is_not_robust(tmp_path):
    records = two_networks({3: 100.0, 4: 90.0}, {3: 100.0, 4: 45.0})
    records = [r | {"latency_s": 5.0} if (r["profile"], r["split"]) == ("slow", "P3") else r for r in records]
    found = recommended(records, latency_max_s=1.0)
    assert found.answers[0].regrets[0].value == math.inf
    assert found.robust_picks["lan"].split == "P4"
    assert "Under slow it breaks the constraints: latency 5000 ms" in words(found, tmp_path).replace(" ± 0", "")
    everywhere = [r | {"latency_s": 5.0} if r["profile"] == "slow" else r for r in records]
    found = recommended(everywhere, latency_max_s=1.0)
    assert not found.complete
    assert found.robust.unsolvable == ("slow",)
    assert found.robust_picks["lan"].split == "P3"
    assert "none of the 2 points measured under both networks meets the constraints" in words(found, tmp_path)


def test_no_common_points_no_robust_choice(tmp_path):
    found = recommended(two_networks({3: 100.0}, {4: 45.0}))
    assert found.robust.n_common == 0
    assert "No point was measured under all networks" in words(found, tmp_path)
    assert "Under slow: not measured, so nothing is known of it there." in words(found, tmp_path)


def test_the_crowd_is_drawn_where_it_matters(monkeypatch):
    chance = random.Random(1)
    records = [one for k in range(40) for one in rounds(k, 0.1 + chance.random(), 10 + 90 * chance.random(), n_cuts=60)]
    whole = recommended(records, latency_max_s=0.6).answers[0]
    monkeypatch.setattr("analysis.recommending.field._CROWD", 10)
    monkeypatch.setattr("analysis.recommending.field._CONTENDERS", 10)
    part = recommended(records, latency_max_s=0.6).answers[0]
    assert (part.drawn, whole.drawn) == (10, 40)
    assert part.candidates["p_best"].count() == 10
    assert part.choice.p_best == whole.choice.p_best > 0.5


def test_one_host_is_one_deployment_whatever_the_backend(tmp_path):
    local = {"k": 20, "n_stages": 1}
    records = [
        *rounds(3, 0.2, 40.0),
        *rounds(**local, latency_s=0.1, throughput_img_s=80.0),
        *rounds(**local, latency_s=0.1, throughput_img_s=81.0, backend="rpc"),
        *rounds(**local, latency_s=0.1, throughput_img_s=79.0, backend="rpc", profile="slow"),
        *rounds(3, 0.2, 40.0, profile="slow"),
    ]
    found = recommended(records)
    lan, slow = found.answers
    assert found.twins == ("rpc",)
    assert (lan.choice.backend, lan.choice.p_best, lan.runner_up.split) == ("socket", 1.0, "P3")
    assert (slow.choice.backend, slow.regrets[0].measured) == ("rpc", True)
    assert "All on one host was measured with rpc, too" in words(found, tmp_path)
    lost = [failed(k=20, backend="socket", round_=r) for r in range(5)]
    only = recommended([r for r in records if (r["backend"], r["split"]) != ("socket", "20")] + lost)
    assert only.answers[0].choice.backend == "rpc"


def test_the_knees_regret_is_told_in_both_objectives(tmp_path):
    slow = [*rounds(3, 0.1, 90.0, profile="slow"), *rounds(5, 0.3, 45.0, profile="slow")]
    text = words(recommended([*FOUR, *slow]), tmp_path)
    assert "3.00 x the latency and 0.500 x the throughput of the best of the 2 points" in text


# ---- the command


def picked(run, *wanted, **wish):
    """Two points of a run that has several backends, batch sizes and depths."""
    records = [
        one
        for backend in ("socket", "rpc")
        for batch in (1, 8)
        for depth in (1, 4)
        for k in (3, 4)
        for one in rounds(k, 0.1, 50.0, n=2, backend=backend, batch_size=batch, depth=depth)
    ]
    frame = frame_of_records(records)
    points = operating_points(frame)
    found = []
    for k, backend, batch, depth in wanted:
        only = {"backends": (backend,), "batch_sizes": (batch,), "depths": (depth,)}
        here = recommend(points[points["split_index"] == str(k)], frame, Wish(**only), run)
        found.append(here.answers[0].choice)
    return found


def options_of(run, *wanted):
    return more_rounds(run, picked(run, *wanted), 7)


BACKENDS = {"backends": ["socket", "rpc"], "batch_sizes": [1, 8], "depths": [1, 4]}


def test_one_cell_at_two_depths_is_one_cell(tmp_path):
    more = options_of(run_json(**BACKENDS), (3, "rpc", 8, 1), (3, "rpc", 8, 4))
    assert not more.spec
    (line,) = more.lines(tmp_path / "a run")
    assert "--split P3 --backend rpc --engine eager --profile lan --batch-size 8 --depth 1,4" in line
    assert line.endswith(f"--rounds 7 --out '{tmp_path}/a run-P3-7-rounds'")


def test_cells_that_differ_in_more_than_one_axis_are_entries_of_a_matrix(tmp_path):
    more = options_of(run_json(**BACKENDS, warmup_batches=9, seed=4), (3, "rpc", 8, 1), (4, "socket", 8, 4))
    assert more.spec == {
        "warmup_batches": 9,
        "matrix": [
            {"splits": ["P3"], "backends": ["rpc"], "depths": [1]},
            {"splits": ["P4"], "backends": ["socket"], "depths": [4]},
        ],
    }
    assert not {"--split", "--backend", "--depth"} & set(more.options)
    written, line = more.lines(tmp_path / "run")
    assert written.startswith("echo '{")
    assert written.endswith(f"> {tmp_path}/run-P3-or-P4-7-rounds.json")
    assert line.startswith(f"pp-matrix run --spec {tmp_path}/run-P3-or-P4-7-rounds.json --inventory /x/virtual.yml")
    assert "--seed 4 --rounds 7" in line


def test_each_cell_is_measured_as_its_own_entry_of_the_spec_says():
    windows = [{"batches": 30, "seconds": None, "min_batches": 5}, {"batches": None, "seconds": 2.0, "min_batches": 8}]
    matrix = [
        {"splits": ["0", "P3"], "batch_sizes": [8], "window": windows[0]},
        {"splits": ["4:9", "N"], "batch_sizes": [8], "window": windows[1], "streams": 4},
    ]
    run = run_json(**BACKENDS | {"matrix": matrix})
    more = options_of(run, (3, "socket", 8, 1))
    assert "--batches 30" in " ".join(more.options)
    more = options_of(run, (4, "socket", 8, 1))
    assert "--streams 4 --seconds 2.0 --min-batches 8" in " ".join(more.options)
    more = options_of(run, (3, "socket", 8, 1), (4, "socket", 8, 1))
    assert [entry["window"] for entry in more.spec["matrix"]] == windows
    with pytest.raises(NoCommand, match="no entry of the spec"):
        options_of(run, (3, "socket", 1, 1))
