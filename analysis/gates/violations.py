"""What a check of a results directory finds: which rule, where, and how grave."""

from __future__ import annotations

from dataclasses import dataclass

BREAKS = "breaks"
"""A rule of docs/measurement.md is not kept, or a number is not what the samples say: exit status 1."""
NOTE = "note"
"""What a reader should know, and no rule forbids."""


@dataclass(frozen=True)
class Violation:
    """One rule that is not kept, at one place."""

    rule: str
    cell: str | None
    """None where it is of the whole run, of a host or of a segment."""
    round: int | None
    """None where it is of all rounds of the cell."""
    depth: int | None
    words: str
    """What was found, in one line, with the numbers."""
    verdict: str
    """`BREAKS` or `NOTE`."""


@dataclass(frozen=True)
class Examined:
    """One rule, applied to everything it can be applied to."""

    rule: str
    says: str
    """The rule in a few words."""
    checked: int
    """To how many it was applied; with 0, `remark` says why."""
    unit: str
    """What was counted: records, segments, hosts, ..."""
    violations: tuple[Violation, ...] = ()
    remark: str = ""
    """Why nothing or not everything could be checked; empty where there is nothing to say."""

    def count(self, verdict: str) -> int:
        """How many violations have that verdict."""
        return sum(violation.verdict == verdict for violation in self.violations)
