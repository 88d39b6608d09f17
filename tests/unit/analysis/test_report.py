import base64
import gzip
import hashlib
import io
import json
import math
import os
import re
import signal
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from analysis.beside import Beside, LostProcessError
from analysis.cli import main
from analysis.report import content
from analysis.report.answers import answer_of
from analysis.report.breakdowns import get_stacks
from analysis.report.charts import _COLOURS, _PART_COLOURS, front_drawing
from analysis.report.content import gather
from analysis.report.embedding import write_fast_csv
from analysis.report.fronts import MOST_DOMINATED, get_front_chart
from analysis.report.networks import network_notes, network_table
from analysis.report.page import inline_script, json_for_html, policy, render
from analysis.report.quantities import duration, percent, quantity
from analysis.report.validity import failed_table
from analysis.run import read_run
from tests.unit.analysis import report_run
from tests.unit.analysis.synthetic_run import failed, record, write_run

VOID = {"meta", "link", "img", "input", "br", "hr"}


class Page(HTMLParser):
    """The tags of a document with their attributes, and the texts of scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.scripts, self.captions, self.tables = [], [], [], 0, 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            attrs, text = self.scripts[-1]
            self.scripts[-1] = (attrs, text + data)

    def all(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return read_run(report_run.make_run(tmp_path_factory.mktemp("report") / "my-run"))


@pytest.fixture(scope="module")
def report(run):
    return gather(run)


@pytest.fixture(scope="module")
def text(report):
    return "".join(render(report))


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_document_is_well_formed_and_has_landmarks_and_headings_in_order(page):
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer", "h1")] == [1] * 5
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    idents = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(idents) == len(set(idents))
    first_link = next(attrs for tag, attrs in page.tags if tag == "a")
    assert first_link["href"] == "#content"
    for _, attrs in page.tags:
        for name in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
            assert set(attrs.get(name, "").split()) <= set(idents)


def test_nothing_is_loaded_from_anywhere(page):
    idents = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    links = [attrs["href"] for _, attrs in page.tags if "href" in attrs]
    assert links
    assert all(link[0] == "#" and link[1:] in idents for link in links)
    assert not [attrs for _, attrs in page.tags if attrs.keys() & {"src", "srcset", "data", "action", "poster"}]
    loading = {"iframe", "object", "embed", "link", "base", "form", "img", "video", "audio", "source"}
    assert not loading & {tag for tag, _ in page.tags}


def test_tables_are_named_and_say_which_cells_are_headers(page):
    tables = len(page.all("table"))
    assert tables >= 8
    assert len(page.all("caption")) == tables
    assert all(attrs.get("scope") in ("col", "row") for attrs in page.all("th"))
    assert all(attrs.get("aria-label") for attrs in page.all("div") if attrs.get("role") in ("region", "group"))


def test_texts_of_hosts_and_errors_cannot_become_markup(page, text):
    assert not page.all("img")
    kinds = [attrs.get("type") for attrs, _ in page.scripts]
    assert kinds == ["application/gzip", "application/gzip", "application/json", None, None]
    visible = text[: text.index('<script type="application/json"')]
    assert "&lt;script&gt;window.stolen" in visible
    assert "<script>window" not in text
    drawings = json.loads(page.scripts[2][1])
    texts = [words for trace in drawings["front-1"][0]["data"] for words in trace.get("hovertext", ())]
    assert any("&lt;img src=" in words for words in texts)
    assert not any("<img" in words or "<script" in words for words in texts)


def test_only_the_scripts_of_the_page_may_run(page):
    rule = next(attrs["content"] for attrs in page.all("meta") if attrs.get("http-equiv") == "Content-Security-Policy")
    assert rule.startswith("default-src 'none'; ")
    scripts = rule.split("script-src ")[1].split(";")[0].split()
    found = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for attrs, text in page.scripts
        if not attrs
    ]
    assert scripts == found


def test_the_licence_of_plotly_is_in_the_file(report, text):
    assert "Permission is hereby granted, free of charge" in text
    assert "Plotly" in text


def test_the_same_run_gives_the_same_file(run, text):
    assert "".join(render(gather(run))) == text


def test_a_script_cannot_end_early_and_json_cannot_end_a_script():
    assert inline_script("a\r\n'</script>' + '<!--'") == "a\n'<\\/script>' + '<\\!--'"
    assert json_for_html({"a": "</script>\u2028"}) == '{"a":"\\u003c/script>\\u2028"}'
    assert policy(["x"]).count("'sha256-") == 1
    with pytest.raises(ValueError, match="JSON compliant"):
        json_for_html({"a": math.nan})


def test_the_embedded_data_is_the_run(run, report):
    points, records = report.data
    read = pd.read_csv(io.BytesIO(gzip.decompress(base64.b64decode(records.payload))))
    assert list(read.columns) == list(run.frame.columns) == list(records.columns)
    assert records.rows == len(read) == len(run.frame)
    for column in ("latency_s", "throughput_img_s", "stage1_exec_s"):
        np.testing.assert_array_equal(read[column], run.frame[column].to_numpy(float))
    assert read["cell"].tolist() == run.frame["cell"].tolist()
    assert set(read["valid"]) == {True, False}
    assert read.loc[read["state"] == "failed", "error_message"].item() == f"worker killed: {report_run.HOSTILE}"
    assert {"membership", "knee", "latency_s_ci95_low"} <= set(points.columns)


def test_csv_of_unequal_kinds_quotes_and_gaps():
    frame = pd.DataFrame(
        {"a,b": ['x\n"y"', "", None], "n": [0.1, math.nan, 1e-300], "m": [1, "2", None], "f": [True, False, None]}
    )
    file = io.BytesIO()
    write_fast_csv(frame, file)
    read = pd.read_csv(io.BytesIO(file.getvalue()), keep_default_na=False)
    assert list(read.columns) == ["a,b", "n", "m", "f"]
    assert read["a,b"].tolist() == ['x\n"y"', "", ""]
    assert [read["n"][0], read["n"][1], float(read["n"][2])] == ["0.1", "", 1e-300]
    assert read["m"].astype(str).tolist() == ["1", "2", ""]
    assert read["f"].astype(str).tolist() == ["True", "False", ""]


def test_networks_declared_and_measured():
    run, probes = report_run.run_json(), report_run.probes()
    table = network_table(run, probes)
    assert [column.header for column in table.columns][3:] == [
        *("Declared", "Tolerance", "Round trip", "Bandwidth", "Other way", "As declared")
    ]
    assert table.rows == [
        (
            *("lan", "pi-to-pi", "tc", "nothing added", "round trip 5 %, rate 10 %"),
            *("200 µs (200 µs to 200 µs)", "936 Mbit/s (936 Mbit/s to 936 Mbit/s)", "not measured", "2 of 2 probes"),
        ),
        (
            *(report_run.DURESS, "pi-to-pi", "tc", "first-egress: 200 ms, 5.00 Mbit/s", "round trip 5 %, rate 10 %"),
            *("225 ms (200 ms to 250 ms)", "4.80 Mbit/s (4.70 Mbit/s to 4.90 Mbit/s)", "not measured", "1 of 2 probes"),
        ),
    ]
    assert network_notes(probes) == (f"{report_run.DURESS}: 1 probe not as declared: round trip 0.25 s",)
    unprobed = network_table(run, [])
    assert [row[-1] for row in unprobed.rows] == ["not measured", "not measured"]


def test_failed_cells_come_with_the_command_that_measures_them_again(run, tmp_path):
    row = failed_table(run.frame, tmp_path / "my run").rows[0]
    assert row[1:3] == ("0", f"out-of-memory on pi2: worker killed: {report_run.HOSTILE}")
    cell = run.frame.loc[run.frame["state"] == "failed", "cell"].item()
    assert row[-1] == f"pp-matrix rerun '{tmp_path}/my run' --cell {cell}"


def test_summary_and_facts_name_run_hosts_and_what_counts(report):
    words = dict(report.summary)
    assert list(words) == ["Measured", "On", "Validity", "Lowest latency", "Highest throughput"]
    assert "pi-to-pi (pi1 → pi2)" in words["Measured"]
    assert "commit 8fdb842bc6af with uncommitted changes" in words["Measured"]
    assert words["Validity"].startswith("171 records: 168 valid, 2 invalid, 1 failed.")
    assert words["Lowest latency"].count(" under ") == 4
    facts = dict(report.facts)
    assert facts["Command"] == "pp-matrix run --out 'results/my run'"
    assert facts["Git commit"] == "8fdb842bc6af247eabeeac5815093f3b5a6dbe37 with changes that are not committed"
    assert facts["Last record begun"] == "2026-11-20T10:00:00Z"


def front_of(run, model="mobilenet_v2", profile="lan"):
    from analysis.comparing.breakdown import PART_COLUMNS, breakdown
    from analysis.fronts.marking import mark_fronts
    from analysis.operating_points import operating_points

    frame = run.frame.assign(**breakdown(run.frame))
    marked = mark_fronts(operating_points(frame, PART_COLUMNS), frame, draws=50)
    front = next(f for f in marked.fronts if (f.key["model"], f.key["profile"]) == (model, profile))
    here = (frame["model"] == model) & (frame["profile"] == profile) & (frame["state"] == "invalid")
    return marked.points.loc[front.index], frame[here], front


def test_a_front_is_drawn_from_its_points_and_says_what_they_are(run):
    points, invalid, front = front_of(run)
    chart = get_front_chart(points, invalid, front, {"pi-to-pi": ["pi1", "pi2"]})
    on = points[points["on_frontier"]].sort_values("latency_s")
    assert chart.x_unit == "ms"
    assert [spot.x for spot in chart.front] == pytest.approx(list(on["latency_s"] * 1e3))
    assert [spot.y for spot in chart.front] == list(on["throughput_img_s"])
    assert len(chart.dominated) == int((points["rounds"] > 0).sum()) - len(on)
    assert len(chart.invalid) == 2
    lines = chart.front[0].lines
    assert re.fullmatch(r"depth \d, socket, eager, batch 8, pi-to-pi", lines[1])
    assert re.fullmatch(r"latency [\d.]+ ± [\d.]+ ms", lines[2])
    assert any(re.fullmatch(r"computing: pi1 [\d.]+(, pi2 [\d.]+)? ms", line) for line in lines)
    assert any(line.startswith("on the front in ") for line in lines)
    low, high = chart.x_range
    assert all(low < spot.x < high for spot in (*chart.front, *chart.dominated))
    drawing = front_drawing(chart)
    line = next(trace for trace in drawing["data"] if trace["name"] == "front")
    assert line["line"]["shape"] == "hv"
    assert line["x"] == pytest.approx([spot.x for spot in chart.front], rel=1e-5)
    assert len(drawing["walk"]) == len(chart.front)
    for (curve, point, words), spot in zip(drawing["walk"], chart.front, strict=True):
        assert drawing["data"][curve]["x"][point] == pytest.approx(spot.x, rel=1e-5)
        assert words == ", ".join(spot.lines)


def test_of_many_dominated_points_the_best_are_drawn_and_the_rest_is_counted(run):
    points, invalid, front = front_of(run)
    off = points[~points["on_frontier"] & (points["rounds"] > 0)]
    copies = MOST_DOMINATED // len(off) + 1
    many = pd.concat([points, *[off.assign(dominance_rank=off["dominance_rank"] + 100)] * copies], ignore_index=True)
    chart = get_front_chart(many, invalid, front, {})
    assert len(chart.dominated) == MOST_DOMINATED
    drawn = {spot.x for spot in chart.dominated}
    assert drawn >= set((off["latency_s"] * 1e3).tolist())
    left_out = len(off) * (copies + 1) - MOST_DOMINATED
    assert any(note.startswith(f"{left_out} dominated points not drawn") for note in chart.notes)
    assert not chart.bars
    assert len(json.dumps(front_drawing(chart))) < 500_000


def test_the_band_holds_the_median_within_the_axes_and_as_fine_as_a_screen(run):
    points, invalid, front = front_of(run)
    chart = get_front_chart(points, invalid, front, {})
    assert 4 <= len(chart.band) <= 2 * len(np.concatenate([front.attainment.low, front.attainment.high])) + 8
    for x, y in (*chart.band, *chart.median):
        assert chart.x_range[0] <= x <= chart.x_range[1]
        assert chart.y_range[0] <= y <= chart.y_range[1]
    crowd = np.linspace(front.attainment.median[0], front.attainment.median[-1], 50_000)
    below_zero = np.vstack([[[-1.0, -1.0]], crowd])
    dense = replace(front, attainment=replace(front.attainment, median=crowd, low=below_zero))
    assert len(get_front_chart(points, invalid, dense, {}).median) < 8_100


def test_numbers_of_points_do_not_hide_each_other(run):
    points, invalid, front = front_of(run)
    twin = points[points["on_frontier"]].iloc[[0]]
    chart = get_front_chart(pd.concat([points, twin], ignore_index=True), invalid, front, {})
    numbers = [spot.number for spot in chart.front]
    assert numbers.count("") >= 1
    assert numbers[0] == "1"
    assert all(number in ("", str(i)) for i, number in enumerate(numbers, 1))


def test_bars_add_up_and_start_with_the_variant_of_the_highest_throughput(run):
    points, _, _ = front_of(run)
    points.loc[points["depth"] == 2, "throughput_img_s"] *= 2
    stacks = get_stacks(points)
    assert [found.name for found in stacks] == ["depth 1", "depth 2"]
    assert [bar.cut for bar in stacks[0].bars] == ["remote", "P1", "P2", "P3", "P4", "P5", "local"]
    for found in stacks:
        assert found.left_out == 0
        for bar in found.bars:
            assert sum(bar.parts) == pytest.approx(bar.latency)
    points.loc[points["split"] == "P3", "breakdown_queue_s"] = math.nan
    assert [(len(found.bars), found.left_out) for found in get_stacks(points)] == [(6, 1), (6, 1)]


def test_stressed_words_commands_and_lists_of_an_answer():
    answer = answer_of(
        ["# alexnet", "## alexnet, network lan", "**Split at P3**, after x.", "- one", "    pp-matrix run"]
    )
    assert answer.title == "alexnet"
    assert [passage.kind for passage in answer.passages] == ["heading", "text", "item", "command"]
    assert answer.passages[1].pieces == (("Split at P3", True), (", after x.", False))


def test_quantities_in_words():
    assert [quantity(value, "bit/s") for value in (44321177621, 5e6, 0, None, math.nan)] == [
        *("44.3 Gbit/s", "5.00 Mbit/s", "0 bit/s", "-", "-")
    ]
    assert [duration(value) for value in (0.2, 7.4e-5, 1.5, 120.0)] == ["200 ms", "74.0 µs", "1.50 s", "120 s"]
    assert [percent(value) for value in (0, 0.001, 0.87, 0.999, 1, math.nan)] == [
        "0 %",
        "<1 %",
        "87 %",
        ">99 %",
        "100 %",
        "n/a",
    ]


@pytest.mark.parametrize("apart", [True, False])
def test_what_is_computed_beside_comes_back_and_so_do_errors(apart):
    assert Beside(lambda: [1, "two"], apart=apart).result() == [1, "two"]
    with pytest.raises(ZeroDivisionError):
        Beside(lambda: 1 / 0, apart=apart).result()
    assert (Beside(os.getpid, apart=apart).result() == os.getpid()) is not apart


def test_a_process_beside_that_dies_is_an_error():
    with pytest.raises(LostProcessError, match=r"ended \(status 3;"):
        Beside(lambda: os._exit(3)).result()


def test_ctrl_c_is_for_the_first_process_only():
    assert Beside(lambda: signal.getsignal(signal.SIGINT)).result() == signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN


def test_a_large_run_says_the_same(run, report, monkeypatch):
    monkeypatch.setattr(content, "LARGE", 1)
    assert gather(run) == report


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def schemes():
    style = files("analysis.report").joinpath("style.css").read_text("utf-8")
    blocks = re.findall(r":root \{([^}]*)\}", style)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


@pytest.mark.parametrize("colours", schemes(), ids=["light", "dark", "print"])
def test_texts_and_marks_stand_out(colours):
    for ink in ("ink", "soft", "link"):
        assert min(contrast(colours[ink], colours[ground]) for ground in ("paper", "tint")) >= 4.5
    assert contrast(colours["ink"], colours["mark-tint"]) >= 4.5
    for colour in (*_COLOURS, *_PART_COLOURS.values()):
        assert contrast(colour, colours["paper"]) >= 3


def invoke(*arguments):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def test_the_command_writes_the_page_and_says_where(run, tmp_path):
    out = tmp_path / "new" / "page.html"
    result = invoke(run.directory, "--out", out)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.splitlines()[-1] == str(out)
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_one_round_has_no_intervals_and_says_so(tmp_path):
    directory = write_run(
        tmp_path / "one",
        [
            record(k, 3, depth, latency_s=0.1 + 0.1 * k, throughput_img_s=10.0 * k + depth)
            for k in range(4)
            for depth in (1, 2)
        ],
    )
    assert invoke(directory).exit_code == 0
    assert "One round per point: no intervals." in (directory / "report.html").read_text()


def test_where_all_cells_failed_the_report_says_why_and_the_status_is_1(tmp_path):
    directory = write_run(tmp_path / "none", [failed(k=k) for k in range(3)])
    result = invoke(directory)
    assert result.exit_code == 1
    assert "3 records failed" in result.stderr
    text = (directory / "report.html").read_text()
    assert "out-of-memory on pi2: worker killed (137)" in text
    assert 'class="plot"' not in text


@pytest.mark.parametrize("content", [None, "{", '{"schema": 99}'])
def test_what_cannot_be_read_is_a_sentence_and_status_2(tmp_path, content):
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    result = invoke(tmp_path)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_a_place_that_cannot_be_written_is_a_sentence_and_status_2(run, tmp_path):
    (tmp_path / "file").write_text("")
    result = invoke(run.directory, "--out", tmp_path / "file" / "page.html")
    assert result.exit_code == 2
    assert "--out FILE" in result.stderr


def test_imported_records_of_unknown_depth(tmp_path):
    records = [record(k, 3, None, r, 0.1 + 0.1 * k, 10.0 * k + r) for k in range(4) for r in range(2)]
    directory = write_run(tmp_path / "imported", [r | {"imported": True} for r in records], testbed="imported")
    assert invoke(directory).exit_code == 0
    text = (directory / "report.html").read_text()
    assert "depth unknown" in text
    assert "mported" in text.split("<main")[0].split("<nav")[0]
