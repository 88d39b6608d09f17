"""The one exception of this package."""

from __future__ import annotations


class ModelError(Exception):
    """A model, its weights or its cuts cannot be used. The message names the thing and the remedy."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
