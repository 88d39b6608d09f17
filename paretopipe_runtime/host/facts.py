"""What a host is and how it is doing: recorded with every run, so that a figure can be questioned later.

Whatever a host does not have (a governor in a virtual machine, vcgencmd outside a Raspberry Pi) is null.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
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
        "gpu": _gpus(),
        **vitals(),
    }


def _gpus() -> list[JsonObject] | None:
    """NVIDIA's GPUs in NVML's order, also those that CUDA_VISIBLE_DEVICES hides from a worker; null without NVML."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver, no library, no GPU
        return None
    try:
        return [_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(k)) for k in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> JsonObject:
    def ask(question: Callable[..., Any], *what: Any) -> Any:
        try:
            return question(handle, *what)
        except nvml.NVMLError:  # not every GPU answers everything
            return None

    def hertz(question: Callable[..., Any], clock: int) -> int | None:
        mhz = ask(question, clock)
        return None if mhz is None else mhz * 1_000_000

    memory, limit_mw = ask(nvml.nvmlDeviceGetMemoryInfo), ask(nvml.nvmlDeviceGetEnforcedPowerLimit)
    return {
        "name": ask(nvml.nvmlDeviceGetName),
        "uuid": ask(nvml.nvmlDeviceGetUUID),
        "memory_total_bytes": None if memory is None else memory.total,
        "driver_version": nvml.nvmlSystemGetDriverVersion(),
        "nvml_version": nvml.nvmlSystemGetNVMLVersion(),
        "power_limit_w": None if limit_mw is None else limit_mw / 1e3,
        "clocks": {
            "sm_hz": hertz(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_SM),
            "sm_max_hz": hertz(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_SM),
            "memory_hz": hertz(nvml.nvmlDeviceGetClockInfo, nvml.NVML_CLOCK_MEM),
            "memory_max_hz": hertz(nvml.nvmlDeviceGetMaxClockInfo, nvml.NVML_CLOCK_MEM),
        },
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
