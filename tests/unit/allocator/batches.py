"""Batches of a convolutional network, as an allocator sees them; for processes of their own."""

from __future__ import annotations

import json
import resource

from blocks import MB, check, libc, status, write

from paretopipe_runtime.allocator.pages import figures

PARTS = (  # MB of output and workspace, and whether the input is kept for later
    *((100, 26, False), (100, 0, True), (51, 13, False), (51, 26, True), (26, 60, False), (26, 5, True)),
    *((13, 7, False), (5, 51, False), (34, 0, False), (77, 3, False), (8, 0, False)),
)

Block = tuple[int, int]  # address, size


class Network:
    """Outputs live beside inputs and workspaces; all is touched, and checked when it is freed."""

    def __init__(self) -> None:
        self.live_bytes = self.peak_bytes = self.touched_bytes = 0

    def batch(self, scale: float) -> None:
        values: Block = self._new(9 * scale)
        kept: list[Block] = []
        for output, workspace, is_kept in PARTS:
            over = [self._new(workspace * scale)] if workspace else []
            result = self._new(output * scale)
            (kept if is_kept else over).append(values)
            over += kept[:-2]
            del kept[:-2]
            for block in over:
                self._free(block)
            values = result
        for block in (values, *kept):
            self._free(block)

    def _new(self, megabytes: float) -> Block:
        size = int(megabytes * MB)
        address = libc.malloc(size)
        write(address, size, size)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self.touched_bytes += size
        return address, size

    def _free(self, block: Block) -> None:
        address, size = block
        check(address, size, size)
        libc.free(address)
        self.live_bytes -= size


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def report(rounds: int) -> None:
    """Print what rounds of three batch sizes took of the system."""
    network, start, found = Network(), status("VmRSS"), []
    for _ in range(rounds):
        before = faults()
        for scale in (0.6, 1, 0.37):
            network.batch(scale)
        now = figures()
        found.append({"faults": faults() - before, "fresh": now and now.fresh_bytes})
    memory = {"peak": network.peak_bytes, "touched": network.touched_bytes, "resident": status("VmHWM") - start}
    print(json.dumps(memory | {"rounds": found}))  # noqa: T201
