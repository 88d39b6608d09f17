"""Small runs of the shape that the paper's artefacts need: hosts with facts, neighbouring cuts, several backends."""

from pathlib import Path

import synthetic_run
from synthetic_run import record, stage

from analysis.comparing.breakdown import compare_frame, compare_points
from analysis.paper.measured import measured_pipelines
from analysis.run import frame_of_records

PI = {"cpu_model": "Cortex-A72", "cpu_count": 4, "threads": 4, "memory_total_bytes": 3.98e9, "gpu_device": None}
LAPTOP = {"cpu_model": "AMD EPYC", "cpu_count": 2, "threads": 1, "memory_total_bytes": 25.3e9, "gpu_device": None}
SERVER = PI | {"cpu_model": "Xeon", "gpu_device": {"name": "NVIDIA GeForce RTX 4090"}}
PROFILES = {
    "lan": {"links": {}},
    "slow": {"links": {"first-egress": {"delay_s": 0.2, "jitter_s": 0, "loss_pct": 0, "rate_bit_s": 5e6}}},
}


def run_json(second=PI, first=PI, pipeline="pi-to-pi", **changes):
    """A run.json of one pipeline of two hosts."""
    return {
        "testbed": "agents",
        "inventory": {"path": "inventory/mine.yml", "pipelines": {pipeline: ["a", "b"]}},
        "hosts": {"a": first, "b": second},
        "profiles": PROFILES,
        "models": [
            {
                **{"model": "mobilenet_v2", "granularity": "block", "batch_size": 8, "n_blocks": 21},
                **{"parameters": 3504872, "cuts": [{"index": k} for k in range(22)]},
            }
        ],
    } | changes


def point(k=3, depth=1, round_=0, execs=(0.4, 0.6), n_cuts=21, **changes):
    """A record whose stages compute for `execs` seconds."""
    stages = [stage(seconds, cpu_pct=100.0 * depth, mem_pct=10.0) for seconds in execs]
    kind = str(changes.get("backend", "socket"))
    how = {"name": kind, "kind": kind, "route": "direct", "transports": [], "channels": [], "streams": 1}
    return record(k, n_cuts, depth, round_, stages=stages, n_stages=len(execs), **{"transport": how} | changes)


def sweep(cuts=(2, 3, 4), depths=(1, 4), rounds=3, backends=("socket",), **axes):
    """A sweep: 10 ms per block, 0.6 times the throughput over other backends than sockets, rounds 1 % apart."""
    out = []
    for backend in backends:
        for k in cuts:
            for depth in depths:
                for number in range(rounds):
                    slow = (1 + 0.01 * number) * (1 if backend == "socket" else 1 / 0.6)
                    latency = slow * 0.25 * depth**0.5
                    execs = [0.01 * k * (1 + 0.01 * number), 0.01 * (21 - k) * (1 + 0.01 * number)]
                    out.append(
                        point(
                            k,
                            depth,
                            number,
                            execs[: 1 if k == 21 else 2],
                            latency_s=latency,
                            throughput_img_s=8 * depth / latency * (1 + 0.01 * k),
                            backend=backend,
                            **axes,
                        )
                    )
    return out


def measured(*records, directory="results/run", **run):
    """The one pipeline of a run, and its operating points."""
    (source,) = measured_pipelines(Path(directory), run_json(**run), compare_frame(frame_of_records(records)))
    return source, compare_points(source.frame)


def write(folder, records, schema=1, **run):
    """The run as a results directory."""
    return synthetic_run.write_run(folder, records, schema=schema, **run_json(**run))
