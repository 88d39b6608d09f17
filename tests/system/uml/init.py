"""First process of a User-Mode Linux guest: make a private root, load modules, bring interfaces up, run sshd.

Started by the guest's kernel as ``python init.py CONFIG.json`` on this machine's own root (hostfs, read-only). It
lays a tmpfs overlay over it, so that the guest reads this machine's files and keeps its writes to itself. Modules go
in by finit_module(2), because the machine need not have kmod. Standard library only.
"""

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

SYS_FINIT_MODULE = 313  # x86-64, asm/unistd_64.h
RUN = Path("/run/ppuml")


def run(*command: str) -> None:
    """Run one command; its failure ends the guest, and the console log shows why."""
    subprocess.run(command, check=True)


def load_modules(names: list[str]) -> None:
    """Load kernel modules after what they depend on, as listed in modules.dep (modules.dep(5))."""
    directory = Path("/usr/lib/uml/modules") / os.uname().release
    dependencies: dict[str, list[str]] = {}
    for line in (directory / "modules.dep").read_text().splitlines():
        path, _, needs = line.partition(":")
        dependencies[path] = needs.split()
    paths = {Path(path).stem.replace("-", "_"): path for path in dependencies}
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    loaded: set[str] = set()
    for name in names:
        path = paths[name]
        for needed in [*reversed(dependencies[path]), path]:  # modules.dep lists the direct needs first
            if needed in loaded:
                continue
            with (directory / needed).open("rb") as file:
                if syscall(SYS_FINIT_MODULE, file.fileno(), b"", 0) != 0:
                    raise OSError(ctypes.get_errno(), f"cannot load {needed}")
            loaded.add(needed)


def private_root() -> None:
    """Go on in an overlay of the read-only root, with the file systems that programs expect."""
    run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    for name in ("upper", "work", "root"):
        Path("/mnt", name).mkdir()
    run("mount", "-t", "overlay", "overlay", "-o", "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work", "/mnt/root")
    os.chroot("/mnt/root")
    os.chdir("/")
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")):
        run("mount", "-t", kind, kind, where)
    run(
        "mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"
    )  # sshd trusts no key below a directory that all may write
    Path("/dev/pts").mkdir(exist_ok=True)
    run("mount", "-t", "devpts", "devpts", "/dev/pts")
    Path("/root/.bashrc").unlink(missing_ok=True)  # the guest's only; what this machine's says may take seconds


def interfaces(wanted: dict[str, dict[str, str]]) -> None:
    """Name, address and raise the network interfaces."""
    run("ip", "link", "set", "lo", "up")
    for device, settings in wanted.items():
        run("ip", "link", "set", device, "name", settings["name"])
        run("ip", "address", "add", settings["address"], "dev", settings["name"])
        run("ip", "link", "set", settings["name"], "up")


def sshd(address: str, host_key: str, authorized_key: str) -> None:
    """Start sshd with a host key of the guest's own; key login only, files under a directory that only root writes."""
    RUN.mkdir(mode=0o755)
    Path("/run/sshd").mkdir(mode=0o755)
    for name, text in (("host_key", host_key), ("authorized_keys", authorized_key)):
        (RUN / name).touch(mode=0o600)
        (RUN / name).write_text(text)
    (RUN / "sshd_config").write_text(
        f"ListenAddress {address}:22\nHostKey {RUN}/host_key\nAuthorizedKeysFile {RUN}/authorized_keys\n"
        f"PidFile {RUN}/sshd.pid\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nSubsystem sftp internal-sftp\nMaxSessions 30\n"
    )
    run("/usr/sbin/sshd", "-f", f"{RUN}/sshd_config")


def main() -> None:
    """Bring the guest up, then collect orphans for ever, as a first process must."""
    config = json.loads(Path(sys.argv[1]).read_text())
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", HOME="/root", LANG="C.UTF-8")
    load_modules(["overlay"])
    private_root()
    load_modules(config["modules"])
    socket.sethostname(config["hostname"])
    interfaces(config["interfaces"])
    sshd(config["listen"], config["host_key"], config["authorized_key"])
    while True:
        try:
            os.wait()
        except ChildProcessError:
            # sshd is always there; without it the guest is of no use and its kernel may panic and end.
            raise SystemExit("sshd ended") from None


if __name__ == "__main__":
    main()
