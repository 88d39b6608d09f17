"""What pp-analyze takes for a run of 100,000 records: seconds from start to exit, and memory at its peak.

The records are made up: two stages, all keys, about 2 kB a line, numbers of full length. Nothing is measured but
the programs that read them.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.report import Ratio
from benchmarks.settings import effort

COMMANDS = {
    "table": ("table",),
    "table --format csv": ("table", "--format", "csv"),
    "frontier": ("frontier", "--out", "{out}"),
    "report": ("report", "--out", "{out}/report.html"),
}
LIMIT_S, LIMIT_GB = 5.0, 1.0
MODELS, BACKENDS, HOSTS = ("mobilenet_v2", "resnet18", "resnet50"), ("socket", "rpc"), ("pi1", "pi2")
PROFILES = {"lan": 0.0, "duress": 0.2}
"""Name -> what it adds to the round trip, in seconds."""
DEPTHS, ROUNDS, N_CUTS, WINDOW_BATCHES = (1, 2, 4), 5, 20, 40
RTT_S, SERIALIZE_S = 0.0002, 3.3e-05
MEASURED = (
    *("latency_s", "latency_p50_s", "throughput_img_s", "network_s", "bytes_per_batch", "window_s", "window_batches"),
    *("warmup_batches", "warmup_s", "output_bitwise", "output_max_rel_err", "graph_hash", "weight_hash", "transport"),
)
"""Keys that a failed record has null, its stages apart."""


def run() -> tuple[list[Ratio], Any]:
    """Median wall time of three runs per command, and the largest peak of the command with what it forks."""
    raw: dict[str, Any] = {}
    ratios = []
    with tempfile.TemporaryDirectory(prefix="paretopipe-bench-") as name:
        directory = Path(name, "run")
        raw["records"], raw["records_bytes"] = write_run(directory, effort(100_000, 2_000))
        for title, arguments in COMMANDS.items():
            given = [argument.format(out=Path(name, "out")) for argument in arguments]
            runs = [measured([given[0], str(directory), *given[1:]], Path(name)) for _ in range(effort(3, 1))]
            raw[title] = [{"wall_s": wall_s, "peak_bytes": peak} for wall_s, peak in runs]
            together = peak_together([given[0], str(directory), *given[1:]])
            raw[title].append({"peak_together_bytes": together})
            detail = f"{raw['records']} records, {raw['records_bytes'] / 1e6:.0f} MB"
            wall_s, peak = median(wall for wall, _ in runs), max(together, *(peak for _, peak in runs))
            ratios.append(Ratio(f"pp-analyze {title}", wall_s, LIMIT_S, False, " s", detail))
            ratios.append(Ratio(f"pp-analyze {title}: peak memory", peak / 1e9, LIMIT_GB, False, " GB", detail))
    return ratios, raw


def measured(arguments: list[str], place: Path) -> tuple[float, int]:
    """Wall time in seconds and peak resident bytes (getrusage(2), of this process alone) of a pp-analyze command.

    Raises RuntimeError where it fails.
    """
    program = str(Path(sys.executable).with_name("pp-analyze"))
    with (place / "stdout").open("wb") as stdout, (place / "stderr").open("w+b") as stderr:
        start_s = time.perf_counter()
        process = subprocess.Popen([program, *arguments], stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start_s
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            stderr.seek(0)
            raise RuntimeError(f"pp-analyze {' '.join(arguments)}: {stderr.read().decode()[-500:]}")
    return wall_s, usage.ru_maxrss * 1024


def peak_together(arguments: list[str]) -> int:
    """Peak bytes of a pp-analyze command and the processes that it forks: the sum of their proportional set sizes
    (proc_pid_smaps(5)), looked at every 50 ms. That takes time, so it is not the run that is timed."""
    program = str(Path(sys.executable).with_name("pp-analyze"))
    process = psutil.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(_proportional_bytes, [process.pid, *(c.pid for c in _children(process))])))
        time.sleep(0.05)
    return peak


def _children(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def write_run(directory: Path, n_records: int) -> tuple[int, int]:
    """A results directory of about so many records that keep every rule, but for a few; their number and bytes."""
    directory.mkdir(parents=True)
    groups = list(itertools.product(MODELS, BACKENDS, _batch_sizes(n_records), range(N_CUTS + 1)))
    cells = [_axes(*group, profile) | {"depths": list(DEPTHS)} for profile in PROFILES for group in groups]
    names = ("hostname", "cpu_model", "machine", "os", "kernel", "python", "torch")
    run = {
        "schema": 1,
        "created_at": "2026-01-01T00:00:00+00:00",
        "testbed": "simulated",
        "spec": {"rounds": ROUNDS},
        "seed": 0,
        "inventory": {"path": "made-up.yml", "hosts": {}, "pipelines": {"pi-to-pi": list(HOSTS)}},
        "profiles": {
            name: {"links": _links(delay_s), "rtt_tolerance_pct": 5, "rate_tolerance_pct": 10}
            for name, delay_s in PROFILES.items()
        },
        "argv": ["python", "-m", "benchmarks", "analysis_speed"],
        "versions": {"paretopipe": "0", "python": "3", "torch": dict.fromkeys(HOSTS, "2")},
        "git": None,
        "hosts": {host: dict.fromkeys(names, "made up") | {"hostname": host} for host in HOSTS},
        "models": [],
        "cells": cells,
        "resumed": [],
        "ansible": [],
    }
    (directory / "run.json").write_text(json.dumps(run))
    chance = random.Random(0)
    passes = list(itertools.product(PROFILES, range(1, ROUNDS + 1)))
    with (directory / "probes.jsonl").open("w") as file:
        file.writelines(_line(_probe(*one, when)) for one in passes for when in ("before", "after"))
    with (directory / "records.jsonl").open("w") as file:
        file.writelines(
            _line(_record(chance, _axes(*group, profile), round_, depth))
            for profile, round_ in passes
            for group in groups
            for depth in DEPTHS
        )
    return len(passes) * len(groups) * len(DEPTHS), (directory / "records.jsonl").stat().st_size


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _batch_sizes(n_records: int) -> range:
    """As many as make at least so many records."""
    of_one = len(MODELS) * len(PROFILES) * len(BACKENDS) * (N_CUTS + 1) * len(DEPTHS) * ROUNDS
    return range(1, 2 + (n_records - 1) // of_one)


def _links(delay_s: float) -> dict[str, Any]:
    link = {"delay_s": delay_s, "jitter_s": 0.0, "loss_pct": 0.0, "rate_bit_s": None}
    return {"first-egress": link} if delay_s else {}


def _probe(profile: str, round_: int, when: str) -> dict[str, Any]:
    rtt_s = PROFILES[profile] + RTT_S
    return {
        "schema": 1,
        "segment": f"{profile}-{round_}",
        "when": when,
        "profile": profile,
        "pipeline": "pi-to-pi",
        "shaper": "tc",
        "time": f"2026-01-01T{round_:02}:00:00.000+00:00",
        "rtt_s": rtt_s,
        "rtt_samples_s": [rtt_s] * 5,
        "bandwidth_bit_s": 936e6,
        "bandwidth_bytes": 20_000_000,
        "ingress_bandwidth_bit_s": None,
        "declared": {"delay_s": PROFILES[profile], "rate_bit_s": None},
        "ok": True,
        "reason": None,
        "late": False,
        "vitals": {},
        "network": {},
    }


def _axes(model: str, backend: str, batch_size: int, cut: int, profile: str) -> dict[str, Any]:
    return {
        "cell": f"{model}-P{cut}-{backend}-eager-{profile}-b{batch_size}-pi-to-pi",
        "model": model,
        "split": f"P{cut}" if 0 < cut < N_CUTS else str(cut),
        "split_index": str(cut),
        "split_name": f"features.{cut}",
        "n_cuts": N_CUTS,
        "granularity": "block",
        "backend": backend,
        "engine": "eager",
        "pipeline": "pi-to-pi",
        "profile": profile,
        "batch_size": batch_size,
    }


def _record(chance: random.Random, axes: dict[str, Any], round_: int, depth: int) -> dict[str, Any]:
    cut, batch_size, local = int(axes["split_index"]), axes["batch_size"], axes["split_index"] == str(N_CUTS)
    total_s = 0.02 * batch_size * (1 + MODELS.index(axes["model"]))
    first_s = total_s * (cut / N_CUTS) ** 1.3
    hop_s = 0.0 if local else 2 * SERIALIZE_S + RTT_S + PROFILES[axes["profile"]] + 0.0005 * (cut % 5 + 1) * batch_size
    compute = [first_s] if local else [first_s, total_s - first_s]
    noise = chance.gauss(1, 0.02)
    latency_s = max(sum(compute) + hop_s + 0.001, depth * max(*compute, hop_s)) * noise
    throughput_img_s = depth * batch_size / latency_s
    sent = 0 if local else 150_528 * batch_size
    record = axes | {
        "schema": 1,
        "shaper": "tc",
        "depth": depth,
        "round": round_,
        "status": "ok",
        "valid": True,
        "invalid_reason": None,
        "latency_s": latency_s,
        "latency_p50_s": latency_s * chance.gauss(1, 0.001),
        "latency_p90_s": None,
        "throughput_img_s": throughput_img_s,
        "network_s": latency_s - sum(compute) * noise - len(compute) * SERIALIZE_S if depth == 1 else None,
        "bytes_per_batch": sent,
        "window_s": WINDOW_BATCHES * batch_size / throughput_img_s,
        "window_batches": WINDOW_BATCHES,
        "warmup_batches": 3,
        "warmup_s": 0.2 * noise,
        "stages": [
            _stage(host, seconds * noise, throughput_img_s / batch_size, chance.gauss(1, 0.01), sent)
            for host, seconds in zip(HOSTS, compute, strict=False)
        ],
        "transport": None if local else _transport(axes["backend"]),
        "output_bitwise": True,
        "output_max_rel_err": 0.0,
        "graph_hash": "43fdd92fda08785abd5a426370e639ff",
        "weight_hash": "e6082872d70248ad1c7a442427362e8a",
        "rtt_s": PROFILES[axes["profile"]] + RTT_S,
        "bandwidth_bit_s": 936e6,
        "segment": f"{axes['profile']}-{round_}",
        "started_at": f"2026-01-01T{round_:02}:{cut:02}:{depth:02}.000+00:00",
        "error": None,
    }
    return record | _mishap(chance, latency_s)


def _mishap(chance: random.Random, latency_s: float) -> dict[str, Any]:
    """What makes one record in a thousand invalid and one fail."""
    lot = chance.random()
    if lot < 0.001:
        reason = "Little's law: throughput x latency is 1.300 of depth x batch"
        return {"valid": False, "invalid_reason": reason, "latency_s": 1.3 * latency_s}
    if lot < 0.002:
        error = {"kind": "timeout", "message": "nothing for 60 s", "host": HOSTS[1], "remedy": None, "log_tail": []}
        return {"status": "failed", "valid": False, "error": error, "stages": None} | dict.fromkeys(MEASURED)
    return {}


def _transport(backend: str) -> dict[str, Any]:
    lists = {"transports": ["uv"], "channels": ["basic"]} if backend == "rpc" else {"transports": [], "channels": []}
    return {"name": backend, "kind": backend, "route": "direct", "streams": 1, **lists}


def _stage(host: str, exec_s: float, batches_per_s: float, spread: float, sent: int) -> dict[str, Any]:
    crossed = 1.03 * sent * WINDOW_BATCHES * spread
    return {
        "host": host,
        "engine": "eager",
        "setup_s": 0.018 * spread,
        "exec_s": exec_s,
        "serialize_s": SERIALIZE_S,
        "recv_s": 0.001 * spread,
        "queue_s": 1.5e-05 * spread,
        "out_queue_s": 0.0001 * spread,
        "kernel_s": None,
        "cpu_pct": 100 * exec_s * batches_per_s,
        "mem_pct": 3.3 * spread,
        "gpu_util_pct": None,
        "gpu_mem_pct": None,
        "gpu_mem_bytes": None,
        "gpu_power_w": None,
        "rss_bytes": 838578176,
        "tx_bytes": crossed if host == HOSTS[0] else 1000.0,
        "rx_bytes": crossed if host == HOSTS[1] else 1000.0,
    }
