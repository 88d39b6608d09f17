import csv
import io
import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from synthetic_run import failed, invalid, pipeline_records, record, write_run
from test_recommendation import CLOSE, FOUR, rounds, run_json, two_networks

from analysis.cli import main

REPOSITORY = Path(__file__).parents[3]


def recommended(*arguments, status=0):
    result = CliRunner().invoke(main, ["recommend", *map(str, arguments)])
    assert result.exit_code == status, result.output
    assert not result.exception or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def write(tmp_path):
    return lambda records, **run: write_run(tmp_path / "run", records, **run)


def test_words_then_a_table_within_100_columns(write):
    slow = pipeline_records(profile="slow", delay_s=0.5)
    result = recommended(write([*pipeline_records(), *slow], testbed="agents"), "--latency-max", "900ms")
    lines = result.stdout.splitlines()
    assert lines[0] == "# mobilenet_v2"
    assert lines[2].startswith("Wanted: latency at most 900 ms. Rule: with a bound on the latency only, the highest")
    assert [line for line in lines if line.startswith("## ")] == [
        "## mobilenet_v2, network lan",
        "## mobilenet_v2, network slow",
        "## mobilenet_v2, all networks measured",
    ]
    assert max(map(len, lines)) <= 100
    table = [line for line in lines if line.startswith("| ")]
    assert table[0].replace(" ", "") == "|network|#|cut|D|latencyms|images/s|kB/batch|behind|pmeets|pbest|"
    assert len(table) == 11
    assert result.stderr == ""


def test_every_answer_of_a_golden_run(write):
    directory = write(two_networks({3: 100.0, 4: 90.0, 5: 50.0}, {3: 20.0, 4: 45.0, 5: 50.0}), testbed="agents")
    out = recommended(directory, "--latency-max", "0.5", "--profile", "lan").stdout
    words = out[: out.index("| network")]
    assert (
        words
        == """\
# mobilenet_v2

Wanted: latency at most 500 ms. Rule: with a bound on the latency only, the highest throughput of
the points that meet them.

## mobilenet_v2, network lan

**Split at P3**, after features.2.
- Depth 1 (1 batch in flight), batch size 8, backend socket, engine eager, pipeline pi-to-pi.
- Stages, computing per batch: pi1 100 ms, then pi2 100 ms.
- Expect latency 100.00 ± 0.98 ms, throughput 100.00 ± 0.98 images/s (± half the 95 % t-interval
  over 5 rounds), 1204.22 kB per batch between stages.
- Probability that it meets the constraints: above 0.99; that it meets them and is the best of those
  that do: above 0.99 (1000 draws of the means of 3 points).
- Runner-up: P4, depth 1: latency 100.00 ± 0.98 ms, throughput 90.00 ± 0.88 images/s, 1204.22 kB per
  batch between stages. The choice has 11.1 % more throughput (95 % interval 11.1 to 11.1 %, paired
  over 5 rounds): the data tells the two apart.
- Under slow it has latency 100.00 ± 0.98 ms, throughput 20.00 ± 0.20 images/s, 1204.22 kB per batch
  between stages: a factor of 2.500 in throughput behind the best of the 3 points measured under
  both networks, P5, depth 1.

## mobilenet_v2, all networks measured

**P4, depth 1** has the least greatest regret of the 3 points measured under all networks
(probability above 0.99).
- lan: latency 100.00 ± 0.98 ms, throughput 90.00 ± 0.88 images/s, 1204.22 kB per batch between
  stages: a factor of 1.111 in throughput behind P3, depth 1.
- slow: latency 100.00 ± 0.98 ms, throughput 45.00 ± 0.44 images/s, 1204.22 kB per batch between
  stages: a factor of 1.111 in throughput behind P5, depth 1.

"""
    )


def test_csv_has_every_point_with_its_role(write):
    directory = write([*FOUR, *(record(9, round_=r, latency_s=2.0, throughput_img_s=500.0) for r in range(2))])
    result = recommended(directory, "--latency-max", "0.6s", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(row["rank"], row["role"], row["split"], row["breaks"]) for row in rows] == [
        ("1", "choice", "P6", ""),
        ("2", "runner-up", "P5", ""),
        ("3", "", "P4", ""),
        ("4", "", "P3", ""),
        ("", "", "P9", "latency_s"),
    ]
    assert float(rows[0]["p_best"]) == 1.0
    assert rows[-1]["loss"] == ""
    assert {"latency_s_ci95_low", "throughput_img_s", "p_meets", "granularity"} <= rows[0].keys()


def test_a_tie_is_no_loss(write):
    directory = write([*rounds(3, 0.1, 40.0), *rounds(6, 0.5, 100.0)])
    rows = list(csv.DictReader(io.StringIO(recommended(directory, "--format", "csv").stdout)))
    assert [float(row["loss"]) for row in rows] == [0.0, 0.0]
    assert [line.split("|")[-3].strip() for line in recommended(directory).stdout.splitlines()[-2:]] == ["0 %", "0 %"]


def test_no_feasible_point_is_status_1(write):
    directory = write([*FOUR, *rounds(3, 0.1, 20.0, profile="slow")])
    result = recommended(directory, "--throughput-min", "90", status=1)
    assert "no point meets the constraints: mobilenet_v2 under slow" in result.stderr
    assert "**Split at P5**" in result.stdout
    recommended(directory, "--throughput-min", "90", "--profile", "lan")


@pytest.mark.parametrize(
    ("records", "status", "words"),
    [
        ([failed(k=k) for k in (3, 4)], 1, "no valid point"),
        ([invalid(k=3), failed(k=4)], 1, "no valid point"),
        ([], 1, "no round is finished yet"),
    ],
)
def test_nothing_valid_is_a_sentence(write, records, status, words):
    assert words in recommended(write(records), status=status).stderr


def test_one_round_and_a_null_depth_are_answered(write):
    one = [r | {"depth": None, "imported": True} for r in (*rounds(3, 0.1, 40.0, n=1), *rounds(4, 0.2, 50.0, n=1))]
    out = recommended(write(one, testbed="imported")).stdout
    assert "Imported results" in out
    assert "Depth unknown" in out
    assert "point estimates" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--latency-max", "fast"], "'fast' is no time, as in 500ms or 0.5"),
        (["--latency-max", "0"], "is no time"),
        (["--latency-max", "1..2"], "is no time"),
        (["--network-budget", "5 furlongs"], "is no number of bytes, as in 100kB or 1e5"),
        (["--throughput-min", "nan"], "is no number of images/s"),
        (["--weights", "latency=2,speed=1"], "is no list of weights"),
        (["--weights", "latency=0"], "one weight must be above 0"),
        (["--weights", "latency=1", "--knee"], "two rules"),
        (["--depth", "1,x"], "is no list of whole numbers"),
        (["--model", "mobilnet_v2"], "did you mean mobilenet_v2?"),
        (["--profile", "uplink"], "no profile 'uplink' here; there is lan"),
        (["--backend", "rpc"], "no backend 'rpc' here; there is socket"),
    ],
)
def test_bad_usage_is_status_2(write, arguments, words):
    result = recommended(write(FOUR), *arguments, status=2)
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--latency-max", "250us", "latency at most 0.25 ms"),
        ("--latency-max", "12s", "latency at most 12 s"),
        ("--network-budget", "100kB", "at most 100 kB per batch"),
        ("--network-budget", "1MiB", "at most 1048.58 kB per batch"),
        ("--network-budget", "0", "at most 0 kB per batch"),
        ("--throughput-min", "1e3", "throughput at least 1000 images/s"),
    ],
)
def test_units(write, option, value, words):
    result = CliRunner().invoke(main, ["recommend", str(write(FOUR)), option, value])
    assert words in " ".join(result.stdout.split())


def test_models_in_turn_and_what_one_of_them_lacks(write):
    records = [*pipeline_records(depths=(1, 2)), *pipeline_records(model="alexnet", n_cuts=5, depths=(1,))]
    directory = write(records)
    headings = [line for line in recommended(directory).stdout.splitlines() if line.startswith("# ")]
    assert headings == ["# mobilenet_v2", "# alexnet"]
    only = recommended(directory, "--depth", "1,2", "--model", "alexnet").stdout
    assert "mobilenet_v2" not in only
    assert "# alexnet" not in recommended(directory, "--depth", "2").stdout


def test_help_has_an_example():
    result = CliRunner().invoke(main, ["recommend", "--help"])
    assert "pp-analyze recommend results/three-models" in result.stdout


def test_pp_matrix_takes_the_command_for_more_rounds(tmp_path, monkeypatch):
    """Both forms: flags only, and a spec file where two cells differ in more than one axis."""
    from paretopipe_matrix.cli import main as matrix

    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory").mkdir()
    for name in ("local.yml", "profiles.yml"):
        (tmp_path / "inventory" / name).write_text((REPOSITORY / "inventory" / name).read_text())
    blocks = [{"name": f"features.{k}", "exec_s": 0.01, "out_bytes": 9000, "paper_name": f"P{k + 1}"} for k in range(6)]
    (tmp_path / "sim.json").write_text(json.dumps({"models": {"mobilenet_v2": {"input_bytes": 9, "blocks": blocks}}}))
    run = run_json(backends=["socket", "rpc"], warmup_batches=4) | {"inventory": {"path": "inventory/local.yml"}}
    for name, changes in (("flags", {}), ("matrix", {"backend": "rpc", "depth": 1, "batch_size": 4})):
        run["spec"]["batch_sizes"] = [8, 4]
        run["spec"]["pipelines"] = ["local"]
        records = [r | {"pipeline": "local"} | (changes if r["split"] == "P4" else {}) for r in CLOSE]
        records = [r | {"cell": f"{r['split']}-{r['backend']}"} for r in records]
        directory = write_run(tmp_path / name, records, **run)
        out = recommended(directory, "--latency-max", "1").stdout
        written, command = (line.strip() for line in out.splitlines() if line.startswith("    "))
        _, text, _, path = shlex.split(written)
        Path(path).write_text(text)
        arguments = shlex.split(command)
        assert arguments[:2] == ["pp-matrix", "run"]
        result = CliRunner(env={"PARETOPIPE_SIMULATE": str(tmp_path / "sim.json")}).invoke(
            matrix, [*arguments[1:], "--dry-run"]
        )
        assert result.exit_code == 0, result.output
        assert "\n2 cells x " in result.output
