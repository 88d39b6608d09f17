"""One line per claim: what was measured, what was asked for, pass or fall short."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
        """Whether the bound is kept."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def row(self) -> str:
        """A line of the table."""
        sign = ">=" if self.at_least else "<="
        verdict = "pass" if self.passed else "FALLS SHORT"
        value, bound = f"{self.value:.3g}{self.unit}", f"{sign} {self.bound:g}{self.unit}"
        return f"| {self.name:<47} | {value:>9} | {bound:>10} | {verdict:<11} | {self.detail}"


HEADER = (
    f"| {'claim':<47} | {'measured':>9} | {'asked':>10} | {'verdict':<11} | detail\n"
    f"|{'-' * 49}|{'-' * 11}|{'-' * 12}|{'-' * 13}|---"
)


def save(name: str, ratios: list[Ratio], raw: Any) -> None:
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
    }
    rows = [asdict(ratio) | {"passed": ratio.passed} for ratio in ratios]
    (OUT / f"{name}.json").write_text(json.dumps({"machine": machine, "ratios": rows, "raw": raw}, indent=1) + "\n")


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
