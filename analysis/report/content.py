"""Everything that the report says, from a run. Computes and words; draws and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from analysis.beside import LARGE, Beside
from analysis.comparing.breakdown import PART_COLUMNS, breakdown
from analysis.output import origin
from analysis.report.answers import answer_of
from analysis.report.breakdowns import breakdown_words, get_stacks
from analysis.report.charts import breakdown_drawing, front_drawing
from analysis.report.document import Answer, Chart, Embedded, Report, Table
from analysis.report.embedding import embed
from analysis.report.fronts import front_words, get_front_chart
from analysis.report.networks import network_notes, network_table
from analysis.report.provenance import host_table, last_record, model_table, pipelines, run_facts
from analysis.report.summary import summary
from analysis.report.validity import validity_tables, validity_words

if TYPE_CHECKING:
    from concurrent.futures import Future

    import pandas as pd

    from analysis.fronts.marking import Front, Fronts
    from analysis.run import Run

BREAKDOWN_NOTES = (
    "compute: the stages' computing; serialize: making messages of tensors; queue: waiting for a busy stage or"
    " sender; network: what is left of the latency: links both ways, the kernel, receiving and, at depths above 1,"
    " waiting in socket buffers. The four add up to the latency.",
)
FRONT_TABLE_NOTE = (
    "D: depth (batches in flight); p front: share of the draws in which the point is on the front; *: knee; n: valid"
    " rounds; ±: half the 95 % t-interval over rounds."
)


def gather(data: Run, *, with_samples: bool = True) -> Report:
    """The report of a run with at least one record; without a valid one it has no charts and no answers.

    `with_samples`: whether the records are computed again from the samples, which are read for it.
    """
    from concurrent.futures import ThreadPoolExecutor

    from analysis.fronts.marking import mark_fronts
    from analysis.operating_points import operating_points

    name = data.directory.resolve().name
    frame = data.frame.assign(**breakdown(data.frame))
    points = operating_points(frame, PART_COLUMNS)
    large = len(frame) >= LARGE
    answers = Beside(lambda: _answers(data, points, frame), apart=large)
    marked = mark_fronts(points, frame)
    shifts = Beside(lambda: _shifts(data, marked, frame), apart=large)
    # Only now, as a process with threads must not fork. Writing and compressing CSV needs no lock of Python's.
    with ThreadPoolExecutor(1) as thread:
        tables = [
            thread.submit(embed, marked.points, "points", "Operating points", f"{name}-points.csv"),
            thread.submit(embed, data.frame, "records", "Records", f"{name}-records.csv"),
        ]
        return _report(data, frame, marked, shifts, answers, tables, with_samples=with_samples)


def _report(
    data: Run,
    frame: pd.DataFrame,
    marked: Fronts,
    shifts: Beside[tuple[tuple[Table, ...], tuple[str, ...]]],
    answers: Beside[tuple[Answer, ...]],
    embedded: Sequence[Future[Embedded]],
    *,
    with_samples: bool,
) -> Report:
    from analysis.gates.checks import read_and_examine

    examined = read_and_examine(data, with_samples=with_samples)
    validity = validity_words(data, examined)
    invalid = frame[frame["state"] == "invalid"]
    fronts = tuple(_front(number, front, marked, invalid, data) for number, front in enumerate(marked.fronts, 1))
    breakdowns = _breakdowns(marked)
    shift_tables, shift_notes = shifts.result()
    name = data.directory.resolve().name
    as_of = last_record(data)
    return Report(
        title=f"ParetoPipe report: {name}",
        made_of=f"Made by ParetoPipe {version('paretopipe')} from the results directory {name}"
        + (f", whose last record was begun at {as_of}." if as_of else "."),
        origin=tuple(origin(data)),
        summary=summary(data, marked, validity),
        facts=run_facts(data),
        hosts=host_table(data),
        models=model_table(data),
        networks=network_table(data.run, data.probes),
        network_notes=network_notes(data.probes),
        validity=validity,
        validity_tables=validity_tables(data, examined),
        all_fronts=_fronts_table(marked),
        fronts=fronts,
        shifts=shift_tables,
        shift_notes=shift_notes,
        breakdowns=breakdowns,
        breakdown_notes=BREAKDOWN_NOTES,
        answers=answers.result(),
        data=tuple(table.result() for table in embedded),
    )


def _title(front: Front) -> str:
    return f"{front.key['model']} under {front.key['profile']}"


def _front(number: int, front: Front, marked: Fronts, invalid: pd.DataFrame, data: Run) -> Chart:
    points = marked.points.loc[front.index]
    here = invalid[(invalid["model"] == front.key["model"]) & (invalid["profile"] == front.key["profile"])]
    chart = get_front_chart(points, here, front, pipelines(data.run))
    return Chart(
        ident=f"front-{number}",
        title=_title(front),
        words=front_words(points, front, marked.draws),
        notes=chart.notes if chart else (),
        variants=(("", front_drawing(chart)),) if chart else (),
        table=_front_table(points, _title(front)),
    )


def _front_table(points: pd.DataFrame, title: str) -> Table | None:
    """The points of a front as `pp-analyze frontier` prints them, numbered as in the chart."""
    from analysis.fronts.fronts_tables import points_columns
    from analysis.markup import Column
    from analysis.objectives import DEFAULT_OBJECTIVES

    on = points[points["on_frontier"]].sort_values(["latency_s", "throughput_img_s"], kind="stable")
    if on.empty:
        return None
    numbers = Column("No.", tuple(str(n) for n in range(1, len(on) + 1)), right=True)
    columns = points_columns(on, "profile", DEFAULT_OBJECTIVES, ranked=False)
    shown = [column for column in columns if column.header not in ("model", "profile")]
    return Table(f"Front of {title}", (numbers, *shown), FRONT_TABLE_NOTE)


def _fronts_table(marked: Fronts) -> Table | None:
    """One row per front, as `pp-analyze frontier` prints it."""
    from analysis.fronts.fronts_tables import front_remarks, summary_columns, summary_rows

    rows = summary_rows(marked)
    if not rows:
        return None
    note = "".join(f"{remark[0].upper()}{remark[1:]}. " for remark in front_remarks(marked)).rstrip()
    return Table(
        "All fronts", tuple(summary_columns(rows, ["model", "profile"])), f"As pp-analyze frontier says it. {note}"
    )


def _breakdowns(marked: Fronts) -> tuple[Chart, ...]:
    charts = []
    for number, front in enumerate(marked.fronts, 1):
        stacks = get_stacks(marked.points.loc[front.index])
        if stacks:
            variants = tuple((found.name, breakdown_drawing(found)) for found in stacks)
            charts.append(Chart(f"breakdown-{number}", _title(front), breakdown_words(stacks), (), variants))
    return tuple(charts)


def _shifts(data: Run, marked: Fronts, frame: pd.DataFrame) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """What every other network does to the fronts of the baseline: tables and remarks; nothing with one network."""
    from analysis.comparing.comparison import ordered_values, pick_baseline
    from analysis.networks.shift import ON_NEITHER, shift_networks
    from analysis.networks.tables import shift_remarks, shift_table, summary_table
    from analysis.objectives import DEFAULT_OBJECTIVES

    profiles = ordered_values(data.frame, data.run, "profile")
    if len(profiles) < 2:
        return (), ()
    baseline = pick_baseline(profiles, data.run, "profile", None)
    references = {front.key["model"]: front.reference for front in marked.fronts}
    others = [profile for profile in profiles if profile != baseline]
    shifts, apart = shift_networks(marked.points, frame, baseline, others, DEFAULT_OBJECTIVES, references, marked.draws)
    tables = []
    if shifts:
        tables.append(Table(f"Fronts under other networks than {baseline}", tuple(summary_table(shifts))))
    if any((shift.points["shift"] != ON_NEITHER).any() for shift in shifts):
        tables.append(Table("Points of these fronts", tuple(shift_table(shifts))))
    return tuple(tables), tuple(shift_remarks(shifts, apart))


def _answers(data: Run, points: pd.DataFrame, frame: pd.DataFrame) -> tuple[Answer, ...]:
    """Per model with a valid point what to deploy under each network where nothing is asked for."""
    from analysis.recommending.recommendation import Wish, recommend
    from analysis.recommending.recommendation_words import recommendation_lines

    measured = points[points["rounds"] > 0]
    answers = []
    for model in dict.fromkeys(map(str, measured["model"])):
        recommendation = recommend(points, frame, Wish(model=model), data.run)
        answers.append(answer_of(recommendation_lines(recommendation, data.directory)))
    return tuple(answers)
