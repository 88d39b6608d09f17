"""A point whose activations did not cross the measured interface is no measurement of that network."""

from __future__ import annotations

from typing import Any

import pytest

from paretopipe_matrix.checks import passes_by_network
from paretopipe_matrix.streams import DELAYED_STREAMS, streams_of
from paretopipe_matrix.testbed import Link, Profile

DELAYED = Profile("delayed", {"first-egress": Link(delay_s=0.1)})
NARROW = Profile("narrow", {"first-egress": Link(rate_bit_s=1e6)})


def measured(tx_bytes: list[int | None], batches: int = 11, bytes_per_batch: int = 1000) -> dict[str, Any]:
    stages = [{"host": f"h{k}", "tx_bytes": tx} for k, tx in enumerate(tx_bytes, start=1)]
    return {"window_batches": batches, "bytes_per_batch": bytes_per_batch, "stages": stages}


@pytest.mark.parametrize(
    ("tx_bytes", "depth", "passes_by"),
    [
        ([10_000, 0], 1, False),  # 11 batches, one of them still in flight
        ([9_000, 0], 1, False),
        ([8_999, 0], 1, True),
        ([0, 99_999], 1, True),  # what the last stage sends are results, which prove nothing
        ([6_300, 0], 4, False),
        ([6_299, 0], 4, True),
        ([0, 0], 11, False),  # nothing has to have left yet
        ([None, 0], 1, False),  # unknown: nothing is claimed
    ],
)
def test_two_stages(tx_bytes: list[int | None], depth: int, passes_by: bool) -> None:
    reason = passes_by_network(measured(tx_bytes), depth, [1000], ["eth0", "eth0"])
    assert (reason is not None) is passes_by


def test_each_hop_has_its_own_bytes_and_the_reason_names_the_interface() -> None:
    point = measured([8_000, 2_000, 0], bytes_per_batch=1000)
    assert passes_by_network(point, 1, [800, 200], ["eth0", "data0", "eth0"]) is None
    point["stages"][1]["tx_bytes"] = 100
    assert passes_by_network(point, 1, [800, 200], ["eth0", "data0", "eth0"]) == (
        "only 100 of 2000 bytes crossed data0 of h2: the backend passes by the network that is measured"
    )


def test_everything_local_crosses_nothing() -> None:
    assert passes_by_network(measured([0], bytes_per_batch=0), 1, [1000], ["eth0"]) is None


@pytest.mark.parametrize(
    ("asked", "profile", "modelled", "streams"),
    [
        ("auto", Profile("lan"), False, 1),
        ("auto", NARROW, False, 1),
        ("auto", DELAYED, True, 1),
        ("auto", DELAYED, False, DELAYED_STREAMS),
        (3, DELAYED, True, 3),
        (1, DELAYED, False, 1),
    ],
)
def test_streams(asked: Any, profile: Profile, modelled: bool, streams: int) -> None:
    assert streams_of(asked, profile, modelled=modelled) == streams
