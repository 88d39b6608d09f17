"""An operating point in words: where the network is cut, what stands beside it, what it takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.comparing.breakdown import PART_COLUMNS, PARTS
from analysis.numbers import MISSING, significant
from analysis.operating_points import HIGH
from analysis.report.quantities import measured, number, percent
from analysis.report.validity import depth_text

Row = Mapping[str, Any]


def cut_words(row: Row) -> str:
    """`P3 (features.2)`, `all local`."""
    return str(row["placement"]) or f"{row['split']} ({row['split_name']})"


def choice_words(row: Row) -> str:
    """`depth 2, socket, eager, batch 8, pi-to-pi`."""
    batch = depth_text(row["batch_size"])
    return f"depth {depth_text(row['depth'])}, {row['backend']}, {row['engine']}, batch {batch}, {row['pipeline']}"


def latency_words(row: Row, factor: float = 1e3, unit: str = "ms") -> str:
    """`95.2 ± 1.3 ms`."""
    return measured(row["latency_s"], row["latency_s" + HIGH], unit, factor)


def throughput_words(row: Row) -> str:
    """`84.1 ± 1.2 images/s`."""
    return measured(row["throughput_img_s"], row["throughput_img_s" + HIGH], "images/s")


def brief(row: Row) -> str:
    """`P3 (features.2), depth 2, socket, ...: 95.2 ± 1.3 ms, 84.1 ± 1.2 images/s`."""
    return f"{cut_words(row)}, {choice_words(row)}: {latency_words(row)}, {throughput_words(row)}"


def point_lines(row: Row, hosts: Sequence[str], factor: float, unit: str) -> list[str]:
    """All that the page says of a point when it is pointed at; latencies in seconds times `factor`."""
    lines = [
        cut_words(row),
        choice_words(row),
        f"latency {latency_words(row, factor, unit)}",
        f"throughput {throughput_words(row)}",
    ]
    stages = stage_words(row, hosts, factor, unit)
    lines += [f"computing: {stages}"] if stages else []
    parts = [
        f"{name} {_time(row.get(column), factor)}"
        for name, column in zip(PARTS, PART_COLUMNS, strict=True)
        if column in row
    ]
    if parts and not any(part.endswith(MISSING) for part in parts):
        lines.append(f"latency by part: {', '.join(parts)} {unit}")
    lines.append(f"on the front in {percent(row['membership'])} of the draws, rank {_rank(row['dominance_rank'])}")
    lines += ["knee of the front"] if row["knee"] else []
    lines.append(rounds_words(row))
    return lines


def stage_words(row: Row, hosts: Sequence[str], factor: float, unit: str) -> str:
    """`pi1 41.2, pi2 50.1 ms`: computing time per stage and batch; stages are numbered where hosts are not known."""
    times: list[float] = []
    while (column := f"stage{len(times) + 1}_exec_s") in row and number(row[column]) == number(row[column]):
        times.append(number(row[column]))
    if not times:
        return ""
    known = len(hosts) >= len(times)
    named = (f"{hosts[k] if known else f'stage {k + 1}'} {significant(time * factor)}" for k, time in enumerate(times))
    return f"{', '.join(named)} {unit}"


def rounds_words(row: Row) -> str:
    """`5 valid rounds`, with those that do not count."""
    left_out = [f"{int(row[f'rounds_{state}'])} {state}" for state in ("invalid", "failed") if row[f"rounds_{state}"]]
    valid = int(row["rounds"])
    more = f" ({', '.join(left_out)})" if left_out else ""
    return f"{valid} valid round{'' if valid == 1 else 's'}{more}{': no interval' if valid == 1 else ''}"


def _time(value: object, factor: float) -> str:
    return significant(number(value) * factor)


def _rank(rank: object) -> str:
    value = number(rank)
    return f"{value:.0f}" if value == value else "n/a"
