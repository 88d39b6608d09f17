"""One hop by every carrier, between two network namespaces with one pinned core each.

`python -m benchmarks.transports near|far OWN PEER CORE` is one of the two sides: it imports torch once and has a child
per carrier, so that no carrier's threads are in another's process. Only one carrier is busy at a time.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.intervals import Middle, median_interval
from benchmarks.namespaces import interface_bytes, two_namespaces
from benchmarks.report import Ratio, Table, interval_text
from benchmarks.settings import effort

if TYPE_CHECKING:
    from benchmarks.carriers import Carrier

SIZES = {"32 kB": 32_000, "0.5 MB": 500_000, "2.4 MB": 2_400_000, "12.8 MB": 12_800_000}
WARMUP_HOPS = 2
RATIO_AT = "32 kB"
_COMMAND = struct.Struct("<QI")
_FIRST_PORT = 5000


def run() -> tuple[list[Ratio], Any, list[Table]]:
    """Blocks of hops in random order; a block's figure is its median, the intervals are over blocks."""
    from paretopipe_runtime.allocator.choice import environment as allocator

    cores = os.sched_getaffinity(0)
    environment = {**os.environ, **allocator(os.environ), "OMP_NUM_THREADS": "1"}
    # The libraries' warnings go to a file, and are shown only where something failed.
    with two_namespaces() as (near, far), tempfile.TemporaryFile("w+") as errors:
        processes = []
        try:
            for role, own, peer, core in (("far", far, near, max(cores)), ("near", near, far, min(cores))):
                words = (sys.executable, "-m", "benchmarks.transports", role, own.address, peer.address, str(core))
                pipe = subprocess.PIPE if role == "near" else None
                processes.append(subprocess.Popen(own.command(*words), stdout=pipe, stderr=errors, env=environment))
            output, _ = processes[-1].communicate(timeout=600)
            if processes[-1].returncode != 0:
                errors.seek(0)
                raise RuntimeError(f"the near side exited with {processes[-1].returncode}:\n{errors.read()}")
        finally:
            for process in processes:
                process.kill()  # its children end with it
                process.wait()
    return _report(json.loads(output))


def _report(raw: dict[str, dict[str, dict[str, list[float]]]]) -> tuple[list[Ratio], Any, list[Table]]:
    rows = []
    for name, by_size in raw.items():
        middles = [median_interval(by_size[size]["block_median_s"]) for size in SIZES]
        rows.append([name, *(interval_text(middle, 1e3) for middle in middles)])
    table = Table(
        "One hop in ms: median over blocks [95 % interval]",
        ["carrier", *SIZES],
        rows,
    )
    return _ratios(raw), raw, [table]


def _ratios(raw: dict[str, dict[str, dict[str, list[float]]]]) -> list[Ratio]:
    def over_socket(name: str) -> Middle:
        blocks = zip(raw[name][RATIO_AT]["block_median_s"], raw["socket"][RATIO_AT]["block_median_s"], strict=True)
        return median_interval([theirs / ours for theirs, ours in blocks])

    found = []
    for name in raw:
        if name.startswith("rpc"):
            middle = over_socket(name)
            detail = f"[{middle.low:.2f}, {middle.high:.2f}], {middle.n} blocks"
            found.append(Ratio(f"hop of {RATIO_AT}, {name} / socket", middle.value, 3.0, True, detail=detail))
    return found


# The two sides --------------------------------------------------------------------------------------------------


def _side(role: str, own: str, peer: str, core: int) -> None:
    import torch

    from benchmarks.carriers import CARRIERS, use_data_interface

    _end_with_parent()
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    use_data_interface()
    # Forked before any carrier has started a thread.
    context = multiprocessing.get_context("fork")
    children, pipes = [], {}
    for index, name in enumerate(CARRIERS):
        ours, theirs = context.Pipe()
        place = (role == "near", own, peer, _FIRST_PORT + 10 * index)
        child = context.Process(target=_child, args=(name, place, theirs), daemon=True)
        child.start()
        children.append(child)
        pipes[name] = ours
    if role == "near":
        print(json.dumps(_measure(pipes)), flush=True)
    for child in children:
        child.join()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _measure(pipes: dict[str, Connection]) -> dict[str, dict[str, dict[str, list[float]]]]:
    for name, pipe in pipes.items():
        if not pipe.poll(120) or pipe.recv() != "ready":
            raise RuntimeError(f"{name} did not start")
    raw: dict[str, dict[str, dict[str, list[float]]]] = {
        name: {size: {"block_median_s": [], "wire_bytes_per_hop": []} for size in SIZES} for name in pipes
    }
    order = random.Random(0)
    for _ in range(effort(40, 6)):
        block = [(name, size) for name in pipes for size in SIZES]
        order.shuffle(block)
        for name, size in block:
            pipes[name].send((SIZES[size], max(4, min(60, 20_000_000 // SIZES[size]))))
            if not pipes[name].poll(60):
                raise RuntimeError(f"{name} hangs at {size}")
            median_s, wire_bytes = pipes[name].recv()
            raw[name][size]["block_median_s"].append(median_s)
            raw[name][size]["wire_bytes_per_hop"].append(wire_bytes)
    for pipe in pipes.values():
        pipe.send(None)
    return raw


def _child(name: str, place: tuple[bool, str, str, int], orders: Connection) -> None:
    from benchmarks.carriers import CARRIERS, End, accept_one, connect_soon

    _end_with_parent()
    near, own, peer, port = place
    side_line = connect_soon(peer, port + 9) if near else accept_one(own, port + 9)
    carrier = CARRIERS[name](End(near, own, peer, port, max(SIZES.values()), side_line))
    if near:
        orders.send("ready")
        while (order := orders.recv()) is not None:
            orders.send(_block(carrier, side_line, *order))
    else:
        while raw := side_line.recv(_COMMAND.size, socket.MSG_WAITALL):
            _serve(carrier, side_line, *_COMMAND.unpack(raw))
    # Not through interpreter shutdown: rpc's and gloo's want a last word with a peer that may be gone.
    os._exit(0)


def _block(carrier: Carrier, side_line: socket.socket, nbytes: int, hops: int) -> tuple[float, float]:
    """Median seconds of a hop, and bytes per hop that left through the interface."""
    import torch

    tensor = torch.full((nbytes,), 7, dtype=torch.uint8)
    side_line.sendall(_COMMAND.pack(nbytes, WARMUP_HOPS + hops))
    assert side_line.recv(1) == b"r"
    seconds = []
    before_bytes = interface_bytes("tx")
    for _ in range(WARMUP_HOPS + hops):
        start_s = time.perf_counter()
        carrier.send(tensor)
        side_line.recv(1)
        seconds.append(time.perf_counter() - start_s)
        carrier.sent()
    wire_bytes = (interface_bytes("tx") - before_bytes) / len(seconds)
    assert wire_bytes >= nbytes, f"{wire_bytes:.0f} B per hop of {nbytes} B crossed the interface"
    return median(seconds[WARMUP_HOPS:]), wire_bytes


def _serve(carrier: Carrier, side_line: socket.socket, nbytes: int, hops: int) -> None:
    def arrived(size: int) -> None:
        side_line.sendall(b"a")
        assert size == nbytes

    carrier.expect(nbytes)
    side_line.sendall(b"r")
    carrier.serve(hops, arrived)


if __name__ == "__main__":
    _side(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
