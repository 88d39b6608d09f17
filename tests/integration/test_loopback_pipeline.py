"""Cells on real agents: two worker processes, TCP between them, outputs checked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from paretopipe_matrix.hosts.session import Session
from paretopipe_matrix.testbed import CellError, Link, ModelDescription, Profile
from tests.integration.conftest import DURESS, LAN, REQUEST, cell

Describe = Callable[..., ModelDescription]


def ignore(_event: dict) -> None:
    return


def test_every_kind_of_cut_gives_the_unsplit_models_output(session: Session, describe: Describe) -> None:
    session.apply("local", LAN)
    described = describe()
    for position in (0, 1, len(described.cuts) // 2, len(described.cuts) - 2, len(described.cuts) - 1):
        results = session.measure(cell(described, position), ignore)
        assert [result.depth for result in results] == [1, 3]
        for result in results:
            measured = result.measured
            assert measured["output_bitwise"], (position, measured["output_max_rel_err"])
            assert measured["window_batches"] == sum(row["counted"] for row in result.samples) == 8
            assert measured["throughput_img_s"] > 0
        is_local = position == len(described.cuts) - 1
        assert len(results[0].measured["stages"]) == (1 if is_local else 2)
        expected_bytes = 0 if is_local else described.cuts[position].nbytes
        assert results[0].measured["bytes_per_batch"] == expected_bytes


def test_depth_one_latency_is_explained(session: Session, describe: Describe) -> None:
    session.apply("local", LAN)
    described = describe()
    (one, three) = session.measure(cell(described, 4), ignore)
    busy_s = sum(stage["exec_s"] + stage["serialize_s"] for stage in one.measured["stages"])
    assert one.measured["latency_s"] == pytest.approx(busy_s + one.measured["network_s"])
    assert one.measured["network_s"] > 0
    assert three.measured["network_s"] is None
    assert three.measured["latency_s"] > one.measured["latency_s"] * 0.8


def test_cut_zero_sends_what_a_camera_would(session: Session, describe: Describe, tmp_path: Path) -> None:
    session.apply("local", LAN)
    for k in range(4):
        Image.linear_gradient("L").convert("RGB").rotate(30 * k).save(tmp_path / f"{k}.png")
    raw = describe(input=f"folder:{tmp_path}", batch_size=2)
    jpeg = describe(input=f"folder:{tmp_path}", batch_size=2, input_encoding="jpeg")
    assert raw.cuts[0].nbytes == 2 * 3 * 224 * 224
    sent = {}
    for name, described in (("raw", raw), ("jpeg", jpeg)):
        measured = session.measure(cell(described, 0, depths=(1,)), ignore)[0].measured
        assert measured["output_bitwise"]
        sent[name] = measured["bytes_per_batch"]
    assert sent["raw"] == raw.cuts[0].nbytes
    assert sent["jpeg"] < sent["raw"] / 3


def test_node_granularity_and_strides(session: Session) -> None:
    session.apply("local", LAN)
    request = replace(REQUEST, model="convnext_tiny", granularity="node", batch_size=1, input="synthetic:32")
    described = session.describe(request, "local", timed=False)
    for position in (7, 40):
        measured = session.measure(cell(described, position, depths=(1,)), ignore)[0].measured
        assert measured["output_bitwise"], described.cuts[position]


def test_switching_cells_of_one_model_is_fast(session: Session, describe: Describe) -> None:
    """Everything a switch costs, without the batches themselves; the bound is ten times what it takes."""
    session.apply("local", LAN)
    described = describe(model="resnet18")
    costs_s = []
    for position in (3, 9, 5, 11):
        start_s = time.monotonic()
        (result,) = session.measure(
            cell(
                described, position, depths=(1,), warmup_batches=1, window=replace(cell(described, 1).window, batches=1)
            ),
            ignore,
        )
        costs_s.append(time.monotonic() - start_s - result.measured["window_s"] - result.measured["warmup_s"])
    assert sorted(costs_s)[1] < 0.5


def test_the_modelled_link_shapes_a_pipeline(session: Session, describe: Describe) -> None:
    assert session.apply("local", DURESS) == "link-model"
    probe = session.probe("local", DURESS)
    assert probe.rtt_s == pytest.approx(0.2, rel=0.05)
    assert probe.bandwidth_bit_s == pytest.approx(5e6, rel=0.1)
    described = describe()
    small = min(range(1, len(described.cuts) - 1), key=lambda k: described.cuts[k].nbytes)
    run = cell(described, small, DURESS, window=replace(cell(described, 1).window, batches=3), depths=(1,))
    (result,) = session.measure(run, ignore)
    ideal_s = 0.2 + described.cuts[small].nbytes * 8 / 5e6
    assert result.measured["network_s"] == pytest.approx(ideal_s, rel=0.25)
    assert result.measured["output_bitwise"]
    session.apply("local", LAN)
    assert session.probe("local", LAN).rtt_s < 0.02


def test_both_directions_can_be_shaped(session: Session) -> None:
    both = Profile("both", {"first-egress": Link(delay_s=0.03), "first-ingress": Link(delay_s=0.05)})
    session.apply("local", both)
    assert session.probe("local", both).rtt_s == pytest.approx(0.08, rel=0.3)
    session.apply("local", LAN)


def test_loss_is_refused_in_words(session: Session) -> None:
    with pytest.raises(CellError, match="1 % loss, which the link model cannot do") as caught:
        session.apply("local", Profile("lossy", {"first-egress": Link(loss_pct=1.0)}))
    assert caught.value.kind == "network"
    session.apply("local", LAN)


def test_blocks_are_timed_on_every_host(session: Session) -> None:
    rows = session.profile_blocks(REQUEST, "local", repeats=3)
    assert set(rows) == {"edge", "server"}
    assert all(len(row["exec_samples_s"]) == 3 and row["exec_s"] > 0 for row in rows["edge"])
    assert sum(row["parameters"] for row in rows["edge"]) == 1_235_496  # SqueezeNet 1.1's, as torchvision states
