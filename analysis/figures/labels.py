"""Where the labels of a scatter plot go so that they can be read. Pure geometry, in points (1/72 inch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    import numpy as np

    placed: list[Box] = []
    centres: list[Point | None] = []
    solids, lines, dots = _sides(marks), _sides(strokes), _sides(faint)
    for anchor, size in zip(anchors, sizes, strict=True):
        reach = _sides([Box.around(anchor, 2 * (_DISTANCES[-1] + size[0]), 2 * (_DISTANCES[-1] + size[1]))])
        tried = [(distance, step) for distance in _DISTANCES for step in range(_DIRECTIONS)]
        places = [_centre(anchor, size, distance, step) for distance, step in tried]
        boxes = [Box.around(centre, *size) for centre in places]
        sides = _sides(boxes)
        solid = np.concatenate([_touched(solids, reach), _sides(placed)])
        inside = np.array([bounds.holds(box) for box in boxes])
        free = np.flatnonzero(inside & (_overlaps(sides, solid).max(axis=1, initial=0.0) == 0))
        if not free.size:
            centres.append(None)
            continue
        crossed = (_overlaps(sides[free], _touched(lines, reach)) > 0).sum(axis=1)
        covered = _overlaps(sides[free], _touched(dots, reach)).sum(axis=1)
        distances = np.array([distance for distance, _ in tried])[free]
        cost = distances + _PER_STROKE * crossed + np.minimum(_FAINT_MOST, _PER_FAINT_AREA * covered)
        best = int(free[cost.argmin()])
        centres.append(places[best])
        placed.append(boxes[best])
    return centres


def leader_end(anchor: Point, centre: Point, size: tuple[float, float]) -> Point:
    """Where a line from `anchor` to the label with this centre and (width, height) meets the label's box.

    The centre where the anchor is inside the box.
    """
    dx, dy = anchor[0] - centre[0], anchor[1] - centre[1]
    outside = max(abs(dx) / (size[0] / 2), abs(dy) / (size[1] / 2))
    return (centre[0] + dx / outside, centre[1] + dy / outside) if outside > 1 else centre


def _sides(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """[boxes, (left, bottom, right, top)]."""
    import numpy as np

    return np.array([(box.left, box.bottom, box.right, box.top) for box in boxes], dtype=float).reshape(-1, 4)


def _overlaps(ones: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shared areas [ones, others] of boxes as `_sides` has them; 0 where they only touch."""
    import numpy as np

    a, b = ones[:, None, :], others[None, :, :]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    areas: NDArray[np.float64] = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    return areas


def _touched(boxes: NDArray[np.float64], reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """Those of `boxes` that share area with the one box of `reach`."""
    return boxes[_overlaps(boxes, reach)[:, 0] > 0]


def _centre(anchor: Point, size: tuple[float, float], distance: float, step: int) -> Point:
    """The centre of a label whose box begins `distance` from the anchor; directions alternate around the first."""
    turn = (step + 1) // 2 * (1 if step % 2 else -1)
    angle = _FIRST_DIRECTION + turn * 2 * math.pi / _DIRECTIONS
    x, y = anchor
    return (
        x + math.cos(angle) * (distance + size[0] / 2),
        y + math.sin(angle) * (distance + size[1] / 2),
    )
