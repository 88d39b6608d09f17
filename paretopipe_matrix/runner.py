"""The run loop: groups, rounds, probes and cells over a testbed; every outcome becomes a record."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
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


class _StoppedError(Exception):
    """Another lane ended the run; nothing of the cell in progress is recorded."""


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
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._own_path: dict[str, ProbeResult] = {}
        """Pipeline -> the last probe of its unshaped path, if a profile without links was run."""

    def run(self, groups: Sequence[Group]) -> bool:
        """Measure everything; False if --fail-fast ended it early.

        Pipelines that share no host and no core are measured at the same time, each lane in a thread of its own.
        """
        lane_of = {name: lane for lane in self._testbed.lanes() for name in lane}
        lanes: dict[tuple[str, ...], list[Group]] = {}
        for group in groups:
            lanes.setdefault(lane_of[group.pipeline], []).append(group)
        try:
            if len(lanes) > 1:
                self._run_side_by_side(list(lanes.values()))
            else:
                self._run_lane(groups)
        except _FailFastError:
            return False
        return True

    def _run_side_by_side(self, lanes: Sequence[Sequence[Group]]) -> None:
        """Raises what the first lane that failed raised; KeyboardInterrupt, once all lanes have stopped."""
        with ThreadPoolExecutor(max_workers=len(lanes), thread_name_prefix="lane") as pool:
            running = [pool.submit(self._run_lane, lane) for lane in lanes]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            except KeyboardInterrupt:
                self._stopping.set()
                self._testbed.abort()
                raise
            self._stopping.set()
        errors = [error for lane in running if (error := lane.exception()) is not None]
        for error in errors:
            if not isinstance(error, _StoppedError):
                raise error

    def _run_lane(self, groups: Sequence[Group]) -> None:
        for group in groups:
            self._run_group(group)

    def _go_on(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Nothing interrupts a write: signals reach the main thread, which waits where lanes have threads."""
        with self._lock:
            if threading.current_thread() is threading.main_thread():
                with self._interrupts.shield():
                    yield
            else:
                yield

    def _run_group(self, group: Group) -> None:
        self._go_on()
        profile = self._profiles[group.profile]
        try:
            shaper = self._testbed.apply(group.pipeline, profile)
        except CellError as error:
            self._go_on()
            segment = uuid.uuid4().hex[:12]
            for pass_ in group.passes:
                self._fail_all(pass_.tasks, error, None, segment)
            return
        for pass_ in group.passes:
            self._run_round(_Segment(group, profile, shaper), pass_)

    def _run_round(self, segment: _Segment, pass_: RoundPass) -> None:
        with self._lock:
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
            self._go_on()
            failed = self._run_cell(segment, task, before)
            if failed and self._fail_fast:
                stopped = True
                break
        _, reason = self._probe(segment, "after")
        if reason is not None:
            with self._lock:
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
            self._go_on()
            reason = f"the path could not be measured: {error.message}"
        now = _now()
        with self._writing():
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
        with self._lock:
            self._display.start(f"{task.cell} round {task.round}")
        started_at, begin = _now(), time.monotonic()
        failure: CellError | None = None
        try:
            results = self._testbed.measure(plan.run(segment.profile, task.round, task.depths), lambda event: None)
        except CellError as error:
            self._go_on()  # aborted because the run ends: not a failure of the cell
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
        with self._writing():
            # Samples first, so that no record is without its samples.
            self._store.write_samples(task.cell, task.round, samples)
            self._store.append_records(records)
        self._report(task, failure if left else None, time.monotonic() - begin)
        return bool(left)

    def _fail_all(self, tasks: Sequence[Task], error: CellError, shaper: str | None, segment: str) -> None:
        with self._writing():
            self._store.append_records(
                [
                    failed_record(self._plans[task.cell], error, depth, task.round, shaper, segment, _now())
                    for task in tasks
                    for depth in task.depths
                ]
            )
        with self._lock:
            self._display.note(f"{len(tasks)} cell(s) failed: {_host(error)}{error.message}")
            for task in tasks:
                self._display.finish((task.cell, task.round), f"{task.cell} round {task.round}: failed", 0.0)
        if self._fail_fast:
            raise _FailFastError

    def _report(self, task: Task, failure: CellError | None, observed_s: float) -> None:
        word = "failed" if failure else "ok"
        with self._lock:
            if failure is not None:
                self._display.note(f"{task.cell} round {task.round} failed: {_host(failure)}{failure.message}")
            self._display.finish((task.cell, task.round), f"{task.cell} round {task.round}: {word}", observed_s)


def _host(error: CellError) -> str:
    return f"{error.host}: " if error.host else ""


def _rows(result: DepthResult) -> list[JsonObject]:
    return [{"depth": result.depth, **row} for row in result.samples]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
