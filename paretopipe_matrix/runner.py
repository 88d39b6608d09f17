"""The run loop: groups, rounds, probes and cells over a testbed; every outcome becomes a record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from paretopipe_matrix.interrupts import Interrupts
from paretopipe_matrix.plan import CellPlan
from paretopipe_matrix.profiles import verify
from paretopipe_matrix.progress import Display
from paretopipe_matrix.records import failed_record, ok_record, probe_line
from paretopipe_matrix.schedule import Group, RoundPass, Task
from paretopipe_matrix.store import Store
from paretopipe_matrix.testbed import CellError, DepthResult, JsonObject, ProbeResult, Profile, Testbed


class _FailFastError(Exception):
    """A cell failed and the run was asked to stop at that."""


@dataclass
class _Segment:
    """A stretch of records between two probes."""

    group: Group
    profile: Profile
    shaper: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


class Runner:
    """Measures what a schedule asks for and stores it.

    KeyboardInterrupt passes through with nothing recorded for the cell in progress; WriteError likewise.
    """

    def __init__(
        self,
        testbed: Testbed,
        store: Store,
        plans: Mapping[str, CellPlan],
        profiles: Mapping[str, Profile],
        display: Display,
        interrupts: Interrupts,
        *,
        fail_fast: bool = False,
    ) -> None:
        self._testbed = testbed
        self._store = store
        self._plans = plans
        self._profiles = profiles
        self._display = display
        self._interrupts = interrupts
        self._fail_fast = fail_fast
        self._own_path: dict[str, ProbeResult] = {}
        """Pipeline -> the last probe of its unshaped path, if a profile without links was run."""

    def run(self, groups: Sequence[Group]) -> bool:
        """Measure everything; False if --fail-fast ended it early."""
        try:
            for group in groups:
                self._run_group(group)
        except _FailFastError:
            return False
        return True

    def _run_group(self, group: Group) -> None:
        profile = self._profiles[group.profile]
        try:
            shaper = self._testbed.apply(group.pipeline, profile)
        except CellError as error:
            segment = uuid.uuid4().hex[:12]
            for pass_ in group.passes:
                self._fail_all(pass_.tasks, error, None, segment)
            return
        for pass_ in group.passes:
            self._run_round(_Segment(group, profile, shaper), pass_)

    def _run_round(self, segment: _Segment, pass_: RoundPass) -> None:
        cut_off = self._store.open_segments(segment.group.pipeline, segment.profile.name)
        before, reason = self._probe(segment, "before", cut_off)
        if before is None or reason is not None:
            error = CellError(
                "network",
                f"round {pass_.round} not run: {reason}",
                remedy="measure again once the path is as declared, or correct the profile",
            )
            self._fail_all(pass_.tasks, error, segment.shaper, segment.id)
            return
        if not segment.profile.links:
            self._own_path[segment.group.pipeline] = before
        stopped = False
        for task in pass_.tasks:
            failed = self._run_cell(segment, task, before)
            if failed and self._fail_fast:
                stopped = True
                break
        _, reason = self._probe(segment, "after")
        if reason is not None:
            self._display.note(f"round {pass_.round} of {segment.profile.name} is invalid: {reason}")
        if stopped:
            raise _FailFastError

    def _probe(
        self, segment: _Segment, when: str, cut_off: Sequence[str] = ()
    ) -> tuple[ProbeResult | None, str | None]:
        """Measure the path and store what came out, also as the late `after` of segments that were cut off."""
        probe: ProbeResult | None = None
        pipeline, profile = segment.group.pipeline, segment.profile
        try:
            probe = self._testbed.probe(pipeline, profile)
            _, reason = verify(profile, self._own_path.get(pipeline), probe)
        except CellError as error:
            reason = f"the path could not be measured: {error.message}"
        now = _now()
        with self._interrupts.shield():
            for id_ in cut_off:
                self._store.append_probe(
                    probe_line(id_, "after", pipeline, profile, segment.shaper, now, probe, reason, late=True)
                )
            self._store.append_probe(
                probe_line(segment.id, when, pipeline, profile, segment.shaper, now, probe, reason)
            )
        return probe, reason

    def _run_cell(self, segment: _Segment, task: Task, probe: ProbeResult) -> bool:
        """Measure and store one cell of one round; True if any of its depths failed."""
        plan = self._plans[task.cell]
        self._display.start(f"{task.cell} round {task.round}")
        started_at, begin = _now(), time.monotonic()
        failure: CellError | None = None
        try:
            results = self._testbed.measure(plan.run(segment.profile, task.round, task.depths), lambda event: None)
        except CellError as error:
            results, failure = error.finished, error
        records: list[JsonObject] = []
        samples: list[JsonObject] = []
        for result in (result for result in results if result.depth in task.depths):
            try:
                records.append(ok_record(plan, result, task.round, segment.shaper, probe, segment.id, started_at))
            except CellError as error:
                failure = failure or error
            else:
                samples += _rows(result)
        left = [depth for depth in task.depths if depth not in {record["depth"] for record in records}]
        if left and failure is None:
            failure = CellError("internal", f"the testbed returned nothing for depth {left[0]}")
        if failure is not None:
            records += [
                failed_record(plan, failure, depth, task.round, segment.shaper, segment.id, started_at)
                for depth in left
            ]
        with self._interrupts.shield():
            # Samples first, so that no record is without its samples.
            self._store.write_samples(task.cell, task.round, samples)
            self._store.append_records(records)
        self._report(task, failure if left else None, time.monotonic() - begin)
        return bool(left)

    def _fail_all(self, tasks: Sequence[Task], error: CellError, shaper: str | None, segment: str) -> None:
        with self._interrupts.shield():
            self._store.append_records(
                [
                    failed_record(self._plans[task.cell], error, depth, task.round, shaper, segment, _now())
                    for task in tasks
                    for depth in task.depths
                ]
            )
        self._display.note(f"{len(tasks)} cell(s) failed: {error.message}")
        for task in tasks:
            self._display.finish((task.cell, task.round), f"{task.cell} round {task.round}: failed", 0.0)
        if self._fail_fast:
            raise _FailFastError

    def _report(self, task: Task, failure: CellError | None, observed_s: float) -> None:
        if failure is not None:
            host = f"{failure.host}: " if failure.host else ""
            self._display.note(f"{task.cell} round {task.round} failed: {host}{failure.message}")
        word = "failed" if failure else "ok"
        self._display.finish((task.cell, task.round), f"{task.cell} round {task.round}: {word}", observed_s)


def _rows(result: DepthResult) -> list[JsonObject]:
    return [{"depth": result.depth, **row} for row in result.samples]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
