"""Running totals of the process, the data interface and the GPU."""

from __future__ import annotations

import math
import socket

from paretopipe_runtime.pipeline.counters import Counters
from paretopipe_runtime.transport.frame import StageTimes

SENT_BYTES = 1_000_000


class _Gpu:
    def read(self) -> tuple[float, float, float]:
        return 1.5, 20.0, 3e9


def test_an_interfaces_counters_move_by_what_crosses_it() -> None:
    counters = Counters("lo")
    before = counters.read()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        receiver, _ = server.accept()
        with receiver:
            client.sendall(bytes(SENT_BYTES // 10))
            for _ in range(9):
                receiver.recv(1 << 20)
                client.sendall(bytes(SENT_BYTES // 10))
            client.shutdown(socket.SHUT_WR)
            while receiver.recv(1 << 20):
                pass
    after = counters.read()
    for name in ("tx_bytes", "rx_bytes"):
        assert after[name] - before[name] >= SENT_BYTES


def test_an_unknown_interface_has_unknown_counters() -> None:
    for counters in (Counters(None), Counters("no-such-if0")):
        assert math.isnan(counters.read()["tx_bytes"])
        assert math.isnan(counters.read()["rx_bytes"])


def test_a_gpus_figures_are_in_their_fields_and_unknown_without_one() -> None:
    with_gpu, without = Counters(gpu=_Gpu()).read(), Counters().read()
    assert (with_gpu["gpu_busy_s"], with_gpu["gpu_energy_j"], with_gpu["gpu_mem_bytes"]) == (1.5, 20.0, 3e9)
    assert all(math.isnan(without[name]) for name in ("gpu_busy_s", "gpu_energy_j", "gpu_mem_bytes"))


def test_cpu_time_rises_with_work_and_memory_is_what_a_process_has() -> None:
    counters = Counters()
    before = counters.read()
    sum(k * k for k in range(300_000))
    assert counters.read()["cpu_time_s"] > before["cpu_time_s"]
    assert 1e6 < before["peak_rss_bytes"] < 1e12


def test_every_reading_is_a_field_of_the_stage_times() -> None:
    assert set(Counters().read()) <= set(StageTimes._fields)
