"""What a choice made for one network costs under the others, and which choice costs least at worst. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.recommending.criterion import Constraint, Criterion, all_hold_in_draws
from analysis.recommending.field import Field

if TYPE_CHECKING:
    from analysis.recommending.criterion import Floats


@dataclass(frozen=True)
class Regret:
    """What one operating point loses under a network against the best that was measured there too."""

    profile: str
    measured: bool
    """False: the point has no valid round there, so nothing is known."""
    meets: bool
    """Whether it meets the constraints there, by its means."""
    solvable: bool
    """Whether any of the points compared meets them there."""
    value: float
    """Its loss behind the best there: logarithm of a factor or part of the front's span; infinite if it breaks a
    constraint there, NaN if it was not measured or nothing meets them."""
    row: int | None
    """Its row there."""
    best_row: int | None
    """The row of the best one there."""
    n_common: int
    """Points that were measured under both networks: only they are compared."""


@dataclass(frozen=True)
class Robust:
    """The choice whose greatest regret over all networks is the least (Savage, JASA 46:55, 1951)."""

    rows: Mapping[str, int] | None
    """Network -> its row there; None if no point meets the constraints under all networks."""
    regrets: Mapping[str, float]
    """Network that counts -> its loss behind the best there; empty without a choice."""
    best_rows: Mapping[str, int]
    """Network that counts -> the row of the best one there; empty without a choice."""
    probability: float
    """That it is the one, over the draws; NaN where it could not be drawn."""
    n_common: int
    """Points that were measured under all networks: only they are compared."""
    unsolvable: tuple[str, ...]
    """Networks under which none of them meets the constraints: not counted."""

    @property
    def worst(self) -> float:
        """Its greatest regret."""
        return max(self.regrets.values())


def regret_under(own: Field, row: int, other: Field, criterion: Criterion) -> Regret:
    """The regret of a point of `own` under another network, among the points that both networks have."""
    places = {identity: at for at, identity in enumerate(other.identities)}
    common = [places[identity] for identity in own.identities if identity in places]
    here = places.get(own.identities[row])
    if here is None:
        return Regret(other.profile, False, False, False, float("nan"), None, None, len(common))
    losses = other.losses(common, criterion)
    solvable = bool(other.meets[common].any())
    value = float(losses[common.index(here)]) if solvable else float("nan")
    best = common[int(losses.argmin())] if solvable else None
    return Regret(other.profile, True, bool(other.meets[here]), solvable, value, here, best, len(common))


def least_greatest_regret(
    fields: Sequence[Field], constraints: Sequence[Constraint], criterion: Criterion
) -> Robust | None:
    """The minimax-regret choice over networks, among the points measured under all of them; None for one network.

    Rounds of different networks are not paired: each network's draws are its own. Raises ValueError where two
    networks' fields have different numbers of draws.
    """
    import numpy as np

    if len(fields) < 2:
        return None
    places = [{identity: at for at, identity in enumerate(field.identities)} for field in fields]
    common = [identity for identity in fields[0].identities if all(identity in place for place in places)]
    rows = [[place[identity] for identity in common] for place in places]
    solvable = [bool(field.meets[at].any()) for field, at in zip(fields, rows, strict=True)]
    unsolvable = tuple(field.profile for field, can in zip(fields, solvable, strict=True) if not can)
    counted = [(field, at) for field, at, can in zip(fields, rows, solvable, strict=True) if can]
    none = Robust(None, {}, {}, float("nan"), len(common), unsolvable)
    if not counted:
        return none
    regrets = np.array([field.losses(at, criterion) for field, at in counted])
    chosen = _least_worst(regrets)
    if not np.isfinite(regrets[:, chosen]).all():
        return none
    named = {field.profile: float(regrets[i, chosen]) for i, (field, _) in enumerate(counted)}
    best = {field.profile: at[int(regrets[i].argmin())] for i, (field, at) in enumerate(counted)}
    everywhere = {field.profile: at[chosen] for field, at in zip(fields, rows, strict=True)}
    probability = _probability(counted, constraints, criterion, chosen)
    return Robust(everywhere, named, best, probability, len(common), unsolvable)


def _least_worst(regrets: Floats) -> int:
    """The column whose greatest value is the least; of equal ones that with the least sum."""
    import numpy as np

    worst = regrets.max(axis=0)
    ties = np.flatnonzero(worst == worst.min())
    return int(ties[regrets[:, ties].sum(axis=0).argmin()])


def _probability(
    counted: Sequence[tuple[Field, Sequence[int]]], constraints: Sequence[Constraint], criterion: Criterion, chosen: int
) -> float:
    """How often `chosen` is the minimax-regret choice; NaN where it has one valid round or some point was not drawn."""
    import numpy as np

    worst = None
    for field, rows in counted:
        columns = {row: column for column, row in enumerate(field.drawn)}
        # Where each network's draws are of its own best points only, what they have in common says too little.
        if any(row not in columns for row in rows):
            return float("nan")
        draws = field.draws[:, [columns[row] for row in rows]]
        if np.isnan(draws[:, chosen]).any():
            return float("nan")
        meets = all_hold_in_draws(constraints, field.points.iloc[list(rows)], draws)
        losses = criterion.losses(draws[:, :, 0], draws[:, :, 1], meets)
        # A draw in which nothing meets the constraints there says nothing about who is best there.
        losses[~meets.any(axis=1)] = 0.0
        worst = losses if worst is None else np.maximum(worst, losses)
    assert worst is not None
    return float((np.isfinite(worst.min(axis=1)) & (worst.argmin(axis=1) == chosen)).mean())
