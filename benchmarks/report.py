"""One line per claim: what was measured, what was asked for, pass or fall short."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.intervals import Middle
from benchmarks.settings import is_quick

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Ratio:
    """A measured value with the bound that it must keep."""

    name: str
    value: float
    bound: float
    at_least: bool
    unit: str = ""
    detail: str = ""

    @property
    def passed(self) -> bool:
        """Whether the bound is kept; NaN keeps none."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def cells(self) -> tuple[str, str, str, str, str]:
        """The line's five cells."""
        sign = ">=" if self.at_least else "<="
        verdict = "pass" if self.passed else "FALLS SHORT"
        return self.name, f"{self.value:.3g}{self.unit}", f"{sign} {self.bound:g}{self.unit}", verdict, self.detail

    def row(self) -> str:
        """A line of the table."""
        name, value, bound, verdict, detail = self.cells()
        return f"| {name:<47} | {value:>9} | {bound:>10} | {verdict:<11} | {detail}"


@dataclass(frozen=True)
class Table:
    """Figures beside the claims, with nothing asked of them."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def lines(self) -> list[str]:
        """As Markdown, the title first."""
        head = [f"{self.title}:", "", markdown_line(self.columns), "|" + "---|" * len(self.columns)]
        return head + [markdown_line(row) for row in self.rows]


HEADER = (
    f"| {'claim':<47} | {'measured':>9} | {'asked':>10} | {'verdict':<11} | detail\n"
    f"|{'-' * 49}|{'-' * 11}|{'-' * 12}|{'-' * 13}|---"
)
COLUMNS = ["claim", "measured", "asked", "verdict", "detail"]


def markdown_line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


def interval_text(middle: Middle, factor: float = 1.0) -> str:
    """`value [low, high]`, in three figures."""
    value, low, high = (f"{number * factor:.3g}" for number in (middle.value, middle.low, middle.high))
    return f"{value} [{low}, {high}]"


def forget(name: str) -> None:
    """Remove an earlier result: where a benchmark fails, there is none."""
    (OUT / f"{name}.json").unlink(missing_ok=True)


def save(name: str, ratios: list[Ratio], raw: Any, tables: list[Table], wall_s: float) -> None:
    """Write benchmarks/out/NAME.json: the ratios, what they came from, and the machine."""
    import torch

    OUT.mkdir(exist_ok=True)
    machine = {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python -m benchmarks {name}",
        "quick": is_quick(),
        "wall_s": wall_s,
    }
    # JSON has no NaN.
    rows = [
        asdict(ratio) | {"value": None if math.isnan(ratio.value) else ratio.value, "passed": ratio.passed}
        for ratio in ratios
    ]
    content = {"machine": machine, "ratios": rows, "tables": [asdict(table) for table in tables], "raw": raw}
    (OUT / f"{name}.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
