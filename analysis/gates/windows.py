"""The samples of a run, sorted into the windows of its records, with sums and ends of all windows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.gates.rules.columns import numbers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

_KEY = ("cell", "round", "depth")


class Windows:
    """The windows of the records in a table, one value per record in all that it gives; NaN without samples.

    Rows of samples that are not `counted` opened a window; older runs stored none of them, and no completion times.
    Within a window batches are in the order in which they came back.
    """

    def __init__(self, samples: pd.DataFrame, frame: pd.DataFrame) -> None:
        import numpy as np

        self._records = len(frame)
        rows, self.strangers = _rows(samples, frame)
        counted = _counted(samples)
        self.has_openings = "counted" in samples.columns and "done_s" in samples.columns
        """Whether the samples have the row that opened each window."""
        order = np.lexsort((numbers(samples, "batch_id"), numbers(samples, "done_s"), rows))
        order = order[rows[order] >= 0]
        self._samples = samples
        self._within = order[counted[order]]
        self._owner = rows[self._within]
        """The record of each counted row."""
        self._filled, self._starts, sizes = _groups(self._owner)
        self._sizes = sizes
        self.batches = self._spread(sizes.astype(float), 0.0)
        """Counted rows per record."""
        openings = order[~counted[order]]
        first, starts, opened = _groups(rows[openings])
        self._opened_records, self._opening_rows = first, openings[starts]
        self.opened = np.zeros(self._records)
        """Rows per record that opened its window."""
        self.opened[first] = opened
        self.rows = self.batches + self.opened
        self.repeated = self._repeated()
        """Counted rows per record whose batch has another row there."""

    def has(self, column: str) -> bool:
        """Whether the samples have a column."""
        return column in self._samples.columns

    def mean(self, column: str) -> Floats | None:
        """Mean over each window; NaN where a row has none, None where no samples have the column."""
        import numpy as np

        values = self._counted_values(column)
        if values is None:
            return None
        return self._spread(np.add.reduceat(values, self._starts) / self._sizes) if len(values) else self._nothing()

    def maximum(self, column: str) -> Floats | None:
        """Largest known value of each window."""
        import numpy as np

        values = self._counted_values(column)
        if values is None:
            return None
        return self._spread(np.fmax.reduceat(values, self._starts)) if len(values) else self._nothing()

    def last(self, column: str) -> Floats | None:
        """Value of each window's last row."""
        values = self._counted_values(column)
        return None if values is None else self._spread(values[self._starts + self._sizes - 1])

    def opening(self, column: str) -> Floats | None:
        """Value of the row that opened each window; None also where the samples have no such rows."""
        if not self.has_openings or not self.has(column):
            return None
        out = self._nothing()
        out[self._opened_records] = self._column(column)[self._opening_rows]
        return out

    def quantile(self, column: str, part: int, of: int) -> Floats:
        """The `part`-th of the `of` - 1 quantiles of each window, between neighbours as the n + 1 basis has it.

        That is definition 6 of Hyndman and Fan, "Sample quantiles in statistical packages", The American Statistician
        50(4), 1996; NaN below two batches.
        """
        import numpy as np

        values = self._counted_values(column)
        if values is None or not len(values):
            return self._nothing()
        ascending = values[np.lexsort((values, self._owner))]
        n = self._sizes
        with np.errstate(invalid="ignore"):
            below = np.clip(part * (n + 1) // of, 1, np.maximum(n - 1, 1))
            weight = (part * (n + 1) - below * of) / of
        low = ascending[self._starts + below - 1]
        high = ascending[self._starts + np.minimum(below, n - 1)]
        return self._spread(np.where(n >= 2, low + (high - low) * weight, np.nan))

    def half_logs(self, column: str) -> Floats:
        """Logarithm of the mean over a window's second half over that of its first; the middle batch is in neither.

        NaN below four batches and where a mean is not above 0.
        """
        import numpy as np

        values = self._counted_values(column)
        if values is None or not len(values):
            return self._nothing()
        half = self._sizes // 2
        sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
        bad = np.concatenate([[0], np.cumsum(np.isnan(values))])
        ends = self._starts + self._sizes
        first = sums[self._starts + half] - sums[self._starts]
        second = sums[ends] - sums[ends - half]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(second / first)
        whole = (self._sizes >= 4) & (bad[ends] == bad[self._starts]) & np.isfinite(logs)
        return self._spread(np.where(whole, logs, np.nan))

    def _repeated(self) -> Floats:
        import numpy as np

        if not self.has("batch_id"):
            return np.zeros(self._records)
        ids = self._column("batch_id")[self._within]
        order = np.lexsort((ids, self._owner))
        same = (np.diff(ids[order]) == 0) & (np.diff(self._owner[order]) == 0)
        return np.bincount(self._owner[order][1:][same], minlength=self._records).astype(float)

    def _counted_values(self, column: str) -> Floats | None:
        return self._column(column)[self._within] if self.has(column) else None

    def _column(self, column: str) -> Floats:
        return numbers(self._samples, column)

    def _nothing(self) -> Floats:
        import numpy as np

        return np.full(self._records, np.nan)

    def _spread(self, values: Floats, missing: float = float("nan")) -> Floats:
        """From one value per window that has rows to one per record."""
        import numpy as np

        out = np.full(self._records, missing)
        out[self._filled] = values
        return out


def _rows(samples: pd.DataFrame, frame: pd.DataFrame) -> tuple[Ints, list[tuple[str, float, float]]]:
    """For each sample the row of its record, -1 without one; and the windows that have no record."""
    import numpy as np
    import pandas as pd

    ours = pd.DataFrame({"cell": frame["cell"].astype(str), **{c: numbers(frame, c) for c in _KEY[1:]}})
    ours["row"] = np.arange(len(frame))
    ours = ours.dropna()
    theirs = pd.DataFrame({"cell": samples["cell"].astype(str), **{c: numbers(samples, c) for c in _KEY[1:]}})
    # A window's rows follow each other, so few runs of equal keys stand for all rows.
    changed = (theirs != theirs.shift()).any(axis=1).to_numpy()
    runs = theirs[changed].merge(ours, on=list(_KEY), how="left")
    lone = runs[runs["row"].isna()].drop_duplicates(subset=list(_KEY))
    strangers = list(zip(lone["cell"], lone["round"], lone["depth"], strict=True))
    row_of_run = runs["row"].fillna(-1).to_numpy(dtype=np.int64)
    return row_of_run[np.cumsum(changed) - 1], strangers


def _counted(samples: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows that are in a window: all but those that say they are not."""
    import numpy as np

    if "counted" not in samples.columns:
        return np.ones(len(samples), dtype=np.bool_)
    counted: NDArray[np.bool_] = numbers(samples, "counted") != 0
    return counted


def _groups(owners: Ints) -> tuple[Ints, Ints, Ints]:
    """Of ascending `owners`: each once, where its rows start, and how many they are."""
    import numpy as np

    found: tuple[Ints, Ints, Ints] = np.unique(owners, return_index=True, return_counts=True)
    return found
