"""No pipeline can be faster than its shaped link."""

from __future__ import annotations

import pytest

from paretopipe_matrix.checks import exceeds_link
from paretopipe_matrix.testbed import Link, Profile

SHAPED = Profile("shaped", {"first-egress": Link(rate_bit_s=8e6)})


@pytest.mark.parametrize(
    ("throughput_img_s", "bytes_per_batch", "profile", "exceeds"),
    [
        (10.0, 800_000, SHAPED, False),  # 8 Mbit/s carry 1.25 batches of 0.8 MB a second, 10 images
        (11.05, 800_000, SHAPED, False),  # 10 % of tolerance and half a batch in 50
        (11.5, 800_000, SHAPED, True),
        (500.0, 0, SHAPED, False),
        (500.0, 800_000, Profile("lan"), False),
        (500.0, 800_000, Profile("slow", {"first-egress": Link(delay_s=0.1)}), False),
    ],
)
def test_throughput_against_the_link(
    throughput_img_s: float, bytes_per_batch: int, profile: Profile, exceeds: bool
) -> None:
    measured = {"throughput_img_s": throughput_img_s, "bytes_per_batch": bytes_per_batch, "window_batches": 50}
    assert (exceeds_link(measured, 8, profile) is not None) is exceeds
