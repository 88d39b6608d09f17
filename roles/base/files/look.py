"""What the base role must know of a host, as JSON. Arguments: ParetoPipe's directory, its owner's name."""

import importlib.util
import json
import os
import pathlib
import pwd
import subprocess
import sys

MARKER = ".paretopipe-root"
DIRECTORIES = ("", "logs", "tmp", "weights", "wheels")


def says(*command):
    """Standard output of a command; None where it is missing or fails."""
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def root_state(root):
    """absent, empty, ours (has the marker), or foreign."""
    if not root.is_dir():
        return "foreign" if os.path.lexists(str(root)) else "absent"
    if (root / MARKER).is_file():
        return "ours"
    return "foreign" if any(root.iterdir()) else "empty"


def to_make(root, user):
    """Directories that are missing or belong to somebody else."""
    uid = pwd.getpwnam(user).pw_uid
    paths = [root / name for name in DIRECTORIES]
    return [str(path) for path in paths if not path.is_dir() or path.stat().st_uid != uid]


def governors(name):
    """The distinct contents of a cpufreq file over all policies."""
    files = pathlib.Path("/sys/devices/system/cpu/cpufreq").glob(f"policy*/{name}")
    return sorted({path.read_text().strip() for path in files})


def time_sync():
    """NTP switched on, NTP possible; None without systemd and in a container, whose clock is the machine's."""
    if says("systemd-detect-virt", "--container") is not None:
        return None
    text = says("timedatectl", "show", "--property=NTP", "--property=CanNTP")
    if text is None:
        return None
    values = dict(line.split("=", 1) for line in text.splitlines())
    return {"on": values.get("NTP") == "yes", "possible": values.get("CanNTP") == "yes"}


def main():
    """Print the JSON object."""
    root, user = pathlib.Path(sys.argv[1]), sys.argv[2]
    report = {
        "root_state": root_state(root),
        "gid": str(pwd.getpwnam(user).pw_gid),
        "directories_to_make": to_make(root, user),
        "governors": governors("scaling_governor"),
        "governors_available": sorted(
            {word for line in governors("scaling_available_governors") for word in line.split()}
        ),
        "time_sync": time_sync(),
        "has_netem": says("modprobe", "--dry-run", "--quiet", "sch_netem") is not None,
        "has_apt_bindings": importlib.util.find_spec("apt") is not None,
        "has_packaging": any(importlib.util.find_spec(name) for name in ("packaging", "pkg_resources")),
    }
    print(json.dumps(report))  # noqa: T201


if __name__ == "__main__":
    main()
