"""The edge of what the points of a front attain, as a line that can be drawn. Pure geometry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

Place = tuple[float, float]


@dataclass(frozen=True, init=False)
class Staircase:
    """The points of a front of two objectives, by ascending x, each place once."""

    points: tuple[Place, ...]

    def __init__(self, points: Iterable[Iterable[float]]) -> None:
        places = sorted({(float(x), float(y)) for x, y in points})
        object.__setattr__(self, "points", tuple(places))

    def edge(self, worst_x: float, worst_y: float, *, x_maximised: bool) -> list[Place]:
        """The corners of the edge from `worst_y` along the staircase to `worst_x`, which are ends of the axes.

        It begins at the point that is best in x, so at the left where x is minimised. Empty without points.
        """
        order = list(reversed(self.points)) if x_maximised else list(self.points)
        if not order:
            return []
        corners = [(order[0][0], worst_y), order[0]]
        for (_, y), after in pairwise(order):
            corners += [(after[0], y), after]
        return [*corners, (worst_x, order[-1][1])]


def between(low: list[Place], high: list[Place]) -> list[Place]:
    """The outline of what lies between two edges with the same ends; empty where either is."""
    return [*high, *reversed(low)] if low and high else []
