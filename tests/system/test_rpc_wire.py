"""The bytes of the rpc backend cross the interface that is measured, and those of the hub route pass the hub.

Left to itself TensorPipe moves tensors between network namespaces of one machine through shared memory: a shaped
link between them would then shape nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Iterator

import pytest

from paretopipe_runtime.transport.backends import BACKENDS, Backend
from tests.rpc_stage import Stage, run_cell

ADDRESSES = ["10.98.7.1", "10.98.7.2", "10.98.7.3"]
INTERFACE = "data0"
ELEMENTS, BATCHES = 50_000, 20
PAYLOAD_BYTES = 4 * ELEMENTS * BATCHES


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def namespaces() -> Iterator[list[str]]:
    """Three namespaces, each joined to a bridge in a fourth by a veth pair."""
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    switch, *names = made = [f"pprpc-{os.getpid()}-{name}" for name in ("switch", "a", "b", "c")]
    try:
        for name in made:
            ip("netns", "add", name)
        ip("-n", switch, "link", "add", "bridge0", "type", "bridge")
        ip("-n", switch, "link", "set", "bridge0", "up")
        for index, name in enumerate(names):
            ip("-n", switch, "link", "add", f"port{index}", "type", "veth", "peer", "name", INTERFACE, "netns", name)
            ip("-n", switch, "link", "set", f"port{index}", "master", "bridge0", "up")
            ip("-n", name, "address", "add", f"{ADDRESSES[index]}/24", "dev", INTERFACE)
            for device in ("lo", INTERFACE):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture(scope="module")
def stages(namespaces: list[str]) -> Iterator[list[Stage]]:
    made = [Stage(namespace) for namespace in namespaces]
    yield made
    for stage in made:
        stage.end()


def counters(namespace: str) -> dict[str, int]:
    (link,) = json.loads(ip("-n", namespace, "-s", "-j", "link", "show", "dev", INTERFACE))
    return {way: link["stats64"][way]["bytes"] for way in ("rx", "tx")}


def crossed(namespaces: list[str], stages: list[Stage], backend: str) -> list[dict[str, int]]:
    """What a cell sends and receives at each stage's interface."""
    count = len(stages)
    before = [counters(name) for name in namespaces[:count]]
    answers = run_cell(
        stages,
        ADDRESSES[:count],
        backend=backend,
        interface=INTERFACE,
        group=f"{backend} {count}",
        secret=secrets.token_hex(32),
        elements=ELEMENTS,
        depths=(2,),
        batches=BATCHES,
    )
    assert answers[0]["bitwise"]
    after = [counters(name) for name in namespaces[:count]]
    return [{way: now[way] - then[way] for way in now} for then, now in zip(before, after, strict=True)]


@pytest.mark.parametrize("backend", ["socket", "rpc", "rpc-mpt_uv"])
def test_every_payload_crosses_the_interface(namespaces: list[str], stages: list[Stage], backend: str) -> None:
    bytes_at = crossed(namespaces, stages[:2], backend)
    for at in bytes_at:  # there and back
        assert at["tx"] > PAYLOAD_BYTES
        assert at["rx"] > PAYLOAD_BYTES
        # And once only: warm-up, fill and headers are well below one more of everything.
        assert at["tx"] < 1.6 * PAYLOAD_BYTES


def test_the_hub_route_leads_through_the_first_stage(namespaces: list[str], stages: list[Stage]) -> None:
    """Direct, each interface carries every payload once each way; by the hub, the first one carries a second one."""
    direct, hub = (crossed(namespaces, stages, backend) for backend in ("rpc", "rpc-hub"))
    for at in direct:
        assert PAYLOAD_BYTES < at["tx"] < 1.6 * PAYLOAD_BYTES
    assert all(2 * PAYLOAD_BYTES < hub[0][way] < 3 * PAYLOAD_BYTES for way in ("rx", "tx"))
    for at in hub[1:]:
        assert PAYLOAD_BYTES < at["tx"] < 1.6 * PAYLOAD_BYTES


def test_what_tensorpipe_would_choose_itself_passes_the_interface_by(
    namespaces: list[str], stages: list[Stage]
) -> None:
    """The tests above can fail: this is what they would see."""
    chosen_by_default = Backend("rpc", "rpc", ("shm", "uv"), ("cma", "mpt_uv", "basic"))
    for stage in stages[:2]:
        stage.ask("patch", module="backends", name="BACKENDS", value=BACKENDS | {"rpc": chosen_by_default})
    try:
        assert all(at["tx"] < PAYLOAD_BYTES / 2 for at in crossed(namespaces, stages[:2], "rpc"))
    finally:
        for stage in stages[:2]:
            stage.ask("patch", module="backends", name="BACKENDS", value=BACKENDS)
