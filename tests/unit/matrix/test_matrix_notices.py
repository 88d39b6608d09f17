"""Hosts whose figures have a flaw are told before a run, with the remedy, and a run does not go on with another."""

from __future__ import annotations

import pytest

from paretopipe_matrix.notices import notices
from paretopipe_matrix.provenance import changed_facts


def test_hosts_with_the_allocator_or_no_word_of_it_are_fine() -> None:
    assert list(notices({"pi": {"allocator": "pages"}, "old": {}, "simulated": {"simulated": True}})) == []


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("(there is no C compiler)", "; install gcc and libc6-dev there"),
        ("(gcc failed: dlfcn.h: No such file or directory)", "; install gcc and libc6-dev there"),
        ("(it does not work with this kernel or C library: AssertionError)", ""),
        ("(/cache/allocator cannot be used: Permission denied)", ""),
        ("(pages did not load)", ""),
    ],
)
def test_a_host_with_glibc_is_named_with_why_and_a_remedy_that_fits(why: str, remedy: str) -> None:
    facts = {"pi": {"allocator": "pages"}, "edge": {"allocator": f"glibc {why}"}}
    assert list(notices(facts)) == [f"edge: memory figures vary by chance: glibc keeps freed memory {why}{remedy}"]


def test_the_allocator_must_stay_where_it_is_known() -> None:
    pages, glibc = {"pi": {"allocator": "pages"}}, {"pi": {"allocator": "glibc (there is no C compiler)"}}
    assert changed_facts(pages, glibc) == ["pi: allocator: pages -> glibc (there is no C compiler)"]
    assert changed_facts(pages, pages) == []
    assert changed_facts({"pi": {}}, glibc) == [], "an older version's"
