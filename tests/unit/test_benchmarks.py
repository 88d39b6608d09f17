"""The benchmarks' own arithmetic, and that the reference's way of working, as we re-created it, works."""

from __future__ import annotations

import math
import random
import socket
import threading

import pytest
import torch

from benchmarks import against_reference, backends, document, engines, reference
from benchmarks.__main__ import BENCHMARKS
from benchmarks.intervals import median_interval, ratio_interval
from benchmarks.report import Ratio
from paretopipe_matrix.testbed import JsonObject


def test_a_bound_is_kept_on_its_own_side_and_never_by_nan() -> None:
    assert Ratio("at least", 2.0, 2.0, True).passed
    assert not Ratio("at least", 1.9, 2.0, True).passed
    assert Ratio("at most", 1.0, 1.0, False).passed
    assert not Ratio("at most", 1.1, 1.0, False).passed
    assert not Ratio("nothing", math.nan, 1.0, False).passed
    assert not Ratio("nothing", math.nan, 1.0, True).passed


def test_median_interval_takes_the_ranks_of_the_binomial_table() -> None:
    """The published ranks of the 95 % interval of a median: none below 6 values, 1 and 6 of 6, 2 and 9 of 10,
    14 and 27 of 40."""
    assert math.isnan(median_interval([1, 2, 3, 4, 5]).low)
    for n, low, high in ((6, 1, 6), (10, 2, 9), (40, 14, 27)):
        values = list(range(1, n + 1))
        random.Random(n).shuffle(values)
        found = median_interval(values)
        assert (found.low, found.high) == (low, high)
        assert found.value == (n + 1) / 2


def test_ratio_interval_is_the_same_from_both_sides() -> None:
    found, inverse = ratio_interval([1.0, 2.0, 4.0]), ratio_interval([1.0, 0.5, 0.25])
    assert found.value == pytest.approx(2.0)
    assert found.low < 2 < found.high
    assert inverse.low == pytest.approx(1 / found.high)


@pytest.mark.parametrize("start", [1, 5, 9, 19])
def test_best_cut_is_found_from_anywhere(start: int) -> None:
    def measure(position: int) -> engines.Tried:
        stage_s = (float(position), 20.0 - position)
        return engines.Tried(1 / max(stage_s), stage_s, 0.0)

    best, tried = engines.best_cut(start, 19, measure)
    assert best == 10
    assert all(1 <= position <= 19 for position in tried)
    assert engines.balanced((1.0, 1.0, 1.0, 3.0)) == 3


def test_an_engine_that_is_not_here_keeps_no_bound() -> None:
    found: engines.Points = {engine: [{"throughput_img_s": v} for v in (s, s)] for engine, s in (("eager", 10.0),)}
    assert not any(claim.passed for claim in engines.claims_of("mobilenet_v2", found))
    found["fused"] = [{"throughput_img_s": 30.0}, {"throughput_img_s": 30.0}]
    assert all(claim.passed for claim in engines.claims_of("mobilenet_v2", found))


def point(img_s: float, latency_s: float = 0.1, cpu_pct: float = 100.0) -> JsonObject:
    return {"throughput_img_s": img_s, "latency_s": latency_s, "stages": [{"cpu_pct": cpu_pct}, {"cpu_pct": cpu_pct}]}


def test_a_cell_counts_as_slower_only_with_its_whole_interval() -> None:
    def points(theirs: list[float]) -> backends.Points:
        ours = {
            name: {depth: [point(100.0 + k) for k in range(3)] for depth in backends.DEPTHS} for name in backends.CUTS
        }
        rpc = {
            name: {depth: [point(v) for v in (50.0, 51.0, 52.0)] for depth in backends.DEPTHS} for name in backends.CUTS
        }
        rpc["P3"][2] = [point(value) for value in theirs]
        return {"socket": ours, "rpc": rpc}

    assert backends.compare(points([95.0, 120.0, 100.0]), "rpc")[0].value == 0
    slower, cpu = backends.compare(points([150.0, 151.0, 152.0]), "rpc")
    assert (slower.value, slower.passed) == (1, False)
    assert "P3 depth 2" in slower.detail
    assert cpu.passed
    assert backends.cpu_s_per_image(point(50.0)) == pytest.approx(0.04)


def test_latency_is_compared_where_enough_throughput_is_reached() -> None:
    theirs = [reference.Run([0.0, 0.1, 0.2], [0.2, 0.4, 0.6], 8, 1, 5.0)] * 2
    assert theirs[0].latency_s == pytest.approx(0.3)
    assert theirs[0].steady_img_s == pytest.approx(40.0)
    assert theirs[0].throughput_img_s == pytest.approx(40.0)
    ours = [{1: point(20.0, 0.05), 2: point(39.0, 0.15), 3: point(60.0, 0.25)}] * 2
    ratio, depths = against_reference.latency_ratio(theirs, ours)
    assert (ratio.value, depths) == (pytest.approx(0.5), {2})
    assert against_reference.throughput_ratio(theirs, ours).value == pytest.approx(1.5)
    assert math.isnan(against_reference.latency_ratio(theirs, [{1: point(20.0)}] * 2)[0].value)


def test_the_reference_s_way_carries_every_batch_in_order() -> None:
    split, batches = 3, 3
    ours, theirs = socket.socketpair()
    images = torch.rand(1, 3, 32, 32)
    halves = reference.part(split, first=True), reference.part(split, first=False)
    feeder = threading.Thread(target=reference.feed, args=(ours, halves[0], images, batches))
    feeder.start()
    found = reference.consume(theirs, halves[1], batches)
    feeder.join()
    run = reference.Run(**found, batch_size=1, wall_s=0.0)
    assert len(run.start_s) == len(run.end_s) == batches
    assert run.start_s == sorted(run.start_s)
    assert run.received_bytes == halves[0](images).nbytes
    assert 0 < run.latency_s < run.measuring_s
    ours.close()
    with pytest.raises(ConnectionError):
        reference.consume(theirs, halves[1], 1)
    theirs.close()


def test_figures_replace_the_marked_part_of_the_page_only() -> None:
    machine = {"cpu": "CPU", "cores": 2, "kernel": "6", "python": "3", "torch": "2", "date": "today", "wall_s": 60.0}
    row = {"name": "claim", "value": None, "bound": 2.0, "at_least": True, "unit": "", "detail": "d", "passed": False}
    table = {"title": "More", "columns": ["a", "b"], "rows": [["1", "2"]]}
    text = document.section({"hop": {"machine": machine, "ratios": [row], "tables": [table]}, "link": None})
    page = document.replaced(f"before\n{document.BEGIN}\nold\n{document.END}\nafter\n", text)
    assert page.startswith("before\n")
    assert page.endswith("\nafter\n")
    assert "old" not in page
    assert "| claim | nan | >= 2 | FALLS SHORT | d |" in page
    assert "| 1 | 2 |" in page
    assert "Not run: link" in page
    with pytest.raises(ValueError, match="no place"):
        document.replaced("nothing marked", text)


def test_the_page_has_a_place_for_the_figures_and_names_every_benchmark() -> None:
    page = document.PAGE.read_text()
    document.replaced(page, "")
    assert not [name for name in BENCHMARKS if f"`{name}`" not in page and f"**{name}**" not in page]
