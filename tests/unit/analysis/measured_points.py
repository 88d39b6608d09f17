"""Operating points and their records straight from numbers, for tests of fronts."""

import numpy as np
import pandas as pd

COLUMNS = ["a", "b", "c", "d"]


def measured(values, pipelines=None, profiles=None, models=None):
    """Points and records of `values` [points, rounds, objectives]; a round with a NaN is one that failed."""
    values = np.asarray(values, dtype=float)
    n_points, n_rounds, n_columns = values.shape
    columns = COLUMNS[:n_columns]
    points = pd.DataFrame(
        {
            "cell": [f"cell-{i}" for i in range(n_points)],
            "model": models or ["net"] * n_points,
            "pipeline": pipelines or ["pi-to-pi"] * n_points,
            "profile": profiles or ["lan"] * n_points,
            "depth": [1] * n_points,
            "note": [""] * n_points,
        }
    )
    whole = np.isfinite(values).all(axis=2)
    frame = points.loc[np.repeat(np.arange(n_points), n_rounds), ["cell", "depth"]].reset_index(drop=True)
    frame["round"] = np.tile(np.arange(n_rounds), n_points)
    frame["state"] = np.where(whole.reshape(-1), "valid", "failed")
    for place, column in enumerate(columns):
        frame[column] = values[:, :, place].reshape(-1)
        points[column] = [
            float(np.mean(values[i, whole[i], place])) if whole[i].any() else np.nan for i in range(n_points)
        ]
    return points, frame


def dominates(one, other, maximise):
    """By definition: at least as good everywhere, better somewhere."""
    signed = [(-x, -y) if up else (x, y) for x, y, up in zip(one, other, maximise, strict=True)]
    return all(x <= y for x, y in signed) and any(x < y for x, y in signed)


def front_by_definition(rows, maximise):
    """One bool per row; a row that is not finite is on no front and evicts nobody."""
    finite = [np.isfinite(row).all() for row in rows]
    return [
        bool(ok) and not any(dominates(other, row, maximise) for other, fine in zip(rows, finite, strict=True) if fine)
        for row, ok in zip(rows, finite, strict=True)
    ]
