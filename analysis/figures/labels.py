"""Where the labels of a scatter plot go so that they can be read. Pure geometry, in points (1/72 inch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]

_DIRECTIONS = 16
_PER_STROKE, _PER_FAINT_AREA, _FAINT_MOST = 14.0, 0.1, 10.0
"""What a crossed line and a covered square point of faint marks are worth, in points of distance."""
_DISTANCES = (5.0, 9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 64.0)
_FIRST_DIRECTION = math.radians(135)  # up and left: the empty side of a latency-throughput front


@dataclass(frozen=True)
class Box:
    """A rectangle with its sides parallel to the axes."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Shared area; 0 if they only touch."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def holds(self, other: Box) -> bool:
        """Whether `other` lies wholly inside."""
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.bottom <= other.bottom
            and other.top <= self.top
        )

    @classmethod
    def around(cls, centre: Point, width: float, height: float) -> Box:
        """The box of this size with this centre."""
        x, y = centre
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def place_labels(
    anchors: Sequence[Point],
    sizes: Sequence[tuple[float, float]],
    bounds: Box,
    marks: Sequence[Box],
    strokes: Sequence[Box] = (),
    faint: Sequence[Box] = (),
) -> list[Point | None]:
    """The centre of each label, or None where it has no place.

    `anchors` are the labelled points, `sizes` the labels' (width, height). A label lies inside `bounds`, covers no
    other label and none of `marks`; among the places left the nearest wins, where crossing one of `strokes` (lines)
    and covering `faint` marks count as distance. Labels are placed in the given order.
    """
    placed: list[Box] = []
    centres: list[Point | None] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        reach = Box.around(anchor, 2 * (_DISTANCES[-1] + size[0]), 2 * (_DISTANCES[-1] + size[1]))
        solid = [box for box in (*placed, *marks) if box.overlap(reach)]
        lines = [box for box in strokes if box.overlap(reach)]
        dots = [box for box in faint if box.overlap(reach)]
        best: tuple[float, Point, Box] | None = None
        for distance in _DISTANCES:
            for step in range(_DIRECTIONS):
                centre = _centre(anchor, size, distance, step)
                box = Box.around(centre, *size)
                if not bounds.holds(box) or any(box.overlap(other) for other in solid):
                    continue
                crossed = sum(box.overlap(line) > 0 for line in lines)
                covered = sum(box.overlap(other) for other in dots)
                cost = distance + _PER_STROKE * crossed + min(_FAINT_MOST, _PER_FAINT_AREA * covered)
                if best is None or cost < best[0]:
                    best = cost, centre, box
        if best is None:
            centres.append(None)
        else:
            centres.append(best[1])
            placed.append(best[2])
    return centres


def _centre(anchor: Point, size: tuple[float, float], distance: float, step: int) -> Point:
    """The centre of a label whose box begins `distance` from the anchor; directions alternate around the first."""
    turn = (step + 1) // 2 * (1 if step % 2 else -1)
    angle = _FIRST_DIRECTION + turn * 2 * math.pi / _DIRECTIONS
    x, y = anchor
    return (
        x + math.cos(angle) * (distance + size[0] / 2),
        y + math.sin(angle) * (distance + size[1] / 2),
    )
