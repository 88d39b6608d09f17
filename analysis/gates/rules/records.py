"""The rules that one record keeps or breaks by its own numbers (docs/measurement.md, Checks), for all records at once.

The limits are stated here anew: a check that asked the code it checks would agree with any of its mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.gates.rules.columns import numbers, place, stage_count, stage_numbers, texts, total_of_stages
from analysis.gates.violations import BREAKS, NOTE, Examined, Violation

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.run import Run

    Bools = NDArray[np.bool_]

LITTLE_TOLERANCE = 0.05
BOUND_TOLERANCE = 0.02
EDGE = 0.5
"""Share of a batch by which a window's edges blur the number of completions in it."""
OUTPUT_TOLERANCE = 1e-3
CROSSED_SHARE = 0.9
ROUNDING = 1e-9
"""What summing in another order may make of two equal sums: no tolerance of the rule, which has none."""


@dataclass(frozen=True)
class RowRule:
    """A rule over the measured records of a run: where it applies, where it is broken, and how that is said."""

    rule: str
    says: str
    applies: Bools
    broken: Bools
    words: Callable[[int], str]
    idle: str
    """Why it may apply to no record."""


def row_rules(frame: pd.DataFrame, run: Mapping[str, Any]) -> list[RowRule]:
    """Every rule of a single record, over `measured` records."""
    return [
        _latency(frame),
        _throughput(frame),
        _link(frame, run),
        _little(frame),
        _output(frame),
        _crossing(frame, run),
    ]


def examine_records(data: Run) -> list[Examined]:
    """Every rule of a single record, and whether records are marked valid exactly where they keep all of them."""
    frame = data.measured
    rules = row_rules(frame, data.run)
    return [*(_examined(rule, frame) for rule in rules), _validity(data, frame, rules)]


def _examined(rule: RowRule, frame: pd.DataFrame) -> Examined:
    import numpy as np

    found = tuple(
        Violation(rule.rule, *place(frame, row), rule.words(row), BREAKS)
        for row in np.flatnonzero(rule.applies & rule.broken).tolist()
    )
    checked = int(rule.applies.sum())
    return Examined(rule.rule, rule.says, checked, "records", found, "" if checked else rule.idle)


def _latency(frame: pd.DataFrame) -> RowRule:
    import numpy as np

    latency, busy = numbers(frame, "latency_s"), total_of_stages(frame, "exec_s")
    applies = (numbers(frame, "depth") == 1) & np.isfinite(latency) & np.isfinite(busy)
    return RowRule(
        "latency",
        "latency >= sum of the stages' exec_s (D = 1)",
        applies,
        latency < busy * (1 - ROUNDING),
        lambda row: f"latency {latency[row]:.4g} s is below the stages' own {busy[row]:.4g} s",
        "no record of depth 1 with stages",
    )


def _throughput(frame: pd.DataFrame) -> RowRule:
    import numpy as np

    throughput, batch, n = (numbers(frame, c) for c in ("throughput_img_s", "batch_size", "window_batches"))
    execs = stage_numbers(frame, "exec_s")
    slowest = np.nan_to_num(execs).max(axis=1, initial=0.0)
    known = np.isfinite(total_of_stages(frame, "exec_s")) & (slowest > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = batch / slowest
        broken = throughput > bound * (1 + BOUND_TOLERANCE + EDGE / n)
    return RowRule(
        "throughput",
        "throughput <= batch / slowest stage",
        known & np.isfinite(throughput) & (n > 0),
        broken,
        lambda row: (
            f"throughput {throughput[row]:.4g} img/s exceeds the slowest stage's {bound[row]:.4g} img/s "
            f"(tolerance {BOUND_TOLERANCE} + {EDGE}/{n[row]:.0f})"
        ),
        "no record says how long its stages computed in a window of how many batches",
    )


def _link(frame: pd.DataFrame, run: Mapping[str, Any]) -> RowRule:
    import numpy as np

    throughput, batch, n = (numbers(frame, c) for c in ("throughput_img_s", "batch_size", "window_batches"))
    sent = numbers(frame, "bytes_per_batch")
    profiles = run.get("profiles") or {}
    declared = {name: _rate(profiles.get(str(name))) for name in frame["profile"].unique()}
    rate, tolerance = np.array([declared[name] for name in frame["profile"]], dtype=float).reshape(-1, 2).T
    applies = np.isfinite(rate) & (sent > 0) & (numbers(frame, "n_stages") > 1) & np.isfinite(throughput) & (n > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = rate / 8 / sent * batch
        broken = throughput > bound * (1 + tolerance + EDGE / n)
    return RowRule(
        "link",
        "throughput <= what the declared rate carries",
        applies,
        broken,
        lambda row: (
            f"throughput {throughput[row]:.4g} img/s exceeds what {rate[row] / 1e6:g} Mbit/s carry, "
            f"{bound[row]:.4g} img/s (tolerance {tolerance[row]:g} + {EDGE}/{n[row]:.0f})"
        ),
        "no record crossed a link with a declared rate",
    )


def _rate(profile: Mapping[str, Any] | None) -> tuple[float, float]:
    """The first egress's rate in bit/s and the tolerance of rates as a share; NaN without a rate."""
    link = ((profile or {}).get("links") or {}).get("first-egress") or {}
    rate = link.get("rate_bit_s")
    return (float("nan") if rate is None else float(rate)), float((profile or {}).get("rate_tolerance_pct", 10)) / 100


def _little(frame: pd.DataFrame) -> RowRule:
    import numpy as np

    throughput, latency = numbers(frame, "throughput_img_s"), numbers(frame, "latency_s")
    depth, batch, n = (numbers(frame, c) for c in ("depth", "batch_size", "window_batches"))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = throughput * latency / (depth * batch)
        broken = abs(ratio - 1) > LITTLE_TOLERANCE + 1 / n
    return RowRule(
        "little",
        "Little's law: throughput x latency = D x batch",
        np.isfinite(ratio) & (n > 0),
        broken,
        lambda row: (
            f"throughput x latency is {ratio[row]:.3f} of depth x batch (tolerance {LITTLE_TOLERANCE} + 1/{n[row]:.0f})"
        ),
        "no record has a latency, a throughput, a depth and the number of batches in its window",
    )


def _output(frame: pd.DataFrame) -> RowRule:
    import numpy as np

    error = numbers(frame, "output_max_rel_err")
    return RowRule(
        "output",
        f"output within {OUTPUT_TOLERANCE} of the unsplit model's",
        np.isfinite(error),
        error > OUTPUT_TOLERANCE,
        lambda row: f"output differs from the unsplit model's by {error[row]:.2g} of its largest value",
        "no record says how far its output is off",
    )


def _crossing(frame: pd.DataFrame, run: Mapping[str, Any]) -> RowRule:
    import numpy as np

    batches = numbers(frame, "window_batches") - numbers(frame, "depth")
    share = _shares(frame, run)
    moved = stage_numbers(frame, "tx_bytes")[:, : share.shape[1]]
    expected = (batches * numbers(frame, "bytes_per_batch"))[:, None] * share
    known = np.isfinite(moved) & (expected > 0) & (batches > 0)[:, None]
    short = known & (moved < CROSSED_SHARE * expected)
    hosts = [texts(frame, f"stage{k}_host") for k in range(1, share.shape[1] + 1)]

    def words(row: int) -> str:
        k = int(np.flatnonzero(short[row])[0])
        return (
            f"{moved[row, k]:.0f} bytes left the interface of {hosts[k][row]}, {expected[row, k]:.0f} must have been "
            "sent: the backend passes by the network that is measured"
        )

    return RowRule(
        "crossing",
        f"the interface sent >= {CROSSED_SHARE} of the activations",
        _any(known),
        _any(short),
        words,
        "no sender's interface has a counter, or nothing was sent on",
    )


def _shares(frame: pd.DataFrame, run: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Share of a batch's bytes that each sender has, as [rows, senders]; NaN where the cuts' sizes are not known."""
    import numpy as np

    sizes = {
        (model.get("model"), model.get("batch_size"), model.get("granularity")): {
            str(cut["index"]): float(cut["nbytes"]) for cut in model.get("cuts") or []
        }
        for model in run.get("models") or []
    }
    share = np.full((len(frame), max(stage_count(frame) - 1, 0)), np.nan)
    counts = numbers(frame, "n_stages")
    columns = [frame[c].tolist() if c in frame.columns else [None] * len(frame) for c in _CUT_AXES]
    known: dict[tuple[Any, ...], list[float]] = {}
    for row, key in enumerate(zip(*columns, counts.tolist(), strict=True)):
        if key not in known:
            known[key] = _share(sizes.get(key[:3], {}), str(key[3]).split("+"), key[4])
        share[row, : len(known[key])] = known[key]
    return share


_CUT_AXES = ("model", "batch_size", "granularity", "split_index")


def _share(sizes: Mapping[str, float], cuts: list[str], stages: float) -> list[float]:
    if stages != len(cuts) + 1:
        return []
    if len(cuts) == 1:
        return [1.0]
    found = [sizes.get(cut, float("nan")) for cut in cuts]
    return [size / sum(found) if sum(found) else 0.0 for size in found]


def _validity(data: Run, frame: pd.DataFrame, rules: list[RowRule]) -> Examined:
    """Records marked valid that break a rule, and invalid ones that break none."""
    import numpy as np

    changed = {probe["segment"] for probe in data.probes if probe["when"] == "after" and not probe["ok"]}
    by_network = np.array([segment in changed for segment in texts(frame, "segment")], dtype=bool)
    valid = frame["valid"].astype(bool).to_numpy()
    has_numbers = np.isfinite(numbers(frame, "latency_s")) & np.isfinite(numbers(frame, "throughput_img_s"))
    broken = np.column_stack([rule.applies & rule.broken for rule in rules])
    any_broken = _any(broken)
    reasons = texts(frame, "invalid_reason")
    # Where a rule could not be applied, whoever marked the record may have known more than is left of it.
    judged = ~_any(np.column_stack([~r.applies for r in rules if r.rule in ("throughput", "little")]))
    violations = [
        _marked(frame, row, "is marked valid without a latency or a throughput", BREAKS)
        for row in np.flatnonzero(valid & ~has_numbers).tolist()
    ]
    for row in np.flatnonzero(valid & any_broken).tolist():
        names = ", ".join(rule.rule for rule, hit in zip(rules, broken[row], strict=True) if hit)
        violations.append(_marked(frame, row, f"is marked valid and breaks: {names}", BREAKS))
    for row in np.flatnonzero(~valid & ~any_broken & ~by_network).tolist():
        words = f"is marked invalid ({reasons[row] or 'no reason recorded'}) and breaks no rule by its own numbers"
        violations.append(_marked(frame, row, words, BREAKS if judged[row] else NOTE))
    for row, defects in enumerate(texts(frame, "imported_defects")):
        if defects and valid[row]:
            violations.append(_marked(frame, row, f"is marked valid with known defects: {defects}", BREAKS))
    says = "valid exactly where every rule is kept"
    return Examined(
        "validity", says, len(frame), "records", tuple(violations), "" if len(frame) else "nothing measured"
    )


def _any(table: Bools) -> Bools:
    """Whether anything in a row is true."""
    import numpy as np

    found: Bools = np.asarray(table.any(axis=1))
    return found


def _marked(frame: pd.DataFrame, row: int, words: str, verdict: str) -> Violation:
    return Violation("validity", *place(frame, row), words, verdict)
