"""Random means of operating points, as sure or unsure as their rounds: what a front is drawn from again and again."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from analysis.objectives import numeric

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

DRAWS = 1000
_PASS = ["pipeline", "profile"]
"""Rounds of the same number are the same pass over the cells where these are equal (docs/measurement.md, Rounds)."""
_POINTS_AT_ONCE = 256
# Rounding must not put a draw outside its bounds.
_SLACK = 1 + 1e-9


def resample_means(
    points: pd.DataFrame, frame: pd.DataFrame, columns: Sequence[str], draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Random means [draws, points, columns] of operating points over their valid rounds; see `RoundMeans`.

    It takes 8 bytes x draws x points x columns; `RoundMeans.block` gives parts of it.
    """
    import numpy as np

    return RoundMeans.of(points, frame, columns, draws, seed).block(np.arange(len(points)), 0, draws)


@dataclass(frozen=True)
class RoundMeans:
    """The distribution of the means of operating points.

    A draw of a point's mean is

        mean + sum_r g_r (x_r - mean) / sqrt(n (n - 1)) / sqrt(c / (n - 1))

    with x_r the values of its n valid rounds, g_r normal and c chi-squared with n - 1 degrees of freedom. So each mean
    is distributed as Student's t interval has it, and so is the difference of two: with g_r one number per draw and
    round for all points of a pass, what is slow in a round is slow for all, and the difference of two points has
    the distribution of the paired t-test (Student 1908). c is one quantile per draw and pass. Passes of different
    profiles or pipelines are independent.

    The draws of a point depend on the seed and its rounds only, not on which other points are asked for.
    """

    means: NDArray[np.float64]
    """[points, columns]; NaN without a valid round."""
    counts: NDArray[np.int64]
    """[points, columns]: valid rounds with a finite value."""
    deviations: NDArray[np.float64]
    """[points, columns, rounds]: value minus mean; 0 where there is none."""
    passes: NDArray[np.int64]
    """[points]: index of the pass in `normals` and `quantiles`."""
    normals: NDArray[np.float64]
    """[passes, draws, rounds]."""
    scales: NDArray[np.float64]
    """[passes, draws, n]: 1 / sqrt(n c) for n from 0 to the largest count; NaN for n < 2."""

    @classmethod
    def of(
        cls, points: pd.DataFrame, frame: pd.DataFrame, columns: Sequence[str], draws: int = DRAWS, seed: int = 0
    ) -> RoundMeans:
        """From operating points and the frame of records that they are of; `seed` is 0 or more."""
        import numpy as np
        import pandas as pd

        # Only what is needed of a hundred columns: of all of them a copy would be made, twice.
        needed = list(dict.fromkeys(["cell", "depth", "round", *columns]))
        valid = frame.loc[frame["state"] == "valid", needed]
        owner = _owners(points, valid)
        valid, owner = valid[owner >= 0], owner[owner >= 0]
        numbers, place = np.unique(valid["round"].to_numpy(dtype=np.int64), return_inverse=True)
        values = np.full((len(points), len(columns), len(numbers)), np.nan)
        values[owner, :, place] = numeric(valid, columns)
        known = np.isfinite(values)
        counts = known.sum(axis=2)
        # From the smallest value on, so that equal values have exactly their own mean.
        anchor = np.fmin.reduce(values, axis=2, initial=np.nan)
        above = np.where(known, values - anchor[:, :, None], 0.0).sum(axis=2)
        means = anchor + above / np.maximum(counts, 1)
        deviations = np.where(known, values - means[:, :, None], 0.0)
        names = points[_PASS[0]].map(str) + "\n" + points[_PASS[1]].map(str)
        passes, found = pd.factorize(names)
        normals = np.empty((len(found), draws, len(numbers)))
        scales = np.empty((len(found), draws, int(counts.max(initial=0)) + 1))
        for index, name in enumerate(found):
            stream = [seed, zlib.crc32(str(name).encode())]
            scales[index] = _scales(1.0 - np.random.default_rng([*stream, 0]).random(draws), scales.shape[2])
            for column, number in enumerate(numbers):
                normals[index, :, column] = np.random.default_rng([*stream, 1 + int(number)]).standard_normal(draws)
        return cls(means, counts, deviations, passes.astype(np.int64), normals, scales)

    def block(self, rows: NDArray[np.intp], start: int, stop: int) -> NDArray[np.float64]:
        """Draws `start` to `stop` (exclusive) of the points at the positions `rows`: [draws, rows, columns].

        NaN with fewer than two valid rounds.
        """
        import numpy as np

        result = np.empty((stop - start, len(rows), self.means.shape[1]))
        for at in range(0, len(rows), _POINTS_AT_ONCE):
            part = rows[at : at + _POINTS_AT_ONCE]
            out = result[:, at : at + _POINTS_AT_ONCE]
            for index in np.unique(self.passes[part]):
                here = np.flatnonzero(self.passes[part] == index)
                chosen = part[here]
                total = np.zeros((stop - start, *self.means[chosen].shape))
                # Term by term, not as a matrix product: equal points must have equal draws to the last bit.
                for number in range(self.deviations.shape[2]):
                    terms = self.deviations[chosen, :, number]
                    if terms.any():
                        total += self.normals[index, start:stop, number, None, None] * terms
                scale = self.scales[index, start:stop]
                out[:, here] = self.means[chosen] + total * scale[:, self.counts[chosen]]
        return result

    def bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Two arrays [points, columns] between which all draws of a mean lie; the mean itself with one round.

        From |sum_r g_r d_r| <= |g| |d| (Cauchy and Schwarz), so without drawing.
        """
        import numpy as np

        reach = np.zeros_like(self.means)
        length = np.sqrt((self.deviations**2).sum(axis=2))
        for index in range(len(self.normals)):
            here = self.passes == index
            norms = np.sqrt((self.normals[index] ** 2).sum(axis=1))
            largest = np.nan_to_num(self.scales[index] * norms[:, None]).max(axis=0, initial=0.0)
            reach[here] = largest[self.counts[here]] * length[here] * _SLACK
        return self.means - reach, self.means + reach


def _scales(quantiles: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """1 / sqrt(n c) as [draws, n] for n below `size`, with c the `quantiles` of chi-squared with n - 1 degrees."""
    import numpy as np
    from scipy.special import gammaincinv

    scales = np.full((len(quantiles), size), np.nan)
    for n in range(2, size):
        scales[:, n] = 1 / np.sqrt(n * 2 * gammaincinv((n - 1) / 2, quantiles))
    return scales


def _owners(points: pd.DataFrame, records: pd.DataFrame) -> NDArray[np.int64]:
    """For each record the position of its point, -1 where it has none; an unknown depth is a depth of its own."""
    import numpy as np
    import pandas as pd

    cells = pd.factorize(pd.concat([points["cell"].astype(str), records["cell"].astype(str)]))[0].astype(np.int64)
    depths = numeric(pd.concat([points[["depth"]], records[["depth"]]]), ["depth"])[:, 0]
    whole = np.nan_to_num(depths, nan=-1.0).astype(np.int64) + 1
    keys = cells * (whole.max(initial=0) + 1) + whole
    owners: NDArray[np.int64] = pd.Index(keys[: len(points)]).get_indexer(keys[len(points) :]).astype(np.int64)
    return owners
