"""Virtual hosts are apart from each other and from this machine, heal when made again, and go without a trace."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.conftest import VirtualTestbed, changes, own_set

LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], 5000))
print("listening", flush=True)
connection, _ = server.accept()
total = 0
while data := connection.recv(1 << 16):
    total += len(data)
print(total)
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5000)) as connection:
    for _ in range(int(sys.argv[2]) >> 16):
        connection.sendall(bytes(1 << 16))
"""


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualTestbed]:
    """A set for tests that break things; in which state it is found, nobody knows."""
    with own_set(tmp_path_factory.mktemp("spare"), "ppu", 82) as testbed:
        yield testbed


def on_this_machine(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout


def counters(testbed: VirtualTestbed, host: str) -> dict[str, int]:
    """Bytes received and sent by each interface of a host, such as {"data0 tx": 1234}."""
    names = [f"{interface} {way}" for interface in ("ctl0", "data0", "lo") for way in ("rx", "tx")]
    paths = ["/sys/class/net/{}/statistics/{}_bytes".format(*name.split()) for name in names]
    values = testbed.ssh(host, "cat", *paths).stdout.split()
    return {name: int(value) for name, value in zip(names, values, strict=True)}


def traces(testbed: VirtualTestbed) -> list[str]:
    """What this machine has of a set."""
    names = re.split(r"[\s@:]+", on_this_machine("ip", "netns") + on_this_machine("ip", "-o", "link"))
    for folder in ("/var/lib", "/opt", "/run", "/etc/netns", "/run/netns"):
        names += [path.name for path in Path(folder).glob("*")]
    return [name for name in names if name.startswith(testbed.prefix)]


def program(pid: int) -> str | None:
    """What a process runs; None where it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None


def pids(testbed: VirtualTestbed, host: str, *programs: str) -> set[int]:
    """A host's processes; with `programs`, those that run one of them."""
    found = on_this_machine("ip", "netns", "pids", f"{testbed.prefix}-{host}").split()
    return {int(pid) for pid in found if not programs or program(int(pid)) in programs}


def alive(processes: set[int]) -> set[int]:
    """Those that have not ended; an ended one may still wait for its parent to ask."""
    running = set()
    for pid in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                running.add(pid)
    return running


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_made_again_nothing_changes(virtual_testbed: VirtualTestbed) -> None:
    assert virtual_testbed.create() == {"pi1": 0, "pi2": 0}
    assert changes(virtual_testbed.ansible("virtual.yml", "--check")) == {"pi1": 0, "pi2": 0}


def test_hosts_are_apart(virtual_testbed: VirtualTestbed) -> None:
    look = "hostname; readlink /proc/self/ns/net /proc/self/ns/uts /proc/self/ns/pid; ps -e | wc -l"
    seen = {host: virtual_testbed.ssh(host, "sh", "-c", look).stdout.split() for host in virtual_testbed.hosts}
    here = [str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in ("net", "uts", "pid")]
    assert [values[0] for values in seen.values()] == virtual_testbed.hosts
    for number, own in enumerate(here, 1):
        assert len({own, *(values[number] for values in seen.values())}) == 3
    # sshd, its session, the shell, ps and wc
    assert all(int(values[4]) < 10 for values in seen.values())

    keys = [(virtual_testbed.state / host / "ssh_host_ed25519_key.pub").read_text() for host in virtual_testbed.hosts]
    assert len(set(keys)) == 2


def test_hosts_have_what_the_inventory_says(virtual_testbed: VirtualTestbed) -> None:
    for host, variables in virtual_testbed.variables.items():
        cores = "import os; print(*sorted(os.sched_getaffinity(0)))"
        assert virtual_testbed.ssh(host, "python3", "-c", cores).stdout.split() == [
            str(core) for core in variables["paretopipe_cpus"]
        ]
        addresses = virtual_testbed.ssh(host, "ip", "-brief", "address", "show", "data0").stdout
        assert f"{variables['paretopipe_data_address']}/24" in addresses
        for other, theirs in virtual_testbed.variables.items():
            assert virtual_testbed.ssh(host, "getent", "hosts", other).stdout.split() == [
                theirs["paretopipe_data_address"],
                other,
            ]


def test_only_the_right_keys_are_accepted(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    def refused(key: Path | None = None, known_hosts: Path | None = None) -> str:
        command = virtual_testbed.ssh_command("pi1", key, known_hosts)
        run = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=30)
        assert run.returncode == 255, run.stderr
        return run.stderr

    assert virtual_testbed.ssh("pi1", "true").returncode == 0
    lines = [line.split(maxsplit=1) for line in (virtual_testbed.state / "known_hosts").read_text().splitlines()]
    assert len(lines) == 2
    swapped = tmp_path / "swapped"
    swapped.write_text(f"{lines[0][0]} {lines[1][1]}\n{lines[1][0]} {lines[0][1]}\n")
    assert "Host key verification failed" in refused(known_hosts=swapped)
    (tmp_path / "empty").touch()
    assert "Host key verification failed" in refused(known_hosts=tmp_path / "empty")
    on_this_machine("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger"))
    assert "Permission denied" in refused(key=tmp_path / "stranger")


def test_data_crosses_the_data_link_only(virtual_testbed: VirtualTestbed) -> None:
    size = 16 << 20
    address = virtual_testbed.variables["pi2"]["paretopipe_data_address"]
    before = {host: counters(virtual_testbed, host) for host in virtual_testbed.hosts}
    listen = [*virtual_testbed.ssh_command("pi2"), f"timeout 30 python3 -c '{LISTEN}' {address}"]
    with subprocess.Popen(listen, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "listening\n"
        assert virtual_testbed.ssh("pi1", "python3", "-c", SEND, address, str(size)).returncode == 0
        assert listening.stdout.read() == f"{size}\n"
    after = {host: counters(virtual_testbed, host) for host in virtual_testbed.hosts}
    grown = {host: {name: after[host][name] - before[host][name] for name in after[host]} for host in after}
    # Headers come on top: 66 bytes per packet, and a packet has 1448 bytes where the link does not take larger ones;
    # and, on a machine that is busy, what TCP sends again.
    assert size <= grown["pi1"]["data0 tx"] < 1.25 * size
    assert size <= grown["pi2"]["data0 rx"] < 1.25 * size
    for host in virtual_testbed.hosts:
        assert all(grown[host][name] < 200_000 for name in ("ctl0 tx", "ctl0 rx", "lo tx", "lo rx")), grown[host]


def test_this_machine_is_not_on_the_data_network(virtual_testbed: VirtualTestbed) -> None:
    links = on_this_machine("ip", "-o", "address") + on_this_machine("ip", "-o", "link")
    assert f"{virtual_testbed.control}.1/24" in links
    assert f"{virtual_testbed.data}." not in links
    assert "port11" not in links


@pytest.mark.parametrize("taken", ["interface", "namespace"])
def test_a_name_that_is_taken_is_named_and_left_alone(spare: VirtualTestbed, taken: str) -> None:
    if spare.state.exists():
        spare.destroy()
    with contextlib.ExitStack() as undo:
        if taken == "interface":
            name = f"{spare.prefix}ctl11"
            on_this_machine("ip", "link", "add", name, "type", "bridge")
            undo.callback(on_this_machine, "ip", "link", "delete", name)
        else:
            name = f"{spare.prefix}-pi2"
            on_this_machine("ip", "netns", "add", name)
            undo.callback(on_this_machine, "ip", "netns", "delete", name)
        run = spare.ansible("virtual.yml")
        assert run.returncode != 0
        assert f"{name} is there and was not made by this role; set virtual_host_prefix" in " ".join(run.stdout.split())
        assert set(traces(spare)) == {name}


def test_a_subnet_that_is_taken_is_named(virtual_testbed: VirtualTestbed, tmp_path: Path) -> None:
    # Another set with the same addresses.
    with own_set(tmp_path, "ppv", 80) as twin:
        run = twin.ansible("virtual.yml")
        assert run.returncode != 0
        message = " ".join(run.stdout.split())
        assert f"{virtual_testbed.prefix}ctl0 has 10.77.80.1/24, which overlaps with 10.77.80.0/24" in message
        assert "set virtual_host_control_subnet" in message
        assert traces(twin) == []


def test_wrong_variables_are_all_named(virtual_testbed: VirtualTestbed) -> None:
    wrong = {
        "virtual_host_prefix": "much-too-long",
        "virtual_host_data_subnet": "10.77.0.0/16",
        "paretopipe_root": "/opt",
        "paretopipe_state_dir": "/run/somebody/else",
        "paretopipe_data_interface": "eth0",
    }
    run = virtual_testbed.ansible("virtual.yml", *(word for name in wrong for word in ("-e", f"{name}={wrong[name]}")))
    assert run.returncode != 0
    assert [name for name in wrong if f"host pi1: {name}:" not in run.stdout] == []


def test_after_a_restart_of_this_machine_hosts_are_made_again(spare: VirtualTestbed) -> None:
    spare.create()
    known = (spare.state / "known_hosts").read_text()
    # What a restart leaves: files, of which none is from this start; no processes, namespaces and links.
    for pid in pids(spare, "pi1") | pids(spare, "pi2"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for namespace in (f"{spare.prefix}-pi1", f"{spare.prefix}-pi2", f"{spare.prefix}data0"):
        on_this_machine("ip", "netns", "delete", namespace)
        Path("/run/netns", namespace).touch()  # where /run is no tmpfs
    on_this_machine("ip", "link", "delete", f"{spare.prefix}ctl0")
    wait_for(lambda: f"{spare.prefix}ctl" not in on_this_machine("ip", "link"))
    for noted in spare.state.rglob("boot_id"):
        noted.write_text("00000000-0000-0000-0000-000000000000\n")

    changed = spare.create()
    assert all(number > 0 for number in changed.values())
    assert spare.ssh("pi1", "ping", "-c1", "-W2", "pi2").returncode == 0
    assert (spare.state / "known_hosts").read_text() == known
    assert spare.create() == {"pi1": 0, "pi2": 0}


def test_broken_hosts_are_made_again(spare: VirtualTestbed) -> None:
    spare.create()
    old = pids(spare, "pi1") | pids(spare, "pi2")
    on_this_machine("ip", "netns", "delete", f"{spare.prefix}-pi1")  # its processes run on, out of sight
    on_this_machine("ip", "-n", f"{spare.prefix}-pi2", "link", "delete", "data0")
    kept, lost = (Path(f"/{folder}/{spare.prefix}-virtual/pi2/file") for folder in ("opt", "run"))
    for path in (kept, lost):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    changed = spare.create()
    assert all(number > 0 for number in changed.values())
    assert alive(old) == set()
    assert kept.exists()
    assert not lost.exists()  # as after a restart of a host
    assert spare.ssh("pi1", "ping", "-c1", "-W2", "pi2").returncode == 0

    os.kill(max(pids(spare, "pi2")), signal.SIGKILL)  # sshd
    changed = spare.create()
    assert changed["pi1"] == 0
    assert changed["pi2"] > 0
    assert spare.ssh("pi2", "ping", "-c1", "-W2", "pi1").returncode == 0


def test_removed_without_a_trace(virtual_testbed: VirtualTestbed, spare: VirtualTestbed) -> None:
    spare.create()
    assert len(traces(spare)) > 10
    with subprocess.Popen(
        [*spare.ssh_command("pi1"), "setsid sleep 60 </dev/null >/dev/null 2>&1 & sleep 60"], stdin=subprocess.DEVNULL
    ) as session:
        # Somebody else's program in the host's network, outside its processes.
        with subprocess.Popen(["ip", "netns", "exec", f"{spare.prefix}-pi1", "sleep", "60"]) as stray:
            wait_for(lambda: len(pids(spare, "pi1", "sleep")) == 3)
            first, second = pids(spare, "pi1", "unshare", "sshd", "sleep"), pids(spare, "pi2")
            assert stray.pid in first

            changes(spare.ansible("virtual.yml", "-e", "virtual_host_state=absent", "--limit", "pi2"))
            assert alive(second) == set()
            assert alive(first) == first
            assert not [name for name in traces(spare) if "pi2" in name or name == f"{spare.prefix}ctl12"]

            spare.destroy()
            assert alive(first - {stray.pid}) == set()
            assert stray.wait(timeout=5) == -signal.SIGKILL
        assert session.wait(timeout=10) == 255  # its connection ended
    assert traces(spare) == []
    assert spare.destroy() == {"pi1": 0, "pi2": 0}
    assert [virtual_testbed.ssh(host, "true").returncode for host in virtual_testbed.hosts] == [0, 0]
