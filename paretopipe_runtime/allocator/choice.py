"""Which allocator a worker is started with, and how that is recorded."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from paretopipe_runtime.allocator.building import UnavailableError, library
from paretopipe_runtime.allocator.pages import figures

_REASON = "PARETOPIPE_NO_PAGES"
_PRELOAD_BEFORE = "PARETOPIPE_PRELOAD_BEFORE"

# glibc gives large blocks back to the kernel on free and gets zeroed pages on the next malloc: with activations of
# tens of MB that is a page fault per 4 kB and up to half of a batch's time. Its heap keeps them with this (GNU libc
# manual, "Memory Allocation Tunables"; glibc >= 2.26), and fragments. With `pages` only small blocks are left to it.
_KEPT_BYTES = 1 << 30
_KEEPING = {"GLIBC_TUNABLES": f"glibc.malloc.mmap_threshold={_KEPT_BYTES}:glibc.malloc.trim_threshold={_KEPT_BYTES}"}


def environment(before: Mapping[str, str]) -> dict[str, str]:
    """What to add to the environment `before` of a process, so that freed blocks are kept.

    By `pages.c` where this host can have it, else by glibc's heap; `in_use` tells which from inside. What is
    set of glibc's tunables already, stays.
    """
    keeping = {} if "GLIBC_TUNABLES" in before else _KEEPING
    try:
        loaded = str(library(before))
    except UnavailableError as error:
        return keeping | {_REASON: str(error)}
    preload = before.get("LD_PRELOAD", "")
    return keeping | {"LD_PRELOAD": f"{loaded}:{preload}" if preload else loaded, _PRELOAD_BEFORE: preload}


def in_use(now: Mapping[str, str]) -> str:
    """The allocator of this process, `now` its environment: `pages`, or `glibc` and why; for a host's facts."""
    if figures() is not None:
        return "pages"
    return f"glibc ({now.get(_REASON, 'pages did not load')})"


def settle(now: MutableMapping[str, str]) -> None:
    """Keep the allocator to this process, `now` its environment: what it starts has the LD_PRELOAD from before."""
    if _PRELOAD_BEFORE not in now:
        return
    if now[_PRELOAD_BEFORE]:
        now["LD_PRELOAD"] = now[_PRELOAD_BEFORE]
    else:
        now.pop("LD_PRELOAD", None)
