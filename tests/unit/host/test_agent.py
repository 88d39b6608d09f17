"""What the end of a worker means, the control protocol, and an agent without a controller."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from paretopipe_runtime import __version__
from paretopipe_runtime.host.agent import death
from paretopipe_runtime.host.facts import host_facts, vitals
from paretopipe_runtime.host.protocol import MessageWriter, ProtocolError, read_messages
from paretopipe_runtime.host.worker import _compute_error


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [(-9, "worker-killed", "(137)"), (-11, "worker-died", "SIGSEGV"), (3, "worker-died", "exited with 3")],
)
def test_the_end_of_a_worker_names_host_and_cause(code: int, kind: str, said: str) -> None:
    error = death(code, "pi1")
    assert error["kind"] == kind
    assert "pi1" in error["message"]
    assert said in error["message"]
    assert error["remedy"]


def test_an_allocation_that_fails_is_called_out_of_memory() -> None:
    torch_says = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 1e12 bytes"
    assert _compute_error(torch_says)["kind"] == "out-of-memory"
    assert _compute_error("mat1 and mat2 shapes cannot be multiplied")["kind"] == "compute"


def test_messages_are_whole_lines() -> None:
    stream = io.BytesIO()
    MessageWriter(stream).write({"id": 1, "result": {"text": "two\nlines"}})
    assert stream.getvalue().count(b"\n") == 1
    stream.seek(0)
    assert list(read_messages(stream)) == [{"id": 1, "result": {"text": "two\nlines"}}]


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b'{"id": 1', b"\xff\xfe\n"])
def test_what_is_not_a_message_is_an_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(read_messages(io.BytesIO(line)))


def test_facts_are_json_and_null_where_there_is_nothing() -> None:
    facts = host_facts("127.0.0.1")
    json.dumps(facts, allow_nan=False)
    assert facts["data_interface"]["name"] == "lo"
    assert host_facts("203.0.113.9")["data_interface"] is None
    assert set(vitals()) == {"cpu_frequency_hz", "temperature_c", "throttled", "load_1min"}


def test_an_agent_ends_with_its_controller_and_knows_its_version() -> None:
    agent = [sys.executable, "-m", "paretopipe_runtime.host.agent"]
    done = subprocess.run(agent, input=b"", capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    version = subprocess.run([*agent, "--version"], capture_output=True, text=True, timeout=20, check=True)
    assert version.stdout == f"pp-agent {__version__}\n"
    assert subprocess.run([*agent, "--what"], capture_output=True, timeout=20, check=False).returncode == 2


def test_garbage_from_a_controller_ends_the_agent() -> None:
    agent = [sys.executable, "-m", "paretopipe_runtime.host.agent"]
    done = subprocess.run(agent, input=b"GET / HTTP/1.0\r\n", capture_output=True, timeout=20, check=False)
    assert b"not a control message" in done.stderr
    assert b"Traceback" not in done.stderr
