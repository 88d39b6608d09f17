"""Giving memory back, so that a cell is not charged for the one before it, and knowing what stays."""

from __future__ import annotations

import gc

from paretopipe_runtime.allocator import pages


def trim() -> None:
    """Free what is only held by cycles (fx modules are), and give freed memory back to the system."""
    gc.collect()
    pages.trim()


def keep() -> None:
    """Leave all that is there now out of later collections, which then take milliseconds: imports and models stay."""
    gc.collect()
    gc.freeze()
