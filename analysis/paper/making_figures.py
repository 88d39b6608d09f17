"""Makes Figures 2 to 7: computes, draws, writes. What is in them is decided elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.figures.backend_points import get_backend_info
from analysis.figures.blockwise import get_blockwise_info
from analysis.figures.blockwise_drawing import draw_blockwise
from analysis.figures.breakdown_drawing import draw_breakdown
from analysis.figures.frontier import get_frontier_info
from analysis.figures.frontier_drawing import draw_frontier
from analysis.fronts.fronts_tables import attainment_rows
from analysis.fronts.marking import mark_fronts
from analysis.markup import markdown
from analysis.operating_points import operating_points
from analysis.output import free_stem, remark, save_figure, save_frame, save_table, slug
from analysis.paper.artefacts import Artefact, Lack, lacking_models, run_command
from analysis.paper.backends import BACKEND_COLUMNS, BackendPoint, backend_columns, backend_rows
from analysis.paper.blocks import BlockTime, blocks_of_cells, told_apart
from analysis.paper.inputs import Inputs
from analysis.paper.measured import AS_IT_IS, DURESS, Measured, like_the_paper
from analysis.paper.reference import BATCH_SIZE, LATENCY_CHANGE_PCT, THROUGHPUT_CHANGE_PCT
from analysis.paper.writing import picture_files

_SLOTS = (
    ("CPU to CPU", AS_IT_IS),
    ("CPU to GPU", AS_IT_IS),
    ("CPU to CPU", DURESS),
    ("CPU to GPU", DURESS),
)
"""Kinds of pipeline and networks of Figures 3 to 6."""
_NETWORK_WORDS = {AS_IT_IS: "unshaped", DURESS: "duress"}
_BLOCK_TITLE, _BACKEND_TITLE = "Fig. 2 block-wise times", "Fig. 7 backends"


def make_blocks(inputs: Inputs, timed: Sequence[BlockTime], folder: Path) -> Artefact:
    """Figure 2, of the timed blocks if there are any, else of the cells."""
    times = list(timed) or told_apart([(one, blocks_of_cells(one)) for one in inputs.measured])
    lacks = []
    if not any(time.on_gpu for time in times):
        command = run_command("CPU to GPU", AS_IT_IS, inputs.models, inputs.measured)
        lacks.append(Lack("block-wise times on a GPU: no host of these runs computes on one", command))
    if not times:
        command = run_command("CPU to CPU", AS_IT_IS, inputs.models, inputs.measured)
        lacks.append(Lack("no neighbouring cuts were measured at depth 1 on a network as it is", command))
        return Artefact(_BLOCK_TITLE, lacks=tuple(lacks))
    where = [] if timed else [f"{source.words}." for source in inputs.measured]
    info = get_blockwise_info(times, "time per block", where)
    stem = "figure2-blocks"
    save_figure(draw_blockwise(info), folder / stem)
    save_table(folder / stem, [vars(time) for time in times], list(vars(times[0])))
    return Artefact(_BLOCK_TITLE, picture_files(stem), tuple(lacks), notes=info.notes)


def make_frontiers(inputs: Inputs, folder: Path) -> list[Artefact]:
    """Figures 3 to 6, then the fronts of other pipelines and networks."""
    stems: set[str] = set()
    artefacts = []
    for kind, network in _SLOTS:
        files = [
            name
            for source in inputs.measured
            if source.kind == kind
            for profile in _profiles(source)
            if source.network(profile) == network
            for name in _fronts_of(source, profile, folder, stems)
        ]
        lacks = lacking_models(kind, network, inputs.models, inputs.measured)
        artefacts.append(Artefact(f"Figs 3-6 {kind}, {_NETWORK_WORDS[network]}", tuple(files), lacks))
    others = [
        name
        for source in inputs.measured
        for profile in _profiles(source)
        if (source.kind, source.network(profile)) not in _SLOTS
        for name in _fronts_of(source, profile, folder, stems)
    ]
    return [*artefacts, *([Artefact("Other frontiers", tuple(others))] if others else [])]


def _profiles(source: Measured) -> list[str]:
    return [str(name) for name in source.frame["profile"].unique()]


def _fronts_of(source: Measured, profile: str, folder: Path, stems: set[str]) -> list[str]:
    """A picture and csvs per batch size; the names of the files.

    In the paper's granularity, backend and engine; of imported results all, as they rarely say which they are of.
    """
    frame = source.frame if source.imported else like_the_paper(source.frame)
    frame = frame[frame["profile"] == profile]
    written: list[str] = []
    for size in sorted(frame["batch_size"].dropna().unique(), key=lambda size: (size != BATCH_SIZE, size)):
        records = frame[frame["batch_size"] == size]
        points = operating_points(records)
        if not (points["rounds"] > 0).any():
            remark(f"no frontier of {source.pipeline}, {profile}, batch {size}: no valid round")
            continue
        other = "" if size == BATCH_SIZE else f" (the paper's: {BATCH_SIZE})"
        title = f"{source.pipeline}, profile {profile}, batch {size}{other}"
        notes = [f"{source.words}.", *([] if source.imported else ["Backend socket, engine eager."])]
        stem = free_stem(f"frontier-{slug(source.pipeline)}-{slug(profile)}-b{size}", stems)
        marked = mark_fronts(points, records)
        info = get_frontier_info(marked.points, records, title, notes, marked.fronts, marked.draws)
        save_figure(draw_frontier(info), folder / stem)
        save_frame(folder / stem, marked.points)
        written += picture_files(stem)
        if rows := attainment_rows(marked.fronts):
            save_table(folder / f"{stem}-attainment", rows, list(rows[0]))
            written.append(f"{stem}-attainment.csv")
    return written


def make_backends(inputs: Inputs, points: Sequence[BackendPoint], folder: Path) -> Artefact:
    """Figure 7: a picture per pipeline and profile."""
    if not points:
        backends = ["socket", "rpc"]
        command = run_command("CPU to CPU", AS_IT_IS, ["mobilenet_v2"], inputs.measured, backends=backends)
        why = f"no model was measured with two backends at batch size {BATCH_SIZE} on a network as it is"
        return Artefact(_BACKEND_TITLE, lacks=(Lack(why, command),))
    stems: set[str] = set()
    files: list[str] = []
    pictures: dict[tuple[Path, str, str], list[BackendPoint]] = {}
    for point in points:
        pictures.setdefault((point.measured.directory, point.measured.pipeline, point.profile), []).append(point)
    for (_, pipeline, profile), shown in pictures.items():
        title = f"{pipeline}, profile {profile}, batch {BATCH_SIZE}"
        stem = free_stem(f"figure7-{slug(pipeline)}-{slug(profile)}", stems)
        save_figure(draw_breakdown(get_backend_info(shown, title, [f"{shown[0].measured.words}."])), folder / stem)
        save_table(folder / stem, backend_rows(shown), list(BACKEND_COLUMNS))
        files += picture_files(stem)
    notes = (
        f"The paper states {-LATENCY_CHANGE_PCT:.0f} % less latency and {THROUGHPUT_CHANGE_PCT:.0f} % more throughput "
        "for its sockets: of sockets at P3 against RPC at P15.",
        "Rows without `yes` are the other backends at the same cut and depth (D). Ratios are at equal cuts, over "
        "paired rounds.",
        "Of several means that are alike the highest is in part chance; the interval says how alike they are.",
    )
    return Artefact(_BACKEND_TITLE, tuple(files), text=markdown(backend_columns(points)), notes=notes)
