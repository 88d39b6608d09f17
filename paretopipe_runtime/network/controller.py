"""Who asks: the name that another controller is told when this host is busy."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

_ANCESTORS = 16


def default_controller() -> str:
    """`user@address` of the SSH session that we run in, or `user@local` without one.

    sudo drops SSH_CONNECTION, so it is looked for in the environments of our ancestors (proc_pid_environ(5)), which
    root may read.
    """
    user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    pid = os.getpid()
    for _ in range(_ANCESTORS):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return f"{user}@{entry.partition(b'=')[2].split()[0].decode(errors='replace')}"
        if pid <= 1:
            break
    return f"{user}@local"
