"""Control messages: one JSON object per line, between controller and agent, and between agent and worker.

A request is `{"id": n, "op": name, "params": {...}}`. Its answer is `{"id": n, "result": {...}}` or
`{"id": n, "error": {"kind", "message", "remedy"}}`. Events have no id: `{"event": name, ...}`. Nothing binary
and no activation ever travels here.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import IO, Any

JsonObject = dict[str, Any]
MAX_LINE_BYTES = 64 * 1024 * 1024


class ProtocolError(Exception):
    """A line that is not a message."""


class MessageWriter:
    """Writes whole lines; any thread may call it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, message: JsonObject) -> None:
        """Send one message. Raises OSError if the other side is gone."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()


def read_messages(stream: IO[bytes]) -> Iterator[JsonObject]:
    """Messages until the stream ends.

    Raises ProtocolError for a line that is too long or not a JSON object.
    """
    while True:
        line = stream.readline(MAX_LINE_BYTES)
        if not line:
            return
        if not line.endswith(b"\n"):
            raise ProtocolError("a control message was cut off")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ProtocolError(f"not a control message: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise ProtocolError(f"not a control message: {line[:80]!r}")
        yield message


def error_object(kind: str, message: str, remedy: str | None = None) -> JsonObject:
    """The `error` of an answer."""
    return {"kind": kind, "message": message, "remedy": remedy}
