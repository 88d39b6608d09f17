"""What `pp-analyze table` does: read, compute, print. The pure parts are elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

from analysis.operating_points import operating_points
from analysis.output import no_valid_point, open_run, print_columns, remark
from analysis.point_remarks import column_remarks, round_remarks
from analysis.tables import points_table, raw_table, write_frame


def print_table(directory: Path | None, format_: str) -> None:
    """`pp-analyze table`."""
    data = open_run(directory)
    if format_ == "csv":
        write_frame(raw_table(data.frame), sys.stdout)
        if not (data.frame["state"] == "valid").any():
            no_valid_point(data)
        return
    points = operating_points(data.frame)
    print_columns(points_table(points), format_)
    for text in (*column_remarks(points), *round_remarks(points, data.frame)):
        remark(text)
    if not (points["rounds"] > 0).any():
        no_valid_point(data)
