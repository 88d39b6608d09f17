"""What a reader of operating points must know beside the table: its terms, and what the averages leave out. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.tables import constant_axes

if TYPE_CHECKING:
    import pandas as pd


def column_remarks(points: pd.DataFrame) -> list[str]:
    """The terms of a printed table, and the axes that it leaves out."""
    return [
        "D: depth (batches in flight); n: valid rounds; ±: half the 95 % t-interval over rounds",
        f"the same for all points: {constant_axes(points)}",
    ]


def round_remarks(points: pd.DataFrame, records: pd.DataFrame) -> list[str]:
    """Where there is no interval, and which rounds are in no average, failed ones last."""
    import pandas as pd

    lines = []
    single = int((points["rounds"] == 1).sum())
    if single:
        lines.append(f"{single} of {len(points)} points have one valid round: no interval (n/a)")
    for note, same in points[points["rounds_invalid"] > 0].groupby("note", sort=False):
        more = f" and {len(same) - 1} more points" if len(same) > 1 else ""
        depth = same["depth"].iloc[0]
        at = "" if pd.isna(depth) else f" depth {depth}"
        lines.append(f"{same['cell'].iloc[0]}{at}{more}: {note}")
    failed = records[records["state"] == "failed"]
    for cell, rows in failed.groupby("cell", sort=False):
        rounds = ", ".join(map(str, sorted(set(rows["round"]))))
        lines.append(f"failed: {cell} round {rounds}: {' | '.join(dict.fromkeys(map(str, rows['failure'])))}")
    return lines
