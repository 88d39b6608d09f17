import csv
import io
import math

import pytest
from synthetic_run import failed, invalid, record

from analysis.markup import Column, fit, latex, markdown
from analysis.numbers import significant, with_uncertainty
from analysis.operating_points import operating_points
from analysis.run import frame_of_records
from analysis.tables import (
    LINE_WIDTH,
    constant_axes,
    frame_rows,
    frontier_table,
    points_table,
    raw_table,
    write_csv,
    write_frame,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0123456, "0.0123"), (9.996, "10.0"), (1234567.0, "1234567"), (0.0, "0"), (-1.5, "-1.50"), (math.nan, "-")],
)
def test_significant_digits(value, shown):
    assert significant(value) == shown


@pytest.mark.parametrize(
    ("mean", "half_width", "shown"),
    [
        (226.134, 3.42, "226.1 ± 3.4"),
        (35.2071, 0.1502, "35.21 ± 0.15"),
        (1500.0, 123.0, "1500 ± 123"),
        (9.99, 0.0996, "9.99 ± 0.10"),
        (226.134, 0.0, "226.1 ± 0.0"),
        (226.134, 1e-9, "226.13 ± 0.00"),
        (226.134, math.nan, "226.1 ± n/a"),
        (math.nan, math.nan, "-"),
    ],
)
def test_a_mean_is_rounded_to_its_half_width(mean, half_width, shown):
    assert with_uncertainty(mean, half_width) == shown


def test_csv_keeps_every_digit_and_leaves_nulls_empty():
    awkward = 0.1 + 0.2
    out = io.StringIO()
    write_frame(raw_table(frame_of_records([record(latency_s=awkward, depth=2)])), out)
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert float(row["latency_s"]) == awkward
    assert row["network_s"] == row["invalid_reason"] == row["stage1_gpu_mem_pct"] == ""
    assert row["bytes_per_batch"] == "1204224"


def test_a_frame_and_its_rows_are_the_same_csv():
    frame = table_of(record(3), record(3, round_=1, latency_s=0.1 + 0.2), failed(k=4), record(5, depth=None))
    both = [io.StringIO(), io.StringIO()]
    write_frame(frame, both[0])
    write_csv(frame_rows(frame), list(frame.columns), both[1])
    assert both[0].getvalue() == both[1].getvalue()


def table_of(*records):
    return operating_points(frame_of_records(records))


def headers(columns):
    return [column.header for column in columns]


def test_frontier_table_has_the_columns_people_ask_for():
    columns = frontier_table(table_of(record(3), record(3, round_=1, latency_s=0.21)), "profile")
    expected = ["model", "profile", "split", "cut", "batch", "D", "latency ms", "images/s", "n"]
    assert headers(columns) == expected
    assert columns[6].cells == ("205 ± 64",)


def test_axes_that_vary_and_the_one_grouped_by_get_a_column():
    points = table_of(record(3), record(3, engine="fused"))
    assert "engine" in headers(frontier_table(points, "profile"))
    assert "backend" not in headers(frontier_table(points, "profile"))
    assert "backend" in headers(frontier_table(points, "backend"))
    assert constant_axes(points) == "profile lan, shaper tc, backend socket, pipeline pi-to-pi, batch size 8"


def test_rounds_that_do_not_count_show():
    columns = points_table(table_of(record(3), invalid(k=3, round_=1), failed(k=4)))
    assert columns[headers(columns).index("n")].cells == ("1 of 2", "0 of 1")


def test_what_was_measured_nowhere_has_no_column():
    columns = headers(points_table(table_of(record(3, depth=2))))
    assert "net ms" not in columns
    assert "s1 gpu %" not in columns
    assert "s2 cpu %" in columns


def test_baselines_are_named_after_what_they_are():
    columns = frontier_table(table_of(record(0), record(20), record(3)), "profile")
    assert columns[headers(columns).index("cut")].cells == ("all remote", "all local", "features.2")


@pytest.mark.parametrize("table", [points_table, lambda points: frontier_table(points, "profile")])
def test_markdown_of_a_wide_run_fits(table):
    records = [
        record(3, model="inception_v3", profile="duress-200ms-5mbit", round_=r, n_stages=3, latency_s=1.2 + r / 10)
        for r in range(3)
    ]
    records += [record(3, backend="rpc", batch_size=32), record(4, engine="onnxruntime")]
    shown, left_out = fit(table(table_of(*records)), LINE_WIDTH)
    assert max(map(len, markdown(shown).splitlines())) <= LINE_WIDTH
    assert {"latency ms", "images/s", "split", "D"} <= set(headers(shown))
    assert not set(left_out) & set(headers(shown))


def test_fit_leaves_a_narrow_table_alone():
    columns = [Column("a", ("1",), drop=3), Column("b", ("x" * 20,), elastic=True)]
    assert fit(columns, 100) == (columns, [])


def test_fit_drops_the_highest_rank_first_then_shortens_and_keeps_the_end():
    columns = [
        Column("keep", ("module.with.a.long.name.7",), elastic=True),
        Column("first", ("1" * 20,), drop=2),
        Column("second", ("1",), drop=1),
    ]
    shown, left_out = fit(columns, 40)
    assert left_out == ["first"]
    assert shown[0].cells == ("module.with.a.long.name.7",)
    shown, left_out = fit(columns, 20)
    assert left_out == ["first", "second"]
    assert shown[0].cells == ("…h.a.long.name.7",)


def test_markdown_aligns_and_escapes():
    text = markdown([Column("name", ("a|b",)), Column("n", ("10",), right=True)])
    assert text == "| name |  n |\n|------|---:|\n| a\\|b | 10 |\n"


def test_latex_escapes_and_is_booktabs():
    text = latex([Column("share %", ("mobilenet_v2",)), Column("t ms", ("1 ± 2",), right=True)])
    assert text == (
        "\\begin{tabular}{lr}\n\\toprule\nshare \\% & t ms \\\\\n\\midrule\n"
        "mobilenet\\_v2 & 1 $\\pm$ 2 \\\\\n\\bottomrule\n\\end{tabular}\n"
    )
