import math

import pytest

from analysis.statistics import t_interval


def test_student_s_own_sleep_data():
    # "The probable error of a mean" (1908): hours of sleep gained by ten patients; limits from R's t.test.
    gained = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    interval = t_interval(gained)
    assert interval.mean == pytest.approx(1.58)
    assert (interval.low, interval.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)
    assert interval.n == 10


def test_two_values_have_the_wide_interval_of_one_degree_of_freedom():
    assert t_interval([1.0, 3.0]).half_width == pytest.approx(12.7062047, rel=1e-6)


def test_confidence_is_an_argument():
    assert t_interval([1.0, 3.0], confidence=0.5).half_width == pytest.approx(1.0)


def test_equal_values_have_an_interval_of_no_width():
    assert t_interval([0.1, 0.1, 0.1]).half_width == 0.0


def test_one_value_has_no_interval():
    interval = t_interval([5.0])
    assert (interval.mean, interval.n) == (5.0, 1)
    assert math.isnan(interval.half_width)


def test_no_values_have_no_mean():
    interval = t_interval([])
    assert math.isnan(interval.mean)
    assert interval.n == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad):
    with pytest.raises(ValueError, match="not finite"):
        t_interval([1.0, bad])
