"""Where and with what a run was made."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from paretopipe_matrix.testbed import JsonObject
from paretopipe_runtime import __version__

SAME_ON_RESUME = (
    *("paretopipe", "torch", "torchvision", "python", "machine", "cpu_model", "cpus", "threads"),
    *("gpu_device", "allocator"),
)
"""Host facts that may not change within one results directory: its rounds would not be repetitions."""


def git_state() -> JsonObject | None:
    """`{commit, dirty}` of the current directory; None where it is no git checkout (or git is missing)."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git("status", "--porcelain"))} if commit else None
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def session(hosts: Mapping[str, JsonObject]) -> JsonObject:
    """One invocation that measured: when, how it was called, and with which versions."""
    return {
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "versions": {
            "paretopipe": __version__,
            "python": platform.python_version(),
            "torch": {host: facts.get("torch") for host, facts in hosts.items()},
        },
        "git": git_state(),
        "hosts": dict(hosts),
    }


def changed_facts(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Facts of hosts that must stay the same but did not: `host: fact: old -> new`."""
    return [
        f"{host}: {fact}: {old[host][fact]} -> {facts[fact]}"
        for host, facts in new.items()
        if host in old
        for fact in SAME_ON_RESUME
        if fact in facts and fact in old[host] and facts[fact] != old[host][fact]
    ]
