import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_points import COLUMNS, front_by_definition, measured
from synthetic_run import failed, invalid, record

from analysis.fronts.indicators import hypervolume
from analysis.fronts.marking import MARKS, mark_fronts
from analysis.fronts.resampling import resample_means
from analysis.objectives import DEFAULT_OBJECTIVES, Objective, directions
from analysis.operating_points import operating_points
from analysis.run import frame_of_records

DRAWS = 40
A_B = (Objective("a", False), Objective("b", True))


@st.composite
def measurements(draw, most_objectives=4):
    """Values [points, rounds, objectives] with ties, duplicates, constants and rounds that failed; directions."""
    n = draw(st.integers(2, most_objectives))
    n_points = draw(st.integers(1, 7))
    seed = draw(st.integers(0, 2**16))
    generator = np.random.default_rng(seed)
    means = generator.integers(0, 4, size=(n_points, 1, n)).astype(float)
    noise = draw(st.sampled_from([0.0, 0.05, 1.0])) * generator.normal(size=(n_points, 4, n))
    values = means + noise * (generator.random((n_points, 1, 1)) < 0.8)
    values[generator.random((n_points, 4)) < draw(st.sampled_from([0.0, 0.4]))] = np.nan
    if n_points > 1 and draw(st.booleans()):
        values[0] = values[-1]
    return values, [Objective(c, bool(up)) for c, up in zip(COLUMNS, generator.random(n) < 0.5, strict=False)]


def draws_by_definition(points, frame, objectives):
    """Draws [draws, points, objectives] in which a point with one round stands at its value."""
    columns = [o.column for o in objectives]
    draws = resample_means(points, frame, columns, draws=DRAWS)
    return np.where(np.isnan(draws), points[columns].to_numpy(), draws)


@settings(max_examples=40, deadline=None)
@given(measurements())
def test_fronts_are_the_definition(measurement):
    values, objectives = measurement
    points, frame = measured(values)
    marked = mark_fronts(points, frame, objectives=objectives, draws=DRAWS)
    maximise = directions(objectives)
    means = points[[o.column for o in objectives]].to_numpy()
    found = marked.points
    assert found["on_frontier"].tolist() == front_by_definition(means, maximise)
    assert (found["on_frontier"] == (found["dominance_rank"] == 1)).all()
    assert found["dominance_rank"].isna().tolist() == np.isnan(means).any(axis=1).tolist()
    draws = draws_by_definition(points, frame, objectives)
    shares = np.mean([front_by_definition(draw, maximise) for draw in draws], axis=0)
    rounds = np.isfinite(values).all(axis=2).sum(axis=1)
    expected = np.where(rounds >= 2, shares, np.nan)
    assert found["membership"].tolist() == pytest.approx(expected.tolist(), nan_ok=True)


@settings(max_examples=20, deadline=None)
@given(measurements(most_objectives=3))
def test_the_hypervolume_and_its_interval_are_those_of_means_and_draws(measurement):
    values, objectives = measurement
    points, frame = measured(values)
    (front,) = mark_fronts(points, frame, objectives=objectives, draws=DRAWS).fronts
    maximise = directions(objectives)
    means = points[[o.column for o in objectives]].to_numpy()
    if np.isnan(means).all():
        assert math.isnan(front.hypervolume)
        return
    assert front.hypervolume == pytest.approx(hypervolume(means, front.reference, maximise))
    if (np.isfinite(values).all(axis=2).sum(axis=1) < 2).all():
        assert math.isnan(front.hypervolume_low)
        assert front.attainment is None
        return
    volumes = [hypervolume(draw, front.reference, maximise) for draw in draws_by_definition(points, frame, objectives)]
    assert [front.hypervolume_low, front.hypervolume_high] == pytest.approx(np.quantile(volumes, [0.025, 0.975]))


def attained(line, place, maximise):
    better = [line[:, i] >= place[i] if up else line[:, i] <= place[i] for i, up in enumerate(maximise)]
    return bool(np.logical_and(*better).any())


@settings(max_examples=20, deadline=None)
@given(measurements(most_objectives=2), st.integers(0, 2**16))
def test_an_attainment_line_bounds_what_so_many_draws_attain(measurement, seed):
    values, objectives = measurement
    points, frame = measured(values)
    (front,) = mark_fronts(points, frame, objectives=objectives, draws=DRAWS).fronts
    if front.attainment is None:
        return
    maximise = directions(objectives)
    draws = draws_by_definition(points, frame, objectives)
    draws = draws[:, np.isfinite(draws).all(axis=(0, 2))]
    places = np.random.default_rng(seed).uniform(-1, 4, size=(15, 2))
    # Corners of the draws too, where the answer changes.
    places = [*places, *draws[:2, :2].reshape(-1, 2)]
    for place in places:
        share = np.mean([attained(draw, place, maximise) for draw in draws])
        for line, least in (
            (front.attainment.low, 0.975),
            (front.attainment.median, 0.5),
            (front.attainment.high, 0.025),
        ):
            assert attained(line, place, maximise) == (share >= least - 1e-9)


def test_lines_run_by_the_first_objective_and_lie_in_order():
    generator = np.random.default_rng(0)
    x = np.linspace(1, 5, 9)
    values = np.stack([x, 10 * np.sqrt(x)], axis=1)[:, None, :] * generator.normal(1, 0.03, size=(9, 5, 2))
    (front,) = mark_fronts(*measured(values), objectives=A_B).fronts
    lines = front.attainment
    for line in (lines.low, lines.median, lines.high):
        assert (np.diff(line[:, 0]) > 0).all()
        assert (np.diff(line[:, 1]) > 0).all()
    assert lines.high[0, 0] < lines.median[0, 0] < lines.low[0, 0]
    assert lines.high[-1, 1] > lines.median[-1, 1] > lines.low[-1, 1]


def test_a_crowd_far_from_the_front_changes_nothing():
    generator = np.random.default_rng(1)
    near = generator.normal([1.0, 10.0], 0.05, size=(10, 5, 2))
    crowd = generator.normal([90.0, 1.0], 0.05, size=(2000, 5, 2))
    alone = mark_fronts(*measured(near), objectives=A_B).points
    together = mark_fronts(*measured(np.concatenate([near, crowd])), objectives=A_B).points
    assert together["membership"][:10].tolist() == alone["membership"].tolist()
    assert (together["membership"][10:] == 0).all()


def test_membership_tells_members_from_others_where_noise_blurs_them():
    """Eight places on a true front, seven a little behind it; noise as large as the distance."""
    generator = np.random.default_rng(2)
    x = np.linspace(1, 5, 8)
    truth = np.concatenate([np.stack([x, 2 * x], axis=1), np.stack([x[1:] + 0.1, 2 * x[1:] - 0.1], axis=1)])
    memberships = []
    for seed in range(20):
        values = truth[:, None, :] + generator.normal(0, 0.1, size=(15, 5, 2))
        points, frame = measured(values)
        marked = mark_fronts(points, frame, objectives=A_B, draws=200, seed=seed)
        memberships.append(marked.points["membership"].to_numpy())
    mean = np.mean(memberships, axis=0)
    assert mean[:8].mean() > 0.85
    assert 0.02 < mean[8:].mean() < 0.3


def marked(*records, **options):
    frame = frame_of_records(records)
    return mark_fronts(operating_points(frame), frame, **options)


def test_a_single_round_has_no_membership_and_no_interval():
    found = marked(record(3), record(4, latency_s=0.3, throughput_img_s=50.0))
    assert found.points["membership"].isna().all()
    assert found.points["on_frontier"].all()
    (front,) = found.fronts
    assert front.hypervolume == pytest.approx((0.33 - 0.2) * 40 + (0.33 - 0.3) * 10)
    assert math.isnan(front.hypervolume_low)
    assert front.attainment is None


def test_a_point_with_one_round_stands_at_its_value_among_others():
    slow = [record(4, round_=i, latency_s=0.4 + i / 1000, throughput_img_s=20.0) for i in range(3)]
    found = marked(record(3), *slow).points
    assert found["membership"].isna().tolist() == [True, False]
    assert found["membership"].iloc[1] < 0.05


def test_what_was_never_measured_is_on_no_front_and_evicts_nobody():
    found = marked(
        *(record(3, round_=i, latency_s=0.2 + i / 1000) for i in range(3)),
        failed(k=4),
        invalid(k=5, latency_s=0.001, throughput_img_s=1e6),
    ).points
    assert found["on_frontier"].tolist() == [True, False, False]
    assert found["membership"].tolist() == pytest.approx([1.0, math.nan, math.nan], nan_ok=True)
    assert found["dominance_rank"].tolist() == pytest.approx([1.0, math.nan, math.nan], nan_ok=True)


def test_nothing_valid():
    found = marked(failed(k=4), failed(k=5))
    assert not found.points["on_frontier"].any()
    (front,) = found.fronts
    assert math.isnan(front.hypervolume)
    assert front.reference_words == "none: no valid point"


def test_fronts_of_a_model_share_a_reference_and_say_it():
    lan = [record(3, latency_s=0.2), record(4, latency_s=0.3, throughput_img_s=50.0)]
    duress = [record(3, latency_s=2.0, throughput_img_s=4.0, profile="duress")]
    other = [record(3, model="vgg16", latency_s=9.0)]
    fronts = marked(*lan, *duress, *other).fronts
    assert [front.key for front in fronts] == [
        {"model": "mobilenet_v2", "profile": "lan"},
        {"model": "mobilenet_v2", "profile": "duress"},
        {"model": "vgg16", "profile": "lan"},
    ]
    assert [front.reference for front in fronts] == [pytest.approx((worst, 0.0)) for worst in (2.2, 2.2, 9.9)]
    assert fronts[0].reference_words == "latency_s 2.2 (1.1 x the worst), throughput_img_s 0"
    given = marked(*lan, *duress, reference=(0.25, 10.0)).fronts
    assert given[0].hypervolume == pytest.approx(0.05 * 30)
    assert given[1].hypervolume == 0.0
    assert given[0].reference_words == "latency_s 0.25, throughput_img_s 10 (given)"


def test_marks_stand_after_the_note_and_replace_older_ones():
    frame = frame_of_records([record(3), record(4)])
    once = mark_fronts(operating_points(frame), frame)
    twice = mark_fronts(once.points, frame)
    columns = list(once.points.columns)
    assert tuple(columns[columns.index("note") + 1 :][: len(MARKS)]) == MARKS
    assert list(twice.points.columns) == columns


def test_by_names_what_tells_fronts_apart():
    found = marked(record(3), record(3, backend="rpc", latency_s=0.9), by="backend")
    assert found.points["on_frontier"].all()
    assert [front.key["backend"] for front in found.fronts] == ["socket", "rpc"]
    assert [front.index for front in found.fronts] == [[0], [1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": DEFAULT_OBJECTIVES[:1]}, "two objectives or more"),
        ({"reference": (1.0,)}, "a reference of 1 values for 2 objectives"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        marked(record(3), **options)


def test_the_same_seed_gives_the_same_numbers():
    records = [record(k, round_=i, latency_s=0.2 + (k * 7 + i * 3) % 5 / 100) for k in (3, 4, 5) for i in range(4)]
    one, same, other = marked(*records), marked(*records), marked(*records, seed=1)
    assert one.points["membership"].tolist() == same.points["membership"].tolist()
    assert one.fronts[0].hypervolume_low == same.fronts[0].hypervolume_low != other.fronts[0].hypervolume_low
