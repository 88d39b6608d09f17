"""Dicts to columns, a block at a time: what is held is arrays, never all the dicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Piece = NDArray[np.float64] | NDArray[np.object_] | None

_NUMBERS = {float, int, type(None)}
_TEXTS = {str, type(None)}
_NESTED = {list, dict}
_MEASURED = ("_s", "_pct", "_bytes", "_w", "_j", "_err", "_batches", "_per_batch")


def is_measurement(name: str) -> bool:
    """Whether a column is of numbers by its name, which ends in a unit: then also where it is null everywhere."""
    return name.endswith(_MEASURED)


class NumberError(ValueError):
    """A value that has to be a number and is none."""

    def __init__(self, row: int, key: str, value: object) -> None:
        super().__init__(f"{key!r} is {value!r}, not a number")
        self.row = row
        """Index within the block that was added."""


class Columns:
    """The scalar values of dicts as columns. Keys may come and go from one dict to the next.

    Numbers become floats, but for the keys in `exact`, whose values stay the Python objects they are. With `joined`, a
    list becomes its items joined by `+` (null where there are none); other lists and dicts are left out.
    """

    def __init__(self, *, exact: Sequence[str] = (), joined: bool = False, length: int = 0) -> None:
        self._exact, self._joined = frozenset(exact), joined
        # Rows added before this column was thought of: `length` of them, all null.
        self._lengths = [length]
        self._pieces: dict[str, list[Piece]] = {}
        self._nested: set[str] = set()
        """Keys that had a value that is left out: no columns, unless they have others too."""
        self._texts: dict[str | None, str | None] = {}
        self._getter: Callable[[Mapping[str, Any]], tuple[Any, ...]] | None = None
        self._blank: Mapping[str, Any] = {}

    def __len__(self) -> int:
        return sum(self._lengths)

    def add(self, rows: Sequence[Mapping[str, Any] | None]) -> None:
        """Append a block of rows, None for one of nulls. Raises NumberError."""
        columns = self._values([self._blank if row is None else row for row in rows])
        for (key, pieces), values in zip(self._pieces.items(), columns, strict=True):
            pieces.append(self._piece(key, values))
        self._lengths.append(len(rows))

    def extend(self, other: Columns) -> None:
        """Append the rows of columns of the same kind: afterwards as if they had been added here."""
        for key in other._pieces:
            self._pieces.setdefault(key, [None] * len(self._lengths))
        missing: list[Piece] = [None] * len(other._lengths)
        for key, pieces in self._pieces.items():
            pieces += other._pieces.get(key, missing)
        self._lengths += other._lengths
        self._nested |= other._nested
        self._getter, self._blank = None, dict.fromkeys(self._pieces)

    def __getstate__(self) -> dict[str, Any]:
        """To hand to another process: many small arrays take a multiple of the time of a few large ones."""
        keys = {key: _joined(pieces) for key, pieces in self._pieces.items()}
        return self.__dict__ | {"_pieces": keys, "_texts": {}, "_getter": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pieces = {key: _parted(pieces, self._lengths) for key, pieces in state["_pieces"].items()}

    def _values(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Sequence[Any]]:
        """One sequence per known key, in order; new keys become known."""
        if self._getter and all(map(len(self._pieces).__eq__, map(len, rows))):
            try:
                return list(zip(*map(self._getter, rows), strict=True))
            except KeyError:
                pass
        for row in rows:
            if not self._pieces.keys() >= row.keys():
                for key in row:
                    self._pieces.setdefault(key, [None] * len(self._lengths))
        keys = list(self._pieces)
        # With one key itemgetter would give no tuples.
        self._getter = itemgetter(*keys) if len(keys) > 1 else None
        self._blank = dict.fromkeys(keys)
        return [[row.get(key) for row in rows] for key in keys]

    def _piece(self, key: str, values: Sequence[Any]) -> Piece:
        import numpy as np

        kinds = set(map(type, values))
        if kinds & _NESTED:
            if dict in kinds or not self._joined:
                self._nested.add(key)
            if not self._joined and kinds <= _NESTED | {type(None)}:
                return None
            values = [self._flat(value) for value in values]
            kinds = set(map(type, values))
        if kinds == {type(None)}:
            return None
        if is_measurement(key) and not kinds <= _NUMBERS:
            row = next(row for row, value in enumerate(values) if type(value) not in _NUMBERS)
            raise NumberError(row, key, values[row])
        if kinds <= _NUMBERS and key not in self._exact:
            try:
                return np.array(values, dtype=np.float64)
            except OverflowError:
                row = max(range(len(values)), key=lambda row: abs(values[row] or 0))
                raise NumberError(row, key, "a whole number beyond all floats") from None
        piece = np.empty(len(values), dtype=object)
        # The same text again is the same object again.
        piece[:] = list(map(self._texts.setdefault, values, values)) if kinds <= _TEXTS else values
        return piece

    def _flat(self, value: object) -> object:
        if isinstance(value, list) and self._joined:
            return "+".join(map(str, value)) or None
        return None if isinstance(value, list | dict) else value

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Key -> its column: float64 with NaN where all values are numbers, else objects with None.

        A column that is null everywhere is of floats if `is_measurement`.
        """
        found = {}
        for key, pieces in self._pieces.items():
            if key in self._nested and all(piece is None for piece in pieces):
                continue
            found[key] = self._column(key, pieces)
        return found

    def _column(self, key: str, pieces: Sequence[Piece]) -> NDArray[Any]:
        import numpy as np

        kinds = {piece.dtype.kind for piece in pieces if piece is not None}
        as_floats = kinds == {"f"} or (not kinds and is_measurement(key))
        column: NDArray[Any] = np.full(len(self), np.nan if as_floats else None)
        start = 0
        for piece, length in zip(pieces, self._lengths, strict=True):
            if piece is not None:
                column[start : start + length] = piece
            start += length
        return column


def _joined(pieces: Sequence[Piece]) -> tuple[list[bool], list[NDArray[Any]]]:
    """Which pieces there are, and these: as one array where they are of one kind."""
    import numpy as np

    there: list[NDArray[Any]] = [piece for piece in pieces if piece is not None]
    if len({piece.dtype for piece in there}) == 1:
        there = [np.concatenate(there)]
    return [piece is not None for piece in pieces], there


def _parted(joined: tuple[list[bool], list[NDArray[Any]]], lengths: Sequence[int]) -> list[Piece]:
    """What `_joined` was made of."""
    import numpy as np

    found, arrays = joined
    if len(arrays) == 1:
        sizes = [length for is_there, length in zip(found, lengths, strict=True) if is_there]
        arrays = np.split(arrays[0], np.cumsum(sizes)[:-1])
    pieces = iter(arrays)
    return [next(pieces) if is_there else None for is_there in found]
