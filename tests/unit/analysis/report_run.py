"""A small run with everything that a report shows, and hostile texts wherever a host or a user can put one."""

from pathlib import Path

from tests.unit.analysis.synthetic_run import compared_sweep, failed, invalid, probe, write_run

HOSTILE = "<script>window.stolen = 1</script><img src=http://192.0.2.1/x onerror=alert(1)>"
DURESS = "duress-200ms-5mbit"
MODELS = ("mobilenet_v2", "resnet18")
ROUNDS = (0, 1, 2)


def records():
    found = []
    for model in MODELS:
        found += compared_sweep({"lan": 1, DURESS: 12}, "profile", 6, (1, 2), len(ROUNDS), model=model)
    found.append(failed(message=f"worker killed: {HOSTILE}", k=9, model=MODELS[0], n_stages=0, split_name="features.8"))
    found += [invalid(k=7, n_cuts=6, round_=r, latency_s=0.3, throughput_img_s=30.0) for r in ROUNDS[:2]]
    return [record | {"split_name": HOSTILE} if record["split"] == "P2" else record for record in found]


def run_json():
    link = {"delay_s": 0.2, "jitter_s": 0.0, "loss_pct": 0.0, "rate_bit_s": 5e6}
    tolerances = {"rtt_tolerance_pct": 5.0, "rate_tolerance_pct": 10.0}
    host = {"cpu_model": HOSTILE, "machine": "aarch64", "cpu_count": 4, "cpus": [0, 1, 2, 3], "threads": 4}
    return {
        "created_at": "2026-11-20T09:59:00+00:00",
        "testbed": "agents",
        "spec": {"rounds": len(ROUNDS), "weights": "random", "input": "synthetic", "warmup_batches": 3},
        "seed": 0,
        "inventory": {"path": "inventory/testbed.yml", "pipelines": {"pi-to-pi": ["pi1", "pi2"]}},
        "profiles": {"lan": {"links": {}} | tolerances, DURESS: {"links": {"first-egress": link}} | tolerances},
        "argv": ["pp-matrix", "run", "--out", "results/my run"],
        "versions": {"paretopipe": "0.1.0", "python": "3.11.7", "torch": {"pi1": "2.14.1", "pi2": "2.14.1"}},
        "git": {"commit": "8fdb842bc6af247eabeeac5815093f3b5a6dbe37", "dirty": True},
        "hosts": {"pi1": host | {"memory_total_bytes": 8e9}, "pi2": host},
        "cells": [],
    }


def probes():
    lan = [
        probe(when) | {"vitals": {"pi1": {"temperature_c": 61.0, "throttled": "0x0"}}} for when in ("before", "after")
    ]
    slow = [
        probe("before", segment="seg-1", profile=DURESS) | {"rtt_s": 0.2005, "bandwidth_bit_s": 4.9e6},
        probe("before", False, "round trip 0.25 s", "seg-2", DURESS) | {"rtt_s": 0.25, "bandwidth_bit_s": 4.7e6},
    ]
    return [*lan, *slow]


def make_run(directory: Path) -> Path:
    """Writes it and returns the directory."""
    return write_run(directory, records(), probes(), **run_json())
