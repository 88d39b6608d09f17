import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection
from synthetic_run import failed, invalid, pipeline_records, record

from analysis.figures.frontier import FrontierInfo, Mark, Panel, get_frontier_info, point_label, view, wrapped_notes
from analysis.figures.frontier_drawing import draw_frontier
from analysis.figures.labels import Box, leader_end, place_labels
from analysis.figures.own_data import get_own_data_info
from analysis.figures.staircase import Staircase, between
from analysis.figures.style import save
from analysis.fronts.marking import mark_fronts
from analysis.fronts.own_data import OwnData, fronts_of
from analysis.objectives import DEFAULT_OBJECTIVES, THROUGHPUT, Objective
from analysis.operating_points import operating_points
from analysis.run import frame_of_records


def info_of(*records, objectives=DEFAULT_OBJECTIVES, notes=()):
    frame = frame_of_records(records)
    marked = mark_fronts(operating_points(frame), frame, objectives=objectives, draws=100)
    return get_frontier_info(marked.points, frame, "profile lan", notes, marked.fronts, marked.draws)


def test_a_panel_per_model_in_the_order_of_the_run():
    info = info_of(record(model="vgg16"), record(model="alexnet"), record(model="vgg16", depth=2, latency_s=0.3))
    assert [panel.title for panel in info.panels] == ["vgg16", "alexnet"]
    assert [len(panel.marks) for panel in info.panels] == [2, 1]
    assert info.depths == [1, 2]


def test_a_mark_is_the_mean_with_its_half_width_in_the_axis_unit():
    (panel,) = info_of(record(latency_s=0.2), record(latency_s=0.22, round_=1)).panels
    (mark,) = panel.marks
    assert mark.x == pytest.approx(210.0)
    assert mark.x_half == pytest.approx(12.7062047 * 10.0)
    assert (mark.y, mark.y_half) == (40.0, 0.0)
    assert (mark.depth, mark.position) == (1, 3 / 20)
    assert mark.label == "P3 ·D1"


def test_long_latencies_are_in_seconds():
    info = info_of(record(latency_s=0.2), record(4, latency_s=2.5))
    assert info.x_label == "latency per batch (s)"
    assert info.panels[0].marks[0].x == 0.2
    assert info_of(record(latency_s=0.2)).x_label == "latency per batch (ms)"


def test_invalid_rounds_stand_apart_and_are_no_marks():
    (panel,) = info_of(record(), invalid(round_=1, latency_s=0.5), invalid(k=4, latency_s=0.6)).panels
    assert len(panel.marks) == 1
    assert sorted(panel.invalid) == [(500.0, 40.0), (600.0, 40.0)]


def test_failed_cells_are_in_the_notes_once_each():
    info = info_of(record(), failed(k=4), failed(k=4, depth=2), failed(k=5, kind="timeout", host="pi1"))
    assert "Failed: 2 cells: mobilenet_v2 P4 (out-of-memory on pi2), mobilenet_v2 P5 (timeout on pi1)." in info.notes


def test_notes_about_the_run_come_first():
    assert info_of(record(), notes=["Simulated."]).notes[0] == "Simulated."


def test_many_failures_are_counted_not_listed():
    info = info_of(record(), *(failed(k=k) for k in range(4, 10)))
    assert info.notes[-1].startswith("Failed: 6 cells: mobilenet_v2 P4")
    assert info.notes[-1].endswith("and 3 more.")


def test_notes_say_when_there_is_no_interval():
    assert info_of(record()).notes == ("One round per point: no intervals.",)
    assert info_of(record(), record(round_=1)).notes == (
        "Means of 2 rounds; bars: 95 % t-intervals.",
        "Shaded: where 95 % of 100 draws of the rounds put the front; dotted: their median.",
    )


def test_labels_name_the_axes_that_vary_on_the_front_and_a_note_those_that_do_not():
    mixed = info_of(record(engine="fused"), record(depth=2, latency_s=0.3, throughput_img_s=50.0))
    assert [mark.label for mark in mixed.panels[0].marks] == ["P3 ·D1 fused", "P3 ·D2 eager"]
    one_engine = info_of(record(engine="fused", latency_s=0.1), record())
    assert one_engine.panels[0].marks[0].label == "P3 ·D1"
    assert "All points of the frontier: engine fused." in one_engine.notes


@pytest.mark.parametrize(
    ("split", "split_index", "name", "where", "expected"),
    [
        ("P3", "3", "features.2", "", "P3 ·D2"),
        ("7", "7", "features.6.add", "", "features.6.add ·D2"),
        ("P3+P9", "3+9", "a+b", "", "P3+P9 ·D2"),
        ("0", "0", "x", "all remote", "all remote ·D2"),
        ("P20", "20", "classifier", "all local", "all local ·D2"),
    ],
)
def test_point_labels(split, split_index, name, where, expected):
    row = {"split": split, "split_index": split_index, "split_name": name, "placement": where, "depth": 2}
    assert point_label(row) == expected


def test_batch_sizes_in_labels_say_what_they_are():
    row = {"split": "P3", "split_index": "3", "split_name": "x", "placement": "", "depth": 1, "batch_size": 8}
    assert point_label(row, ["batch_size"]) == "P3 ·D1 b8"


def test_staircase_is_the_front_from_left_to_right():
    marks = [Mark(x, y, math.nan, math.nan, front, "") for x, y, front in [(3, 9, True), (1, 5, True), (2, 4, False)]]
    assert Panel("m", tuple(marks)).staircase == [(1, 5), (3, 9)]


def panel_of(*places, invalid=()):
    return Panel("m", tuple(Mark(x, y, math.nan, math.nan, True, "") for x, y in places), invalid)


@pytest.mark.parametrize(
    ("panel", "log"),
    [
        (panel_of((1, 1), (2, 1)), False),
        (panel_of((1, 1), (31, 1)), True),
        (panel_of((0, 1), (31, 1)), False),
        (panel_of((1, 1), (31, 1), invalid=((0.0, 1.0),)), False),
    ],
)
def test_an_axis_is_logarithmic_only_where_it_must_and_can(panel, log):
    assert FrontierInfo((panel,), "x", "y").log_scale("x") is log


def test_view_holds_all_values_but_not_bars_that_dwarf_them():
    low, high = view([10.0, 20.0], [1.0, 500.0], log=False)
    assert low < 9.0
    assert 20.0 < high < 30.0


@pytest.mark.parametrize("log", [False, True])
def test_view_of_a_single_value_is_not_empty(log):
    low, high = view([5.0], [math.nan], log=log)
    assert low < 5.0 < high


def test_notes_are_wrapped_to_the_figure():
    info = FrontierInfo((), "x", "y", notes=("word " * 40, "next"))
    assert max(map(len, wrapped_notes(info, 50).splitlines())) <= 50
    assert wrapped_notes(info, 50).endswith("\nnext")


COORDINATE = st.floats(20, 180)


@given(st.lists(st.tuples(COORDINATE, COORDINATE), min_size=1, max_size=12))
def test_placed_labels_cover_neither_each_other_nor_a_point_and_stay_inside(anchors):
    bounds, size = Box(0, 0, 200, 200), (40.0, 9.0)
    marks = [Box.around(anchor, 6, 6) for anchor in anchors]
    centres = place_labels(anchors, [size] * len(anchors), bounds, marks)
    boxes = [Box.around(centre, *size) for centre in centres if centre is not None]
    assert all(bounds.holds(box) for box in boxes)
    assert not any(box.overlap(mark) for box in boxes for mark in marks)
    assert not any(a.overlap(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert len(anchors) > 1 or len(boxes) == 1


def test_a_label_avoids_lines_where_it_can():
    wall = Box(0, 105, 200, 106)
    (centre,) = place_labels([(100, 100)], [(30, 8)], Box(0, 0, 200, 200), [], strokes=[wall])
    assert not Box.around(centre, 30, 8).overlap(wall)


def test_a_label_without_room_is_left_out():
    assert place_labels([(5, 5)], [(40, 9)], Box(0, 0, 10, 10), []) == [None]


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [((0, 0), (30, 0)), ((100, 30), (58.333333, 5)), ((51, -40), (50.125, -5)), ((48, 2), (50, 0))],
)
def test_a_leader_ends_at_the_edge_of_its_label(anchor, expected):
    assert leader_end(anchor, (50, 0), (40, 10)) == pytest.approx(expected)
    x, y = leader_end(anchor, (50, 0), (40, 10))
    inside = anchor == (48, 2)
    assert (max(abs(x - 50) / 20, abs(y) / 5) == pytest.approx(1)) is not inside


OWN = OwnData(["a", "b"], [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}], [(1.0, 5.0, 3.0), (2.0, 6.0, 4.0)], dropped=1)
OBJECTIVES = [Objective("cost_usd", False), Objective("accuracy_pct", True)]


def own_info(objectives, **columns):
    data = OwnData(OWN.columns, OWN.rows, [row[: len(objectives)] for row in OWN.values], OWN.dropped)
    return get_own_data_info(data, fronts_of(data, objectives, columns["group"]), objectives, **columns)


def test_own_data_has_a_panel_per_group_and_names_the_objectives():
    info = own_info(OBJECTIVES, label="a", group="b")
    assert [(panel.title, panel.marks[0].label) for panel in info.panels] == [("x", "1"), ("y", "2")]
    assert (info.x_label, info.y_label) == ("cost_usd", "accuracy_pct")
    assert info.notes == (
        "Better: less cost_usd, more accuracy_pct.",
        "Left out: 1 row without a finite value of both.",
    )


def test_own_data_of_three_objectives_has_a_panel_per_pair():
    info = own_info([*OBJECTIVES, Objective("energy_j", False)], label=None, group=None)
    assert [panel.axes for panel in info.panels] == [
        ("cost_usd", "accuracy_pct"),
        ("cost_usd", "energy_j"),
        ("accuracy_pct", "energy_j"),
    ]
    assert all(panel.staircase == [] for panel in info.panels)
    assert info.notes[0].startswith("Better: less cost_usd, more accuracy_pct, less energy_j. The front is of all 3")


def test_own_data_of_too_many_panels_is_refused(monkeypatch):
    monkeypatch.setattr("analysis.figures.own_data.MOST_PANELS", 1)
    with pytest.raises(ValueError, match=r"2 panels \(2 groups, 1 pairs of objectives\)"):
        own_info(OBJECTIVES, label=None, group="b")


def rounds_of(k, latency_s, throughput_img_s, spread=0.01, **axes):
    factors = [1 + spread * step for step in (-1, 0, 1, 0.5, -0.5)]
    return [
        record(k, round_=i, latency_s=latency_s * f, throughput_img_s=throughput_img_s / f, **axes)
        for i, f in enumerate(factors)
    ]


# Rounds are passes: what is slow in one is slow for all, so a spread of its own is needed to blur an order.
BLURRED = [*rounds_of(3, 0.2, 40.0), *rounds_of(4, 0.2002, 40.1, spread=-0.01), *rounds_of(5, 0.6, 80.0)]


def test_marks_know_how_sure_they_are_and_labels_say_it_where_they_are_not():
    (panel,) = info_of(*BLURRED).panels
    sure, blurred = panel.marks[2], panel.marks[0]
    assert (sure.membership, sure.doubtful, sure.caption) == (1.0, False, "P5 ·D1")
    assert blurred.doubtful
    assert blurred.caption == f"P3 ·D1 ({100 * blurred.membership:.0f} %)"
    assert any(note.startswith("(71 %)") for note in info_of(*BLURRED).notes)


def test_the_band_is_the_attainment_in_the_units_of_the_axes():
    frame = frame_of_records(BLURRED)
    marked = mark_fronts(operating_points(frame), frame, draws=100)
    (panel,) = info_of(*BLURRED).panels
    for drawn, line in (("low", "low"), ("median", "median"), ("high", "high")):
        places = getattr(marked.fronts[0].attainment, line) * [1e3, 1.0]
        assert list(getattr(panel.band, drawn).points) == [pytest.approx(place) for place in places.tolist()]


def test_an_unknown_depth_is_in_no_label_and_no_legend():
    info = info_of(record(depth=None))
    (mark,) = info.panels[0].marks
    assert (mark.label, mark.depth) == ("P3", None)
    assert info.depths == []


def test_three_objectives_make_a_panel_per_model_and_pair():
    third = Objective("bytes_per_batch", False)
    info = info_of(record(), record(model="vgg16"), objectives=(*DEFAULT_OBJECTIVES, third))
    assert [(panel.title, panel.axes) for panel in info.panels[:3]] == [
        ("mobilenet_v2", ("latency per batch (ms)", "throughput (images/s)")),
        ("mobilenet_v2", ("latency per batch (ms)", "bytes_per_batch")),
        ("mobilenet_v2", ("throughput (images/s)", "bytes_per_batch")),
    ]
    assert len(info.panels) == 6
    assert info.columns == 3
    assert info.log_scale("y", info.panels[1]) is False


def test_crowds_have_no_bars_and_a_note_says_so(monkeypatch):
    monkeypatch.setattr("analysis.figures.frontier.BARS_UP_TO", 1)
    crowd = [*rounds_of(3, 0.2, 40.0), *rounds_of(4, 0.3, 30.0), *rounds_of(5, 0.4, 20.0)]
    info = info_of(*crowd)
    assert not info.panels[0].dominated_bars
    assert "No bars on dominated points." in info.notes


def test_of_a_long_front_the_knee_and_the_surest_points_are_named(monkeypatch):
    monkeypatch.setattr("analysis.figures.frontier.NAMED", 2)
    marks = [
        Mark(x, x, 0.1, 0.1, True, f"P{x}", membership=share, knee=x == 1)
        for x, share in enumerate([0.4, 0.1, 0.9, math.nan, 0.8])
    ]
    assert [mark.label for mark in Panel("m", tuple(marks)).nameable] == ["P0", "P1", "P2", "P3", "P4"]
    assert [mark.label for mark in Panel("m", tuple(marks)).named] == ["P1", "P3"]
    assert [mark.label for mark in Panel("m", tuple(marks[:3])).named] == ["P1", "P2"]


@pytest.mark.parametrize(
    ("x_maximised", "expected"),
    [
        (False, [(1, 0), (1, 5), (3, 5), (3, 9), (10, 9)]),
        (True, [(3, 0), (3, 9), (1, 9), (1, 5), (10, 5)]),
    ],
)
def test_an_edge_runs_along_the_corners_to_the_ends_of_the_axes(x_maximised, expected):
    line = Staircase([(3, 9), (1, 5), (1, 5)])
    assert line.edge(10, 0, x_maximised=x_maximised) == expected
    assert Staircase([]).edge(10, 0, x_maximised=x_maximised) == []
    assert between([], expected) == []


def labels_in(figure):
    return {text.get_text() for ax in figure.axes for text in ax.texts}


def test_drawing_labels_the_front_and_nothing_else(tmp_path):
    info = info_of(*pipeline_records(rounds=3), failed(k=5, round_=9), invalid(k=6, round_=9))
    figure = draw_frontier(info)
    (panel,) = info.panels
    assert labels_in(figure) == {mark.caption for mark in panel.marks if mark.on_frontier}
    legend = {text.get_text() for text in figure.legends[0].get_texts()}
    assert legend >= {"frontier", "dominated", "invalid round", "knee", "depth 1", "depth 2", "depth 4"}
    first, second = (save(draw_frontier(info), tmp_path / name / "frontier-lan") for name in ("a", "b"))
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(first, second, strict=True))
    svg = first[1].read_text()
    assert "<dc:date>" not in svg


def test_a_model_without_a_valid_round_has_an_empty_panel_that_says_so():
    figure = draw_frontier(info_of(record(model="alexnet"), failed(model="vgg16")))
    assert "no valid round" in labels_in(figure)


def test_names_are_text_and_no_formulas(tmp_path):
    info = FrontierInfo((Panel(r"$\bad$", (Mark(1.0, 1.0, 0.1, 0.1, True, r"$\worse$"),)),), "$x", "y_")
    assert save(draw_frontier(info), tmp_path / "f")[0].stat().st_size > 0


def test_the_drawn_lines_are_the_data():
    info = info_of(*BLURRED, objectives=(Objective("latency_s", False), THROUGHPUT))
    (panel,) = info.panels
    ax = draw_frontier(info).axes[0]
    front, median = ax.lines[:2]
    assert front.get_drawstyle() == "steps-post"
    assert [tuple(place) for place in front.get_xydata()] == panel.staircase
    right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
    edges = [line.edge(right, bottom, x_maximised=False) for line in (panel.band.low, panel.band.high)]
    assert [tuple(place) for place in median.get_xydata()] == panel.band.median.edge(right, bottom, x_maximised=False)
    (shade,) = (found for found in ax.collections if isinstance(found, PolyCollection))
    assert [tuple(place) for place in shade.get_paths()[0].vertices[:-1]] == between(*edges)
    drawn = [collection.get_offsets().tolist() for collection in ax.collections]
    assert [[mark.x, mark.y] for mark in panel.marks if mark.on_frontier] in drawn


def test_a_crowd_is_an_image_in_the_svg(tmp_path):
    crowd = tuple(Mark(1 + i % 97, 1 + i % 89, 0.1, 0.1, False, "", 1, 0.5) for i in range(4_000))
    info = FrontierInfo((Panel("m", (*crowd, Mark(0.5, 99.0, 0.1, 0.1, True, "P3", 1, 0.5))),), "x", "y")
    _, svg = save(draw_frontier(info), tmp_path / "crowd")
    assert svg.stat().st_size < 1_000_000
    assert "<image" in svg.read_text()
