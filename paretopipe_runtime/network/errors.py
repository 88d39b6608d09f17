"""What can go wrong while a network is shaped."""

from __future__ import annotations


class NetworkError(Exception):
    """Shaping or restoring failed; the message names the thing and the remedy."""


class LeaseError(NetworkError):
    """The shaping that somebody relied on is gone or is not theirs."""
