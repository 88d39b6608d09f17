"""The network as it was declared and as it was measured, per profile and pipeline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from analysis.report.document import Table, table_of
from analysis.report.quantities import count, duration, number, quantity

JsonObject = Mapping[str, Any]
NOT_MEASURED = "not measured"


def network_table(run: JsonObject, probes: Sequence[JsonObject]) -> Table | None:
    """One row per profile and pipeline: what run.json declares, and median and range of what the probes found."""
    rows = []
    for (profile, pipeline), found in _groups(run, probes).items():
        declared: JsonObject = (run.get("profiles") or {}).get(profile) or {}
        rows.append(
            {
                "Network": profile,
                "Pipeline": pipeline or "-",
                "Shaped by": ", ".join(dict.fromkeys(str(p["shaper"]) for p in found if p.get("shaper"))) or "-",
                "Declared": link_words(declared),
                "Tolerance": _tolerance(declared),
                "Round trip": _spread((p.get("rtt_s") for p in found), duration),
                "Bandwidth": _spread((p.get("bandwidth_bit_s") for p in found), _rate),
                "Other way": _spread((p.get("ingress_bandwidth_bit_s") for p in found), _rate),
                "As declared": f"{sum(bool(p['ok']) for p in found)} of {count(len(found), 'probe')}"
                if found
                else NOT_MEASURED,
            }
        )
    return table_of("Networks: declared against measured; median (lowest to highest) of all probes", rows)


def network_notes(probes: Sequence[JsonObject]) -> tuple[str, ...]:
    """A sentence per reason why a probe did not find the network as declared."""
    reasons: dict[tuple[str, str], int] = {}
    for probe in probes:
        if not probe["ok"]:
            key = (str(probe.get("profile")), str(probe.get("reason")))
            reasons[key] = reasons.get(key, 0) + 1
    return tuple(
        f"{profile}: {count(n, 'probe')} not as declared: {reason}" for (profile, reason), n in reasons.items()
    )


def network_words(run: JsonObject, probes: Sequence[JsonObject]) -> str:
    """`lan: 74.3 µs and 44.3 Gbit/s (10 probes)`, per profile; medians."""
    parts = []
    for (profile, pipeline), found in _groups(run, probes).items():
        where = f"{profile} on {pipeline}" if pipeline else profile
        rtts = _finite(p.get("rtt_s") for p in found)
        rates = _finite(p.get("bandwidth_bit_s") for p in found)
        if not rtts or not rates:
            parts.append(f"{where}: {NOT_MEASURED}")
            continue
        medians = f"{duration(statistics.median(rtts))} and {_rate(statistics.median(rates))}"
        parts.append(f"{where}: {medians} (medians of {count(len(found), 'probe')})")
    return "; ".join(parts)


def link_words(profile: JsonObject) -> str:
    """`first-egress: 200 ms, 5 Mbit/s`: delay (one way), jitter, loss and rate per direction."""
    links = []
    for direction, link in (profile.get("links") or {}).items():
        words = [duration(link.get("delay_s"))] if link.get("delay_s") else []
        words += [f"jitter {duration(link['jitter_s'])}"] if link.get("jitter_s") else []
        words += [f"loss {link['loss_pct']:g} %"] if link.get("loss_pct") else []
        words += [_rate(link["rate_bit_s"])] if link.get("rate_bit_s") else []
        links.append(f"{direction}: {', '.join(words) or 'no limit'}")
    return "; ".join(links) or "nothing added"


def _groups(run: JsonObject, probes: Sequence[JsonObject]) -> dict[tuple[str, str], list[JsonObject]]:
    """Probes by (profile, pipeline); a declared profile without a probe is one group with an empty pipeline."""
    found: dict[tuple[str, str], list[JsonObject]] = {}
    for profile in run.get("profiles") or {}:
        here = [probe for probe in probes if probe.get("profile") == profile]
        for probe in here:
            found.setdefault((str(profile), str(probe.get("pipeline"))), []).append(probe)
        if not here:
            found[str(profile), ""] = []
    for probe in probes:
        if probe.get("profile") not in (run.get("profiles") or {}):
            found.setdefault((str(probe.get("profile")), str(probe.get("pipeline"))), []).append(probe)
    return found


def _tolerance(profile: JsonObject) -> str:
    parts = (("rtt_tolerance_pct", "round trip"), ("rate_tolerance_pct", "rate"))
    return ", ".join(f"{name} {profile[key]:g} %" for key, name in parts if profile.get(key) is not None) or "-"


def _finite(values: Iterable[object]) -> list[float]:
    return [value for value in map(number, values) if math.isfinite(value)]


def _spread(values: Iterable[object], words: Any) -> str:
    known = _finite(values)
    if not known:
        return NOT_MEASURED
    return f"{words(statistics.median(known))} ({words(min(known))} to {words(max(known))})"


def _rate(bit_s: object) -> str:
    return quantity(bit_s, "bit/s")
