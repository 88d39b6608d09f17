"""How far a run is: a live line in a terminal, plain lines elsewhere. All of it on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol, TextIO

PLAIN_EVERY_S = 5.0
REFRESH_PER_S = 2.0


class Eta:
    """Remaining seconds: what was expected of the rest, scaled by observed / expected of what is done. Pure.

    `kind_of` sorts items: where one of a kind is done, the rest of that kind is scaled by its kind alone. What takes
    long to set up (an engine that compiles) is known from its own finished items, not guessed.
    """

    def __init__(self, expected_s: Mapping[Any, float], kind_of: Callable[[Any], str] = lambda _key: "") -> None:
        self._remaining = dict(expected_s)
        self._kind_of = kind_of
        self._done_s: dict[str, tuple[float, float]] = {}
        """Kind -> seconds observed and expected of what is done."""
        self.total = len(self._remaining)

    @property
    def done(self) -> int:
        """Items finished."""
        return self.total - len(self._remaining)

    def finish(self, key: Any, observed_s: float) -> None:
        """An item took `observed_s`; 0 for one that was skipped."""
        expected = self._remaining.pop(key)
        if observed_s > 0:
            kind = self._kind_of(key)
            observed, before = self._done_s.get(kind, (0.0, 0.0))
            self._done_s[kind] = (observed + observed_s, before + expected)

    def remaining_s(self) -> float:
        """Seconds still to go."""
        every = (sum(s for s, _ in self._done_s.values()), sum(s for _, s in self._done_s.values()))
        scales = {kind: _ratio(*done) for kind, done in self._done_s.items()}
        otherwise = _ratio(*every)
        left_s = 0.0
        for key, expected in self._remaining.items():
            left_s += expected * scales.get(self._kind_of(key), otherwise)
        return left_s


def _ratio(observed_s: float, expected_s: float) -> float:
    return observed_s / expected_s if expected_s > 0 else 1.0


class Display(Protocol):
    """What the runner tells about."""

    def start(self, text: str) -> None:
        """A cell begins."""

    def finish(self, key: Any, text: str, observed_s: float) -> None:
        """A cell of a round is done."""

    def note(self, text: str) -> None:
        """Something to keep on the screen: a failure, a round whose network was off."""


def duration(seconds: float) -> str:
    """`45 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class PlainDisplay:
    """A line every few seconds, and every note."""

    def __init__(self, eta: Eta, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._eta = eta
        self._stream = stream
        self._clock = clock
        self._begin = clock()
        self._last: float | None = None

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def start(self, text: str) -> None:
        """Nothing: the line comes when the cell is done."""

    def finish(self, key: Any, text: str, observed_s: float) -> None:
        """One line, at most every PLAIN_EVERY_S, and always for the last one."""
        self._eta.finish(key, observed_s)
        now = self._clock()
        last_one = self._eta.done == self._eta.total
        if self._last is not None and now - self._last < PLAIN_EVERY_S and not last_one:
            return
        self._last = now
        self.note(
            f"[{self._eta.done}/{self._eta.total}] {text}  "
            f"elapsed {duration(now - self._begin)}, about {duration(self._eta.remaining_s())} left"
        )

    def note(self, text: str) -> None:
        """One line."""
        self._stream.write(text + "\n")
        self._stream.flush()


class LiveDisplay:
    """One line that is redrawn at most twice a second, so as not to disturb what is measured."""

    def __init__(self, eta: Eta) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
        from rich.table import Column

        def fixed() -> Column:
            return Column(no_wrap=True)

        self._eta = eta
        self._progress = Progress(
            BarColumn(bar_width=10, table_column=fixed()),
            MofNCompleteColumn(table_column=fixed()),
            TimeElapsedColumn(table_column=fixed()),
            TextColumn("about {task.fields[left]} left", table_column=fixed()),
            # Only the cell's id gives way in a narrow terminal.
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            expand=True,
            console=Console(stderr=True),
            refresh_per_second=REFRESH_PER_S,
        )
        self._task = self._progress.add_task("", total=eta.total, left=duration(eta.remaining_s()))

    def __enter__(self) -> LiveDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, text: str) -> None:
        """Show which cell is being measured."""
        self._progress.update(self._task, description=text)

    def finish(self, key: Any, text: str, observed_s: float) -> None:
        """Move the bar."""
        self._eta.finish(key, observed_s)
        self._progress.update(self._task, advance=1, left=duration(self._eta.remaining_s()))

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.print(text, markup=False, highlight=False)


def display(expected_s: Mapping[Any, float], kind_of: Callable[[Any], str]) -> PlainDisplay | LiveDisplay:
    """The display that suits standard error; `kind_of` as for `Eta`."""
    eta = Eta(expected_s, kind_of)
    return LiveDisplay(eta) if sys.stderr.isatty() else PlainDisplay(eta, sys.stderr)
