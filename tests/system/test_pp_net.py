"""pp-net on real network namespaces: what it imposes, and that nothing of it stays. Needs root, iproute2 and vde2.

Two hosts on one veth pair; the second has two addresses, of which one is the peer. Both share this machine's clock, so
one-way times are differences of one clock. Where the kernel has netem, everything is also run with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from paretopipe_runtime.network.processes import identify, is_alive

NOBODY = pwd.getpwnam("nobody")
PP_NET = (sys.executable, "-m", "paretopipe_runtime.network.cli")
# The interpreter may lie where only root can start it, so it becomes nobody after it has started.
AS_NOBODY = f"""\
import os, pathlib, sys
from paretopipe_runtime.network import cli, lease
os.setgroups([])
os.setgid({NOBODY.pw_gid})
os.setuid({NOBODY.pw_uid})
"""
PP_NET_AS_NOBODY = (sys.executable, "-c", AS_NOBODY + "cli.main()")
OWN, PEER, BYSTANDER = "10.81.1.1", "10.81.1.2", "10.81.1.3"
OWN6, PEER6 = "fd81::1", "fd81::2"
DURESS = ("--delay", "200ms", "--rate", "5mbit")
_CLONE_NEWNET = 0x40000000


def sh(*args: object) -> str:
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{args}: {done.stderr}"
    return done.stdout


def has_netem() -> bool:
    trial = ["unshare", "--net", "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    return subprocess.run(trial, capture_output=True).returncode == 0


NETEM = has_netem()
SHAPERS = ["wirefilter", *(["tc"] if NETEM else [])]


@dataclass
class Pair:
    """Two hosts; the first is the one that is shaped."""

    first: str
    second: str
    state_dir: Path
    others: list[Path] = field(default_factory=list)

    def call(
        self, *args: object, state_dir: Path | None = None, program: tuple[str, ...] = PP_NET
    ) -> subprocess.CompletedProcess[str]:
        where = ["--state-dir", str(state_dir or self.state_dir)] if args[0] != "shapers" else []
        command = ["ip", "netns", "exec", self.first, *program, *map(str, args), *where]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def net(self, *args: object, **options: Any) -> dict[str, Any]:
        done = self.call(*args, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)  # type: ignore[no-any-return]

    def refused(self, *args: object, **options: Any) -> str:
        done = self.call(*args, **options)
        assert done.returncode == 1, f"{done.returncode}: {done.stdout} {done.stderr}"
        assert done.stderr.count("\n") == 1, f"not one line: {done.stderr}"
        assert not done.stdout
        return done.stderr

    def apply(self, *args: object, **options: Any) -> dict[str, Any]:
        return self.net(*self.asking(*args), **options)

    def asking(self, *args: object) -> list[object]:
        return ["apply", "--interface", "data0", "--profile", "test", "--peer", PEER, *args]

    def lease_age_s(self) -> float:
        return float(self.net("status")["lease"]["age_s"])

    def snapshot(self) -> dict[str, Any]:
        """Everything of the first host that shaping might touch, dynamic neighbours left out."""
        inside = ("ip", "netns", "exec", self.first)
        return {
            "links": sh(*inside, "ip", "-o", "link", "show"),
            "routes": sh(*inside, "ip", "route", "show", "table", "all"),
            "routes6": sh(*inside, "ip", "-6", "route", "show", "table", "all"),
            "neighbours": sh(*inside, "ip", "neigh", "show", "nud", "permanent"),
            "qdiscs": re.sub(r"direct_packets_stat \d+", "", sh(*inside, "tc", "qdisc", "show")),
            "rp_filter": sh(
                *inside, "sh", "-c", "grep -s . /proc/sys/net/ipv4/conf/*/rp_filter; true"
            ),  # links may go meanwhile
            "offloads": sh(*inside, "ethtool", "-k", "data0"),
            "processes": processes_in(self.first),
            "state": sorted(p.name for p in self.state_dir.glob("network/*") if p.name in ("state.json", "lease")),
        }


def processes_in(namespace: str) -> list[str]:
    inode = Path(f"/run/netns/{namespace}").stat().st_ino
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/net").stat().st_ino == inode and identify(int(process.name)):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is not ours to look into
            continue
    return sorted(found)


@pytest.fixture
def pair() -> Iterator[Pair]:
    tag = f"ppnet-{os.getpid()}"
    hosts = Pair(f"{tag}-a", f"{tag}-b", Path(tempfile.mkdtemp(prefix=f"{tag}-", dir="/run")))
    hosts.state_dir.chmod(0o755)
    try:
        for namespace in (hosts.first, hosts.second):
            sh("ip", "netns", "add", namespace)
            sh("ip", "-n", namespace, "link", "set", "lo", "up")
        sh("ip", "link", "add", "data0", "netns", hosts.first, "type", "veth", "peer", "data0", "netns", hosts.second)
        addresses = {hosts.first: (OWN, OWN6), hosts.second: (PEER, BYSTANDER, PEER6)}
        for namespace, mine in addresses.items():
            for address in mine:
                bits = ("64", "nodad") if ":" in address else ("24",)
                sh("ip", "-n", namespace, "address", "add", f"{address}/{bits[0]}", "dev", "data0", *bits[1:])
            # Link-local addresses are there at once, and so belong to "before".
            sh("ip", "netns", "exec", namespace, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/data0/accept_dad")
            sh("ip", "-n", namespace, "link", "set", "data0", "up")
        yield hosts
    finally:
        for state_dir in (hosts.state_dir, *hosts.others):
            hosts.call("restore", state_dir=state_dir)
            shutil.rmtree(state_dir)
        for namespace in (hosts.first, hosts.second):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def wait_until(condition: Callable[[], object], latest_s: float) -> None:
    deadline = time.monotonic() + latest_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def socket_in(namespace: str, kind: int, family: int = socket.AF_INET) -> socket.socket:
    """A socket that lives in a namespace (setns(2) is per thread, a socket stays where it was made)."""
    made: list[socket.socket] = []

    def make() -> None:
        with Path(f"/run/netns/{namespace}").open() as file:
            assert ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) == 0
        made.append(socket.socket(family, kind))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    made[0].settimeout(30)
    return made[0]


def one_way_ms(source: str, target: str, address: str, packets: int = 8) -> list[float]:
    """Times of single datagrams from one namespace to an address in another, on this machine's one clock."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    times = []
    with (
        socket_in(target, socket.SOCK_DGRAM, family) as receiver,
        socket_in(source, socket.SOCK_DGRAM, family) as sender,
    ):
        receiver.bind((address, 0))
        for _ in range(packets):
            sender.sendto(str(time.monotonic()).encode(), (address, receiver.getsockname()[1]))
            sent = float(receiver.recv(100))
            times.append((time.monotonic() - sent) * 1e3)
    return times


def mbit_s(source: str, target: str, address: str, nbytes: int, skip: int = 0) -> float:
    """Receiver-side rate of one TCP flow, after the first `skip` bytes."""
    with socket_in(target, socket.SOCK_STREAM) as listener, socket_in(source, socket.SOCK_STREAM) as sender:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]

        def send() -> None:
            sender.connect((address, port))
            sender.sendall(bytes(nbytes))
            sender.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        receiver, _ = listener.accept()
        receiver.settimeout(30)
        received, started, counted_from = 0, time.monotonic(), 0
        with receiver:
            while part := receiver.recv(1 << 18):
                received += len(part)
                if received <= skip:
                    started, counted_from = time.monotonic(), received
        elapsed_s = time.monotonic() - started
        thread.join()
    assert received == nbytes
    return (received - counted_from) * 8 / elapsed_s / 1e6


@pytest.fixture(params=SHAPERS)
def shaper(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--shaper", request.param


def test_shapers_tells_what_the_kernel_does(pair: Pair) -> None:
    told = pair.net("shapers")
    assert told["wirefilter"] == {"available": True, "reason": None}
    assert told["tc"]["available"] is NETEM
    assert NETEM or "no netem in kernel" in told["tc"]["reason"]
    assert pair.apply("--delay", "1ms")["shaper"] == ("tc" if NETEM else "wirefilter")


def test_only_packets_to_the_peer_are_delayed(pair: Pair, shaper: tuple[str, str]) -> None:
    assert max(one_way_ms(pair.first, pair.second, PEER)) < 20
    pair.apply(*DURESS, *shaper)
    assert statistics.median(one_way_ms(pair.first, pair.second, PEER)) == pytest.approx(200, rel=0.02)
    assert statistics.median(one_way_ms(pair.first, pair.second, BYSTANDER)) < 5
    assert statistics.median(one_way_ms(pair.second, pair.first, OWN)) < 5
    pair.net("restore")
    assert max(one_way_ms(pair.first, pair.second, PEER)) < 20


def test_the_round_trip_has_the_delay_once(pair: Pair, shaper: tuple[str, str]) -> None:
    pair.apply(*DURESS, *shaper)
    told = sh("ip", "netns", "exec", pair.first, "ping", "-c", "10", "-i", "0.1", PEER)
    times = [float(text) for text in re.findall(r"time=([\d.]+) ms", told)]
    assert len(times) == 10
    assert statistics.median(times) == pytest.approx(200, rel=0.02)


def test_only_packets_to_the_peer_are_paced(pair: Pair, shaper: tuple[str, str]) -> None:
    pair.apply(*DURESS, *shaper)
    nbytes = 2_000_000
    assert mbit_s(pair.first, pair.second, PEER, nbytes, skip=200_000) == pytest.approx(5, rel=0.1)
    assert mbit_s(pair.first, pair.second, BYSTANDER, 50_000_000) > 200
    moved = pair.net("status")["statistics"]
    through = moved["exit"] if shaper[1] == "wirefilter" else moved["qdiscs"][-1]
    assert through["bytes"] > nbytes
    assert through["packets"] > nbytes / 1500


def test_what_comes_back_is_not_paced(pair: Pair, shaper: tuple[str, str]) -> None:
    """By datagrams, because TCP would be held up by its delayed acknowledgements."""
    pair.apply("--rate", "1mbit", *shaper)
    with socket_in(pair.first, socket.SOCK_DGRAM) as receiver, socket_in(pair.second, socket.SOCK_DGRAM) as sender:
        receiver.bind((OWN, 0))
        sender.bind((PEER, 0))
        started = time.monotonic()
        for _ in range(1000):
            sender.sendto(bytes(1400), receiver.getsockname())
            receiver.recv(2000)
        assert 1000 * 1400 * 8 / (time.monotonic() - started) > 20e6


def test_ipv6_peers(pair: Pair, shaper: tuple[str, str]) -> None:
    before = pair.snapshot()
    pair.apply("--peer", PEER6, "--delay", "50ms", *shaper)
    for address in (PEER, PEER6):
        assert statistics.median(one_way_ms(pair.first, pair.second, address)) == pytest.approx(50, abs=5)
    pair.net("restore")
    assert pair.snapshot() == before


def test_loss_and_jitter(pair: Pair, shaper: tuple[str, str]) -> None:
    pair.apply("--delay", "20ms", "--jitter", "10ms", *shaper)
    times = one_way_ms(pair.first, pair.second, PEER, 60)
    assert statistics.mean(times) == pytest.approx(20, abs=3)
    assert 9 < min(times) < 15
    assert 25 < max(times) < 35
    pair.apply("--loss", "20%", *shaper)
    told = sh("ip", "netns", "exec", pair.first, "ping", "-q", "-c", "300", "-i", "0.003", PEER)
    received = int(re.search(r"(\d+) received", told)[1])  # type: ignore[index]
    assert 0.69 * 300 < received < 0.91 * 300  # 80 %, almost five standard deviations either way


def test_asking_again_only_renews(pair: Pair, shaper: tuple[str, str]) -> None:
    first = pair.apply(*DURESS, *shaper)
    shaped = pair.snapshot()
    time.sleep(0.5)
    assert pair.lease_age_s() > 0.5
    again = pair.apply(*DURESS, *shaper)
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["guard"] == first["guard"]
    assert pair.lease_age_s() < 0.5
    assert pair.snapshot() == shaped


def test_asking_for_something_else_replaces(pair: Pair, shaper: tuple[str, str]) -> None:
    first = pair.apply(*DURESS, *shaper)
    second = pair.apply("--delay", "30ms", *shaper)
    assert second["changed"] is True
    assert statistics.median(one_way_ms(pair.first, pair.second, PEER)) == pytest.approx(30, abs=5)
    assert identify(first["guard"]) is None


def test_two_at_once_are_done_one_after_the_other(pair: Pair, shaper: tuple[str, str]) -> None:
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(pair.apply(*DURESS, *shaper))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer["changed"] for answer in answers) == [False, False, True]


@pytest.mark.parametrize("strictness", ["0", "1", "2"])
def test_restore_leaves_everything_as_it_was(pair: Pair, shaper: tuple[str, str], strictness: str) -> None:
    conf = "/proc/sys/net/ipv4/conf/data0/rp_filter"
    sh("ip", "netns", "exec", pair.first, "sh", "-c", f"echo {strictness} > {conf}")
    before = pair.snapshot()
    pair.apply(*DURESS, *shaper)
    assert pair.snapshot() != before
    assert statistics.median(one_way_ms(pair.second, pair.first, OWN)) < 5, "the peer's packets do not get in"
    told = sh("ip", "netns", "exec", pair.first, "ping", "-c", "2", "-i", "0.1", PEER)
    assert "2 received" in told
    assert pair.net("restore")["changed"] is True
    assert pair.snapshot() == before
    assert pair.net("restore")["changed"] is False


def test_check_changes_nothing(pair: Pair, shaper: tuple[str, str]) -> None:
    before = pair.snapshot()
    told = pair.apply(*DURESS, *shaper, "--check")
    assert (told["changed"], told["check"], told["shaper"]) == (True, True, shaper[1])
    assert pair.snapshot() == before
    assert not list(pair.state_dir.iterdir())
    pair.apply(*DURESS, *shaper)
    shaped = pair.snapshot()
    age_s = pair.lease_age_s()
    assert pair.apply(*DURESS, *shaper, "--check")["changed"] is False
    assert pair.apply("--delay", "9ms", *shaper, "--check")["changed"] is True
    assert pair.net("restore", "--check")["changed"] is True
    assert pair.snapshot() == shaped
    assert pair.lease_age_s() > age_s, "a check renewed the lease"


def renew_as_nobody(pair: Pair) -> subprocess.CompletedProcess[str]:
    code = AS_NOBODY + "lease.renew(pathlib.Path(sys.argv[1]))"
    return subprocess.run([sys.executable, "-c", code, pair.state_dir], capture_output=True, text=True)


def test_the_host_restores_itself_when_nobody_renews(pair: Pair, shaper: tuple[str, str]) -> None:
    before = pair.snapshot()
    lease_s = 2.0
    pair.apply(*DURESS, *shaper, "--lease-s", lease_s, "--lease-owner", "nobody")
    shaped = pair.snapshot()
    until = time.monotonic() + 2 * lease_s
    while time.monotonic() < until:
        done = renew_as_nobody(pair)
        assert done.returncode == 0, done.stderr
        time.sleep(0.3)
    assert pair.snapshot() == shaped
    last = time.monotonic()
    wait_until(lambda: pair.snapshot() == before, lease_s + 4)
    assert time.monotonic() - last > lease_s / 2
    assert "the lease was not renewed" in pair.net("status")["guard_log"][0]
    done = renew_as_nobody(pair)
    assert "nothing is shaped on this host any more" in done.stderr
    assert "LeaseError" in done.stderr


def test_only_its_owner_renews_the_lease(pair: Pair) -> None:
    pair.apply(*DURESS)
    assert "cannot renew" in renew_as_nobody(pair).stderr
    pair.net("restore")
    assert "no user 'nobody-here'" in pair.refused(*pair.asking(*DURESS, "--lease-owner", "nobody-here"))


def test_status_needs_no_root(pair: Pair, shaper: tuple[str, str]) -> None:
    applied = pair.apply(*DURESS, *shaper)
    told = pair.net("status", program=PP_NET_AS_NOBODY)
    assert told["active"]["profile"] == "test"
    assert told["active"]["shaper"] == shaper[1]
    assert told["active"]["phase"] == "active"
    assert told["guard"] == {"pid": applied["guard"], "alive": True}
    assert 0 <= told["lease"]["age_s"] < 10
    assert told["statistics"]
    assert "needs root" in pair.refused("restore", program=PP_NET_AS_NOBODY)


def test_a_killed_guard_is_noticed_and_can_be_cleaned_up(pair: Pair, shaper: tuple[str, str]) -> None:
    before = pair.snapshot()
    guard = pair.apply(*DURESS, *shaper, "--lease-owner", "nobody")["guard"]
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: identify(guard) is None, 5)
    assert "guard of this host's shaping is dead" in renew_as_nobody(pair).stderr
    assert pair.apply(*DURESS, *shaper, "--lease-owner", "nobody")["changed"] is True
    os.kill(pair.net("status")["guard"]["pid"], signal.SIGKILL)
    assert pair.net("restore")["changed"] is True
    assert pair.snapshot() == before


def test_the_wire_does_not_outlive_its_guard(pair: Pair) -> None:
    pair.apply(*DURESS, "--shaper", "wirefilter")
    assert len(processes_in(pair.first)) == 4
    os.kill(pair.net("status")["guard"]["pid"], signal.SIGKILL)
    wait_until(lambda: not processes_in(pair.first), 3)
    assert "ppw" not in sh("ip", "-n", pair.first, "link") + sh("ip", "-n", pair.first, "route")
    assert statistics.median(one_way_ms(pair.first, pair.second, PEER)) < 5


@pytest.mark.parametrize("name", ["wirefilter", "vde_plug2tap"])
def test_a_broken_wire_is_taken_off(pair: Pair, name: str) -> None:
    before = pair.snapshot()
    pair.apply(*DURESS, "--shaper", "wirefilter")
    state = json.loads((pair.state_dir / "network/state.json").read_text())
    victims = [pid for pid, _ in state["processes"] if Path(f"/proc/{pid}/comm").read_text().strip() == name]
    os.kill(victims[-1], signal.SIGKILL)
    wait_until(lambda: pair.snapshot() == before, 5)
    assert "the wire broke" in pair.net("status")["guard_log"][0]


@pytest.mark.parametrize("patience_s", [0.06, 0.1, 0.14, 0.18, 0.22, 0.3])
@pytest.mark.parametrize("way", ["restore", "apply", "guard"])
def test_an_apply_killed_half_way_is_undone(pair: Pair, shaper: tuple[str, str], patience_s: float, way: str) -> None:
    before = pair.snapshot()
    asked = [*pair.asking(*DURESS, *shaper, "--lease-s", 1), "--state-dir", pair.state_dir]
    command = ["ip", "netns", "exec", pair.first, *PP_NET, *map(str, asked)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(patience_s)
        process.kill()
    if way == "restore":
        pair.net("restore")
    elif way == "apply":
        pair.apply("--delay", "30ms", *shaper)
        assert statistics.median(one_way_ms(pair.first, pair.second, PEER)) == pytest.approx(30, abs=5)
        pair.net("restore")
    else:
        # A state that was written before there was a guard names nothing that was changed.
        wait_until(lambda: pair.snapshot() | {"state": []} == before, 5)
    if way != "guard":
        wait_until(lambda: pair.snapshot() == before, 1)


def test_a_half_done_state_is_restored(pair: Pair, shaper: tuple[str, str]) -> None:
    before = pair.snapshot()
    for phase in ("applying", "restoring"):
        pair.apply(*DURESS, *shaper)
        path = pair.state_dir / "network/state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"phase": phase, "guard": None, "processes": []}))
        assert pair.net("restore")["changed"] is True
        assert pair.snapshot() == before


def test_state_of_another_namespace_is_not_acted_upon(pair: Pair) -> None:
    pair.apply(*DURESS)
    shaped = pair.snapshot()
    elsewhere = subprocess.run(
        ["ip", "netns", "exec", pair.second, *PP_NET, "restore", "--state-dir", pair.state_dir],
        capture_output=True,
        text=True,
    )
    assert elsewhere.returncode == 1
    assert "another network namespace" in elsewhere.stderr
    assert pair.snapshot() == shaped


def test_a_busy_host_says_for_whom(pair: Pair) -> None:
    pair.apply(*DURESS, "--controller", "anna@192.0.2.7", "--lease-s", "2")
    told = pair.refused(*pair.asking("--delay", "9ms", "--controller", "ben@192.0.2.8"))
    assert "busy: test is imposed on data0 for anna@192.0.2.7" in told
    assert "lease runs for another" in told
    assert pair.apply(*DURESS, "--controller", "ben@192.0.2.8", "--lease-s", "2")["changed"] is False
    time.sleep(2.5)
    assert pair.apply("--delay", "9ms", "--controller", "ben@192.0.2.8")["changed"] is True


def test_a_second_state_directory_is_told_of_the_first(pair: Pair) -> None:
    pair.apply(*DURESS)
    other = Path(tempfile.mkdtemp(prefix="ppnet-other-", dir="/run"))
    pair.others.append(other)
    shaped = pair.snapshot()
    assert "another --state-dir" in pair.refused(*pair.asking(*DURESS), state_dir=other)
    assert pair.snapshot() == shaped


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--interface", "data9"], "no interface 'data9' here; there are: lo, data0"),
        (["--peer", "10.99.0.1"], "no route to peer 10.99.0.1"),
        (["--peer", OWN], f"peer {OWN} is reached by lo, not by data0"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_changes(pair: Pair, change: list[str], words: str) -> None:
    before = pair.snapshot()
    assert words in pair.refused(*pair.asking(*DURESS), *change)
    assert pair.snapshot() == before


def test_a_silent_peer_is_named_and_everything_undone(pair: Pair) -> None:
    before = pair.snapshot()
    told = pair.refused(*pair.asking(*DURESS, "--shaper", "wirefilter", "--peer", "10.81.1.99"))
    assert "10.81.1.99 does not answer on data0" in told
    assert "nothing is shaped" in told
    assert pair.snapshot() == before


def test_a_route_of_somebody_else_stays(pair: Pair) -> None:
    sh("ip", "-n", pair.first, "route", "add", f"{PEER}/32", "dev", "data0")
    before = pair.snapshot()
    assert f"a route to {PEER}/32 already" in pair.refused(*pair.asking(*DURESS, "--shaper", "wirefilter"))
    assert pair.snapshot() == before


def test_a_kernel_without_netem_says_what_to_install(pair: Pair) -> None:
    if NETEM:
        assert pair.apply(*DURESS, "--shaper", "tc")["shaper"] == "tc"
        return
    told = pair.refused(*pair.asking(*DURESS, "--shaper", "tc"))
    assert "no netem in kernel" in told
    assert "linux-modules-extra" in told


def test_a_guard_in_a_deleted_namespace_lets_go(pair: Pair) -> None:
    """A virtual host that is torn down while shaped: its processes end with the lease, its state does not block."""
    guard = pair.apply(*DURESS, "--lease-s", "2")["guard"]
    sh("ip", "netns", "delete", pair.first)
    watching = identify(guard)
    assert watching is not None
    wait_until(lambda: not is_alive(watching), 6)
    assert not (pair.state_dir / "network/state.json").exists()
    sh("ip", "netns", "add", pair.first)


def test_a_disk_that_is_full_is_one_line(pair: Pair) -> None:
    before = pair.snapshot()
    sh("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=3,mode=755", "tmpfs", pair.state_dir)
    try:
        assert "No space left on device" in pair.refused(*pair.asking(*DURESS))
        assert pair.snapshot() == before
    finally:
        sh("umount", pair.state_dir)
