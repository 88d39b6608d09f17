import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.estimate import PipelineTimes, depth_s, pipeline_times, timeout_s, window_batches
from paretopipe_matrix.testbed import CutInfo, Link, ModelDescription, ModelRequest, Profile, Window

REQUEST = ModelRequest("m", "random", 0, 1, "block", "synthetic", "raw", "eager")
CUTS = (CutInfo(0, "input", None, 1_000), CutInfo(1, "a", None, 625_000), CutInfo(2, "b", None, 10))
DESCRIBED = ModelDescription(REQUEST, CUTS, 2, 0, "g", "w", {"edge": (0.1, 0.3), "server": (0.02, 0.06)})
LAN = Profile("lan")
SLOW = Profile("slow", {"first-egress": Link(delay_s=0.2, rate_bit_s=5e6), "first-ingress": Link(delay_s=0.05)})


def times(cut, profile):
    return pipeline_times(DESCRIBED, ("edge", "server"), (CUTS[cut],), profile)


def test_stage_and_link_times():
    split = times(1, SLOW)
    assert split.stages_s == pytest.approx((0.1, 0.06))
    assert split.link_s == pytest.approx(1.0)  # 625 kB at 5 Mbit/s
    assert split.latency_s == pytest.approx(0.16 + 1.0 + 0.25)
    assert times(0, LAN) == PipelineTimes((0, pytest.approx(0.08)), 0.0, pytest.approx(0.08))


def test_all_local_uses_no_link():
    assert times(2, SLOW) == times(2, LAN) == PipelineTimes((pytest.approx(0.4), 0), 0.0, pytest.approx(0.4))


def test_three_hosts():
    described = ModelDescription(REQUEST, CUTS, 2, 0, "g", "w", dict.fromkeys("abc", (0.1, 0.3)))
    assert pipeline_times(described, ("a", "b", "c"), (CUTS[0], CUTS[1]), LAN).stages_s == (0, 0.1, 0.3)


def test_period_is_latency_at_depth_1_and_the_bottleneck_when_deep():
    split = times(1, SLOW)
    assert split.period_s(1) == pytest.approx(1.41)
    assert split.period_s(2) == pytest.approx(1.0)  # the link
    assert times(1, LAN).period_s(8) == pytest.approx(0.1)  # the edge


def test_window_batches():
    assert window_batches(Window(20, None, 5), 1.0) == 20
    assert window_batches(Window(None, 1.0, 5), 0.1) == 10
    assert window_batches(Window(None, 1.0, 5), 2.0) == 5
    assert window_batches(Window(None, 1.0, 5), 0.0) == 5


def test_slow_cells_are_known_from_fast_ones():
    window = Window(None, 1.0, 5)
    assert depth_s(times(1, SLOW), 1, window, 3) == pytest.approx(2 * 1.41 + 8 * 1.41)
    assert depth_s(times(1, SLOW), 1, window, 3) > 5 * depth_s(times(1, LAN), 1, window, 3)
    assert timeout_s(6) == 120


positive = st.floats(1e-4, 10)


@given(st.tuples(positive, positive), positive, positive, st.integers(1, 16))
def test_period_shrinks_with_depth_to_the_slowest_part(stages, link, extra, depth):
    split = PipelineTimes(stages, link, sum(stages) + link + extra)
    assert max(*stages, link) <= split.period_s(depth + 1) <= split.period_s(depth) <= split.latency_s
