"""Which operating point to deploy: the best of those that satisfy the wishes, and how sure that is. Pure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.operating_points import CHOICES, varying
from analysis.recommending.criterion import (
    BARGAIN,
    BY_LATENCY,
    BY_THROUGHPUT,
    DRAWN,
    KNEE,
    LATENCY,
    NETWORK,
    THROUGHPUT,
    WEIGHTS,
    Constraint,
    Criterion,
)
from analysis.recommending.field import Field, contest, one_per_deployment
from analysis.recommending.more_rounds import MoreRounds, NoCommand, more_rounds
from analysis.recommending.recommended_point import Pick, pick, records_of, whole
from analysis.recommending.robustness import Regret, Robust, least_greatest_regret, regret_under
from analysis.recommending.telling_apart import Apart, tell_apart

if TYPE_CHECKING:
    import pandas as pd

DRAWS = 1000


class RecommendationError(Exception):
    """A wish that this run cannot answer; one line that says why."""


@dataclass(frozen=True)
class Wish:
    """What a deployment needs, and of which operating points the answer may be one. None, empty: no matter."""

    model: str | None = None
    profile: str | None = None
    """The network to answer for; None: each in turn. The others still say how robust the answer is."""
    latency_max_s: float | None = None
    throughput_min_img_s: float | None = None
    network_budget_bytes: float | None = None
    """Per batch, from stage to stage (`bytes_per_batch`)."""
    weights: tuple[float, float] | None = None
    """Of latency and throughput; None: the rule follows from the constraints."""
    knee: bool = False
    """Take the knee also where the constraints suggest another rule."""
    batch_sizes: tuple[int, ...] = ()
    backends: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The bounds that are set."""
        bounds = (
            (LATENCY, self.latency_max_s, True),
            (THROUGHPUT, self.throughput_min_img_s, False),
            (NETWORK, self.network_budget_bytes, True),
        )
        return tuple(Constraint(column, limit, at_most) for column, limit, at_most in bounds if limit is not None)

    @property
    def criterion(self) -> Criterion:
        """How what meets the constraints is ranked.

        By `weights` or the knee where asked for. Else with a bound on one of latency and throughput only, the other
        one decides; with both or none, the knee.
        """
        if self.weights is not None:
            largest = max(self.weights)
            return Criterion(WEIGHTS, (self.weights[0] / largest, self.weights[1] / largest))
        if not self.knee and self.latency_max_s is not None and self.throughput_min_img_s is None:
            return Criterion(BY_THROUGHPUT)
        if not self.knee and self.throughput_min_img_s is not None and self.latency_max_s is None:
            return Criterion(BY_LATENCY)
        return Criterion(KNEE)


@dataclass(frozen=True)
class Answer:
    """What to deploy under one network."""

    profile: str
    candidates: pd.DataFrame
    """The operating points with a valid round, best first: their columns, `granularity`, `meets` (all constraints, by
    the means), `breaks` (columns of those it breaks, joined by `+`), `p_meets`, `p_best`, `loss` (infinite where
    it does not meet them)."""
    unmeasured: int
    """Operating points without a valid round: they never compete."""
    choice: Pick | None
    """None if no point meets the constraints."""
    standing: str
    """Of the choice by the rule `knee`: `knee`, `ideal` (best at both), or `end` (of a front without a knee, as one of
    two points); otherwise empty."""
    runner_up: Pick | None
    apart: Apart | None
    """The choice against the runner-up: by the rule; by throughput per latency at the end of a front without a knee, by
    the distance from the ideal where the choice is the ideal."""
    more: MoreRounds | None
    """The run that would tell these two apart, or narrow how far they are apart; None if it is not needed."""
    no_more: str
    """Why there is no such run where one would help; otherwise empty."""
    broken: Mapping[str, int]
    """Constraint (its column) -> how many candidates break it."""
    nearest: Pick | None
    """Without a choice: the candidate that breaks the constraints by the smallest factor."""
    nearest_factor: float
    """That factor; infinite where none would help, NaN with a choice."""
    drawn: int
    """Candidates that took part in the draws: those with two valid rounds or more, of very many the best ones."""
    regrets: tuple[Regret, ...]
    """Of the choice under every other network."""
    elsewhere: Mapping[str, tuple[Pick | None, Pick | None]]
    """Other network -> the choice there, and the best one there among the points that both have."""


@dataclass(frozen=True)
class Recommendation:
    """What to deploy of one model."""

    model: str
    wish: Wish
    criterion: Criterion
    testbed: str
    """As run.json has it; empty if it was not given."""
    draws: int
    varying: tuple[str, ...]
    """Axes somebody picks (backend, engine, pipeline, batch size) that take several values in what is considered."""
    twins: tuple[str, ...]
    """Backends whose points of one stage are left out: nothing crosses a link there, so another backend's count."""
    answers: tuple[Answer, ...]
    robust: Robust | None
    """None with one network."""
    robust_picks: Mapping[str, Pick]
    """Network -> the robust choice there; empty without one."""
    robust_best: Mapping[str, Pick]
    """Network that counts -> what the robust choice is behind there; empty without one."""

    @property
    def complete(self) -> bool:
        """Whether every network asked for has an answer."""
        return all(answer.choice for answer in self.answers)


def recommend(
    points: pd.DataFrame, frame: pd.DataFrame, wish: Wish, run: Mapping[str, Any] | None = None, draws: int = DRAWS
) -> Recommendation:
    """The best operating point of one model under each network.

    `points` are the `operating_points` of `frame`, `run` is run.json (without it there is no command for more rounds).
    Probabilities are shares of `draws` random means of all points together, drawn from their rounds (`resample_means`);
    in each draw the constraints and the ranking are applied anew. Of very many points not all are drawn (`contest`).

    Raises RecommendationError where nothing is left to recommend, or several models are.
    """
    chosen = considered(points, wish)
    models = list(dict.fromkeys(chosen["model"]))
    if len(models) > 1:
        raise RecommendationError(f"several models: {', '.join(models)}; name one with --model")
    frame = frame[frame["cell"].isin(set(chosen["cell"]))]
    granularities = frame.drop_duplicates("cell").set_index("cell")
    known = "granularity" in granularities
    chosen = chosen.assign(
        granularity=chosen["cell"].map(granularities["granularity"]) if known else "block",
        one_stage=chosen["cell"].isin(set(frame.loc[(frame["n_stages"] == 1).to_numpy(dtype=bool), "cell"])),
    )
    chosen, twins = one_per_deployment(chosen)
    profiles = [str(profile) for profile in dict.fromkeys(chosen["profile"])]
    fields = {
        profile: contest(profile, chosen[chosen["profile"] == profile], frame, wish.constraints, wish.criterion, draws)
        for profile in profiles
    }
    measured = [field for field in fields.values() if len(field.points)]
    if not measured:
        raise RecommendationError("no operating point has a valid round")
    wanted = [wish.profile] if wish.profile else [field.profile for field in measured]
    answers = []
    for profile in wanted:
        unmeasured = int((chosen["profile"] == profile).sum()) - len(fields[profile].points)
        answers.append(_answer(fields[profile], measured, frame, wish, run, unmeasured))
    robust = least_greatest_regret(measured, wish.constraints, wish.criterion)
    picks, best = {}, {}
    if robust and robust.rows:
        picks = {field.profile: _pick(field, robust.rows[field.profile], frame) for field in measured}
        rows = robust.best_rows
        best = {field.profile: _pick(field, rows[field.profile], frame) for field in measured if field.profile in rows}
    return Recommendation(
        model=str(models[0]),
        wish=wish,
        criterion=wish.criterion,
        testbed=str((run or {}).get("testbed") or ""),
        draws=draws,
        varying=tuple(varying(chosen, CHOICES)),
        twins=twins,
        answers=tuple(answers),
        robust=robust,
        robust_picks=picks,
        robust_best=best,
    )


def considered(points: pd.DataFrame, wish: Wish) -> pd.DataFrame:
    """The operating points that a wish allows, of all networks.

    Raises RecommendationError where that is none, or where a name or number is nowhere in `points`.
    """
    axes: dict[str, Sequence[Any]] = {
        "model": (wish.model,) if wish.model else (),
        "profile": (wish.profile,) if wish.profile else (),
        "pipeline": wish.pipelines,
        "backend": wish.backends,
        "engine": wish.engines,
        "batch_size": wish.batch_sizes,
        "depth": wish.depths,
    }
    chosen = points
    for axis, wanted in axes.items():
        if wanted:
            _refuse_unknown(points, axis, wanted)
            chosen = chosen if axis == "profile" else chosen[chosen[axis].isin(list(wanted))]
    if chosen.empty or (wish.profile and not (chosen["profile"] == wish.profile).any()):
        asked = [f"{axis.replace('_', ' ')} {', '.join(map(str, wanted))}" for axis, wanted in axes.items() if wanted]
        raise RecommendationError(f"no operating point with {'; '.join(asked)}" if asked else "no operating point")
    return chosen


def _refuse_unknown(points: pd.DataFrame, axis: str, wanted: Sequence[Any]) -> None:
    values = list(dict.fromkeys(points[axis]))
    there = [str(whole(value)) if axis in ("batch_size", "depth") else str(value) for value in values]
    for value in map(str, wanted):
        if value not in there:
            close = difflib.get_close_matches(value, there, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise RecommendationError(f"no {axis.replace('_', ' ')} {value!r} here{hint}; there is {', '.join(there)}")


def _answer(
    field: Field, fields: Sequence[Field], frame: pd.DataFrame, wish: Wish, run: Mapping[str, Any] | None, lost: int
) -> Answer:
    import numpy as np

    order = [int(row) for row in np.argsort(field.points["loss"].to_numpy(dtype=float), kind="stable")]
    ranked = [row for row in order if field.meets[row]]
    choice = _pick(field, ranked[0], frame) if ranked else None
    runner_up = _pick(field, ranked[1], frame) if len(ranked) > 1 else None
    standing = _standing(field, ranked[0], wish.criterion) if ranked else ""
    decisive = {"end": Criterion(BARGAIN), "ideal": Criterion(WEIGHTS)}.get(standing, wish.criterion)
    apart = _apart(field, ranked[:2], frame, decisive) if choice and runner_up else None
    more, no_more = _more(run, choice, runner_up, apart)
    nearest, factor = (None, math.nan) if choice else _nearest(field, frame, wish.constraints)
    regrets = [
        regret_under(field, ranked[0], other, wish.criterion) for other in fields if ranked and other is not field
    ]
    others = {other.profile: other for other in fields}
    elsewhere = {
        regret.profile: (
            None if regret.row is None else _pick(others[regret.profile], regret.row, frame),
            None if regret.best_row is None else _pick(others[regret.profile], regret.best_row, frame),
        )
        for regret in regrets
    }
    return Answer(
        profile=field.profile,
        candidates=field.points.iloc[order],
        unmeasured=lost,
        choice=choice,
        standing=standing,
        runner_up=runner_up,
        apart=apart,
        more=more,
        no_more=no_more,
        broken={
            constraint.column: int((~constraint.holds(field.points[constraint.column].to_numpy(dtype=float))).sum())
            for constraint in wish.constraints
        },
        nearest=nearest,
        nearest_factor=factor,
        drawn=int(field.points["p_best"].notna().sum()),
        regrets=tuple(regrets),
        elsewhere=elsewhere,
    )


def _pick(field: Field, row: int, frame: pd.DataFrame) -> Pick:
    named = {str(key): value for key, value in field.points.iloc[row].to_dict().items()}
    return pick(named, records_of(frame, str(named["cell"]), whole(named["depth"])))


def _standing(field: Field, row: int, criterion: Criterion) -> str:
    if criterion.rule != KNEE:
        return ""
    latency, throughput = (field.points[column].to_numpy(dtype=float) for column in DRAWN)
    scale = criterion.scale(latency, throughput, field.meets)
    if scale.latency_span_s[0] == 0:
        return "ideal"
    # 1 is the line through the ends of the front.
    return "knee" if criterion.scores(latency, throughput, scale)[row] < 1 - 1e-12 else "end"


def _apart(field: Field, rows: Sequence[int], frame: pd.DataFrame, criterion: Criterion) -> Apart:
    latency, throughput = (field.points[column].to_numpy(dtype=float) for column in DRAWN)
    scale = criterion.scale(latency, throughput, field.meets)
    values = []
    for row in rows:
        point = field.points.iloc[row]
        records = records_of(frame, str(point["cell"]), whole(point["depth"]))
        columns = (records[column].astype(float).tolist() for column in ("round", *DRAWN))
        whole_rounds = ((int(number), (slow, fast)) for number, slow, fast in zip(*columns, strict=True))
        values.append({number: pair for number, pair in whole_rounds if all(map(math.isfinite, pair))})
    return tell_apart(values[0], values[1], criterion, scale)


def _more(
    run: Mapping[str, Any] | None, choice: Pick | None, runner_up: Pick | None, apart: Apart | None
) -> tuple[MoreRounds | None, str]:
    rounds = apart.worth_measuring if apart else None
    if choice is None or runner_up is None or rounds is None:
        return None, ""
    try:
        return more_rounds(run, (choice, runner_up), rounds), ""
    except NoCommand as error:
        return None, str(error)


def _nearest(field: Field, frame: pd.DataFrame, constraints: Sequence[Constraint]) -> tuple[Pick | None, float]:
    """The point that breaks the constraints by the smallest factor, the worst of them counting."""
    import numpy as np

    if not len(field.points):
        return None, math.nan
    columns = [constraint.excess(field.points[constraint.column].to_numpy(dtype=float)) for constraint in constraints]
    worst = np.max(columns, axis=0)
    # Where no factor would help (a budget of 0 bytes), the fewest bytes are the nearest.
    bytes_ = np.nan_to_num(field.points[NETWORK].to_numpy(dtype=float), nan=np.inf)
    row = int(np.lexsort((bytes_, worst))[0])
    return _pick(field, row, frame), float(worst[row])
