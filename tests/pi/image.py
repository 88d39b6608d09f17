"""What the two hosts start from: an arm64 Debian 12 for the Pi, torch for its neighbour. Made once, kept between runs.

`python -m tests.pi.image` makes both in $PARETOPIPE_PI_CACHE (default /var/cache/paretopipe) without running a test.
Each has a recipe file beside it; another recipe makes it anew.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.pi.commands import run
from tests.pi.emulation import CPU, emulated_aarch64

CACHE = Path(os.environ.get("PARETOPIPE_PI_CACHE", "/var/cache/paretopipe"))
ROOT = CACHE / "pi-root"
NEIGHBOUR = CACHE / "pi-neighbour"
MIRROR = os.environ.get("PARETOPIPE_PI_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"
USER = "pi"
# The package index's arm64 wheels of later versions are CUDA builds for servers: their BLAS (NVPL) stops a Cortex-A72
# with an illegal instruction at the first matrix product. A Raspberry Pi takes them from PyTorch's CPU index; where
# only the package index can be reached, this is its last arm64 build for CPUs.
TORCH = "2.9.1"
TORCHVISION = "0.24.1"
# What Raspberry Pi OS Lite has too; the rest is for the roles to install.
DEBIAN_PACKAGES = ("python3", "openssh-server", "sudo", "iproute2", "ca-certificates")
LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")

SETUP = f"""\
set -e
cat > /etc/apt/sources.list <<END
deb {MIRROR} {SUITE} main
deb {MIRROR} {SUITE}-updates main
END
useradd --create-home --shell /bin/bash {USER}
echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/010_{USER}-nopasswd
echo 'Defaults env_keep += "QEMU_CPU"' > /etc/sudoers.d/020_qemu
chmod 0440 /etc/sudoers.d/0*
rm -f /etc/ssh/ssh_host_*
mkdir -p /run/sshd
update-ca-certificates
# A site with authorities of its own tells pip where they are; pip brings its own list otherwise.
if ls /usr/local/share/ca-certificates/*.crt > /dev/null 2>&1; then
    printf '[global]\\ncert = /etc/ssl/certs/ca-certificates.crt\\n' > /etc/pip.conf
fi
apt-get clean
rm -rf /var/lib/apt/lists/*
"""


@contextlib.contextmanager
def cache_lock() -> Iterator[None]:
    """Have the cache, the network names and the emulation for oneself; waits for whoever has them."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def debian_root() -> Path:
    """The arm64 Debian; about 25 s of unpacking and 4 minutes of emulated configuring where it is not there yet."""
    recipe = "\n".join([SUITE, MIRROR, CPU, *DEBIAN_PACKAGES, SETUP])
    if _is_made(ROOT, recipe):
        return ROOT
    partial = _begin(ROOT)
    include = ",".join(DEBIAN_PACKAGES)
    with emulated_aarch64():
        first = ["debootstrap", "--arch=arm64", "--foreign", "--variant=minbase", f"--include={include}"]
        run(*first, SUITE, partial, MIRROR, low_priority=True)
        # A mount namespace of its own: what the second stage mounts goes with it.
        chroot = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", partial]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", f"QEMU_CPU={CPU}"]
        run(*chroot, *clean, "/debootstrap/debootstrap", "--second-stage", low_priority=True)
        for certificate in LOCAL_AUTHORITIES.glob("*.crt"):
            shutil.copy(certificate, partial / LOCAL_AUTHORITIES.relative_to("/"))
        run(*chroot, *clean, "DEBIAN_FRONTEND=noninteractive", "sh", "-c", SETUP, low_priority=True)
    return _finish(partial, ROOT, recipe)


def neighbour_packages() -> Path:
    """A site-packages directory with the Pi's version of torch for this machine, which the x86-64 host shares."""
    packages = NEIGHBOUR / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    recipe = "\n".join([f"torch=={TORCH}", f"torchvision=={TORCHVISION}", str(packages)])
    if _is_made(NEIGHBOUR, recipe):
        return packages
    partial = _begin(NEIGHBOUR)
    run(
        *(sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--only-binary=:all:"),
        *("--target", partial / packages.relative_to(NEIGHBOUR), f"torch=={TORCH}", f"torchvision=={TORCHVISION}"),
        low_priority=True,
        TMPDIR=str(CACHE),
    )
    _finish(partial, NEIGHBOUR, recipe)
    return packages


def constraints(pinned: str) -> str:
    """The text of constraints.txt with the versions of torch and torchvision that are used here."""
    text = re.sub(r"(?m)^torch==.*$", f"torch=={TORCH}", pinned)
    return re.sub(r"(?m)^torchvision==.*$", f"torchvision=={TORCHVISION}", text)


def _recipe_file(made: Path) -> Path:
    return made.with_name(f"{made.name}.recipe")


def _is_made(made: Path, recipe: str) -> bool:
    file = _recipe_file(made)
    return made.is_dir() and file.is_file() and file.read_text() == hashlib.sha256(recipe.encode()).hexdigest()


def _begin(made: Path) -> Path:
    _recipe_file(made).unlink(missing_ok=True)
    partial = made.with_name(f"{made.name}.partial")
    for path in (made, partial):
        if path.exists():
            shutil.rmtree(path)
    partial.mkdir(parents=True)
    return partial


def _finish(partial: Path, made: Path, recipe: str) -> Path:
    partial.rename(made)
    _recipe_file(made).write_text(hashlib.sha256(recipe.encode()).hexdigest())
    return made


if __name__ == "__main__":
    with cache_lock():
        debian_root()
        neighbour_packages()
