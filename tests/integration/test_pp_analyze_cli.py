"""The whole pp-analyze command on results directories written as docs/formats.md has them."""

import csv
import io
import math
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from analysis.cli import main

synthetic = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "unit/analysis/synthetic_run.py")))
record, invalid, failed, stage = synthetic.record, synthetic.invalid, synthetic.failed, synthetic.stage

PNG, SVG = b"\x89PNG\r\n\x1a\n", b"<?xml"


def analyze(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def paths_in(stderr):
    return [Path(line) for line in stderr.splitlines() if line.endswith((".png", ".svg", ".csv"))]


@pytest.fixture
def write(tmp_path):
    def write(*records, probes=(), name="run", schema=1, **run):
        return synthetic.write_run(tmp_path / name, records, probes, schema, **run)

    return write


@pytest.fixture
def front_run(write):
    """Two on the front, one dominated, one failed, one invalid; two rounds each."""
    return write(
        record(3, latency_s=0.2, throughput_img_s=40.0),
        record(3, latency_s=0.22, throughput_img_s=38.0, round_=1),
        record(4, depth=2, latency_s=0.3, throughput_img_s=60.0),
        record(4, depth=2, latency_s=0.3, throughput_img_s=62.0, round_=1),
        record(5, latency_s=0.4, throughput_img_s=30.0),
        failed(k=6),
        invalid(k=7, latency_s=0.01, throughput_img_s=900.0),
    )


def test_table_csv_has_one_row_per_record_at_full_precision(write):
    awkward = 0.1 + 0.2
    result = analyze("table", write(record(latency_s=awkward), record(depth=2), failed(k=4)), "--format", "csv")
    assert result.exit_code == 0
    assert result.stderr == ""
    rows = rows_of(result.stdout)
    assert [(row["split"], row["depth"], row["status"]) for row in rows] == [
        *[("P3", "1", "ok"), ("P3", "2", "ok"), ("P4", "1", "failed")]
    ]
    assert float(rows[0]["latency_s"]) == awkward
    assert list(rows[0])[:3] == ["cell", "model", "split"]
    assert list(rows[0])[-1] == "stage2_gpu_mem_pct"
    assert rows[2]["latency_s"] == rows[2]["stage1_exec_s"] == ""


def test_a_network_that_changed_invalidates_its_records(write):
    probes = [synthetic.probe(ok=False, reason="rtt 0.310 s, declared 0.200 s", segment="seg-9")]
    run = write(record(segment="seg-9"), record(round_=1, segment="seg-8", latency_s=0.4), probes=probes)
    changed, kept = rows_of(analyze("table", run, "--format", "csv").stdout)
    assert (changed["valid"], kept["valid"]) == ("False", "True")
    assert changed["invalid_reason"] == "network changed during the round: rtt 0.310 s, declared 0.200 s"
    (point,) = rows_of(analyze("frontier", run, "--format", "csv").stdout)
    assert (point["latency_s"], point["rounds"], point["rounds_invalid"]) == ("0.4", "1", "1")


def test_only_the_last_record_of_a_rerun_counts(write):
    rows = rows_of(analyze("table", write(failed(k=3), record(3)), "--format", "csv").stdout)
    assert [row["status"] for row in rows] == ["ok"]


@pytest.mark.parametrize("command", [("table", "--format", "md"), ("frontier",)])
def test_markdown_is_the_whole_of_stdout_and_fits(front_run, command):
    result = analyze(command[0], front_run, *command[1:])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert all(not line or line.startswith("| ") or line.startswith("|-") for line in lines)
    assert max(map(len, lines)) <= 100
    assert "210 ± 127" in result.stdout
    assert "failed: " in result.stderr
    assert "Little's law" in result.stderr


def test_latex_is_the_whole_of_stdout(front_run):
    result = analyze("table", front_run, "--format", "latex")
    assert result.stdout.startswith("\\begin{tabular}")
    assert result.stdout.endswith("\\end{tabular}\n")
    assert r"mobilenet\_v2" in result.stdout


def test_frontier_prints_the_front_and_writes_pictures_and_all_points(front_run):
    result = analyze("frontier", front_run, "--format", "csv")
    assert result.exit_code == 0
    front = rows_of(result.stdout)
    assert [(row["split"], row["depth"], row["on_frontier"]) for row in front] == [
        ("P3", "1", "True"),
        ("P4", "2", "True"),
    ]
    assert float(front[0]["latency_s"]) == pytest.approx(0.21)
    assert float(front[0]["latency_s_ci95_high"]) == pytest.approx(0.21 + 12.7062047 * 0.01)
    table, band, png, svg, fronts = paths_in(result.stderr)
    assert (band.name, fronts.name) == ("frontier-lan-attainment.csv", "fronts-by-profile.csv")
    assert png == front_run / "figures/frontier-lan.png"
    assert png.read_bytes().startswith(PNG)
    assert svg.read_bytes().startswith(SVG)
    points = {row["split"]: row for row in rows_of(table.read_text())}
    assert {split: row["on_frontier"] for split, row in points.items()} == {
        **{"P3": "True", "P4": "True", "P5": "False", "P6": "False", "P7": "False"}
    }
    assert points["P7"]["latency_s"] == ""
    assert points["P5"]["latency_s_ci95_low"] == ""


def test_one_round_has_no_interval_and_says_so(write):
    result = analyze("frontier", write(record()))
    assert "200.0 ± n/a" in result.stdout
    assert "1 of 1 points have one valid round: no interval" in result.stderr


def test_a_simulation_is_never_taken_for_a_measurement(write):
    result = analyze("frontier", write(record(), testbed="simulated"))
    assert result.stderr.startswith("Simulated testbed: declared times, nothing was measured.\n")
    assert "Simulated" not in analyze("frontier", write(record(), testbed="hosts")).stderr


def test_profiles_get_fronts_and_files_of_their_own(write):
    run = write(record(3), record(3, latency_s=5.0, throughput_img_s=2.0, profile="duress 200ms/5mbit"))
    result = analyze("frontier", run, "--format", "csv")
    assert {row["profile"] for row in rows_of(result.stdout)} == {"lan", "duress 200ms/5mbit"}
    assert {path.name for path in (run / "figures").glob("*.png")} == {
        "frontier-lan.png",
        "frontier-duress-200ms-5mbit.png",
    }


def test_values_with_the_same_file_name_do_not_overwrite_each_other(write):
    run = write(record(3, profile="a/b"), record(3, profile="a b"))
    analyze("frontier", run)
    assert {path.name for path in (run / "figures").glob("*.png")} == {"frontier-a-b.png", "frontier-a-b-2.png"}


def test_by_backend(write):
    run = write(record(3), record(3, latency_s=5.0, throughput_img_s=2.0, backend="rpc"))
    assert len(rows_of(analyze("frontier", run, "--format", "csv").stdout)) == 1
    result = analyze("frontier", run, "--by", "backend", "--format", "csv")
    assert {row["backend"] for row in rows_of(result.stdout)} == {"socket", "rpc"}
    assert (run / "figures/frontier-lan-rpc.svg").is_file()


def test_a_profile_without_a_valid_round_has_no_picture(write):
    run = write(record(3), failed(k=3, profile="duress"))
    result = analyze("frontier", run)
    assert result.exit_code == 0
    assert "no picture of duress: no valid round" in result.stderr
    assert [path.name for path in (run / "figures").glob("*.png")] == ["frontier-lan.png"]


@pytest.mark.parametrize("command", ["table", "frontier"])
def test_a_run_without_a_valid_point_is_status_1(write, command):
    run = write(failed(k=3), invalid(k=4))
    result = analyze(command, run)
    assert result.exit_code == 1
    assert "no valid point: 1 records failed, 1 are invalid" in result.stderr
    assert "out-of-memory on pi2" in result.stderr
    assert not (run / "figures").exists()


@pytest.mark.parametrize("command", ["table", "frontier", "compare"])
def test_a_run_without_records_is_status_1(write, command):
    result = analyze(command, write())
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no round is finished yet" in result.stderr


def test_the_newest_run_is_the_default(write, tmp_path, monkeypatch):
    for age, name in ((100, "results/old"), (0, "results/new")):
        run = write(record(model=name[8:]), name=name)
        os.utime(run / "run.json", (time.time() - age,) * 2)
    monkeypatch.chdir(tmp_path)
    result = analyze("table", "--format", "csv")
    assert [row["model"] for row in rows_of(result.stdout)] == ["new"]
    assert result.stderr == "reading results/new\n"


def test_no_results_at_all(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = analyze("frontier")
    assert result.exit_code == 2
    assert result.stderr == "Error: no results under results/; run pp-matrix run first, or name a directory\n"


def test_input_that_cannot_be_read_is_one_line_and_status_2(write, tmp_path):
    other_schema = write(record(), schema=9)
    cases = {
        tmp_path / "nowhere": "no results here",
        other_schema: "schema 9",
        write({"schema": 1}, name="no-cell"): "no 'cell'",
    }
    damaged = write(record(), name="damaged")
    (damaged / "records.jsonl").write_text("oops\n{}\n")
    for directory, message in (cases | {damaged: "not a JSON object"}).items():
        result = analyze("table", directory)
        assert result.exit_code == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_place_that_cannot_be_written_is_status_2_after_the_table(write, tmp_path):
    (tmp_path / "file").write_text("")
    result = analyze("frontier", write(record()), "--out", tmp_path / "file" / "below")
    assert result.exit_code == 2
    assert result.stdout.startswith("| model")
    assert "name another place with --out" in result.stderr


PAPER_STYLE = """\
model,split,latency_s,throughput_img_s,stage1_mem_pct
MobileNetV2,P3,1.958,8.256,18.510
MobileNetV2,P17,1.932,4.400,16.84
VGG16,P14,13.202,1.172,35.43
VGG16,P29,14.308,0.598,33.95
VGG16,P30,,0.5,33.95
"""


@pytest.fixture
def paper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "table2.csv"
    path.write_text(PAPER_STYLE)
    return path


AXES = ("--minimize", "latency_s", "--maximize", "throughput_img_s")


def test_from_csv_keeps_all_columns_and_writes_beside_us(paper):
    result = analyze("frontier", "--from-csv", paper, *AXES, "--label", "split", "--group", "model", "--format", "csv")
    assert result.exit_code == 0
    front = rows_of(result.stdout)
    assert [row["split"] for row in front] == ["P3", "P17", "P14"]
    marks = ["on_frontier", "dominance_rank", "utopia_distance", "knee"]
    assert list(front[0]) == ["model", "split", "latency_s", "throughput_img_s", "stage1_mem_pct", *marks]
    assert front[0]["stage1_mem_pct"] == "18.510"
    assert "1 of 5 rows dropped" in result.stderr
    assert [str(path) for path in paths_in(result.stderr)] == [
        f"table2-frontier.{end}" for end in ("png", "svg", "csv")
    ]
    everything = rows_of(Path("table2-frontier.csv").read_text())
    assert [row["on_frontier"] for row in everything] == ["True", "True", "True", "False"]
    assert Path("table2-frontier.png").read_bytes().startswith(PNG)


def test_from_csv_markdown_and_out(paper):
    result = analyze("frontier", "--from-csv", paper, *AXES, "--out", "there")
    assert [line.split("|")[2].strip() for line in result.stdout.splitlines()] == ["split", "-------", "P3", "P17"]
    assert Path("there/table2-frontier.svg").read_bytes().startswith(SVG)


def test_three_objectives_are_drawn_in_pairs(paper):
    result = analyze("frontier", "--from-csv", paper, *AXES, "--minimize", "stage1_mem_pct", "--format", "csv")
    assert result.exit_code == 0
    assert len(rows_of(result.stdout)) == 2
    assert "hypervolume in latency_s x stage1_mem_pct x throughput_img_s: " in result.stderr
    assert sorted(path.suffix for path in Path().glob("table2-frontier.*")) == [".csv", ".png", ".svg"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--from-csv", "table2.csv", "--minimize", "latency_s"), "a front needs two objectives or more"),
        (("--from-csv", "table2.csv", *AXES, "--maximize", "latency_s"), "'latency_s' is an objective more than once"),
        (("--from-csv", "table2.csv", *AXES, "--minimize", "latencys"), "did you mean 'latency_s'?"),
        (("--from-csv", "table2.csv", *AXES, "--minimize", "split"), "line 2, column 'split': 'P3' is not a number"),
        (("--from-csv", "table2.csv", *AXES, "--label", "splits"), "no column 'splits'; did you mean 'split'?"),
        (("--from-csv", "missing.csv", *AXES), "missing.csv: No such file"),
        (("--from-csv", "table2.csv", *AXES, "--by", "backend"), "with --from-csv use --group"),
        (("results", "--from-csv", "table2.csv", *AXES), "name one of them"),
        (("--from-csv", "table2.csv", *AXES, "--baseline", "lan"), "--baseline is for a run"),
        (("--from-csv", "table2.csv", *AXES, "--reference", "1"), "--reference has 1 values for 2 objectives"),
        (("--by", "split"), "'split' is not one of"),
    ],
)
def test_bad_requests_are_status_2_and_print_nothing(paper, args, message):
    result = analyze("frontier", *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_no_usable_row(paper):
    paper.write_text("latency_s,throughput_img_s\n,1\n2,nan\n")
    result = analyze("frontier", "--from-csv", paper, *AXES)
    assert result.exit_code == 2
    assert "no row has a finite value of every objective" in result.stderr


def sides(k=3, rounds=3, faster=0.8, by="backend", values=("socket", "rpc"), n_stages=2, **axes):
    """Rounds of one cell with each of two values; the second one takes `faster` times as long."""
    stages = [stage(0.05, 0.001, 0.002, 0.003)] * n_stages
    return [
        record(k, round_=i, latency_s=0.2 * factor * (1 + i / 100), throughput_img_s=40 / factor, stages=stages, **axes)
        | {by: value, "cell": f"{axes.get('model')}-{k}-{value}-{axes.get('profile')}"}
        for value, factor in zip(values, (1.0, faster), strict=True)
        for i in range(rounds)
    ]


@pytest.fixture
def backends_run(write):
    """A pair that is faster, one with a round that failed, a baseline without a link, and a point on its own."""
    return write(
        *sides(3),
        *sides(4)[:-1],
        failed(k=4, round_=2) | {"backend": "rpc", "cell": "None-4-rpc-None"},
        *sides(20, faster=1.0, n_stages=1),
        *sides(7)[:3],
    )


def test_compare_prints_ratios_breakdown_and_what_all_pairs_say(backends_run):
    result = analyze("compare", backends_run, "--by", "backend")
    assert result.exit_code == 0
    ratios, parts, together = (table.splitlines() for table in result.stdout.split("\n\n"))
    assert max(map(len, (*ratios, *parts, *together))) <= 100
    first = [cell.strip() for cell in ratios[2].strip("|").split("|")]
    assert first[:4] == ["rpc", "P3", "1", "1.250 ±0.0%"]
    assert first[-2:] == ["faster", "3"]
    assert "| equal" in ratios[4]
    assert "2 of 3" in ratios[3]
    assert [cell.strip() for cell in parts[2].strip("|").split("|")][3:8] == ["202.0", "100.0", "2.0", "10.0", "90.0"]
    assert len(parts) == 2 + 7
    assert len(together) == 2 + 4
    for said in (
        "no counterpart for socket at P7 depth 1; not compared",
        "round 2: rpc failed (out-of-memory on pi2: worker killed (137))",
        "equal within a pair: model, cut, engine, profile, pipeline, batch size, depth, round; only the backend",
        "not in the last table: pairs of one stage (1)",
    ):
        assert said in result.stderr
    names = [path.name for path in paths_in(result.stderr)]
    assert names == [
        *["compare-backend.csv", "compare-backend-overall.csv", "compare-backend-lan.png", "compare-backend-lan.svg"],
        *["compare-backend-lan-ratios.png", "compare-backend-lan-ratios.svg"],
    ]
    assert (backends_run / "figures/compare-backend-lan.png").read_bytes().startswith(PNG)
    assert (backends_run / "figures/compare-backend-lan-ratios.svg").read_bytes().startswith(SVG)


def test_compare_csv_has_every_point_at_full_precision_and_is_the_file(backends_run, tmp_path):
    result = analyze("compare", backends_run, "--format", "csv", "--out", tmp_path / "there")
    rows = {(row["split"], row["backend"]): row for row in rows_of(result.stdout)}
    assert len(rows) == 7
    rpc = rows["P3", "rpc"]
    assert float(rpc["throughput_ratio"]) == pytest.approx(1.25, rel=1e-12)
    assert (rpc["throughput_verdict"], rpc["cpu_verdict"], rows["P3", "socket"]["throughput_ratio"]) == (
        "faster",
        "less",
        "",
    )
    parts = [float(rpc[f"breakdown_{part}_s"]) for part in ("compute", "serialize", "queue", "network")]
    assert sum(parts) == pytest.approx(float(rpc["latency_s"]), rel=1e-12)
    assert float(rpc["interface_bytes_per_activation_byte"]) == pytest.approx(1.05)
    assert rows["20", "rpc"]["network_ratio"] == ""
    assert (tmp_path / "there/compare-backend.csv").read_text() == result.stdout
    overall = rows_of((tmp_path / "there/compare-backend-overall.csv").read_text())
    assert [(row["metric"], row["pairs"], row["better"]) for row in overall][:2] == [
        *[("throughput", "2", "2"), ("latency", "2", "2")]
    ]
    assert "rpc / socket: images/s x 1.250 over 2 pairs" in result.stderr
    assert not (backends_run / "figures").exists()


def test_compare_by_engine_and_by_profile(write):
    run = write(
        *sides(by="engine", values=("eager", "fused")), *sides(8, by="profile", values=("lan", "far"), faster=9.0)
    )
    ambiguous = analyze("compare", run)
    assert (ambiguous.exit_code, "several axes vary (engine, profile); name one with --by" in ambiguous.stderr) == (
        2,
        True,
    )
    assert "| fused " in analyze("compare", run, "--by", "engine").stdout
    result = analyze("compare", run, "--by", "profile", "--baseline", "far")
    assert "vs far" in result.stdout
    assert (run / "figures/compare-profile.png").is_file()
    assert (run / "figures/compare-engine-lan.png").is_file()


def test_compare_only_some_depths(write):
    run = write(*sides(depth=1), *sides(depth=2))
    depths = {row["depth"] for row in rows_of(analyze("compare", run, "--depth", "2", "--format", "csv").stdout)}
    assert depths == {"2"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--by", "engine"), "nothing to compare: the run has one engine (eager); measure a second one"),
        (("--baseline", "rcp"), "no backend 'rcp' in this run; --baseline can be socket, rpc"),
        (("--depth", "7"), "no such depth; measured: 1"),
        (("--depth", "one"), "'one' is no list of whole numbers"),
        (("--by", "split"), "'split' is not one of"),
    ],
)
def test_what_cannot_be_compared_is_status_2_and_prints_nothing(backends_run, args, message):
    result = analyze("compare", backends_run, *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_to_pair_is_status_2(write):
    result = analyze("compare", write(*sides(3)[:3], *sides(4)[3:]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing to pair: no cell was measured with socket and with rpc" in result.stderr


def test_pairs_without_a_common_round_are_status_1(write):
    result = analyze("compare", write(record(3), failed(k=3, backend="rpc")))
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no round is valid in both of any pair" in result.stderr
    assert "round 0: rpc failed (out-of-memory on pi2" in result.stderr


def test_records_of_older_runs_are_compared_without_a_breakdown(write):
    result = analyze("compare", write(record(3), record(3, backend="rpc", latency_s=0.4)))
    assert result.exit_code == 0
    assert "2.000 ±n/a" in result.stdout
    assert "2 of 2 points have no breakdown" in result.stderr


def test_a_simulated_comparison_says_so(write):
    assert "Simulated testbed" in analyze("compare", write(*sides(), testbed="simulated")).stderr


def test_pictures_are_the_same_bytes_in_another_process(front_run, tmp_path):
    analyze("frontier", front_run)
    code = f"from analysis.cli import main; main({['frontier', str(front_run), '--out', str(tmp_path / 'again')]!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("| model")
    for name in ("frontier-lan.svg", "frontier-lan.png", "frontier-lan.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (front_run / "figures" / name).read_bytes()


def test_help_is_quick_and_has_an_example():
    code = "import sys; from analysis.cli import main; sys.argv[:] = ['pp-analyze', '--help']; main()"
    fastest = math.inf
    for _ in range(3):  # the machine may be busy: one quick start shows that nothing heavy is imported
        begin = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        fastest = min(fastest, time.monotonic() - begin)
    assert "pp-analyze frontier" in done.stdout
    assert fastest <= 0.5


def test_a_table_needs_no_torch_and_nothing_that_draws(front_run):
    code = (
        "import sys; from analysis.cli import main\n"
        f"main(['table', {str(front_run)!r}, '--format', 'csv'], standalone_mode=False)\n"
        "heavy = {'scipy', 'matplotlib', 'seaborn', 'moocore', 'plotly', 'torch'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)


def test_ctrl_c_ends_with_status_130_and_no_traceback(write):
    run = write()
    records = run / "records.jsonl"
    records.unlink()
    os.mkfifo(records)
    command = [Path(sys.executable).with_name("pp-analyze"), "table", str(run)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    # Opening waits until the command reads.
    with process, records.open("w"):
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "interrupted\n")
