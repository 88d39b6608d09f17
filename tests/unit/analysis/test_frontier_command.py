import csv
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from synthetic_run import failed, invalid, record, stage, write_run

from analysis.cli import main


def frontier(*args):
    result = CliRunner().invoke(main, ["frontier", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def rounds_of(k, latency_s, throughput_img_s, n=4, **axes):
    cpu_pct = axes.pop("cpu_pct", 90.0)
    return [
        record(
            k,
            round_=i,
            latency_s=latency_s * (1 + i / 200),
            throughput_img_s=throughput_img_s * (1 - i / 200),
            stages=[stage(cpu_pct=cpu_pct), stage(cpu_pct=cpu_pct)],
            **axes,
        )
        for i in range(n)
    ]


RUN = [
    *rounds_of(3, 0.2, 40.0, cpu_pct=200.0),
    *rounds_of(4, 0.25, 60.0),
    *rounds_of(5, 0.4, 65.0, cpu_pct=120.0),
    *rounds_of(6, 0.5, 30.0, cpu_pct=20.0),
    *rounds_of(7, 0.6, 20.0),
]


@pytest.fixture
def no_picture(monkeypatch):
    monkeypatch.setattr("analysis.figures.at_once._picture", lambda job: [])


@pytest.fixture
def run(tmp_path, no_picture):
    return write_run(tmp_path / "run", RUN)


def table_of(text, number=0):
    """The rows of one of the printed Markdown tables, as dicts."""
    lines = [line for line in text.split("\n\n")[number].splitlines() if line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_the_front_has_memberships_and_a_second_table_the_hypervolume(run):
    result = frontier(run)
    assert result.exit_code == 0
    front = table_of(result.stdout)
    assert [(row["split"], row["p front"], row["knee"]) for row in front] == [
        ("P3", "1.00", ""),
        ("P4", "1.00", "*"),
        ("P5", "1.00", ""),
    ]
    (whole,) = table_of(result.stdout, 1)
    assert (whole["on front"], whole["knee"]) == ("3 of 5", "P4 ·D1")
    low, high = map(float, whole["95 % of draws"].split(" to "))
    assert low < float(whole["hypervolume"]) < high
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert "against latency_s 0.6649 (1.1 x the worst), throughput_img_s 0" in result.stderr


def test_all_has_the_dominated_points_with_their_rank(run):
    rows = table_of(frontier(run, "--all").stdout)
    assert [(row["split"], row["rank"], row["p front"]) for row in rows] == [
        ("P3", "1", "1.00"),
        ("P4", "1", "1.00"),
        ("P5", "1", "1.00"),
        ("P6", "2", "0.00"),
        ("P7", "3", "0.00"),
    ]


def test_the_ends_of_a_sweep_are_named_by_where_they_run(tmp_path, no_picture):
    records = [*rounds_of(0, 0.2, 40.0), *rounds_of(3, 0.25, 45.0), *rounds_of(20, 0.3, 50.0)]
    result = frontier(write_run(tmp_path / "run", records))
    assert [row["split"] for row in table_of(result.stdout)] == ["remote", "P3", "local"]


def test_files_have_everything(run):
    result = frontier(run, "--format", "csv")
    assert [row["split"] for row in rows_of(result.stdout)] == ["P3", "P4", "P5"]
    written = sorted(path.name for path in (run / "figures").iterdir())
    assert written == ["frontier-lan-attainment.csv", "frontier-lan.csv", "fronts-by-profile.csv"]
    assert all(str(run / "figures" / name) in result.stderr for name in written)
    points = rows_of((run / "figures/frontier-lan.csv").read_text())
    assert [row["dominance_rank"] for row in points] == ["1.0", "1.0", "1.0", "2.0", "3.0"]
    assert [row["knee"] for row in points] == ["False", "True", "False", "False", "False"]
    (front,) = rows_of((run / "figures/fronts-by-profile.csv").read_text())
    assert (front["model"], front["profile"], front["on_frontier"], front["nearest_ideal"]) == (
        *("mobilenet_v2", "lan", "3"),
        "P4 ·D1",
    )
    lines = rows_of((run / "figures/frontier-lan-attainment.csv").read_text())
    assert {row["attained_in_pct_of_draws"] for row in lines} == {"97.5", "50.0", "2.5"}


def test_objectives_are_free_derived_ones_too(run):
    result = frontier(run, "--minimize", "cpu_s_per_img", "--maximize", "throughput_img_s", "--format", "csv")
    assert [row["split"] for row in rows_of(result.stdout)] == ["P6", "P4", "P5"]
    assert "better: less cpu_s_per_img, more throughput_img_s" in result.stderr
    assert (run / "figures/frontier-lan-cpu_s_per_img-throughput_img_s.csv").is_file()
    markdown = table_of(frontier(run, "--minimize", "cpu_s_per_img", "--maximize", "throughput_img_s").stdout)
    assert "±" in markdown[0]["cpu_s_per_img"]


def test_one_objective_joins_latency_and_throughput(run):
    result = frontier(run, "--minimize", "cpu_s_per_img", "--format", "csv")
    assert "better: less latency_s, more throughput_img_s, less cpu_s_per_img" in result.stderr
    assert [row["split"] for row in rows_of(result.stdout)] == ["P3", "P4", "P5", "P6"]
    # What is an objective by default can be turned round.
    turned = frontier(run, "--minimize", "throughput_img_s", "--format", "csv")
    assert "better: less latency_s, less throughput_img_s" in turned.stderr


def test_an_axis_is_an_objective_without_an_interval(tmp_path, no_picture):
    records = [*rounds_of(3, 0.2, 40.0), *rounds_of(3, 0.1, 20.0, batch_size=4), *rounds_of(4, 0.3, 30.0)]
    run = write_run(tmp_path / "run", records)
    result = frontier(run, "--minimize", "batch_size", "--maximize", "throughput_img_s", "--format", "csv")
    assert [(row["batch_size"], row["membership"]) for row in rows_of(result.stdout)] == [("4", "1.0"), ("8", "1.0")]


def test_a_point_that_lacks_an_objective_is_on_no_front_and_evicts_nobody(tmp_path, no_picture):
    records = [*rounds_of(3, 0.2, 40.0), *rounds_of(4, 0.1, 90.0)]
    for line in records[:4]:
        line["energy_j_per_image"] = 3.0
    run = write_run(tmp_path / "run", records)
    rows = table_of(frontier(run, "--minimize", "energy_j_per_image", "--all").stdout)
    assert [(row["split"], row["rank"]) for row in rows] == [("P3", "1"), ("P4", "-")]


def test_a_reference_can_be_given(run):
    result = frontier(run, "--reference", "0.3,10")
    assert "against latency_s 0.3, throughput_img_s 10 (given)" in result.stderr
    assert "no better than the reference and add no hypervolume: 1" in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--minimize", "cpu_s_per_image"), "no column 'cpu_s_per_image'; did you mean 'cpu_s_per_img'"),
        (("--minimize", "stage1_exec"), "did you mean 'stage1_exec_s'"),
        (("--minimize", "zzz"), "the columns are "),
        (("--minimize", "backend"), "column 'backend' is not of numbers"),
        (("--minimize", "split_index"), "column 'split_index' is not of numbers"),
        (("--minimize", "latency_p90_s"), "column 'latency_p90_s' has no number in a valid record"),
        (("--minimize", "latency_s", "--maximize", "latency_s"), "'latency_s' is an objective more than once"),
        (("--reference", "1"), "--reference has 1 values for 2 objectives: latency_s, throughput_img_s"),
        (("--reference", "1,x"), "'1,x' is no list of numbers"),
        (("--baseline", "lan"), "--baseline needs --by profile"),
        (("--label", "split"), "--label needs --from-csv"),
    ],
)
def test_bad_requests_are_status_2_and_print_nothing(run, args, message):
    result = frontier(run, *args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr.replace("\n", " ")
    assert not (run / "figures").exists()


def test_one_round_is_said(tmp_path, no_picture):
    result = frontier(write_run(tmp_path / "run", [record(3), record(4, latency_s=0.3, throughput_img_s=50.0)]))
    assert result.exit_code == 0
    assert [row["p front"] for row in table_of(result.stdout)] == ["n/a", "n/a"]
    assert table_of(result.stdout, 1)[0]["95 % of draws"] == "n/a"
    assert "2 of 2 points have one valid round: no interval" in result.stderr
    assert not list((tmp_path / "run").glob("figures/*attainment*"))


def test_all_failed_is_status_1_and_says_why(tmp_path):
    result = frontier(write_run(tmp_path / "run", [failed(k=3), invalid(k=4)]))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no valid point: 1 records failed, 1 are invalid" in result.stderr
    assert "failed: " in result.stderr


def test_an_unknown_depth_is_a_point_without_one(tmp_path, no_picture):
    records = [*rounds_of(3, 0.2, 40.0, depth=None), *rounds_of(4, 0.3, 50.0, depth=None)]
    result = frontier(write_run(tmp_path / "run", records))
    assert result.exit_code == 0
    assert [row["split"] for row in table_of(result.stdout)] == ["P3", "P4"]
    assert "nan" not in result.stdout.lower()
    assert "None" not in result.stdout


def test_dominated_points_that_may_be_on_the_front_are_pointed_out(tmp_path, no_picture):
    records = [*rounds_of(3, 0.2, 40.0), *rounds_of(4, 0.2, 40.0, n=5)]
    result = frontier(write_run(tmp_path / "run", records))
    assert "dominated points that are on the front in 5 % of the draws or more: 1; see --all" in result.stderr


def test_a_point_of_one_round_among_others_is_pointed_out(tmp_path, no_picture):
    result = frontier(write_run(tmp_path / "run", [*rounds_of(3, 0.2, 40.0), record(4, latency_s=0.4)]))
    assert "points with one valid round, which stand at their value in the draws of the others: 1" in result.stderr


def test_an_imported_run_may_not_know_its_pipeline(tmp_path, no_picture):
    unknown = {"pipeline": None, "shaper": None, "depth": None, "imported": True}
    records = [*rounds_of(3, 0.2, 40.0, **unknown), *rounds_of(4, 0.3, 50.0, **unknown), failed(k=5, pipeline=None)]
    run = write_run(tmp_path / "run", records, testbed="imported")
    result = frontier(run, "--by", "pipeline", "--format", "csv")
    assert result.exit_code == 0
    assert [row["membership"] for row in rows_of(result.stdout)] == ["1.0", "1.0"]


@pytest.fixture
def overlaid(monkeypatch):
    calls = []
    fake = SimpleNamespace(print_network_overlay=lambda *args: calls.append(args))
    monkeypatch.setitem(sys.modules, "analysis.networks.overlay", fake)
    return calls


def test_networks_are_overlaid_where_it_is_asked_for_and_there_are_two(tmp_path, no_picture, overlaid):
    run = write_run(tmp_path / "run", [*RUN, *rounds_of(3, 2.0, 4.0, profile="duress")])
    assert frontier(run).exit_code == 0
    assert overlaid == []
    assert frontier(run, "--by", "profile", "--baseline", "lan", "--out", tmp_path / "there").exit_code == 0
    ((data, marked, folder, format_, baseline),) = overlaid
    assert (data.directory, folder, format_, baseline) == (run, tmp_path / "there", "md", "lan")
    assert [front.key["profile"] for front in marked.fronts] == ["lan", "duress"]


def test_one_network_is_not_overlaid(run, overlaid):
    result = frontier(run, "--by", "profile", "--baseline", "lan")
    assert overlaid == []
    assert "there is no network to compare it with" in result.stderr


def test_three_objectives_are_drawn_in_pairs(tmp_path):
    run = write_run(tmp_path / "run", RUN)
    result = frontier(run, "--minimize", "cpu_s_per_img")
    assert result.exit_code == 0
    stem = run / "figures/frontier-lan-latency_s-throughput_img_s-cpu_s_per_img"
    assert Path(f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert "cpu_s_per_img" in Path(f"{stem}.svg").read_text()


def test_a_crowd_is_drawn_by_processes_and_the_pictures_are_the_same(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", [*rounds_of(3, 0.2, 40.0), *rounds_of(3, 2.0, 4.0, profile="duress")])
    one = frontier(run, "--out", tmp_path / "one")
    monkeypatch.setattr("analysis.figures.at_once.CROWD", 0)
    other = frontier(run, "--out", tmp_path / "other")
    assert other.stderr.replace("other", "one") == one.stderr
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "frontier-duress.png" in names
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in names)
