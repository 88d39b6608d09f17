import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measured_points import dominates, front_by_definition

from analysis.fronts.indicators import (
    default_reference,
    dominance_ranks,
    epsilon_factor,
    hypervolume,
    knee_points,
    utopia_distances,
)
from analysis.objectives import Objective

FEW = st.sampled_from([0.0, 1.0, 2.0, 3.0])
DOWN_UP = [False, True]


@st.composite
def fronts(draw, values=FEW, most=8, least=0):
    """Rows with many ties and duplicates, and directions, for two to four objectives."""
    n = draw(st.integers(2, 4))
    rows = draw(st.lists(st.tuples(*[values] * n), min_size=least, max_size=most))
    maximise = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    return np.array(rows, dtype=float).reshape(len(rows), n), maximise


def cubes(rows, reference, maximise):
    """How many unit cubes between whole-numbered rows and reference are dominated: counted one by one."""
    n = len(maximise)
    total = 0
    for corner in itertools.product(range(-1, 4), repeat=n):
        # The cube's worst corner, seen from the ideal: it is dominated if some row is as good as its best corner.
        best = [c + 1 if up else c for c, up in zip(corner, maximise, strict=True)]
        worst = [c if up else c + 1 for c, up in zip(corner, maximise, strict=True)]
        inside = all(w >= r if up else w <= r for w, r, up in zip(worst, reference, maximise, strict=True))
        reached = any(
            all(v >= b if up else v <= b for v, b, up in zip(row, best, maximise, strict=True)) for row in rows
        )
        total += inside and reached
    return total


@settings(max_examples=40, deadline=None)
@given(fronts())
def test_hypervolume_is_the_volume_counted_in_cubes(front):
    rows, maximise = front
    reference = [-1.0 if up else 4.0 for up in maximise]
    assert hypervolume(rows, reference, maximise) == pytest.approx(cubes(rows, reference, maximise))


def test_hypervolume_by_hand():
    rows = np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0], [np.nan, 99.0], [9.0, 99.0], [2.0, -1.0]])
    assert hypervolume(rows, (5.0, 0.0), DOWN_UP) == 1 * 10 + 3 * 30
    assert hypervolume(rows[:0], (5.0, 0.0), DOWN_UP) == 0.0


@settings(max_examples=40, deadline=None)
@given(fronts(most=10))
def test_ranks_are_fronts_peeled_off_one_by_one(front):
    rows, maximise = front
    expected, left = {}, list(range(len(rows)))
    for rank in range(1, len(rows) + 1):
        on = front_by_definition([rows[i] for i in left], maximise)
        expected |= {i: rank for i, best in zip(left, on, strict=True) if best}
        left = [i for i, best in zip(left, on, strict=True) if not best]
    assert dominance_ranks(rows, maximise).tolist() == [expected[i] for i in range(len(rows))]


def test_what_is_not_finite_has_no_rank():
    ranks = dominance_ranks(np.array([[np.nan, 9.0], [1.0, 5.0], [2.0, 4.0], [1.0, np.inf]]), DOWN_UP)
    assert ranks[1:3].tolist() == [1.0, 2.0]
    assert np.isnan(ranks[[0, 3]]).all()


def on(rows, maximise=DOWN_UP):
    return np.array(front_by_definition(rows, maximise))


def test_the_knee_is_furthest_from_the_line_through_the_ends():
    rows = np.array([[1.0, 10.0], [2.0, 40.0], [3.0, 60.0], [5.0, 70.0], [6.0, 20.0]])
    # Losses, normalised: (0, 1), (1/4, 1/2), (1/2, 1/6), (1, 0); sums 1, 3/4, 2/3, 1.
    assert knee_points(rows, on(rows), DOWN_UP).tolist() == [False, False, True, False, False]
    assert utopia_distances(rows, on(rows), DOWN_UP) == pytest.approx(
        [1.0, math.hypot(1 / 4, 1 / 2), math.hypot(1 / 2, 1 / 6), 1.0, math.hypot(5 / 4, 5 / 6)]
    )


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0, 10.0]],
        [[1.0, 10.0], [2.0, 20.0]],
        [[1.0, 10.0], [2.0, 15.0], [3.0, 30.0]],
        [[1.0, 10.0], [1.0, 10.0], [2.0, 5.0]],
    ],
)
def test_a_front_without_a_bulge_has_no_knee(rows):
    rows = np.array(rows)
    assert not knee_points(rows, on(rows), DOWN_UP).any()


def test_duplicates_of_the_knee_are_knees():
    rows = np.array([[1.0, 10.0], [2.0, 40.0], [2.0, 40.0], [5.0, 45.0]])
    assert knee_points(rows, on(rows), DOWN_UP).tolist() == [False, True, True, False]


@settings(max_examples=40, deadline=None)
@given(fronts(values=st.floats(0.1, 9), least=1), st.floats(0.1, 50))
def test_knees_and_distances_do_not_depend_on_units_and_a_knee_is_on_the_front(front, factor):
    rows, maximise = front
    best = on(rows, maximise)
    knees, distances = knee_points(rows, best, maximise), utopia_distances(rows, best, maximise)
    assert (best | ~knees).all()
    scaled = rows * ([factor] + [1.0] * (rows.shape[1] - 1))
    if (on(scaled, maximise) == best).all():
        assert utopia_distances(scaled, best, maximise) == pytest.approx(distances, rel=1e-6, abs=1e-6, nan_ok=True)
    assert (distances[best] <= math.sqrt(rows.shape[1]) + 1e-9).all()


def test_a_front_of_one_place_is_its_own_ideal_and_measures_nothing_else():
    rows = np.array([[1.0, 10.0], [2.0, 5.0]])
    distances = utopia_distances(rows, on(rows), DOWN_UP)
    assert distances[0] == 0
    assert math.isnan(distances[1])


def test_default_reference_and_its_words():
    rows = np.array([[0.2, 10.0, -3.0], [0.5, 20.0, 1.0], [np.nan, 99.0, 99.0]])
    objectives = [Objective("latency_s", False), Objective("images", True), Objective("gain", True)]
    place, words = default_reference(rows, objectives)
    assert place == pytest.approx((0.55, 0.0, -3.4))
    assert words == "latency_s 0.55 (1.1 x the worst), images 0, gain -3.4 (the worst and a tenth of the span)"
    assert default_reference(rows[2:], objectives)[1] == "none: no valid point"


@settings(max_examples=40, deadline=None)
@given(fronts(values=st.floats(-9, 9), least=1))
def test_every_point_is_within_the_default_reference(front):
    rows, maximise = front
    place, _ = default_reference(rows, [Objective(f"o{i}", up) for i, up in enumerate(maximise)])
    for column, bound, up in zip(rows.T, place, maximise, strict=True):
        assert (column >= bound).all() if up else (column <= bound).all()


def epsilon_by_definition(rows, others, maximise):
    def behind(row, other):
        return max(o / r if up else r / o for r, o, up in zip(row, other, maximise, strict=True))

    return max(min(behind(row, other) for row in rows) for other in others)


@settings(max_examples=40, deadline=None)
@given(fronts(values=st.floats(0.1, 9), least=1), st.data())
def test_epsilon_is_its_definition(front, data):
    rows, maximise = front
    others = np.array(data.draw(st.lists(st.tuples(*[st.floats(0.1, 9)] * len(maximise)), min_size=1, max_size=6)))
    epsilon = epsilon_factor(rows, others, maximise)
    assert epsilon == pytest.approx(epsilon_by_definition(rows, others, maximise))
    assert epsilon_factor(rows, rows, maximise) == pytest.approx(1)
    if any(dominates(other, row, maximise) for other in others for row in rows) and len(rows) == 1:
        assert epsilon > 1


def test_epsilon_needs_ratios():
    with pytest.raises(ValueError, match="above 0"):
        epsilon_factor(np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]]), DOWN_UP)
