"""Every rule of docs/measurement.md, applied anew to a results directory: what breaks, and what was checked at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.gates.recomputation import examine_samples
from analysis.gates.rules.drift import examine_rounds, examine_windows
from analysis.gates.rules.hosts import examine_hosts
from analysis.gates.rules.network import examine_network
from analysis.gates.rules.plan import examine_plan
from analysis.gates.rules.records import examine_records
from analysis.gates.violations import BREAKS, NOTE, Examined, Violation
from analysis.gates.windows import Windows
from analysis.samples import read_samples
from paretopipe_runtime.results import ResultsError

if TYPE_CHECKING:
    import pandas as pd

    from analysis.run import Run

__all__ = ["BREAKS", "NOTE", "Examined", "Violation", "examine", "find_violations", "read_and_examine"]


def find_violations(data: Run, *, with_samples: bool = True) -> list[Violation]:
    """All violations of a run, in the order of the rules. Reads its samples unless told not to."""
    return violations_of(read_and_examine(data, with_samples=with_samples))


def violations_of(examined: Sequence[Examined]) -> list[Violation]:
    """The violations of all rules: what breaks first, then notes; in the order of the rules."""
    found = [violation for rule in examined for violation in rule.violations]
    return [v for v in found if v.verdict == BREAKS] + [v for v in found if v.verdict != BREAKS]


def read_and_examine(data: Run, *, with_samples: bool = True) -> list[Examined]:
    """`examine` with the samples of the run's directory; a file of them that is damaged is a violation."""
    if not with_samples:
        return examine(data, None)
    try:
        return examine(data, read_samples(data.directory))
    except ResultsError as error:
        return examine(data, None, lost=str(error))


def examine(data: Run, samples: pd.DataFrame | None, lost: str = "") -> list[Examined]:
    """Each rule, to how many it was applied, and where it is broken. Pure.

    `samples` is what `read_samples` gives, None where there are none (or none are wanted); `lost` says why they
    could not be read.
    """
    frame = data.measured
    windows = None if samples is None else Windows(samples, frame)
    rules = [*examine_records(data), *examine_network(data), *examine_plan(data), *examine_hosts(data)]
    rules.append(examine_rounds(data))
    if windows is None:
        halves = Examined("settled", "a window's halves alike", 0, "windows", remark="no samples were read")
    else:
        halves = examine_windows(frame, windows.half_logs("latency_s"))
    return [*rules, halves, examine_samples(data, frame, windows, lost)]
