"""One hop between two pinned processes: our channel against a bare sendall / recv_into loop of the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from statistics import median
from typing import Any

import torch

from benchmarks.report import Ratio
from paretopipe_runtime.transport.channel import SocketReceiver, SocketSender
from paretopipe_runtime.transport.endpoint import connect, listen, tune
from paretopipe_runtime.transport.frame import StageTimes

SIZES = {"32 kB": 32_000, "0.5 MB": 500_000, "2.4 MB": 2_400_000, "12.8 MB": 12_800_000}
BLOCKS = 40
TIMES = (StageTimes(*(0.0 for _ in StageTimes._fields)),)


def _repeats(nbytes: int) -> int:
    return max(4, min(60, 20_000_000 // nbytes))


def _far_end(port: int) -> None:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    bare, ours = connect("127.0.0.1", port, 5), connect("127.0.0.1", port, 5)
    receiver = SocketReceiver(ours, max(SIZES.values()))
    buffer = memoryview(bytearray(max(SIZES.values())))
    for nbytes in SIZES.values():
        for _ in range(BLOCKS):
            for _ in range(_repeats(nbytes)):
                _bare_recv(bare, buffer[:nbytes])
                bare.sendall(b"a")
            for _ in range(_repeats(nbytes)):
                batch = receiver.recv()
                assert batch is not None
                ours.sendall(b"a")
                batch.release()


def run() -> tuple[list[Ratio], Any]:
    """Blocks of bare and channel hops in turn; the median over all hops of a size."""
    listener = listen("127.0.0.1")
    process = multiprocessing.get_context("spawn").Process(target=_far_end, args=(listener.getsockname()[1],))
    process.start()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    bare, ours = (listener.accept()[0] for _ in range(2))
    tune(bare)
    tune(ours)
    sender = SocketSender(ours)
    ratios, raw = [], {}
    for name, nbytes in SIZES.items():
        tensor = torch.empty(nbytes, dtype=torch.uint8).fill_(7)
        payload = tensor.numpy().data
        bare_s, ours_s = [], []
        for _ in range(BLOCKS):
            bare_s += [_bare(bare, payload) for _ in range(_repeats(nbytes))]
            ours_s += [_ours(ours, sender, tensor) for _ in range(_repeats(nbytes))]
        raw[name] = {"bare_s": median(bare_s), "channel_s": median(ours_s), "hops": len(ours_s)}
        detail = f"{median(ours_s) * 1e3:.3f} ms against {median(bare_s) * 1e3:.3f} ms bare"
        if nbytes < 100_000:
            ratios.append(
                Ratio(
                    f"hop of {name} above a bare loop",
                    (median(ours_s) - median(bare_s)) * 1e3,
                    0.15,
                    False,
                    " ms",
                    detail,
                )
            )
        else:
            ratios.append(Ratio(f"hop of {name} / bare loop", median(ours_s) / median(bare_s), 1.15, False, "", detail))
    process.join(10)
    listener.close()
    return ratios, raw


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
