"""What a host knows about itself: the answers of its programs, as JSON.

Arguments: the Python of the stages, pp-net's state directory, and how far back to look in the kernel's log.
A program that is missing is recorded as missing.
"""

import json
import subprocess
import sys

TIMEOUT_S = 30
KILLED = "Out of memory|oom-kill|oom_reaper|Under-voltage|throttl"


def commands(python, state_dir, since):
    """Name -> command."""
    return {
        "system": ["uname", "-a"],
        "distribution": ["cat", "/etc/os-release"],
        "uptime": ["uptime"],
        "memory": ["free", "--bytes"],
        "disks": ["df", "--block-size=1"],
        "time": ["timedatectl", "show"],
        "addresses": ["ip", "-json", "-statistics", "address"],
        "qdiscs": ["tc", "-json", "-statistics", "qdisc", "show"],
        "network": [python, "-m", "paretopipe_runtime.network.cli", "status", "--state-dir", state_dir],
        "packages": [python, "-m", "pip", "--disable-pip-version-check", "list", "--format=json"],
        "kernel_log": [
            "journalctl",
            "--dmesg",
            "--no-pager",
            "--since",
            since,
            "--case-sensitive=no",
            "--grep",
            KILLED,
        ],
        "throttled": ["vcgencmd", "get_throttled"],
        "temperature": ["vcgencmd", "measure_temp"],
        "gpu": ["nvidia-smi", "--query"],
    }


def ask(command):
    """Exit status and output of a command, or why there are none."""
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"command": command, "status": None, "error": str(error)}
    return {"command": command, "status": result.returncode, "stdout": result.stdout, "stderr": result.stderr}


if __name__ == "__main__":
    print(json.dumps({name: ask(command) for name, command in commands(*sys.argv[1:]).items()}, indent=1))  # noqa: T201
