"""One hop between two pinned processes: our channel against a bare sendall / recv_into loop of the same bytes.

Over loopback, so it runs without root; `transports` has more carriers, on two network namespaces.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from benchmarks.carriers import TIMES
from benchmarks.intervals import median_interval
from benchmarks.report import Ratio, Table, interval_text
from benchmarks.settings import effort
from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from paretopipe_runtime.transport.endpoint import connect, listen, tune

SIZES = {"32 kB": 32_000, "0.5 MB": 500_000, "2.4 MB": 2_400_000, "12.8 MB": 12_800_000}
WARMUP_HOPS = 2


def _repeats(nbytes: int) -> int:
    return max(4, min(60, 20_000_000 // nbytes))


def _blocks() -> Iterator[list[tuple[str, str]]]:
    """Rounds of blocks: every size by both, in random order; the same at both ends."""
    order = random.Random(0)
    for _ in range(effort(100, 10)):
        blocks = [(size, by) for size in SIZES for by in ("bare", "channel")]
        order.shuffle(blocks)
        yield blocks


def _far_end(port: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    bare, ours = connect("127.0.0.1", port, 5), connect("127.0.0.1", port, 5)
    receiver = SocketReceiver(ours, max(SIZES.values()))
    buffer = memoryview(bytearray(max(SIZES.values())))
    for blocks in _blocks():
        for size, by in blocks:
            for _ in range(WARMUP_HOPS + _repeats(SIZES[size])):
                if by == "bare":
                    _bare_recv(bare, buffer[: SIZES[size]])
                    bare.sendall(b"a")
                else:
                    batch = receiver.recv()
                    assert batch is not None
                    ours.sendall(b"a")
                    batch.release()


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """A block's figure is its median; a ratio pairs the two blocks of a round, and its interval is over rounds."""
    listener = listen("127.0.0.1")
    process = multiprocessing.get_context("spawn").Process(
        target=_far_end, args=(listener.getsockname()[1],), daemon=True
    )
    process.start()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    bare, ours = (listener.accept()[0] for _ in range(2))
    tune(bare)
    tune(ours)
    sender = SocketSender(ours)
    tensors = {size: torch.empty(nbytes, dtype=torch.uint8).fill_(7) for size, nbytes in SIZES.items()}
    raw: dict[str, dict[str, list[float]]] = {size: {"bare": [], "channel": []} for size in SIZES}
    for blocks in _blocks():
        for size, by in blocks:
            tensor = tensors[size]
            seconds = [
                _bare(bare, tensor.numpy().data) if by == "bare" else _ours(ours, sender, tensor)
                for _ in range(WARMUP_HOPS + _repeats(SIZES[size]))
            ]
            raw[size][by].append(median(seconds[WARMUP_HOPS:]))
    process.join(10)
    listener.close()
    return [_claim(size, **raw[size]) for size in SIZES], raw, [_table(raw)]


def _claim(size: str, bare: list[float], channel: list[float]) -> Ratio:
    if SIZES[size] < 100_000:
        above = median_interval([(ours_s - bare_s) * 1e3 for bare_s, ours_s in zip(bare, channel, strict=True)])
        detail = f"[{above.low:.4f}, {above.high:.4f}], {above.n} blocks"
        return Ratio(f"hop of {size} above a bare loop", above.value, 0.15, False, " ms", detail)
    ratio = median_interval([ours_s / bare_s for bare_s, ours_s in zip(bare, channel, strict=True)])
    detail = f"[{ratio.low:.3f}, {ratio.high:.3f}], {ratio.n} blocks"
    return Ratio(f"hop of {size} / bare loop", ratio.value, 1.15, False, "", detail)


def _table(raw: dict[str, dict[str, list[float]]]) -> Table:
    rows = [[by, *(interval_text(median_interval(raw[size][by]), 1e3) for size in SIZES)] for by in ("bare", "channel")]
    return Table("One hop over loopback in ms: median over blocks [95 % interval]", ["by", *SIZES], rows)


def _bare_recv(sock: socket.socket, view: memoryview) -> None:
    done = 0
    while done < len(view):
        done += sock.recv_into(view[done:])


def _bare(sock: socket.socket, payload: memoryview) -> float:
    start_s = time.perf_counter()
    sock.sendall(payload)
    sock.recv(1)
    return time.perf_counter() - start_s


def _ours(sock: socket.socket, sender: SocketSender, tensor: torch.Tensor) -> float:
    start_s = time.perf_counter()
    sender.send(0, sender.serialize(tensor), TIMES, lambda: None)
    sock.recv(1)
    return time.perf_counter() - start_s
