"""A blank Raspberry Pi 4, emulated, becomes one end of a measured pipeline. In order: each test needs those before it.

Emulated compute is 20 to 50 times slower than the chip's: this proves function, its times mean nothing.
"""

import json
import signal
import time
from typing import Any

import pytest

from tests.pi.emulation import ATOMIC_ADDITION, HWCAP_ATOMICS, MACHINE_CODE_PROGRAM, RETURN
from tests.pi.image import TORCH, TORCHVISION
from tests.pi.testbed import PIPELINES, Testbed

MODELS = ("mobilenet_v2", "resnet18")
# Different BLAS and instruction sets sum in different orders; float32 keeps about 1e-6 through these models.
MAX_RELATIVE_ERROR = 1e-4
AUXV_HWCAP = 16  # getauxval(3)


def _timed(result: dict[str, Any], what: str, start_s: float) -> None:
    result["durations_s"][what] = round(time.monotonic() - start_s)


def _shaped_bytes(statistics: dict[str, Any]) -> int:
    """Bytes that went through a host's shaper, as it counts them (netem's leaf, or the way into the wire)."""
    if "qdiscs" in statistics:
        return sum(qdisc["bytes"] for qdisc in statistics["qdiscs"] if qdisc["kind"] == "netem")
    return int(statistics["entry"]["bytes"])


def test_it_is_a_cortex_a72_to_its_programs(testbed: Testbed) -> None:
    hwcap = f"import ctypes; print(ctypes.CDLL(None).getauxval({AUXV_HWCAP}))"
    for prefix in ("", "sudo -n "):
        said = testbed.on_pi(f'{prefix}uname -m; {prefix}python3 -c "{hwcap}"').split()
        assert said[0] == "aarch64"
        assert int(said[1]) & HWCAP_ATOMICS == 0, "the emulated CPU claims instructions that a Cortex-A72 lacks"
        for code, status in ((RETURN, 0), (ATOMIC_ADDITION, 128 + signal.SIGILL)):
            words = f"{prefix}python3 -c '{MACHINE_CODE_PROGRAM}' {code} 2>/dev/null; echo $?"
            assert int(testbed.on_pi(words)) == status


def test_it_is_blank(testbed: Testbed) -> None:
    system = testbed.on_pi("dpkg --print-architecture; . /etc/os-release; echo $VERSION_CODENAME")
    assert system.split() == ["arm64", "bookworm"]
    assert testbed.on_pi("ls /opt; python3 -c 'import ensurepip' 2>/dev/null || echo no").split() == ["no"]


def test_the_playbook_provisions_it(testbed: Testbed, result: dict[str, Any]) -> None:
    start_s = time.monotonic()
    done, changed = testbed.provision()
    assert done.status == 0, done.output[-6000:]
    _timed(result, "provisioning a blank host", start_s)
    assert changed["pi"] > 0
    versions = (
        "import json, torch, torchvision, numpy; print(json.dumps([m.__version__ for m in (torch, torchvision)]))"
    )
    said = json.loads(testbed.on_pi(f'/opt/paretopipe/venv/bin/python -c "{versions}"'))
    assert [version.partition("+")[0] for version in said] == [TORCH, TORCHVISION]


def test_a_second_run_of_the_playbook_changes_nothing(testbed: Testbed, result: dict[str, Any]) -> None:
    start_s = time.monotonic()
    done, changed = testbed.provision()
    assert done.status == 0, done.output[-6000:]
    _timed(result, "provisioning again", start_s)
    assert changed == {"pi": 0, "x86": 0}, done.output[-6000:]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_pipeline_computes_what_the_whole_model_computes(
    testbed: Testbed, result: dict[str, Any], pipeline: str
) -> None:
    out = testbed.directory / pipeline
    start_s = time.monotonic()
    done = testbed.matrix(
        pipeline,
        out,
        *(word for model in MODELS for word in ("--model", model)),
        *("--split", "P2", "--batch-size", "1", "--depth", "1,2", "--batches", "5", "--rounds", "1"),
    )
    _timed(result, f"measuring {pipeline}", start_s)
    lines = (out / "records.jsonl").read_text().splitlines() if (out / "records.jsonl").is_file() else []
    records = [json.loads(line) for line in lines]
    result["pipelines"][pipeline] = {"records": records}
    assert done.status == 0, done.output[-4000:]
    assert {(record["model"], record["depth"]) for record in records} == {(m, d) for m in MODELS for d in (1, 2)}

    for record in records:
        assert record["status"] == "ok", record["error"]
        assert record["valid"], record["invalid_reason"]
        assert record["profile"] == testbed.profile
        assert record["shaper"] in ("tc", "wirefilter")
        assert record["rtt_s"] == pytest.approx(0.040, rel=0.1)
        assert record["bandwidth_bit_s"] == pytest.approx(20e6, rel=0.1)
        assert 0 <= record["output_max_rel_err"] < MAX_RELATIVE_ERROR
        assert [stage["host"] for stage in record["stages"]] == PIPELINES[pipeline]
        assert all(stage["exec_s"] > 0 for stage in record["stages"])
        assert record["bytes_per_batch"] > 0
        assert record["window_batches"] == 5
        assert record["latency_s"] > 0.040
        assert record["throughput_img_s"] > 0
        assert (record["network_s"] is not None) == (record["depth"] == 1)
        assert record["graph_hash"]
        assert record["weight_hash"]

    # The activations crossed the shaped link: its own counters between the two probes of the run.
    probes = [json.loads(line) for line in (out / "probes.jsonl").read_text().splitlines()]
    assert [(probe["when"], probe["ok"]) for probe in probes] == [("before", True), ("after", True)]
    before, after = (_shaped_bytes(probe["network"][PIPELINES[pipeline][0]]["statistics"]) for probe in probes)
    assert after - before > sum(record["window_batches"] * record["bytes_per_batch"] for record in records)

    hosts = json.loads((out / "run.json").read_text())["hosts"]
    keys = ("machine", "cpu_model", "os", "torch", "torchvision")
    result["hosts"] = {name: {key: hosts[name][key] for key in keys} for name in ("pi", "x86")}
    assert hosts["pi"]["machine"] == "aarch64"
    assert "Raspberry Pi 4" in hosts["pi"]["cpu_model"]
    assert hosts["x86"]["machine"] == "x86_64"
    assert hosts["pi"]["torch"].partition("+")[0] == hosts["x86"]["torch"].partition("+")[0] == TORCH
    for host in ("pi", "x86"):
        status = json.loads(testbed.network_status(host))
        assert status["active"] is None, f"{host} is still shaped"
