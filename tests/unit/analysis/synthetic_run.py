"""Writes results directories as docs/formats.md has them, from declared stage times: no hosts, no clock, no chance."""

import json
import math
import random
from pathlib import Path

AXES = {
    "model": "mobilenet_v2",
    "granularity": "block",
    "backend": "socket",
    "engine": "eager",
    "pipeline": "pi-to-pi",
    "profile": "lan",
    "shaper": "tc",
    "batch_size": 8,
}


def record(k=3, n_cuts=20, depth=1, round_=0, latency_s=0.2, throughput_img_s=40.0, n_stages=2, **changes):
    """One valid record of the cut with index `k`; `changes` replace keys."""
    axes = AXES | {key: changes.pop(key) for key in list(changes) if key in AXES}
    ident = "-".join(str(axes[key]) for key in ("model", "backend", "engine", "pipeline", "profile", "batch_size"))
    baseline = k in (0, n_cuts)
    return {
        "schema": 1,
        "cell": f"{ident}-{k}",
        **axes,
        "split": str(k) if baseline else f"P{k}",
        "split_index": str(k),
        "split_name": "x" if k == 0 else f"features.{k - 1}",
        "n_cuts": n_cuts,
        "depth": depth,
        "round": round_,
        "status": "ok",
        "valid": True,
        "invalid_reason": None,
        "latency_s": latency_s,
        "latency_p50_s": latency_s,
        "latency_p90_s": None,
        "throughput_img_s": throughput_img_s,
        "network_s": 0.01 if depth == 1 else None,
        "bytes_per_batch": 1204224,
        "rtt_s": 0.0002,
        "bandwidth_bit_s": 936000000.0,
        "window_s": 10.0,
        "window_batches": 50,
        "warmup_batches": 5,
        "warmup_s": 1.0,
        "stages": [
            {
                "host": f"pi{n}",
                "exec_s": 0.1,
                "cpu_pct": 280.5,
                "mem_pct": 18.5,
                "gpu_util_pct": None,
                "gpu_mem_pct": None,
            }
            for n in range(1, n_stages + 1)
        ],
        "output_bitwise": True,
        "output_max_rel_err": 0.0,
        "graph_hash": "g",
        "weight_hash": "w",
        "segment": "seg-0",
        "started_at": "2026-11-20T10:00:00Z",
        "error": None,
    } | changes


def failed(kind="out-of-memory", host="pi2", message="worker killed (137)", **changes):
    """A failed record."""
    whole = record(**changes)
    nulls = ("latency_s", "latency_p50_s", "throughput_img_s", "network_s", "bytes_per_batch", "rtt_s", "stages")
    error = {"kind": kind, "message": message, "host": host, "remedy": None, "log_tail": []}
    return whole | dict.fromkeys(nulls) | {"bandwidth_bit_s": None, "status": "failed", "valid": False, "error": error}


def invalid(reason="Little's law: off by 12 %", **changes):
    """A record that broke a check."""
    return record(**changes) | {"valid": False, "invalid_reason": reason}


def probe(when="after", ok=True, reason=None, segment="seg-0", profile="lan"):
    """A line of probes.jsonl."""
    return {
        **{"schema": 1, "segment": segment, "when": when, "profile": profile, "pipeline": "pi-to-pi", "shaper": "tc"},
        **{"time": "2026-11-20T10:00:00Z", "rtt_s": 0.0002, "rtt_samples_s": [0.0002], "bandwidth_bit_s": 9.36e8},
        **{"bandwidth_bytes": 1000000, "declared": {}, "ok": ok, "reason": reason},
    }


def write_run(directory: Path, records, probes=(), schema=1, **run) -> Path:
    """A results directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.json").write_text(json.dumps({"schema": schema} | run))
    for name, lines in (("records.jsonl", records), ("probes.jsonl", probes)):
        (directory / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def pipeline_records(model="mobilenet_v2", n_cuts=20, total_s=0.23, delay_s=0.002, depths=(1, 2, 4), rounds=5, **axes):
    """A whole sweep of a two-stage pipeline: stage times split by the cut, one hop, Little's law, 1 % of wobble."""
    batch = axes.get("batch_size", 8)
    out = []
    for k in range(n_cuts + 1):
        first = total_s * (k / n_cuts) ** 1.3
        hop = delay_s + 0.004 * (1 + (n_cuts - k) % 5) * (k < n_cuts)
        stages = (first, total_s - first, hop)
        for depth in depths:
            latency = max(sum(stages), depth * max(stages))
            for round_ in range(rounds):
                wobble = 1 + 0.01 * ((k * 7 + depth * 3 + round_ * 5) % 9 - 4) / 4
                out.append(
                    record(
                        k,
                        n_cuts,
                        depth,
                        round_,
                        latency * wobble,
                        depth * batch / (latency * wobble),
                        model=model,
                        **axes,
                    )
                )
    return out


def stage(exec_s=0.1, serialize_s=0.001, queue_s=0.002, out_queue_s=0.003, **changes):
    """A stage as records have it since schema 1 has engines and counters."""
    return {
        **{"host": "pi", "engine": "eager", "setup_s": 0.2, "exec_s": exec_s, "serialize_s": serialize_s},
        **{"recv_s": 0.004, "queue_s": queue_s, "out_queue_s": out_queue_s, "kernel_s": None, "cpu_pct": 90.0},
        **{"mem_pct": 18.5, "gpu_util_pct": None, "gpu_mem_pct": None, "gpu_mem_bytes": None, "gpu_power_w": None},
        **{"rss_bytes": 8e8, "tx_bytes": 1.05 * 50 * 1204224, "rx_bytes": 1e6},
    } | changes


def compared_sweep(factors, by="backend", n_cuts=20, depths=(1, 2, 4), rounds=5, noise=0.01, seed=0, **axes):
    """A two-stage sweep per value of `by`: value -> what its hop takes longer, in units of the hop; seeded noise.

    Rounds are slow or fast as a whole, for all values alike, as they are on a shared machine.
    """
    chance = random.Random(seed)
    drift = [math.exp(chance.gauss(0, 0.05)) for _ in range(rounds)]
    out = []
    for value, factor in factors.items():
        for k in range(n_cuts + 1):
            first = 0.23 * (k / n_cuts) ** 1.3
            hop = (0.002 + 0.004 * (1 + (n_cuts - k) % 5)) * factor
            execs = [first, 0.23 - first] if k < n_cuts else [0.23]
            times = [*execs, hop] if k < n_cuts else execs
            for depth in depths:
                latency = max(sum(times) + 0.001, depth * max(times))
                for round_ in range(rounds):
                    scale = drift[round_] * math.exp(chance.gauss(0, noise))
                    wait = max(0.0, latency - sum(times) - 0.001) * scale
                    cpu = [100 * t / max(latency / depth, 1e-9) for t in execs]
                    gpu = {"gpu_util_pct": 40.0, "kernel_s": 0.05} if axes.get("gpu") else {}
                    stages = [
                        stage(t * scale, 1e-4 * scale, wait * (n == 0), 1e-4 * scale, cpu_pct=c, host=f"pi{n + 1}")
                        | (gpu if n else {})
                        for n, (t, c) in enumerate(zip(execs, cpu, strict=True))
                    ]
                    changes = {key: axes[key] for key in axes if key != "gpu"} | {by: value}
                    out.append(
                        record(
                            k,
                            n_cuts,
                            depth,
                            round_,
                            latency * scale,
                            depth * 8 / (latency * scale),
                            stages=stages,
                            **changes,
                        )
                        | {"network_s": (latency - sum(execs)) * scale if depth == 1 else None}
                        | ({"transport": {"name": value, "kind": value, "route": "direct"}} if by == "backend" else {})
                    )
    return out
