"""Errors that a user can meet: one or two lines, no traceback."""

from __future__ import annotations


class UserError(Exception):
    """Wrong usage or input. The message names the thing, what is wrong, and the remedy."""

    exit_code = 2


class SpecError(UserError):
    """A spec that cannot be run as written."""


class SelectionError(SpecError):
    """A split selector that names no cut of the model."""


class InventoryError(UserError):
    """An inventory that cannot be used."""


class ProfileError(UserError):
    """A network profile that is unknown or wrongly written."""


class StoreError(UserError):
    """A results directory that cannot be used as asked."""


class WriteError(StoreError):
    """A result could not be written (a full disk, say); what was finished before is saved."""

    exit_code = 1
