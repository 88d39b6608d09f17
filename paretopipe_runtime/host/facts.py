"""What a host is and how it is doing: recorded with every run, so that a figure can be questioned later.

Whatever a host does not have (a governor in a virtual machine, vcgencmd outside a Raspberry Pi) is null.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil

JsonObject = dict[str, Any]


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cpu_model() -> str | None:
    text = _read("/proc/cpuinfo") or ""
    for key in ("model name", "Model", "Hardware"):
        for line in text.splitlines():
            if line.split(":")[0].strip() == key:
                return line.split(":", 1)[1].strip()
    return platform.processor() or None


def _interface(address: str) -> JsonObject | None:
    """Name, speed and MTU of the interface that carries an address."""
    try:
        stats = psutil.net_if_stats()
    except OSError:  # not every kernel answers its ethtool request; qemu-user does not
        stats = {}
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            seen = stats.get(name)
            return {
                "name": name,
                "mtu": seen.mtu if seen else None,
                "speed_mbit_s": (seen.speed or None) if seen else None,
                "offloads": _offloads(name),
            }
    return None


def _offloads(interface: str) -> JsonObject | None:
    """Segmentation and receive offloads as `ethtool -k` has them."""
    program = shutil.which("ethtool", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return None
    try:
        result = subprocess.run([program, "-k", interface], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    values = dict(line.strip().split(": ", 1) for line in result.stdout.splitlines() if ": " in line)
    names = ("tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload")
    return {name: values.get(name) for name in names}


def host_facts(data_address: str | None) -> JsonObject:
    """Facts that do not change while a run lives. Imports no torch: the worker adds its own."""
    return {
        "hostname": socket.gethostname(),
        "boot_id": _read("/proc/sys/kernel/random/boot_id"),
        "machine": platform.machine(),
        "os": platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_total_bytes": psutil.virtual_memory().total,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "tcp_slow_start_after_idle": _read("/proc/sys/net/ipv4/tcp_slow_start_after_idle"),
        "data_address": data_address,
        "data_interface": _interface(data_address) if data_address else None,
        **vitals(),
    }


def vitals() -> JsonObject:
    """What changes while a run lives: clock frequency, temperature, throttling, load."""
    frequency_khz = _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")
    milli_celsius = _read("/sys/class/thermal/thermal_zone0/temp")
    return {
        "cpu_frequency_hz": int(frequency_khz) * 1000 if frequency_khz else None,
        "temperature_c": int(milli_celsius) / 1000 if milli_celsius and milli_celsius.lstrip("-").isdigit() else None,
        "throttled": _throttled(),
        "load_1min": os.getloadavg()[0],
    }


def _throttled() -> str | None:
    """`vcgencmd get_throttled` of a Raspberry Pi (bits: under-voltage, capped, throttled, soft limit)."""
    program = shutil.which("vcgencmd")
    if program is None:
        return None
    try:
        result = subprocess.run([program, "get_throttled"], capture_output=True, text=True, timeout=2, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip().partition("=")[2] or None
