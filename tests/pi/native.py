"""This machine's own network tools inside the emulated Pi.

qemu-user passes programs' system calls on, but not the netlink messages of tc and `ip neigh` nor ethtool's requests,
and its wirefilter does not answer. The kernel is this machine's and runs its programs as well as arm64 ones: so the
Pi gets those five from here, with the libraries that they need, in front of its own.
"""

import re
import shutil
from pathlib import Path

from tests.pi.commands import run

TOOLS = ("ethtool", "ip", "tc", "vde_plug2tap", "wirefilter")
LIBRARY = "/usr/local/lib/native"


def install_native_tools(root: Path) -> None:
    """Put the tools and a starter for each into /usr/local of a root directory."""
    library = root / LIBRARY.lstrip("/")
    programs = root / "usr/local/bin"
    for directory in (library, programs):
        directory.mkdir(parents=True)
    loaders: set[str] = set()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None, f"{tool} is not installed on this machine"
        shutil.copy(found, library / tool)
        needs = re.findall(r"(?:=> )?(/\S+) \(0x", run("ldd", found))
        for path in needs:
            shutil.copy(path, library)
        loaders |= {Path(path).name for path in needs if Path(path).name.startswith("ld-linux")}
    (loader,) = loaders
    for tool in TOOLS:
        starter = programs / tool
        starter.write_text(f'#!/bin/sh\nexec {LIBRARY}/{loader} --library-path {LIBRARY} {LIBRARY}/{tool} "$@"\n')
        starter.chmod(0o755)
