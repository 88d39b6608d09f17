"""Checks of a measured point that need more than the driver knows. Pure."""

from __future__ import annotations

from paretopipe_matrix.testbed import JsonObject, Profile


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
