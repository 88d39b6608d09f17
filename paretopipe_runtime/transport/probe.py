"""Measuring the data path: round trip on the prober's clock, bandwidth on the receiver's.

Both go through the same sockets and the same link model as activations do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from paretopipe_runtime.transport.errors import TransportError
from paretopipe_runtime.transport.frame import Kind

PINGS = 5
_BULK_S = 1.2
_BULK_UNSHAPED_S = 0.2
FRAME_BYTES = 1024 * 1024
_SMALL_FRAME_BYTES = 8 * 1024
# The start of a stream is TCP's slow start: bandwidth is the slope after this part of the bytes.
_SKIPPED_PART = 0.25


@dataclass(frozen=True)
class Received:
    """Bandwidth as the receiver saw it, in bit/s over `nbytes`."""

    bandwidth_bit_s: float
    nbytes: int


def slope(arrivals: list[tuple[float, int]]) -> Received:
    """Bandwidth from (monotonic time, bytes so far) after each frame, without the first quarter of the bytes.

    Raises TransportError if there is too little to measure.
    """
    if len(arrivals) < 4 or arrivals[-1][0] <= arrivals[0][0]:
        raise TransportError("peer-lost", "the bandwidth probe ended before there was anything to measure")
    total = arrivals[-1][1]
    start = next(k for k, (_, done) in enumerate(arrivals) if done >= _SKIPPED_PART * total)
    start = min(start, len(arrivals) - 2)
    (start_s, start_bytes), (end_s, end_bytes) = arrivals[start], arrivals[-1]
    return Received((end_bytes - start_bytes) * 8 / (end_s - start_s), end_bytes - start_bytes)


def serve(receiver: SocketReceiver, sender: SocketSender) -> Received:
    """Answer pings and count bulk until the prober ends the stream."""
    arrivals: list[tuple[float, int]] = []
    done = 0
    while True:
        header = receiver.recv_control()
        if header.kind is Kind.PING:
            sender.send_control(Kind.PING, header.batch_id)
        elif header.kind is Kind.BULK:
            done += header.payload_bytes
            arrivals.append((time.monotonic(), done))
        elif header.kind is Kind.END:
            received = slope(arrivals)
            sender.end()
            return received


def probe(receiver: SocketReceiver, sender: SocketSender, rate_bit_s: float | None) -> list[float]:
    """Round trips in seconds, then a stream long enough for the far end to measure the bandwidth.

    `rate_bit_s` is the declared rate, which only sets how much is sent.
    """
    round_trips_s = []
    for index in range(PINGS + 1):
        start_s = time.monotonic()
        sender.send_control(Kind.PING, index)
        receiver.recv_control()
        round_trips_s.append(time.monotonic() - start_s)
    if rate_bit_s is None:
        _stream_for(sender, _BULK_UNSHAPED_S)
    else:
        frame_bytes = int(min(FRAME_BYTES, max(_SMALL_FRAME_BYTES, rate_bit_s / 8 * _BULK_S / 50)))
        frames = max(8, round(rate_bit_s / 8 * _BULK_S / frame_bytes))
        payload = bytes(frame_bytes)
        for _ in range(frames):
            sender.send_control(Kind.BULK, payload=payload)
    sender.end()
    receiver.recv_control()  # the far end has everything
    return round_trips_s[1:]  # the first one also woke the peer's threads


def _stream_for(sender: SocketSender, duration_s: float) -> None:
    payload = bytes(FRAME_BYTES)
    end_s = time.monotonic() + duration_s
    frames = 0
    while time.monotonic() < end_s or frames < 8:
        sender.send_control(Kind.BULK, payload=payload)
        frames += 1
