import json
import math

import pytest
from paper_runs import LAPTOP, PI, SERVER, measured, point, sweep
from synthetic_run import invalid

from analysis.figures.backend_points import get_backend_info
from analysis.figures.blockwise import CELLS_NOTE, PROFILE_NOTE, get_blockwise_info
from analysis.paper.backends import backend_points, backend_rows, sockets_against_rpc
from analysis.paper.beside import backends_beside, claims_beside
from analysis.paper.block_file import BlockFileError, read_blocks
from analysis.paper.blocks import blocks_of_cells, told_apart
from analysis.paper.reference import reference_backends


def test_blocks_are_what_neighbouring_cuts_differ_by():
    source, _ = measured(
        *(point(k, round_=n, execs=execs) for n in range(2) for k, execs in ((1, (0.1, 0.9)), (2, (0.4, 0.7)))),
        second=LAPTOP,
    )
    first, second = blocks_of_cells(source)
    assert (first.kind, first.block, first.hosts, first.n) == ("Cortex-A72, 4 threads", 2, "a", 2)
    assert first.exec_s == pytest.approx(0.3)
    assert first.exec_s_high == pytest.approx(0.3)
    assert (second.kind, second.exec_s) == ("AMD EPYC, 1 thread", pytest.approx(0.2))


def test_hosts_of_one_kind_are_averaged_within_a_round_and_rounds_give_the_interval():
    cells_of = {0: ((1, (0.1, 0.9)), (2, (0.4, 0.7))), 1: ((1, (0.1, 0.9)), (2, (0.2, 0.9)))}
    source, _ = measured(*(point(k, round_=n, execs=execs) for n, pairs in cells_of.items() for k, execs in pairs))
    (block,) = blocks_of_cells(source)
    assert block.hosts == "a+b"
    assert block.exec_s == pytest.approx((0.25 + 0.05) / 2)
    assert block.exec_s_high - block.exec_s == pytest.approx(12.7062047 * 0.1)


def test_a_gap_between_cuts_gives_no_block_and_all_local_the_last():
    source, _ = measured(point(3), point(5), point(20, execs=(0.7, 0.25)), point(21, execs=(0.95,)))
    (last,) = blocks_of_cells(source)
    assert (last.block, last.exec_s) == (21, pytest.approx(0.25))
    assert math.isnan(last.exec_s_low)


@pytest.mark.parametrize("axes", [{"depth": 2}, {"profile": "slow"}, {"backend": "rpc"}, {"granularity": "node"}])
def test_blocks_are_of_depth_1_and_the_papers_conditions(axes):
    assert blocks_of_cells(measured(point(1, **axes), point(2, **axes))[0]) == []


def test_invalid_rounds_are_in_no_block():
    assert blocks_of_cells(measured(point(1), invalid(k=2))[0]) == []


def test_the_papers_batch_size_goes_first():
    small = [point(k, execs=(0.1 * k, 0.1), batch_size=1) for k in (1, 2)]
    assert {block.batch_size for block in blocks_of_cells(measured(*small)[0])} == {1}
    both = [*small, *(point(k, execs=(0.1 * k, 0.1)) for k in (1, 2))]
    assert {block.batch_size for block in blocks_of_cells(measured(*both)[0])} == {8}


def test_blockwise_figure_has_a_panel_per_model_and_says_where_it_is_from():
    source, _ = measured(*sweep((1, 2, 4)), *sweep((2, 3), model="vgg16"))
    info = get_blockwise_info(blocks_of_cells(source), "time per block")
    assert [panel.title for panel in info.panels] == ["mobilenet_v2, batch 8, eager", "vgg16, batch 8, eager"]
    assert info.panels[0].blocks == ("2 features.1",)
    assert (info.unit, info.log_scale) == ("ms", False)
    assert [panel.kinds for panel in info.panels] == [(0,), (0,)]
    (mark,) = info.panels[0].marks
    assert mark.y == pytest.approx(10.1)
    assert info.notes[0] == CELLS_NOTE
    assert "mobilenet_v2: not measured: block 1." in info.notes


def test_kinds_far_apart_are_shown_on_a_logarithmic_axis():
    records = [point(k, execs=(0.1 * k, 0.05 - 0.001 * k)) for k in (1, 2)]
    assert get_blockwise_info(blocks_of_cells(measured(*records, second=SERVER)[0]), "").log_scale
    backwards = [point(k, execs=(0.1 * k, 0.05 + 0.001 * k)) for k in (1, 2)]
    assert not get_blockwise_info(blocks_of_cells(measured(*backwards, second=SERVER)[0]), "").log_scale


def test_a_model_on_the_same_kind_in_two_runs_is_told_apart():
    one = measured(*sweep((1, 2)))[0]
    two = measured(*sweep((1, 2)), directory="results/other")[0]
    kinds = {block.kind for block in told_apart([(s, blocks_of_cells(s)) for s in (one, two)])}
    assert kinds == {"Cortex-A72, 4 threads (run/pi-to-pi)", "Cortex-A72, 4 threads (other/pi-to-pi)"}
    assert {block.kind for block in told_apart([(one, blocks_of_cells(one))])} == {"Cortex-A72, 4 threads"}


def profile_file(folder, **changes):
    rows = [{"name": "features.0", "cut_index": 1, "exec_samples_s": [0.1, 0.2, 0.3]}]
    model = {
        **{"model": "vgg16", "granularity": "block", "batch_size": 8, "engine": "eager"},
        "blocks": {"a": rows, "b": [rows[0] | {"exec_samples_s": [0.01]}]},
    }
    document = {"schema": 1, "testbed": "agents", "hosts": {"a": PI, "b": SERVER}, "models": [model]} | changes
    path = folder / "blocks.json"
    path.write_text(json.dumps(document))
    return path


def test_timed_blocks_are_medians_with_quartiles(tmp_path):
    pi, gpu = read_blocks(profile_file(tmp_path))
    assert (pi.exec_s, pi.exec_s_low, pi.exec_s_high, pi.n, pi.source) == (0.2, 0.1, 0.3, 3, "profile")
    assert (gpu.kind, gpu.exec_s, gpu.on_gpu, pi.on_gpu) == ("NVIDIA GeForce RTX 4090", 0.01, True, False)
    assert math.isnan(gpu.exec_s_low)
    assert get_blockwise_info([pi, gpu], "").notes[0] == PROFILE_NOTE


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"schema": 2}, "schema 2"), ({"testbed": "simulated"}, "simulated"), ({"models": [{}]}, "not what pp-matrix")],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, changes, words):
    with pytest.raises(BlockFileError, match=words):
        read_blocks(profile_file(tmp_path, **changes))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BlockFileError, match="No such file"):
        read_blocks(tmp_path / "none.json")


def test_backends_at_their_best_and_at_equal_cuts():
    records = sweep((2, 3), backends=("rpc", "socket"))
    for record in records:  # over rpc the other cut is the faster one
        if record["backend"] == "rpc" and record["split"] == "P2":
            record["throughput_img_s"] *= 1.1
    source, points = measured(*records, *sweep((0, 21), (1,), backends=("rpc", "socket")))
    found = backend_points(source, points)
    assert [(p.split, p.depth, p.backend, p.best) for p in found] == [
        ("P2", 4, "socket", False),
        ("P2", 4, "rpc", True),
        ("P3", 4, "socket", True),
        ("P3", 4, "rpc", False),
    ]
    assert found[3].ratios["throughput"].mean == pytest.approx(0.6)
    assert found[3].ratios["throughput"].high == pytest.approx(0.6)
    assert found[1].ratios["throughput"].mean == pytest.approx(0.66)
    assert found[3].ratios["latency"].mean == pytest.approx(1 / 0.6)
    assert found[2].ratios["throughput"].n == 0
    info = get_backend_info(found, "title")
    assert [panel.title for panel in info.panels] == [
        "mobilenet_v2, each at its highest throughput",
        "mobilenet_v2, at equal cuts",
    ]
    assert [(bar.slot, info.values[bar.value]) for bar in info.panels[0].bars] == [(0, "rpc"), (1, "socket")]
    assert [len(panel.bars) for panel in info.panels] == [2, 4]
    assert info.values == ("socket", "rpc")
    assert backend_rows(found)[1]["throughput_ratio"] == pytest.approx(0.66)
    beside = backends_beside(found, reference_backends())
    assert [(row.metric, row.split) for row in beside] == [("rpc images/s", "P15, ours P2"), ("socket images/s", "P3")]
    claims = claims_beside(sockets_against_rpc(found), reference_backends())
    assert [row.split.partition(" ours ")[2] for row in claims[:3]] == ["P3 D4 / P2 D4", "P2 D4, both", "P3 D4, both"]
    throughput = [row.ours.mean for row in claims[:3]]
    assert throughput == pytest.approx([1.03 / (0.66 * 1.02), 1 / 0.66, 1 / 0.6])
    assert claims[0].ratio.mean == pytest.approx(throughput[0] / 1.53)
    assert [bool(row.note) for row in claims[:3]] == [False, True, True]
    assert (claims[3].metric, claims[3].paper) == ("latency, socket / rpc", pytest.approx(0.24))


@pytest.mark.parametrize("axes", [{"batch_size": 1}, {"profile": "slow"}, {"engine": "fused"}])
def test_figure_7_is_of_the_papers_conditions(axes):
    assert backend_points(*measured(*sweep(backends=("socket", "rpc"), **axes))) == []


def test_figure_7_needs_two_backends():
    assert backend_points(*measured(*sweep())) == []
