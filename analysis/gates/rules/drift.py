"""Whether the first and the last round, and the two halves of every window, are the same measurement."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.gates.rules.columns import numbers, whole
from analysis.gates.violations import BREAKS, NOTE, Examined, Violation
from analysis.statistics import Ratio, ratio_interval

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from analysis.run import Run

DRIFT_LIMIT = 0.05
"""As much as Little's law is allowed: the share by which a latency may drift before it is said."""
FALSE_DISCOVERIES = 0.05
"""Of the points that are said to drift within their windows, the expected share that do not."""


def examine_rounds(data: Run) -> Examined:
    """Latency of a group's last round over its first, paired by cell.

    Per cell the mean over its depths of the logarithm of last / first; over cells the geometric mean with its
    t-interval. A cell is a unit, as its depths are measured in one visit. Breaks where the whole interval is beyond
    the limit.
    """
    import pandas as pd

    says = f"last round's latency within {100 * DRIFT_LIMIT:.0f} % of the first's"
    frame = data.frame
    table = pd.DataFrame(
        {
            **{column: frame[column] for column in ("pipeline", "profile", "cell")},
            **{column: numbers(frame, column) for column in ("depth", "round", "latency_s")},
        }
    )
    table = table[(frame["state"] == "valid") & (table["latency_s"] > 0) & table["round"].notna()]
    violations, checked = [], 0
    for (pipeline, profile), rows in table.groupby(["pipeline", "profile"], sort=False):
        ratio, first, last = _last_to_first(rows)
        checked += ratio.n
        if ratio.n and first != last:
            words = f"{pipeline}, {profile}: latency of round {last} is {_words(ratio)} of round {first}'s"
            violations += _judged("drift", words, ratio)
    remark = "" if checked else "no cell has a latency in two rounds"
    return Examined("drift", says, checked, "cells", tuple(violations), remark)


def _last_to_first(rows: pd.DataFrame) -> tuple[Ratio, int, int]:
    import numpy as np

    first, last = int(rows["round"].min()), int(rows["round"].max())
    if first == last:
        return Ratio(math.nan, math.nan, math.nan, 0), first, last
    known = rows[rows["depth"].notna()].set_index(["cell", "depth"])
    logs = [np.log(known.loc[known["round"] == number, "latency_s"]) for number in (first, last)]
    per_cell = (logs[1] - logs[0]).dropna().groupby(level="cell").mean()
    return ratio_interval(per_cell.tolist()), first, last


def _words(ratio: Ratio) -> str:
    if ratio.n < 2:
        return f"{ratio.mean:.3f} (1 cell, no interval)"
    return f"{ratio.mean:.3f} ({ratio.low:.3f} .. {ratio.high:.3f}, {ratio.n} cells)"


def _judged(rule: str, words: str, ratio: Ratio) -> list[Violation]:
    limit = 1 + DRIFT_LIMIT
    if ratio.low > limit or ratio.high < 1 / limit:
        return [Violation(rule, None, None, None, words, BREAKS)]
    if not 1 / limit <= ratio.mean <= limit:
        return [Violation(rule, None, None, None, f"{words}; more than the limit, but not surely", NOTE)]
    return []


def examine_windows(frame: pd.DataFrame, halves: NDArray[np.float64]) -> Examined:
    """Mean latency of a window's second half over its first; `halves` has its logarithm per row of `frame`, or NaN.

    Per pipeline, profile, model and depth over cells, as `examine_rounds`; and per operating point over its rounds:
    a t-test of each against the limit, adjusted for their number (Benjamini and Hochberg, J. R. Statist. Soc. B
    57:289, 1995).
    """
    import numpy as np
    import pandas as pd

    says = f"a window's halves within {100 * DRIFT_LIMIT:.0f} % of each other"
    axes = ["pipeline", "profile", "model", "cell"]
    table = pd.DataFrame({**{c: frame[c] for c in axes}, "depth": numbers(frame, "depth"), "log": halves})
    table = table[((frame["state"] == "valid").to_numpy()) & np.isfinite(halves)]
    if table.empty:
        return Examined("settled", says, 0, "windows", remark="no window has four batches with samples")
    violations: list[Violation] = []
    for (pipeline, profile, model, depth), rows in table.groupby([*axes[:3], "depth"], sort=False):
        ratio = ratio_interval(rows.groupby("cell", sort=False)["log"].mean().tolist())
        words = f"{pipeline}, {profile}, {model}, depth {depth:.0f}: latency in the second half of a window is"
        violations += _judged("settled", f"{words} {_words(ratio)} of the first's", ratio)
    violations += _drifting_points(table)
    return Examined("settled", says, len(table), "windows", tuple(violations))


def _drifting_points(table: pd.DataFrame) -> list[Violation]:
    import numpy as np
    from scipy.special import stdtr

    points = table.groupby(["cell", "depth"], sort=False)["log"].agg(["mean", "std", "count"]).reset_index()
    points = points[(points["count"] > 1) & (points["std"] > 0)]
    error = points["std"] / np.sqrt(points["count"])
    distance = (points["mean"].abs() - math.log(1 + DRIFT_LIMIT)) / error
    if not (distance > 0).any():  # spares an import of half a second
        return []
    from scipy.stats import false_discovery_control

    adjusted = false_discovery_control(stdtr(points["count"] - 1, -distance))
    return [
        Violation(
            "settled",
            str(row["cell"]),
            None,
            whole(row["depth"]),
            f"latency in the second half of a window is {math.exp(row['mean']):.3f} of the first's, "
            f"in {row['count']:.0f} rounds (adjusted p {p:.2g})",
            BREAKS,
        )
        for row, p in zip(points.to_dict("records"), adjusted, strict=True)
        if p < FALSE_DISCOVERIES
    ]
