"""What a user should know of the hosts before anything is measured there. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from paretopipe_matrix.testbed import JsonObject
from paretopipe_runtime.allocator.building import REMEDY

_OF_COMPILER = ("C compiler", " failed: ")


def notices(hosts: Mapping[str, JsonObject]) -> Iterator[str]:
    """A line for each host whose figures have a flaw that can be helped, from the facts of run.json."""
    for host, facts in hosts.items():
        allocator = facts.get("allocator", "pages")
        if allocator != "pages":
            remedy = f"; {REMEDY}" if any(words in allocator for words in _OF_COMPILER) else ""
            why = allocator.removeprefix("glibc ")
            yield f"{host}: memory figures vary by chance: glibc keeps freed memory {why}{remedy}"
