"""The reference paper's own way of working, re-created from its description, not from its code.

A fresh pair of processes for every split; each constructs the whole model, with random weights of its own, and keeps
its half. The first computes a batch, pickles it, sends it, and only then turns to the next, feeding as fast as that
goes: nothing bounds what is under way. The second collects a message with `data += recv()`, unpickles it and computes.
Eager torch, the system's allocator, 8 batches, no warm-up. Latency is the wall clock at the second's end minus that at
the first's start, which on one machine is one clock.

Where the description leaves something open, the quicker way is taken: a message is received in pieces as large as the
socket gives, and the sleep that leaves the second part time to get ready, before the first is started, is exactly as
long as getting ready takes.

Pickle is read here from our own process on the loopback device, and nowhere else in this repository.
"""

from __future__ import annotations

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

BATCHES = 8
BATCH_SIZE = 8
IMAGE_SIDE = 224
_LENGTH = struct.Struct("<Q")
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Run:
    """One split, measured once."""

    start_s: list[float]
    """Wall clock when the first part began with a batch."""
    end_s: list[float]
    """Wall clock when the second part had its result."""
    batch_size: int
    received_bytes: int
    """Size of one received activation, unpickled."""
    wall_s: float
    """From starting the processes to the end of both."""

    @property
    def latency_s(self) -> float:
        """Mean over all batches, waiting included."""
        return sum(end - start for start, end in zip(self.start_s, self.end_s, strict=True)) / len(self.end_s)

    @property
    def throughput_img_s(self) -> float:
        """All images over the time from the first batch's start to the last result."""
        return len(self.end_s) * self.batch_size / self.measuring_s

    @property
    def steady_img_s(self) -> float:
        """Throughput between the first and the last result: without the cold first batch, kinder than its own."""
        return (len(self.end_s) - 1) * self.batch_size / (self.end_s[-1] - self.end_s[0])

    @property
    def measuring_s(self) -> float:
        """From the first batch's start to the last result."""
        return self.end_s[-1] - self.start_s[0]


def part(split: int, *, first: bool) -> nn.Module:
    """MobileNetV2 before or after its first `split` blocks, with random weights."""
    from torch import nn
    from torchvision.models import mobilenet_v2

    model = mobilenet_v2(weights=None).eval()
    pool = nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())
    blocks = [*model.features, pool, *model.classifier]
    return nn.Sequential(*(blocks[:split] if first else blocks[split:]))


def feed(sock: socket.socket, half: nn.Module, images: Any, batches: int) -> None:
    """The first part: compute and send in series, as fast as it goes."""
    import torch

    with torch.no_grad():
        for _ in range(batches):
            start_s = time.time()
            data = pickle.dumps({"activation": half(images), "start_s": start_s})
            sock.sendall(_LENGTH.pack(len(data)) + data)


def consume(sock: socket.socket, half: nn.Module, batches: int) -> dict[str, Any]:
    """The second part: receive, then compute. Gives `start_s, end_s, received_bytes`."""
    import torch

    found: dict[str, Any] = {"start_s": [], "end_s": [], "received_bytes": 0}
    with torch.no_grad():
        for _ in range(batches):
            (nbytes,) = _LENGTH.unpack(_receive(sock, _LENGTH.size))
            message = pickle.loads(_receive(sock, nbytes))
            half(message["activation"])
            found["end_s"].append(time.time())
            found["start_s"].append(message["start_s"])
            found["received_bytes"] = message["activation"].nbytes
    return found


def _receive(sock: socket.socket, nbytes: int) -> bytes:
    data = b""
    while len(data) < nbytes:
        piece = sock.recv(nbytes - len(data))
        if not piece:
            raise ConnectionError("the first part hung up")
        data += piece  # copies all that came so far: quadratic where pieces are small
    return data


def run_split(split: int, cores: tuple[int, int], batches: int = BATCHES) -> Run:
    """A fresh pair of processes, one pinned to each core, for one split. Raises RuntimeError where one fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        processes = []
        begin_s = time.perf_counter()
        try:
            processes.append(_start("second", split, cores[1], str(listener.fileno()), batches, listener))
            assert processes[0].stdout is not None
            processes[0].stdout.readline()  # it is ready, or has failed
            processes.append(_start("first", split, cores[0], port, batches, listener))
            listener.close()
            outputs = [process.communicate(timeout=TIMEOUT_S)[0] for process in processes]
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        wall_s = time.perf_counter() - begin_s
    if any(process.returncode for process in processes):
        raise RuntimeError(f"the reference's way failed at split {split}")
    return Run(**json.loads(outputs[0]), batch_size=BATCH_SIZE, wall_s=wall_s)


def _start(
    role: str, split: int, core: int, where: str, batches: int, listener: socket.socket
) -> subprocess.Popen[bytes]:
    words = ("taskset", "-c", str(core), sys.executable, "-m", "benchmarks.reference")
    return subprocess.Popen(
        [*words, role, str(split), where, str(batches)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        pass_fds=[listener.fileno()] if role == "second" else [],
    )


def _main(role: str, split: int, where: int, batches: int) -> None:
    import torch

    torch.set_num_threads(1)
    half = part(split, first=role == "first")
    if role == "first":
        images = torch.rand(BATCH_SIZE, 3, IMAGE_SIDE, IMAGE_SIDE)
        with socket.create_connection(("127.0.0.1", where)) as sock:
            feed(sock, half, images, batches)
            sock.recv(1)  # stays until the second part has all
    else:
        print("ready", flush=True)
        listener = socket.socket(fileno=where)
        sock, _ = listener.accept()
        with sock:
            print(json.dumps(consume(sock, half, batches)), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1], *(int(word) for word in sys.argv[2:]))
