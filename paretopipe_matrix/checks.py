"""Checks of a measured point that need more than the driver knows. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from paretopipe_matrix.testbed import JsonObject, Profile

CROSSED_SHARE = 0.9
"""Of the activations' bytes that an interface's counter must show. Headers and acknowledgements only add to it."""


def exceeds_link(measured: JsonObject, batch_size: int, profile: Profile) -> str | None:
    """Why a throughput cannot be under a profile (docs/measurement.md, checks), or None: more than the link carries.

    Half a batch of tolerance for the window's edges, as for the other bounds.
    """
    link = profile.links.get("first-egress")
    if link is None or link.rate_bit_s is None or not measured["bytes_per_batch"]:
        return None
    bound_img_s = link.rate_bit_s / 8 / measured["bytes_per_batch"] * batch_size
    tolerance = profile.rate_tolerance_pct / 100 + 0.5 / measured["window_batches"]
    if measured["throughput_img_s"] <= bound_img_s * (1 + tolerance):
        return None
    return f"throughput {measured['throughput_img_s']:.4g} img/s exceeds what the link carries, {bound_img_s:.4g} img/s"


def passes_by_network(
    measured: JsonObject, depth: int, cut_bytes: Sequence[int], interfaces: Sequence[str | None]
) -> str | None:
    """Why activations cannot have crossed the network that is measured, or None: its counter shows too few bytes.

    `cut_bytes` has what each cut sends per batch, `interfaces` the data interface of each stage; the last stage sends
    results only. A stage reads its counter before it sends a batch, so up to `depth` of the window's batches are not
    in it. Where the counter is unknown nothing is claimed.
    """
    batches = measured["window_batches"] - depth
    total_bytes = sum(cut_bytes)
    if batches <= 0 or not total_bytes:
        return None
    for stage, cut, interface in zip(measured["stages"], cut_bytes, interfaces, strict=False):
        # The measured sum, shared out as the cuts have it: images that are sent encoded differ in size.
        expected = batches * measured["bytes_per_batch"] * cut / total_bytes
        if stage["tx_bytes"] is not None and stage["tx_bytes"] < CROSSED_SHARE * expected:
            return (
                f"only {stage['tx_bytes']:.0f} of {expected:.0f} bytes crossed {interface} of {stage['host']}: "
                "the backend passes by the network that is measured"
            )
    return None
