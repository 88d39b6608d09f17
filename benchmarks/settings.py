"""How much is measured: `--quick` only shows that a benchmark runs, and its figures are marked so."""

from __future__ import annotations

import os
from typing import TypeVar

_VARIABLE = "PARETOPIPE_BENCH_QUICK"
T = TypeVar("T")


class CannotRunError(Exception):
    """A benchmark that cannot run here: why, and what to do."""


def set_quick() -> None:
    """For this process and those that it starts."""
    os.environ[_VARIABLE] = "1"


def is_quick() -> bool:
    """Whether figures are for nothing but a smoke test."""
    return os.environ.get(_VARIABLE) == "1"


def effort(full: T, quick: T) -> T:
    """One of two amounts of work."""
    return quick if is_quick() else full
