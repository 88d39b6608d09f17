import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_run import failed, invalid, record, write_run

from analysis.comparing.comparison import pick_baseline
from analysis.fronts.dominance import nondominated
from analysis.fronts.indicators import epsilon_factor
from analysis.fronts.marking import mark_fronts
from analysis.markup import markdown
from analysis.networks.matching import match_points, with_granularity
from analysis.networks.overlay import print_network_overlay
from analysis.networks.shift import regrets, shift_networks
from analysis.networks.side import side_of
from analysis.networks.tables import cut_words, left_out_words, shift_remarks, shift_table, summary_rows, summary_table
from analysis.objectives import DEFAULT_OBJECTIVES, Objective
from analysis.operating_points import operating_points
from analysis.output import InputError
from analysis.run import frame_of_records, read_run

MAXIMISE = [False, True]
LAN = {1: (0.1, 10.0), 2: (0.2, 20.0), 3: (0.4, 15.0)}
SLOW = {1: (0.8, 5.0), 2: (0.4, 10.0), 3: (0.5, 12.0)}


def measured(places, profile="lan", rounds=2, noise=0.0, **axes):
    """`rounds` records of each cut, which differ by the part `noise` to both sides of their mean in pairs."""
    return [
        record(k, latency_s=x * (1 + wobble), throughput_img_s=y * (1 - wobble), round_=r, profile=profile, **axes)
        for k, (x, y) in places.items()
        for r in range(rounds)
        for wobble in [noise * (-1) ** (r + k)]
    ]


def shifts_of(*records, others=("slow",), objectives=DEFAULT_OBJECTIVES, reference=(1.0, 0.0), draws=100):
    frame = frame_of_records(records)
    points = operating_points(frame, [objective.column for objective in objectives])
    models = dict.fromkeys(points["model"], reference)
    return shift_networks(points, frame, "lan", others, objectives, models, draws)


def the_shift(*records, **options):
    (shift,), apart = shifts_of(*records, **options)
    assert not apart
    return shift


def test_what_stays_enters_and_leaves_computed_by_hand():
    shift = the_shift(*measured(LAN), *measured(SLOW, "slow"))
    assert dict(zip(shift.points["split"], shift.points["shift"], strict=True)) == {
        "P1": "leaves",
        "P2": "stays",
        "P3": "enters",
    }
    assert [shift.cuts(kind) for kind in ("stays", "enters", "leaves")] == [["P2"], ["P3"], ["P1"]]
    assert [shift.count(kind) for kind in ("stays", "enters", "leaves", "")] == [1, 1, 1, 0]
    # P1 at (0.8, 5) must be twice as good to be no worse than P2 at (0.4, 10).
    assert shift.points["regret"].tolist() == pytest.approx([2.0, 1.0, 1.0])
    # To give P1's 0.1 s again, the best of the slow front, P2 at 0.4 s, must be four times as fast.
    assert shift.epsilon.value == pytest.approx(4.0)
    # (1 - 0.2) 20 + (0.2 - 0.1) 10 and (1 - 0.5) 12 + (0.5 - 0.4) 10
    assert shift.hypervolumes == pytest.approx((17.0, 7.0))
    assert shift.hypervolume_ratio.value == pytest.approx(7 / 17)


def test_rounds_without_spread_give_intervals_without_width():
    shift = the_shift(*measured(LAN), *measured(SLOW, "slow"))
    assert (shift.epsilon.low, shift.epsilon.high) == pytest.approx((4.0, 4.0))
    assert (shift.hypervolume_ratio.low, shift.hypervolume_ratio.high) == pytest.approx((7 / 17, 7 / 17))
    assert shift.points["regret_ci95_high"].tolist() == pytest.approx([2.0, 1.0, 1.0])
    assert shift.points["baseline_membership"].tolist() == [1.0, 1.0, 0.0]
    assert shift.points["other_membership"].tolist() == [0.0, 1.0, 1.0]


def test_intervals_widen_with_the_noise_of_the_rounds_and_hold_the_value():
    widths = []
    for noise in (0.005, 0.02):
        shift = the_shift(*measured(LAN, rounds=6, noise=noise), *measured(SLOW, "slow", rounds=6, noise=noise))
        for estimate in (shift.epsilon, shift.hypervolume_ratio):
            assert estimate.low < estimate.value < estimate.high
        widths.append(shift.hypervolume_ratio.high - shift.hypervolume_ratio.low)
    assert widths[0] * 3 < widths[1] < widths[0] * 5


def test_networks_are_drawn_independently_of_each_other():
    # Alike under both networks, every draw's ratio would be 1 if their rounds were taken as pairs.
    places = {1: (0.1, 10.0)}
    shift = the_shift(*measured(places, rounds=5, noise=0.02), *measured(places, "slow", rounds=5, noise=0.02))
    assert shift.hypervolume_ratio.value == pytest.approx(1.0)
    assert shift.hypervolume_ratio.low < 0.99
    assert shift.hypervolume_ratio.high > 1.01


def test_points_that_may_be_either_way_have_a_membership_between():
    close = {1: (0.1, 10.0), 2: (0.1004, 10.0)}
    shift = the_shift(*measured(close, rounds=6, noise=0.01), *measured(SLOW, "slow"), draws=400)
    assert 0.5 < shift.points["baseline_membership"].iloc[0] < 1.0
    assert 0.05 < shift.points["baseline_membership"].iloc[1] < 1.0


def test_one_round_has_no_membership_and_no_interval():
    shift = the_shift(*measured(LAN, rounds=1), *measured(SLOW, "slow", rounds=3))
    assert shift.points["baseline_membership"].isna().all()
    assert shift.points["other_membership"].notna().all()
    assert shift.epsilon.value == pytest.approx(4.0)
    assert math.isnan(shift.epsilon.low)
    assert math.isnan(shift.hypervolume_ratio.high)
    # The regret is of the other network alone, whose rounds are known.
    assert shift.points["regret_ci95_low"].notna().all()
    text = markdown(shift_table([shift])) + markdown(summary_table([shift]))
    assert "n/a→100" in text
    assert "4.00 (n/a)" in text
    assert any("one valid round" in line for line in shift_remarks([shift], []))


def test_only_points_measured_under_both_compete():
    # The first cut would dominate everything under lan, but nobody knows it under the other network.
    best = measured({0: (0.01, 99.0)})
    shift = the_shift(*best, *measured(LAN), *measured(SLOW, "slow"))
    assert shift.points["split"].tolist() == ["P1", "P2", "P3"]
    assert shift.count("leaves") == 1
    assert left_out_words(shift) == "1 operating point left out: 1 (cut remote: lan only)"


@pytest.mark.parametrize(
    ("lonely", "words"),
    [
        (measured(LAN, batch_size=1), "3 (batch size 1: lan only)"),
        (measured(SLOW, "slow", backend="rpc"), "3 (backend rpc: slow only)"),
        (measured(LAN, depth=4), "3 (depth 4: lan only)"),
        (measured(LAN, depth=4, batch_size=1), "3 (batch size 1: lan only)"),
        (measured(dict.fromkeys(range(4, 13), (9.0, 1.0))), "9 (cuts P4, P5, P6, P7, P8, P9 and 3 more: lan only)"),
        (
            [invalid(k=4), record(4, profile="slow"), failed(k=5), failed(k=5, profile="slow")],
            "2 (measured under both, no valid round under lan); "
            "2 (measured under both, no valid round under lan and slow)",
        ),
        (
            [*measured({4: (9.0, 1.0)}, cell="one"), *measured({4: (9.0, 1.0)}), *measured({4: (9.0, 1.0)}, "slow")],
            "3 (measured more than once with equal axes)",
        ),
    ],
)
def test_what_is_left_out_is_counted_with_its_reason(lonely, words):
    shift = the_shift(*measured(LAN), *measured(SLOW, "slow"), *lonely)
    assert len(shift.points) == 3
    assert left_out_words(shift).partition(": ")[2] == words


def test_points_whose_axes_are_combined_otherwise_under_the_other_network():
    lonely = [*measured({3: (9.0, 1.0)}, backend="rpc"), *measured({2: (9.0, 1.0)}, "slow", backend="rpc")]
    shift = the_shift(*measured(LAN), *measured(SLOW, "slow"), *lonely)
    assert left_out_words(shift) == (
        "2 operating points left out: 1 (this combination of axes: lan only); 1 (this combination of axes: slow only)"
    )


def test_the_same_index_at_another_granularity_is_another_cut():
    frame = frame_of_records([*measured(LAN), *measured(SLOW, "slow")])
    points = with_granularity(operating_points(frame), frame.assign(granularity="block"))
    assert len(match_points(points, "lan", "slow").baseline) == 3
    points.loc[points["profile"] == "lan", "granularity"] = "node"
    matching = match_points(points, "lan", "slow")
    assert matching.baseline == ()
    assert [lost.reason for lost in matching.left_out] == ["granularity node: lan only", "granularity block: slow only"]


def test_unknown_depths_are_matched_and_said():
    records = [one | {"depth": None} for one in (*measured(LAN), *measured(SLOW, "slow"))]
    frame = frame_of_records(records)
    points = with_granularity(operating_points(frame), frame)
    matching = match_points(points, "lan", "slow")
    assert (len(matching.baseline), matching.unknown_depths) == (3, 3)


def test_models_are_apart_and_several_networks_each_have_a_shift():
    records = [
        *measured(LAN),
        *measured(SLOW, "slow"),
        *measured({1: (0.2, 9.0)}, "slower"),
        *measured(LAN, model="vgg16"),
        *measured(SLOW, "slow", model="alexnet"),
    ]
    shifts, apart = shifts_of(*records, others=("slow", "slower"))
    assert [(s.model, s.other, len(s.points)) for s in shifts] == [
        ("mobilenet_v2", "slow", 3),
        ("mobilenet_v2", "slower", 1),
    ]
    assert [(nothing.model, nothing.other, left_out_words(nothing)) for nothing in apart] == [
        ("vgg16", "slow", "3 operating points left out: 3 (model not measured under slow)"),
        ("vgg16", "slower", "3 operating points left out: 3 (model not measured under slower)"),
        ("alexnet", "slow", "3 operating points left out: 3 (model not measured under lan)"),
    ]


def test_objectives_are_free():
    objectives = (*DEFAULT_OBJECTIVES, Objective("network_s", False))
    shift = the_shift(*measured(LAN), *measured(SLOW, "slow"), objectives=objectives, reference=(1.0, 0.0, 1.0))
    assert "baseline_network_s_ci95_low" in shift.points
    assert shift.epsilon.value == pytest.approx(4.0)


def test_points_without_a_value_of_an_objective_are_on_no_front():
    objectives = (DEFAULT_OBJECTIVES[0], Objective("network_s", False))
    records = [*measured(LAN, depth=2), *measured(SLOW, "slow", depth=2)]
    shift = the_shift(*records, objectives=objectives, reference=(1.0, 1.0))
    assert shift.count("") == 3
    assert math.isnan(shift.epsilon.value)
    assert math.isnan(shift.hypervolume_ratio.value)
    assert "no front" in " ".join(shift_remarks([shift], []))


def test_draws_below_zero_give_wide_intervals_and_no_error():
    noisy = dict.fromkeys((1, 2), (0.1, 10.0))
    shift = the_shift(*measured(noisy, noise=0.5), *measured(noisy, "slow", noise=0.5), draws=400)
    assert shift.epsilon.low < 1 < 50 < shift.epsilon.high


def test_few_of_many_points_are_drawn_and_none_of_those_is_missed():
    places = {k: (0.1 + 0.01 * k, 10.0 - 0.5 * k) for k in range(1, 19)}
    frame = frame_of_records(measured(places, rounds=4, noise=0.01))
    side = side_of(operating_points(frame), frame, DEFAULT_OBJECTIVES, 200, 0)
    assert 1 <= len(side.able) < 10
    drawn = side.sample.block(np.arange(18), 0, 200)
    share = np.mean([nondominated(values, MAXIMISE) for values in drawn], axis=0)
    assert side.membership == pytest.approx(share)


fronts = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0.1, 100)), min_size=1, max_size=8).map(np.array)


@settings(max_examples=60, deadline=None)
@given(fronts)
def test_a_regret_is_one_where_nothing_is_better_in_everything_and_always_on_the_front(values):
    on_front = nondominated(values, MAXIMISE)
    found = regrets(values, values[on_front], MAXIMISE)
    assert (found >= 1).all()
    assert (found[on_front] == 1).all()
    for row, regret in zip(values, found, strict=True):
        beaten = ((values[:, 0] < row[0]) & (values[:, 1] > row[1])).any()
        # A difference in the last digits may vanish in the logarithm.
        assert (regret > 1 + 1e-12) <= beaten
        better = (values[:, 0] < row[0] * (1 - 1e-9)) & (values[:, 1] > row[1] * (1 + 1e-9))
        assert better.any() <= (regret > 1)


@settings(max_examples=60, deadline=None)
@given(fronts)
def test_improving_by_the_regret_is_what_it_takes(values):
    front = values[nondominated(values, MAXIMISE)]
    for row, regret in zip(values, regrets(values, front, MAXIMISE), strict=True):
        enough = np.array([row[0] / (regret * (1 + 1e-9)), row[1] * regret * (1 + 1e-9)])
        assert nondominated(np.vstack([front, enough]), MAXIMISE)[-1]
        if regret > 1 + 1e-6:
            short = np.array([row[0] / (regret * (1 - 1e-7)), row[1] * regret * (1 - 1e-7)])
            assert not nondominated(np.vstack([front, short]), MAXIMISE)[-1]


@settings(max_examples=40, deadline=None)
@given(fronts, st.floats(1, 20), st.floats(1, 20))
def test_epsilon_of_a_front_that_is_worse_everywhere_is_at_least_one(values, slower, fewer):
    front = values[nondominated(values, MAXIMISE)]
    worse = front * [slower, 1 / fewer]
    factor = epsilon_factor(worse, front, MAXIMISE)
    assert 1 - 1e-12 <= factor <= max(slower, fewer) * (1 + 1e-12)
    assert epsilon_factor(front, worse, MAXIMISE) <= 1 + 1e-12


@given(st.floats(1.1, 50))
@settings(max_examples=20, deadline=None)
def test_all_worse_by_one_factor_is_that_epsilon(factor):
    front = np.array([LAN[1], LAN[2]])
    assert epsilon_factor(front * [factor, 1 / factor], front, MAXIMISE) == pytest.approx(factor)


SUMMARY = """\
| model        | pairs | stay | enter | leave |          epsilon |   hypervolume ratio |
|--------------|------:|-----:|------:|------:|-----------------:|--------------------:|
| mobilenet_v2 |     3 |    1 |     1 |     1 | 4.00 (4.00-4.00) | 0.412 (0.412-0.412) |
"""
POINTS = """\
| model        | split | D | front  | latency ms |  images/s | front % | regret |  interval |
|--------------|-------|--:|--------|-----------:|----------:|--------:|-------:|----------:|
| mobilenet_v2 | P2    | 1 | stays  |    200→400 | 20.0→10.0 | 100→100 |   1.00 | 1.00-1.00 |
| mobilenet_v2 | P3    | 1 | enters |    400→500 | 15.0→12.0 |   0→100 |   1.00 | 1.00-1.00 |
| mobilenet_v2 | P1    | 1 | leaves |    100→800 | 10.0→5.00 |   100→0 |   2.00 | 2.00-2.00 |
"""


def test_the_printed_tables():
    shift = the_shift(*measured(LAN), *measured(SLOW, "slow"))
    assert markdown(summary_table([shift])) == SUMMARY
    assert markdown(shift_table([shift])) == POINTS
    assert cut_words(shift) == "cuts that stay: P2; enter: P3; leave: P1"
    (row,) = summary_rows([shift], [])
    assert (row["matched_points"], row["cuts_leave"], row["reference"]) == (
        3,
        "P1",
        "latency_s=1.0 throughput_img_s=0.0",
    )


def overlay(tmp_path, *records, baseline=None, format_="md", **run):
    data = read_run(write_run(tmp_path / "run", records, **run))
    marked = mark_fronts(operating_points(data.frame), data.frame, draws=50)
    print_network_overlay(data, marked, tmp_path / "out", format_, baseline)
    return sorted(path.name for path in (tmp_path / "out").iterdir())


def test_the_command_prints_two_tables_and_writes_the_rest(tmp_path, capsys):
    files = overlay(tmp_path, *measured(LAN), *measured(SLOW, "slow"))
    printed = capsys.readouterr()
    assert POINTS in printed.out
    assert all(len(line) <= 100 for line in printed.out.splitlines())
    assert "cuts that stay: P2; enter: P3; leave: P1" in printed.err
    assert files == [
        f"networks{name}" for name in ("-mobilenet_v2.csv", "-mobilenet_v2.png", "-mobilenet_v2.svg", ".csv")
    ]
    lines = (tmp_path / "out" / "networks-mobilenet_v2.csv").read_text().splitlines()
    assert lines[0].startswith("model,baseline,network,split,")
    assert [line.split(",")[:4] for line in lines[1:]] == [["mobilenet_v2", "lan", "slow", f"P{k}"] for k in (1, 2, 3)]


def test_with_csv_stdout_is_left_to_the_fronts(tmp_path, capsys):
    overlay(tmp_path, *measured(LAN), *measured(SLOW, "slow"), format_="csv")
    assert capsys.readouterr().out == ""


def test_nothing_in_common_is_a_sentence_and_no_picture(tmp_path, capsys):
    files = overlay(tmp_path, *measured(LAN), *measured(SLOW, "slow", batch_size=1))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "mobilenet_v2, lan → slow: nothing was measured under both; 6 operating points left out: " in printed.err
    assert files == ["networks.csv"]


def test_the_baseline_is_lan_or_one_without_links_or_the_one_asked_for(tmp_path, capsys):
    records = [*measured(LAN, "wifi"), *measured(SLOW, "slow")]
    overlay(tmp_path / "a", *records, profiles={"wifi": {"links": {}}, "slow": {"links": {"first-egress": {}}}})
    assert "wifi → slow" in capsys.readouterr().err
    overlay(tmp_path / "b", *records, baseline="slow")
    assert "slow → wifi" in capsys.readouterr().err
    with pytest.raises(InputError, match="no profile 'lan'"):
        overlay(tmp_path / "c", *records, baseline="lan")
    assert pick_baseline(["slow", "lan"], {}, "profile", None) == "lan"
