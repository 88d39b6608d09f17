import math

from synthetic_run import record

from analysis.figures.networks import DOMINATED, FRONT, VISITED, get_networks_info, with_arrows
from analysis.figures.networks_drawing import draw_networks
from analysis.figures.style import save
from analysis.networks.shift import shift_networks
from analysis.objectives import DEFAULT_OBJECTIVES, THROUGHPUT, Objective
from analysis.operating_points import operating_points
from analysis.run import frame_of_records

LAN = {1: (0.1, 10.0), 2: (0.2, 20.0), 3: (0.4, 15.0), 4: (0.45, 14.0)}
SLOW = {1: (0.8, 5.0), 2: (0.4, 10.0), 3: (0.5, 12.0), 4: (0.9, 4.0)}


def shifts_of(*sides, others=("slow",), rounds=2, objectives=DEFAULT_OBJECTIVES, **axes):
    """A shift per network, from (profile, {cut: (latency_s, throughput_img_s)})."""
    records = [
        record(k, latency_s=x, throughput_img_s=y, round_=r, profile=profile, **axes)
        for profile, places in sides
        for k, (x, y) in places.items()
        for r in range(rounds)
    ]
    frame = frame_of_records(records)
    references = {"mobilenet_v2": tuple(0.0 if o.maximise else 99.0 for o in objectives)}
    shifts, _ = shift_networks(operating_points(frame), frame, "lan", others, objectives, references, draws=20)
    return shifts


def info_of(*sides, notes=(), **options):
    return get_networks_info(shifts_of(*sides, **options), notes)


def test_both_fronts_and_their_dominated_points_share_a_panel():
    info = info_of(("lan", LAN), ("slow", SLOW))
    (panel,) = info.panels
    old, new = panel.marks
    assert [(mark.x, mark.y, mark.role) for mark in old] == [
        (100.0, 10.0, FRONT),
        (200.0, 20.0, FRONT),
        (400.0, 15.0, VISITED),
        (450.0, 14.0, DOMINATED),
    ]
    assert [mark.role for mark in new] == [VISITED, FRONT, FRONT, DOMINATED]
    assert [mark.label for mark in old] == ["P1 ·D1", "P2 ·D1", "", ""]
    assert panel.edges(x_maximised=False) == (
        [(100.0, 10.0), (200.0, 10.0), (200.0, 20.0)],
        [(400.0, 10.0), (500.0, 10.0), (500.0, 12.0)],
    )
    assert (info.networks, info.title, panel.title) == (["lan", "slow"], "mobilenet_v2", "lan → slow")


def test_arrows_lead_from_the_place_under_the_baseline_to_the_other():
    info = info_of(("lan", LAN), ("slow", SLOW))
    assert [(arrow.start, arrow.end, arrow.shift) for arrow in info.panels[0].arrows] == [
        ((200.0, 20.0), (400.0, 10.0), "stays"),
        ((400.0, 15.0), (500.0, 12.0), "enters"),
        ((100.0, 10.0), (800.0, 5.0), "leaves"),
    ]
    assert info.shifts == ["stays", "enters", "leaves"]


def many(n_stay, n_enter, n_leave):
    """A shift whose points are `n_stay` on both fronts, then so many on one of them."""
    kinds = ["stays"] * n_stay + ["enters"] * n_enter + ["leaves"] * n_leave
    sides = [
        (name, {k: (x + 0.01 * k, 0.1 if kind == off else 10.0 + k) for k, kind in enumerate(kinds, 1)})
        for name, x, off in (("lan", 0.1, "enters"), ("slow", 0.2, "leaves"))
    ]
    (shift,) = shifts_of(*sides, n_cuts=99)
    assert [shift.count(kind) for kind in ("stays", "enters", "leaves")] == [n_stay, n_enter, n_leave]
    return shift


def test_all_points_have_an_arrow_up_to_the_limit():
    points = many(3, 4, 5).points
    assert sorted(with_arrows(points)) == list(range(12))


def test_above_the_limit_each_kind_has_its_share_and_is_thinned_out_evenly():
    points = many(2, 3, 9).points
    assert with_arrows(points, most=8) == [0, 1, 2, 3, 4, 5, 9, 13]
    assert with_arrows(points, most=6) == [0, 1, 2, 4, 5, 13]
    assert with_arrows(points, most=1) == [0]


def test_the_rest_is_counted_in_a_note():
    info = get_networks_info([many(5, 4, 6)])
    assert len(info.panels[0].arrows) == 12
    assert sum(bool(mark.label) for side in info.panels[0].marks for mark in side) == 4 + 12
    assert "3 of the 15 points of the fronts have neither arrow nor name." in info.notes[-1]


def test_notes_say_what_moves_and_what_is_left_out():
    info = info_of(("lan", LAN | {9: (0.9, 1.0)}), ("slow", SLOW), notes=["Simulated."])
    assert info.notes[0] == "Simulated."
    assert info.notes[1].startswith("Means of 2 rounds; bars: 95 % t-intervals.")
    moves, rest = info.notes[2].split(". ")
    assert moves == "Cuts that stay: P2; enter: P3; leave: P1"
    assert rest == "1 operating point left out: not measured under both, or no valid round."
    assert info_of(("lan", LAN), ("slow", SLOW), rounds=1).notes[0].startswith("One round per point: no intervals.")


def test_axes_are_logarithmic_where_the_fronts_are_far_apart():
    near = info_of(("lan", LAN), ("slow", dict.fromkeys(LAN, (0.5, 10.0))))
    assert (near.log_scale("x"), near.log_scale("y")) == (False, False)
    far = info_of(("lan", LAN), ("slow", dict.fromkeys(LAN, (5.0, 10.0))))
    assert (far.log_scale("x"), far.log_scale("y")) == (True, False)
    assert (near.x_label, far.x_label) == ("latency per batch (ms)", "latency per batch (s)")


def test_each_further_network_has_a_panel():
    sides = ("lan", LAN), ("slow", SLOW), ("slower", {1: (3.0, 1.0), 2: (4.0, 0.5)})
    info = info_of(*sides, others=("slow", "slower"))
    assert [panel.networks for panel in info.panels] == [("lan", "slow"), ("lan", "slower")]
    assert info.networks == ["lan", "slow", "slower"]
    assert info.notes[-1].startswith("slower: cuts that stay: P1; enter: none; leave: P2.")


def test_objectives_may_be_others():
    info = info_of(("lan", LAN), ("slow", SLOW), objectives=(THROUGHPUT, Objective("network_s", False)))
    assert (info.x_label, info.y_label, info.x_maximised) == ("throughput (images/s)", "network_s", True)
    assert "Better: more throughput_img_s, less network_s." in info.notes


def test_without_a_front_there_is_no_figure():
    assert (
        info_of(("lan", LAN), ("slow", SLOW), depth=2, objectives=(THROUGHPUT, Objective("network_s", False))) is None
    )


def test_bars_that_are_not_drawn_do_not_stretch_the_axes():
    (panel,) = info_of(("lan", LAN), ("slow", SLOW)).panels
    halves = panel.halves("x")
    assert len(halves) == len(panel.values("x")) == 8
    assert [math.isnan(half) for half in halves] == [False, False, True, True, True, False, False, True]


def test_the_drawn_figure_has_the_fronts_the_arrows_and_the_names(tmp_path):
    info = info_of(("lan", LAN), ("slow", SLOW), notes=["A note."])
    figure = draw_networks(info)
    (ax,) = figure.axes
    drawn = [line.get_xydata().tolist() for line in ax.lines if len(line.get_xydata())]
    for edge in info.panels[0].edges(x_maximised=False):
        assert [list(place) for place in edge] in drawn
    arrows = [text for text in ax.texts if not text.get_text() and text.arrow_patch is not None]
    assert [(text.xyann, text.xy) for text in arrows] == [(a.start, a.end) for a in info.panels[0].arrows]
    assert sorted(text.get_text() for text in ax.texts if text.get_text()) == ["P1 ·D1", "P2 ·D1", "P2 ·D1", "P3 ·D1"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["lan", "slow", "stays", "enters", "leaves"]
    png, svg = save(figure, tmp_path / "networks-mobilenet_v2")
    assert png.stat().st_size > 10_000
    assert "A note." in svg.read_text()


def test_a_point_that_does_not_move_has_no_arrow():
    info = info_of(("lan", {20: (0.3, 9.0), 1: (0.1, 3.0)}), ("slow", {20: (0.3, 9.0), 1: (2.0, 3.0)}))
    assert len(info.panels[0].arrows) == 2
    (ax,) = draw_networks(info).axes
    assert len([text for text in ax.texts if text.arrow_patch is not None and not text.get_text()]) == 1
