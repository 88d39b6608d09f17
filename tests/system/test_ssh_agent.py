"""SshAgent against real sshd processes on loopback: what works, and what each failure says. Needs root, for sshd."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from paretopipe_matrix.hosts import ssh, ssh_transport
from paretopipe_matrix.hosts.connection import SshTarget
from paretopipe_matrix.hosts.inventory import HostVars
from paretopipe_matrix.hosts.ssh import SshAgent
from paretopipe_matrix.testbed import CellError

SSHD = "/usr/sbin/sshd"
FAKE_AGENT = """\
    #!{python}
    import json, os, sys
    for line in sys.stdin.buffer:
        asked = json.loads(line)
        if asked["op"] == "end":
            sys.exit("the disk is full")
        if asked["op"] == "kill":
            os.kill(os.getpid(), 9)
        if asked["op"] == "be-silent":
            continue
        answer = {{"pid": os.getpid(), "text": "x" * asked["params"].get("bytes", 0)}}
        sys.stderr.write("asked for " + asked["op"] + "\\n")
        sys.stderr.flush()
        print(json.dumps({{"id": asked["id"], "result": answer}}), flush=True)
"""


@dataclass
class Server:
    """One sshd with its own host key; it takes the keys in `authorized`."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def authorized(self) -> Path:
        return self.folder / "authorized_keys"

    @property
    def known_line(self) -> str:
        return f"[127.0.0.1]:{self.port} {(self.folder / 'host_key.pub').read_text()}"

    def sessions(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def keygen(path: Path, passphrase: str = "") -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", path.name, "-f", path], check=True, timeout=20
    )
    return path


def start_server(folder: Path) -> Server:
    folder.mkdir()
    keygen(folder / "host_key")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nAllowTcpForwarding yes\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, and no service manager may have made it
    process = subprocess.Popen([SSHD, "-D", "-f", folder / "sshd_config", "-E", folder / "log"])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return Server(folder, port, process)
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers that take the same key `id`."""
    assert os.geteuid() == 0, "sshd needs root"
    assert Path(SSHD).is_file(), "apt install openssh-server"
    folder = tmp_path_factory.mktemp("ssh")
    key = keygen(folder / "id")
    started: list[Server] = []
    try:
        for name in ("one", "two"):
            server = start_server(folder / name)
            started.append(server)
            server.authorized.write_text(key.with_suffix(".pub").read_text())
        (folder / "known_hosts").write_text("# two servers\n" + "".join(server.known_line for server in started))
        yield started[0], started[1]
    finally:
        for server in started:
            left = server.sessions()
            server.process.terminate()
            server.process.wait(5)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):  # it ended with its server
                    process.kill()


@pytest.fixture
def server(servers: tuple[Server, Server]) -> Server:
    return servers[0]


@pytest.fixture
def target(server: Server) -> SshTarget:
    folder = server.folder.parent
    return SshTarget(
        "127.0.0.1",
        server.port,
        "root",
        key_files=(str(folder / "id"),),
        known_hosts=(str(folder / "known_hosts"),),
        config_file="none",
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host's root with a fake pp-agent: answers, and leaves in the ways that agents leave."""
    return install(tmp_path / "a root", dedent(FAKE_AGENT).format(python=sys.executable))


def install(root: Path, script: str) -> Path:
    program = root / "venv/bin/pp-agent"
    program.parent.mkdir(parents=True)
    program.write_text(script)
    program.chmod(0o755)
    return root


Open = Callable[..., SshAgent]


@pytest.fixture
def connect(target: SshTarget, root: Path) -> Iterator[Open]:
    opened: list[SshAgent] = []

    def connect(log_file: Path | None = None, root: Path = root, **changes: object) -> SshAgent:
        host = HostVars("pi1", "ssh", root=str(root), ssh=replace(target, **changes))  # type: ignore[arg-type]
        opened.append(SshAgent(host, log_file))
        return opened[-1]

    yield connect
    for agent in opened:
        agent.close()


def gone(agent: SshAgent, operation: str = "hello") -> CellError:
    with pytest.raises(CellError) as error:
        agent.call(operation, timeout_s=20)
    assert (error.value.kind, error.value.host) == ("agent-gone", "pi1")
    return error.value


def refused(connect: Open, **changes: object) -> CellError:
    with pytest.raises(CellError) as error:
        connect(**changes)
    assert error.value.host == "pi1"
    assert error.value.remedy
    return error.value


def test_requests_cross_quickly_and_large_answers_whole(connect: Open, tmp_path: Path) -> None:
    log = tmp_path / "logs/pi1/worker.log"
    agent = connect(log)
    assert len(agent.call("fetch", {"bytes": 5_000_000})["text"]) == 5_000_000
    times_s = []
    for _ in range(30):
        began_s = time.perf_counter()
        agent.call("ping")
        times_s.append(time.perf_counter() - began_s)
    # Far below what one delayed TCP segment (40 ms) would cost.
    assert statistics.median(times_s) < 0.02
    pid = agent.call("ping")["pid"]
    agent.close()
    assert not psutil.pid_exists(pid)
    assert "asked for fetch\n" in log.read_text()


def test_the_real_agent(connect: Open, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    source = Path(__file__).parents[2]
    script = f"""\
        #!/bin/sh
        echo $$ > {pid_file}
        PYTHONPATH={source} exec {sys.executable} -m paretopipe_runtime.host.agent
    """
    agent = connect(root=install(tmp_path / "real", dedent(script)))
    assert "load_1min" in agent.call("vitals", timeout_s=20)
    pid = int(pid_file.read_text())
    assert psutil.Process(pid).cmdline()[-1] == "paretopipe_runtime.host.agent"
    agent.close()
    assert not psutil.pid_exists(pid)


def test_hosts_are_started_at_the_same_time(connect: Open) -> None:
    with ThreadPoolExecutor(4) as pool:
        agents = [started.result() for started in [pool.submit(connect) for _ in range(4)]]
    assert len({agent.call("ping")["pid"] for agent in agents}) == 4


def test_an_unknown_host_key_is_refused(connect: Open, tmp_path: Path, server: Server) -> None:
    error = refused(connect, known_hosts=(str(tmp_path / "known_hosts"),))
    assert error.kind == "host-key"
    assert "is not known: ssh-ed25519 SHA256:" in error.message
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in (error.remedy or "")


def test_a_changed_host_key_is_refused_with_file_and_line(
    connect: Open, tmp_path: Path, servers: tuple[Server, Server]
) -> None:
    known_hosts = tmp_path / "known_hosts"
    other = servers[1].known_line.split(" ", 1)[1]
    known_hosts.write_text(f"# the other server's key\n[127.0.0.1]:{servers[0].port} {other}")
    error = refused(connect, known_hosts=(str(known_hosts),))
    assert error.kind == "host-key"
    assert f"HAS CHANGED: {known_hosts}:2 has ssh-ed25519 SHA256:" in error.message


def test_a_key_that_the_host_does_not_take(connect: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    stranger = keygen(tmp_path / "stranger")
    error = refused(connect, key_files=(str(stranger),))
    assert error.kind == "authentication"
    assert str(stranger) in error.message
    assert "authorized_keys" in (error.remedy or "")


def test_key_files_that_cannot_be_used(connect: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    missing = refused(connect, key_files=(str(tmp_path / "none"),))
    assert "cannot read its key file" in missing.message
    junk = tmp_path / "junk"
    junk.write_text("not a key")
    assert "not a private key" in refused(connect, key_files=(str(junk),)).message
    locked = keygen(tmp_path / "locked", "a passphrase")
    error = refused(connect, key_files=(str(locked),))
    assert f"{locked} has a passphrase: ssh-add it" in (error.remedy or "")


def test_a_key_with_a_passphrase_from_the_ssh_agent(
    connect: Open, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = keygen(tmp_path / "locked", "a passphrase")
    ask = tmp_path / "ask"
    ask.write_text("#!/bin/sh\necho a passphrase\n")
    ask.chmod(0o700)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent.sock"))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", tmp_path / "agent.sock"], stdout=subprocess.DEVNULL)
    before = server.authorized.read_text()
    try:
        while not (tmp_path / "agent.sock").exists():
            assert agent.poll() is None
            time.sleep(0.02)
        subprocess.run(
            ["ssh-add", "-q", locked],
            env=os.environ | {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force"},
            check=True,
            timeout=20,
        )
        server.authorized.write_text(before + (tmp_path / "locked.pub").read_text())
        assert connect(key_files=(str(locked),)).call("ping")
        only_named = (("identitiesonly", "yes"),)
        assert connect(key_files=(str(locked),), options=only_named).call("ping")
    finally:
        server.authorized.write_text(before)
        agent.terminate()
        agent.wait(5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"port": 1}, "Connection refused"),
        ({"address": "no-such-host.invalid"}, "the name no-such-host.invalid is not known"),
    ],
)
def test_a_host_that_cannot_be_reached(connect: Open, changes: dict[str, object], words: str) -> None:
    error = refused(connect, **changes)
    assert error.kind == "unreachable"
    assert words in error.message


def test_something_else_than_ssh_answers(connect: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_transport, "CONNECT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = refused(connect, port=silent.getsockname()[1])
    assert error.kind == "unreachable"
    assert "no ssh server answers there" in error.message


def test_pp_agent_is_not_installed(connect: Open, tmp_path: Path) -> None:
    error = gone(connect(root=tmp_path / "empty"))
    assert "pp-agent cannot be run there" in error.message
    assert "provision.yml" in (error.remedy or "")


def test_something_prints_before_pp_agent(connect: Open, tmp_path: Path) -> None:
    error = gone(connect(root=install(tmp_path / "loud", "#!/bin/sh\necho Welcome to pi1\ncat\n")))
    assert "printed b'Welcome to pi1" in error.message
    assert ".bashrc" in (error.remedy or "")


def test_an_agent_that_ends_or_is_killed(connect: Open) -> None:
    assert "ended there after 0 s with exit status 1: the disk is full" in gone(connect(), "end").message
    killed = connect()
    assert "pp-agent was killed there" in gone(killed, "kill").message
    assert "pp-agent was killed there" in gone(killed).message  # and is still said afterwards


def test_a_connection_that_breaks_during_a_request(connect: Open, server: Server) -> None:
    before = server.sessions()
    agent = connect()
    agent.call("ping")
    answer = agent.send("be-silent")
    for process in server.sessions():
        if process not in before and process.name() == "sshd":
            process.kill()
    with pytest.raises(CellError, match=r"connection to root@127.0.0.1:\d+ was lost after \d s: it was closed there"):
        agent.wait(answer, "be-silent", 10)


def test_a_host_that_vanishes_during_a_request(connect: Open, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes back any more, not even a reset: only unanswered keepalives tell."""
    monkeypatch.setattr(ssh_transport, "_PULSE_EVERY_S", 0.2)
    for module in (ssh, ssh_transport):
        monkeypatch.setattr(module, "PATIENCE_S", 1.0)
    before = server.sessions()
    agent = connect()
    time.sleep(2.0)
    assert agent.call("ping")  # answered keepalives do no harm
    answer = agent.send("be-silent")
    frozen = [process for process in server.sessions() if process not in before]
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(CellError, match=r"was lost after \d s: no answer for 1 s"):
            agent.wait(answer, "be-silent", 10)
    finally:
        for process in frozen:
            process.kill()


def jump_config(tmp_path: Path, servers: tuple[Server, Server], known_hosts: Path) -> str:
    """An ssh configuration for the jump host, as a user has in ~/.ssh/config."""
    config = tmp_path / "ssh_config"
    config.write_text(
        f"Host bastion\n  HostName 127.0.0.1\n  Port {servers[1].port}\n  User root\n  IdentitiesOnly yes\n"
        f"  IdentityFile {servers[1].folder.parent}/id\n  UserKnownHostsFile {known_hosts}\n"
    )
    return str(config)


def test_through_a_jump_host(connect: Open, tmp_path: Path, servers: tuple[Server, Server]) -> None:
    config = jump_config(tmp_path, servers, servers[0].folder.parent / "known_hosts")
    before = len(servers[1].sessions())
    agent = connect(proxy_jump="bastion", config_file=config)
    assert agent.call("ping")
    assert len(servers[1].sessions()) > before


def test_the_jump_hosts_key_is_checked_too(connect: Open, tmp_path: Path, servers: tuple[Server, Server]) -> None:
    config = jump_config(tmp_path, servers, tmp_path / "known_hosts")
    error = refused(connect, proxy_jump="bastion", config_file=config)
    assert error.kind == "host-key"
    assert f"root@127.0.0.1:{servers[1].port} is not known" in error.message


def test_a_jump_host_that_does_not_reach_the_host(
    connect: Open, tmp_path: Path, servers: tuple[Server, Server]
) -> None:
    config = jump_config(tmp_path, servers, servers[0].folder.parent / "known_hosts")
    error = refused(connect, proxy_jump="bastion", config_file=config, port=1)
    assert error.kind == "unreachable"
    assert f"its jump host root@127.0.0.1:{servers[1].port} says: Connect failed" in error.message


def test_through_a_proxy_command(connect: Open, tmp_path: Path, servers: tuple[Server, Server]) -> None:
    config = jump_config(tmp_path, servers, servers[0].folder.parent / "known_hosts")
    command = f"ssh -F {shlex.quote(config)} -W %h:%p bastion"
    assert connect(proxy_command=command).call("ping")
    error = refused(connect, proxy_command="echo no way through >&2; exit 1")
    assert error.kind == "unreachable"
    assert "its ProxyCommand says: no way through" in error.message
