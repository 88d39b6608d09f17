import itertools
import math

import pytest
from synthetic_run import compared_sweep, failed, record, stage

from analysis.comparing.breakdown import compare_frame, compare_points
from analysis.comparing.compare_tables import with_ratios
from analysis.comparing.comparison import compare, ordered_values
from analysis.figures.bands import bands_of, in_figures, wide_enough
from analysis.figures.breakdown import Bar, BreakdownPanel, get_breakdown_info
from analysis.figures.breakdown_drawing import draw_breakdown
from analysis.figures.ratios import get_ratios_info
from analysis.figures.ratios_drawing import draw_ratios
from analysis.figures.style import save
from analysis.run import frame_of_records


def points_of(*records, by="backend", baseline="socket"):
    frame = compare_frame(frame_of_records(records))
    comparison = compare(frame, by, baseline, ordered_values(frame, {}, by))
    return with_ratios(compare_points(frame), comparison), comparison


def breakdown_of(*records, by="backend", baseline="socket"):
    points, comparison = points_of(*records, by=by, baseline=baseline)
    return get_breakdown_info(bands_of(points, by), by, [baseline, *comparison.values], "t")


def ratios_of(*records, by="backend", baseline="socket"):
    points, comparison = points_of(*records, by=by, baseline=baseline)
    return get_ratios_info(bands_of(points, by), by, comparison.values, baseline, "t")


def pair_of(k=3, latency_s=0.3, other_s=0.4, rounds=2, by="backend", other="rpc", n_stages=2, **axes):
    stages = [stage(0.1, 0.01, 0.002, 0.003, gpu_util_pct=None if n == 0 else 40.0) for n in range(n_stages)]
    return [
        record(k, latency_s=seconds + 0.01 * i, throughput_img_s=8 / seconds, round_=i, stages=stages, **axes | value)
        for value, seconds in (({}, latency_s), ({by: other}, other_s))
        for i in range(rounds)
    ]


def test_bars_of_a_cut_stand_side_by_side_the_baseline_first():
    (panel,) = breakdown_of(*pair_of(3), *pair_of(4)).panels
    assert panel.title == "mobilenet_v2, depth 1"
    assert panel.cuts == ("P3", "P4")
    assert [(bar.slot, bar.value) for bar in panel.bars] == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_a_bar_is_the_latency_in_the_axis_unit_with_its_parts_and_percents():
    info = breakdown_of(*pair_of())
    bar = info.panels[0].bars[0]
    assert info.unit == "ms"
    assert bar.latency == pytest.approx(305.0)
    assert bar.parts == pytest.approx((200.0, 20.0, 10.0, 75.0))
    assert bar.half == pytest.approx(12.7062047 * 5.0)
    assert bar.cpu_pct == (90.0, 90.0)
    assert math.isnan(bar.gpu_pct[0])
    assert bar.gpu_pct[1] == 40.0
    assert (info.stages("cpu_pct"), info.stages("gpu_pct")) == ([0, 1], [1])
    assert breakdown_of(*pair_of(latency_s=3.0)).unit == "s"


def test_all_local_has_one_stage():
    (panel,) = breakdown_of(*pair_of(20, n_stages=1)).panels
    assert panel.cuts == ("local",)
    assert len(panel.bars[0].cpu_pct) == 1


def bar_of(*parts):
    return Bar(0, 0, parts, math.fsum(parts), math.nan, (), ())


def test_parts_are_stacked_and_a_negative_one_hangs_below_zero():
    assert bar_of(3.0, 1.0, 2.0, 4.0).edges == [(0, 3), (3, 4), (4, 6), (6, 10)]
    bar = bar_of(3.0, 1.0, 2.0, -0.5)
    assert bar.edges[-1] == (0.0, -0.5)
    low, high = BreakdownPanel("m", ("P3",), (bar,)).limits()
    assert low < -0.5
    assert high > 6.0


def test_intervals_do_not_dwarf_the_bars():
    wide = Bar(0, 0, (1.0, 0.0, 0.0, 0.0), 1.0, 50.0, (), ())
    assert BreakdownPanel("m", ("P3",), (wide,)).limits()[1] < 1.5


def test_a_point_without_a_valid_round_has_no_bar_and_is_counted():
    info = breakdown_of(*pair_of(3), record(4, stages=[stage(0.1)]), failed(k=4, backend="rpc"))
    bars = info.panels[0].bars
    assert [bar.known for bar in bars] == [True, True, True, False]
    assert "×: no valid round (1)." in info.notes


def test_points_of_older_runs_have_no_bar_and_a_note():
    info = breakdown_of(record(), record(backend="rpc"))
    assert not any(bar.known for bar in info.panels[0].bars)
    assert "Without a bar: 2 points whose records lack a duration of a stage." in info.notes


def test_notes_say_what_the_thin_lines_are_or_that_there_are_none():
    assert breakdown_of(*pair_of()).notes[0] == "Means of 2 rounds; thin lines: 95 % t-intervals of the latency."
    assert breakdown_of(*pair_of(rounds=1)).notes[0] == "One round per point: no intervals."


def test_depths_stand_side_by_side_while_bars_are_few_and_below_each_other_otherwise():
    few = [r for depth in (1, 2, 4) for r in pair_of(depth=depth)]
    assert breakdown_of(*few).columns == 3
    many = [r for depth in (1, 2) for k in range(13) for r in pair_of(k, depth=depth)]
    assert breakdown_of(*many).columns == 1
    assert breakdown_of(*pair_of()).columns == 1


def test_models_share_a_figure_while_they_have_few_cuts():
    few = [*pair_of(model="vgg16"), *pair_of(model="alexnet")]
    bands = bands_of(points_of(*few)[0], "backend")
    assert [len(group) for group in in_figures(bands, 2)] == [2]
    assert breakdown_of(*few).columns == 2
    many = [r for model in ("vgg16", "alexnet") for k in range(13) for r in pair_of(k, model=model)]
    assert [len(group) for group in in_figures(bands_of(points_of(*many)[0], "backend"), 2)] == [1, 1]


def test_what_else_varies_is_in_the_title_of_a_band():
    points, _ = points_of(*pair_of(batch_size=1), *pair_of(batch_size=8))
    assert [band.title for band in bands_of(points, "backend")] == [
        "mobilenet_v2, batch size 1",
        "mobilenet_v2, batch size 8",
    ]


def test_many_bars_make_a_wide_figure_within_reason():
    assert wide_enough(10) == 7.2
    assert 7.2 < wide_enough(100) < wide_enough(1000) == 18.0


def test_ratio_panels_are_metrics_by_depths_and_network_time_is_at_depth_1():
    info = ratios_of(*pair_of(depth=1), *(r | {"network_s": None} for r in pair_of(depth=4)))
    places = [(panel.row, panel.column, panel.title) for panel in info.panels]
    assert places == [
        *[(0, 0, "depth 1"), (0, 1, "depth 4"), (1, 0, ""), (1, 1, "")],
        *[(2, 0, ""), (2, 1, ""), (3, 0, "")],
    ]
    assert [panel.label for panel in info.panels if panel.column == 0] == [
        "images/s, ratio\n(above 1: faster)",
        "latency, ratio\n(below 1: faster)",
        "CPU s/image, ratio\n(below 1: less)",
        "network time, ratio\n(below 1: faster)",
    ]


def test_a_ratio_mark_has_its_interval_and_is_filled_beyond_it():
    info = ratios_of(*pair_of(3, 0.3, 0.6, rounds=3), *pair_of(4, 0.3, 0.3, rounds=3), *pair_of(5, rounds=1))
    latency = next(panel for panel in info.panels if panel.label.startswith("latency"))
    beyond, equal, single = latency.marks
    assert (beyond.beyond, equal.beyond, single.beyond) == (True, False, False)
    assert beyond.low < beyond.ratio < beyond.high
    assert equal.ratio == 1.0
    assert math.isnan(single.low)


def test_the_line_at_one_is_always_in_view_and_huge_intervals_do_not_dwarf_the_ratios():
    info = ratios_of(*pair_of(3, 0.3, 1.2), *pair_of(4, 0.3, 1.1))
    for row in range(info.rows):
        low, high = info.limits(row)
        assert low < 1 < high
    tight = ratios_of(*pair_of(3, 0.3, 0.303, rounds=1)).limits(1)
    assert 0.9 < tight[0] < 1 < 1.01 < tight[1] < 1.1
    wide = [
        record(round_=i, backend=b, latency_s=t)
        for b, ts in (("socket", (1, 1)), ("rpc", (1.1, 9)))
        for i, t in enumerate(ts)
    ]
    assert ratios_of(*wide).limits(1)[1] < 20


def test_models_with_few_cuts_share_the_axis_of_the_ratios():
    info = ratios_of(*pair_of(3, model="vgg16"), *pair_of(5, model="alexnet"))
    assert info.panels[0].cuts == ("vgg16 P3", "alexnet P5")


def test_no_ratio_no_figure():
    assert ratios_of(record(3), failed(k=3, backend="rpc")) is None


def boxes_of(figure):
    """Every text that shows, with its box on the page."""
    figure.draw_without_rendering()
    axes = [ax for ax in figure.axes if ax.get_visible()]
    texts = [text for ax in axes for text in (ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label)]
    for ax, minor in itertools.product(axes, (False, True)):
        for side, (low, high) in ((ax.xaxis, sorted(ax.get_xlim())), (ax.yaxis, sorted(ax.get_ylim()))):
            # Locators place ticks beyond the limits too, which are not drawn.
            ticks = side.get_minor_ticks() if minor else side.get_major_ticks()
            texts += [tick.label1 for tick in ticks if low <= tick.get_loc() <= high]
    texts += [*figure.legends[0].get_texts(), figure.legends[0].get_title(), figure._supxlabel]
    return [(text.get_text(), text.get_window_extent()) for text in texts if text.get_visible() and text.get_text()]


def assert_readable(figure):
    boxes = boxes_of(figure)
    page = figure.bbox
    for name, box in boxes:
        assert box.x0 >= page.x0 - 1, f"{name!r} leaves the page"
        assert box.x1 <= page.x1 + 1, f"{name!r} leaves the page"
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        # Boxes include room for descenders: what touches by a pixel or two is apart to the eye.
        assert width < 2 or height < 2, f"{one!r} covers {other!r}"


ENGINES = {"eager": 4, "fused": 2, "onnxruntime": 1.5, "compiled": 1}
CASES = {
    "one cell": ({"socket": 1, "rpc": 1.6}, "backend", 1, (1,)),
    "two cells, four engines": (ENGINES, "engine", 1, (1, 2, 4)),
    "a sweep of three backends": ({"socket": 1, "rpc": 1.6, "rpc-hub": 3.0}, "backend", 20, (1, 4)),
    "profiles": ({"lan": 1, "duress-200ms-5mbit": 60}, "profile", 20, (1,)),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_covers_another(case):
    factors, by, n_cuts, depths = CASES[case]
    records = compared_sweep(factors, by=by, n_cuts=n_cuts, depths=depths, rounds=2)
    baseline = next(iter(factors))
    assert_readable(draw_breakdown(breakdown_of(*records, by=by, baseline=baseline)))
    assert_readable(draw_ratios(ratios_of(*records, by=by, baseline=baseline)))


def test_pictures_are_the_same_bytes_for_the_same_data(tmp_path):
    records = [*pair_of(3), *pair_of(4), failed(k=4, round_=9)]
    for draw, info in ((draw_breakdown, breakdown_of(*records)), (draw_ratios, ratios_of(*records))):
        first, second = (save(draw(info), tmp_path / name / "compare") for name in ("a", "b"))
        assert all(one.read_bytes() == other.read_bytes() for one, other in zip(first, second, strict=True))


def test_every_bar_of_three_has_its_name_the_middle_one_too():
    values = ("socket", "rpc", "rpc-mpt_uv")
    records = [
        record(3, backend=value, round_=n, latency_s=0.2, stages=[stage(), stage()]) for value in values for n in (0, 1)
    ]
    figure = draw_breakdown(breakdown_of(*records))
    figure.draw_without_rendering()
    names = {tick.get_text() for ax in figure.axes for tick in ax.get_xticklabels(minor=True)}
    assert set(values) <= names


def test_names_are_text_and_no_formulas():
    records = pair_of(other=r"$\bad$")
    draw_breakdown(breakdown_of(*records)).draw_without_rendering()
    draw_ratios(ratios_of(*records)).draw_without_rendering()
