"""A run that was cut off gets its missing `after` probe from the first measurement of the resumed one."""

from __future__ import annotations

from pathlib import Path

from paretopipe_matrix.records import probe_line
from paretopipe_matrix.store import Store
from paretopipe_matrix.testbed import ProbeResult, Profile

PROBE = ProbeResult(0.001, (0.001,), 1e9, 10)


def line(segment: str, when: str, profile: str = "lan", reason: str | None = None) -> dict:
    return probe_line(segment, when, "local", Profile(profile), "none", "2026-01-01T00:00:00", PROBE, reason)


def test_segments_without_an_after_probe_are_open(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for probe in (
        line("closed", "before"),
        line("closed", "after"),
        line("cut-off", "before"),
        line("refused", "before", reason="too slow"),
        line("of-another-profile", "before", "duress"),
    ):
        store.append_probe(probe)
    assert store.open_segments("local", "lan") == ["cut-off"]
    assert store.open_segments("other", "lan") == []
