"""Spec and model descriptions -> the cells of the matrix, each ready to be measured. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from paretopipe_matrix.cells import Cell
from paretopipe_matrix.errors import SelectionError, SpecError
from paretopipe_matrix.estimate import SWITCH_S, depth_s, pipeline_times, timeout_s
from paretopipe_matrix.selection import Split, select
from paretopipe_matrix.spec import Settings, auto_depths
from paretopipe_matrix.spec_source import LoadedSpec
from paretopipe_matrix.testbed import CellRun, CutInfo, JsonObject, ModelDescription, ModelRequest, Profile, Window

Describe = Callable[[ModelRequest, str], ModelDescription]


@dataclass(frozen=True)
class CellPlan:
    """A cell with everything needed to measure it. `depth_s` maps a depth to its expected seconds."""

    cell: Cell
    request: ModelRequest
    cuts: tuple[CutInfo, ...]
    n_cuts: int
    depth_s: dict[int, float]
    window: Window
    warmup_batches: int
    cell_timeout_s: float | None
    streams: Literal["auto"] | int

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths in the order they are measured."""
        return tuple(self.depth_s)

    @property
    def kind(self) -> str:
        """Cells whose durations tell of one another: set-up costs what backend and engine make it cost."""
        return f"{self.cell.backend} {self.cell.engine}"

    @property
    def bytes_per_batch(self) -> int:
        """Activation bytes that the cuts send per batch; cut N sends none."""
        return sum(cut.nbytes for cut in self.cuts if cut.index != self.n_cuts)

    def expected_s(self, depths: tuple[int, ...]) -> float:
        """Expected seconds of one round at these depths."""
        return SWITCH_S + sum(self.depth_s[depth] for depth in depths)

    def run(self, profile: Profile, round_: int, depths: tuple[int, ...]) -> CellRun:
        """What the testbed is asked to do."""
        return CellRun(
            cell_id=self.cell.id,
            request=self.request,
            cuts=self.cuts,
            n_cuts=self.n_cuts,
            backend=self.cell.backend,
            pipeline=self.cell.pipeline,
            profile=profile,
            depths=depths,
            window=self.window,
            warmup_batches=self.warmup_batches,
            round=round_,
            timeout_s=self.cell_timeout_s or timeout_s(self.expected_s(depths)),
            streams=self.streams,
        )

    def as_json(self) -> JsonObject:
        """The cell as run.json lists it, with the axes as records have them."""
        return {"cell": self.cell.id, **axes(self), "depths": list(self.depths)}


def axes(plan: CellPlan) -> JsonObject:
    """The keys of a record that say what was measured, apart from depth, round and shaper."""
    return {
        "model": plan.cell.model,
        "split": plan.cell.split,
        "split_index": "+".join(str(cut.index) for cut in plan.cuts),
        "split_name": "+".join(cut.name for cut in plan.cuts),
        "n_cuts": plan.n_cuts,
        "granularity": plan.cell.granularity,
        "backend": plan.cell.backend,
        "engine": plan.cell.engine,
        "pipeline": plan.cell.pipeline,
        "profile": plan.cell.profile,
        "batch_size": plan.cell.batch_size,
    }


def requests(settings: Settings, seed: int) -> list[ModelRequest]:
    """What has to be described for one entry of a spec."""
    return [
        ModelRequest(
            model=model,
            weights=settings.weights,
            seed=seed,
            batch_size=batch_size,
            granularity=settings.granularity,
            input=settings.input,
            input_encoding=settings.input_encoding,
            engine=engine,
        )
        for model in settings.models
        for engine in settings.engines
        for batch_size in settings.batch_sizes
    ]


def expand(
    loaded: LoadedSpec,
    pipelines: Mapping[str, tuple[str, ...]],
    profiles: Mapping[str, Profile],
    describe: Describe,
    wanted_models: set[str] | None = None,
) -> list[CellPlan]:
    """All cells of a spec in its order; `wanted_models` leaves the others undescribed.

    A cell that two entries name is one cell with both entries' depths. Raises SpecError naming both places where the
    entries would measure it differently, and SelectionError with the place for a split that does not exist.
    """
    plans: dict[str, CellPlan] = {}
    origin: dict[str, int] = {}
    for index, settings in enumerate(loaded.spec.entries()):
        for pipeline in settings.pipelines:
            for request in requests(settings, loaded.spec.seed):
                if wanted_models is not None and request.model not in wanted_models:
                    continue
                description = describe(request, pipeline)
                try:
                    splits = select(settings.splits, description.cuts, request.model, len(pipelines[pipeline]))
                except SelectionError as error:
                    raise SelectionError(f"{loaded.where_entry(index, 'splits')}: {error}") from error
                for profile in settings.profiles:
                    for split in splits:
                        for backend in settings.backends:
                            plan = _plan(
                                settings, description, split, pipelines[pipeline], pipeline, profiles[profile], backend
                            )
                            _add(plans, origin, plan, index, loaded)
    return list(plans.values())


def _plan(
    settings: Settings,
    description: ModelDescription,
    split: Split,
    hosts: tuple[str, ...],
    pipeline: str,
    profile: Profile,
    backend: str,
) -> CellPlan:
    request = description.request
    times = pipeline_times(description, hosts, split, profile)
    window = Window(settings.window.batches, settings.window.seconds, settings.window.min_batches)
    depths = auto_depths(len(hosts)) if isinstance(settings.depths, str) else settings.depths
    return CellPlan(
        cell=Cell(
            model=request.model,
            granularity=request.granularity,
            cuts=tuple(cut.index for cut in split),
            split="+".join(cut.paper_name or str(cut.index) for cut in split),
            backend=backend,
            engine=request.engine,
            profile=profile.name,
            batch_size=request.batch_size,
            pipeline=pipeline,
        ),
        request=request,
        cuts=split,
        n_cuts=description.cuts[-1].index,
        depth_s={depth: depth_s(times, depth, window, settings.warmup_batches) for depth in depths},
        window=window,
        warmup_batches=settings.warmup_batches,
        cell_timeout_s=settings.cell_timeout_s,
        streams=settings.streams,
    )


def _add(plans: dict[str, CellPlan], origin: dict[str, int], plan: CellPlan, index: int, loaded: LoadedSpec) -> None:
    cell_id = plan.cell.id
    first = plans.setdefault(cell_id, plan)
    before = origin.setdefault(cell_id, index)
    if first is plan:
        return
    settings, others = _how(first), _how(plan)
    differing = [key for key in settings if settings[key] != others[key]]
    if differing:
        places = f"{loaded.where(('matrix', before))} and {loaded.where(('matrix', index))}"
        raise SpecError(
            f"{places}: both entries name cell {cell_id}, but with another {', '.join(differing)}; "
            "make two runs of them, or let the entries name different cells"
        )
    plans[cell_id] = _merged(first, plan)


def _how(plan: CellPlan) -> JsonObject:
    return asdict(plan.request) | {
        "window": plan.window,
        "warmup_batches": plan.warmup_batches,
        "cell_timeout_s": plan.cell_timeout_s,
        "streams": plan.streams,
    }


def _merged(first: CellPlan, second: CellPlan) -> CellPlan:
    return replace(first, depth_s=dict(sorted((first.depth_s | second.depth_s).items())))
