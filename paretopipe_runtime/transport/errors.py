"""What can go wrong between two hosts, in words a user can act on."""

from __future__ import annotations


class TransportError(Exception):
    """A connection that could not be made, was refused, or ended too early.

    `kind` is one of `port-busy`, `unreachable`, `handshake`, `peer-lost`, `bad-frame`, `refused`, `aborted`.
    """

    def __init__(self, kind: str, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.remedy = remedy
