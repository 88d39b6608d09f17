"""Programs of another architecture, run by qemu-user through binfmt_misc.

https://docs.kernel.org/admin-guide/binfmt-misc.html, https://www.qemu.org/docs/master/user/main.html
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.pi.commands import run

BINFMT = Path("/proc/sys/fs/binfmt_misc")
ENTRY = "pppi-aarch64"
CPU = "cortex-a72"
"""The Raspberry Pi 4's: qemu traps instructions that it does not have."""

# The first bytes of a 64-bit little-endian ELF program for machine 0xb7 (AArch64), and which of them must match.
_MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_INTERPRETER = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"
# P: keep argv[0]; F: open the interpreter now, so that a chroot need not have it; C: obey set-user-id, for sudo.
_FLAGS = "OCPF"

# A program that runs machine code, and code: return; an atomic addition (LDADD, Armv8.1: a Cortex-A72 has none).
MACHINE_CODE_PROGRAM = """
import ctypes, mmap, sys
memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
memory.write(bytes.fromhex(sys.argv[1]))
ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(memory)))()
"""
RETURN = "c0035fd6"
ATOMIC_ADDITION = "e10320b8" + RETURN
# HWCAP_ATOMICS of arch/arm64/include/uapi/asm/hwcap.h: instructions that a Cortex-A72 does not have.
HWCAP_ATOMICS = 1 << 8

# /proc/cpuinfo of a Raspberry Pi 4's four cores, but for the two lines that say what this is. qemu-user shows this
# machine's own otherwise.
CPUINFO = "".join(
    f"processor\t: {core}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n"
    for core in range(4)
)
CPUINFO += "Hardware\t: qemu-user\nModel\t\t: Raspberry Pi 4 (emulated: qemu-user, QEMU_CPU=cortex-a72)\n"


@contextlib.contextmanager
def emulated_aarch64() -> Iterator[None]:
    """Let this machine run AArch64 programs; what was registered is taken back, and nothing else."""
    mounted = not (BINFMT / "register").exists()
    if mounted:
        run("mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT)
    entry = BINFMT / ENTRY
    if entry.exists():  # left by a killed run
        entry.write_text("-1")
    (BINFMT / "register").write_text(f":{ENTRY}:M::{_MAGIC}:{_MASK}:{_INTERPRETER}:{_FLAGS}")
    try:
        yield
    finally:
        entry.write_text("-1")
        if mounted:
            run("umount", BINFMT)
