"""A results directory with samples in which every rule is kept.

Records and samples come from the runtime's own code: what is computed again is compared with what a run really writes.
"""

import copy
import json
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.run import read_run
from paretopipe_runtime.pipeline.window import Completion, Window, sample_rows, summarise
from paretopipe_runtime.transport.frame import StageTimes

NAN = math.nan
BATCH = 8
SENT_BYTES = 1000
FACTS = {
    **{"machine": "aarch64", "cpu_model": "Cortex-A72", "cpu_count": 4, "cpus": [0, 1, 2, 3], "threads": 4},
    **{"torch": "2.14.1", "torchvision": "0.29.1", "paretopipe": "0.1.0", "python": "3.11.7", "kernel": "6.6"},
    **{"memory_total_bytes": 4_000_000_000, "governor": "performance", "gpu_device": None, "boot_id": "b"},
    **{"allocator": "pages"},
    **{"cpu_frequency_hz": 1_500_000_000, "temperature_c": 50.0, "throttled": "0x0", "load_1min": 0.5},
}
PROFILES = {
    "lan": {"links": {}, "rtt_tolerance_pct": 5.0, "rate_tolerance_pct": 10.0},
    "slow": {
        "links": {"first-egress": {"delay_s": 0.2, "jitter_s": 0.0, "loss_pct": 0.0, "rate_bit_s": 5e6}},
        **{"rtt_tolerance_pct": 5.0, "rate_tolerance_pct": 10.0},
    },
}
PATHS = {"lan": (0.0002, 9.4e8), "slow": (0.2005, 4.8e6)}


@dataclass
class Sampled:
    """What is written; tests change it first."""

    run: dict
    records: list
    probes: list
    samples: pd.DataFrame
    files: dict = field(default_factory=dict)

    def copy(self):
        return Sampled(*copy.deepcopy((self.run, self.records, self.probes)), self.samples.copy())

    def write(self, directory: Path, *, samples=True) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "run.json").write_text(json.dumps(self.run))
        for name in ("records", "probes"):
            lines = (json.dumps(line) + "\n" for line in getattr(self, name))
            (directory / f"{name}.jsonl").write_text("".join(lines))
        if samples:
            for (cell, round_), rows in self.samples.groupby(["cell", "round"]):
                path = directory / "samples" / cell / f"{round_}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                rows.drop(columns=["cell", "round"]).to_parquet(path, index=False)
        return directory

    def read(self, directory: Path):
        """As `read_run` gives it, without samples on the disk."""
        return read_run(self.write(directory, samples=False))

    def find(self, k=3, depth=1, round_=1, profile="lan"):
        return next(
            r
            for r in self.records
            if (r["split_index"], r["depth"], r["round"], r["profile"]) == (str(k), depth, round_, profile)
        )


def times(chance, batch, clock_s, exec_s, *, gpu=False, last=False, serialize_s=1e-4):
    """What a stage says of batch number `batch`: durations, and counters that have grown since its start."""
    return StageTimes(
        recv_s=NAN if gpu else 0.001 * chance.random(),
        queue_s=0.002 * chance.random(),
        exec_s=exec_s * (1 + 0.02 * chance.random()),
        out_queue_s=0.001 * chance.random(),
        serialize_s=serialize_s * chance.random(),
        cpu_time_s=7.0 + 0.9 * exec_s * batch,
        clock_s=clock_s,
        peak_rss_bytes=8e8 + 1000.0 * batch,
        sent_bytes=100.0 if last else float(SENT_BYTES),
        kernel_s=0.8 * exec_s if gpu else NAN,
        gpu_busy_s=3.0 + 0.5 * exec_s * batch if gpu else NAN,
        gpu_energy_j=100.0 + 5.0 * exec_s * batch if gpu else NAN,
        gpu_mem_bytes=1e9 + chance.random() if gpu else NAN,
        tx_bytes=5e6 + (120.0 if last else 1.05 * SENT_BYTES) * batch,
        rx_bytes=6e6 + (1.05 * SENT_BYTES if last else 120.0) * batch,
    )


def window(chance, depth, execs, hop_s, batches, *, gpu=False):
    """A window that keeps every rule: no period is shorter than the slowest stage, latency is depth x period."""
    period = max(max(execs) * 1.05, (sum(execs) * 1.05 + hop_s) / depth)
    clocks = [chance.uniform(0, 1e5) for _ in execs]
    done_s, out = chance.uniform(0, 1e5), []
    for batch in range(batches + 1):
        stages = tuple(
            times(chance, batch, clock + batch * period, exec_s, gpu=gpu and k == 1, last=k == len(execs) - 1)
            for k, (clock, exec_s) in enumerate(zip(clocks, execs, strict=True))
        )
        out.append(Completion(batch + 3, done_s, depth * period * (1 + 0.01 * chance.uniform(-1, 1)), stages))
        done_s += period * (1 + 0.01 * chance.uniform(-1, 1))
    return Window(depth, out[0], 3, 0.5, out[1:])


def sampled(cuts=(3, 5, 20), profiles=("lan", "slow"), rounds=3, depths=(1, 2), batches=12, seed=0, gpu=False, **axes):
    """Cells of two stages, and of one where the cut is 20; every round of a profile is a segment."""
    chance = random.Random(seed)
    axes = {
        **{"model": "mobilenet_v2", "granularity": "block", "backend": "socket", "engine": "eager"},
        **{"pipeline": "pi-to-pi", "batch_size": BATCH},
    } | axes
    facts = copy.deepcopy({"pi1": FACTS | {"hostname": "pi1"}, "pi2": FACTS | {"hostname": "pi2"}})
    if gpu:
        facts["pi2"]["gpu_device"] = {"name": "H200", "memory_total_bytes": 2e9}
    records, rows, probes, cells = [], [], [], []
    for profile in profiles:
        hop_s = 0.21 if profile == "slow" else 0.01
        for round_ in range(1, rounds + 1):
            segment = f"{profile}-{round_}"
            path = PATHS[profile]
            probes += [probe_line(segment, when, profile, path, facts) for when in ("before", "after")]
            for k in cuts:
                execs = (0.09,) if k == 20 else (0.01 * k, 0.09 - 0.01 * k)
                cell = f"{axes['model']}-P{k}-{axes['backend']}-{profile}"
                head = {"cell": cell, **axes, "profile": profile, "split": f"P{k}", "split_index": str(k)}
                head |= {"split_name": f"features.{k - 1}", "n_cuts": 20}
                if round_ == 1:
                    cells.append(head | {"depths": list(depths)})
                for depth in depths:
                    measured = window(chance, depth, execs, hop_s * (k < 20), batches, gpu=gpu)
                    samples = sample_rows(measured)
                    rows += [{"cell": cell, "round": round_, **row} for row in samples]
                    records.append(a_record(head, depth, round_, summarise(measured, BATCH), segment, path, facts))
    run = {
        **{"schema": 1, "created_at": "2026-11-20T10:00:00+00:00", "testbed": "agents", "seed": 0, "cells": cells},
        "spec": {"rounds": rounds, "window": {"batches": None, "seconds": 1.0, "min_batches": 5}, "matrix": []},
        **{"profiles": copy.deepcopy(PROFILES), "hosts": facts, "resumed": []},
        **{"git": {"commit": "c" * 40, "dirty": False}, "versions": {"paretopipe": "0.1.0"}},
        "models": [
            {
                **{"model": axes["model"], "batch_size": BATCH, "granularity": "block", "weights": "random"},
                **{"input": "synthetic", "graph_hash": "g", "weight_hash": "w"},
                "cuts": [{"index": k, "nbytes": SENT_BYTES} for k in range(21)],
            }
        ],
    }
    return Sampled(run, records, probes, pd.DataFrame(rows))


def probe_line(segment, when, profile, path, facts):
    rtt_s, rate = path
    links = PROFILES[profile]["links"].get("first-egress", {})
    vitals = ("cpu_frequency_hz", "temperature_c", "throttled", "load_1min")
    return {
        **{"schema": 1, "segment": segment, "when": when, "profile": profile, "pipeline": "pi-to-pi", "shaper": "tc"},
        **{"time": "2026-11-20T10:00:00Z", "rtt_s": rtt_s, "rtt_samples_s": [rtt_s * f for f in (0.9, 1.0, 1.1)]},
        **{"bandwidth_bit_s": rate, "bandwidth_bytes": 500000, "ingress_bandwidth_bit_s": None},
        "declared": {"delay_s": links.get("delay_s", 0.0), "rate_bit_s": links.get("rate_bit_s")},
        **{"ok": True, "reason": None, "late": False, "network": {}},
        "vitals": {host: {key: fact[key] for key in vitals} for host, fact in facts.items()},
    }


def a_record(head, depth, round_, measured, segment, path, facts):
    for stage, (host, fact) in zip(measured["stages"], facts.items(), strict=False):
        used = stage["gpu_mem_bytes"]
        stage |= {"host": host, "engine": "eager", "setup_s": 0.2}
        stage["mem_pct"] = 100.0 * stage["rss_bytes"] / fact["memory_total_bytes"]
        stage["gpu_mem_pct"] = 100.0 * used / fact["gpu_device"]["memory_total_bytes"] if used else None
    return {
        **{"schema": 1, **head, "shaper": "tc", "depth": depth, "round": round_, "status": "ok", **measured},
        **{"transport": {"name": "socket", "kind": "socket"}, "output_bitwise": True, "output_max_rel_err": 0.0},
        **{"graph_hash": "g", "weight_hash": "w", "rtt_s": path[0], "bandwidth_bit_s": path[1], "segment": segment},
        **{"started_at": "2026-11-20T10:00:00Z", "error": None},
    }
