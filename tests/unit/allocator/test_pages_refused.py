"""The allocator of `pages.c` where the kernel does not do as asked: blocks can be used, or are not there."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest
from own_process import Run

from paretopipe_runtime.allocator import building

MB = 1 << 20


def test_where_addresses_are_limited_glibc_serves_all(run_with_pages: Run) -> None:
    found = run_with_pages(
        """
        blocks = Blocks(10)
        for _ in range(500):
            blocks.step()
        blocks.free_all()
        trim()
        print(json.dumps(figures()))
        """,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )
    assert found is None


@pytest.fixture(scope="module")
def refused(library: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What to load for moves to be refused."""
    refusing = tmp_path_factory.mktemp("refusing") / "refusing.so"
    source = Path(__file__).with_name("refusing.c")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(refusing), str(source)], check=True)
    return f"{refusing}:{library}"


def test_where_pages_cannot_be_moved_there_are_new_ones(
    run_with_pages: Run, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSE_EVERY", "3")
    busy, left = run_with_pages(
        """
        start = status("VmRSS")
        blocks = Blocks(11)
        for _ in range(1200):
            ctypes.set_errno(77)
            block = libc.malloc(41 * MB)
            assert ctypes.get_errno() == 77
            write(block, 41 * MB, 3)
            check(block, 41 * MB, 3)
            libc.free(block)
            blocks.step()
        blocks.check_all()
        busy = figures()
        blocks.free_all()
        trim()
        print(json.dumps([busy._asdict(), status("VmRSS") - start]))
        """,
        preload=refused,
    )
    assert busy["dropped_bytes"] > 0
    assert busy["fresh_bytes"] - busy["dropped_bytes"] == busy["peak_bytes"]
    assert left < 4 * MB


@pytest.mark.parametrize("every", [2, 5, 11])
def test_a_place_that_another_thread_has_taken_stays_its_own(
    run_with_pages: Run, refused: str, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setenv("REFUSE_EVERY", str(every))
    monkeypatch.setenv("REFUSE_AND_TAKE", "1")
    run_with_pages(
        """
        blocks = Blocks(12)
        for _ in range(600):
            blocks.step()
        trim()
        blocks.check_all()
        blocks.free_all()
        assert libc.taken_is_intact()
        print(0)
        """,
        preload=refused,
    )


def test_blocks_without_a_record_left_for_them_are_glibcs(
    run_with_pages: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few records, so that they run out while free pages are gathered."""
    text = building.SOURCE.read_text()
    for many, few in (("define SEGMENTS 65536u", "define SEGMENTS 64u"), ("define SPARES 1024u", "define SPARES 1u")):
        assert many in text
        text = text.replace(many, few)
    source = tmp_path / "pages.c"
    source.write_text(text)
    monkeypatch.setattr(building, "SOURCE", source)
    run_with_pages(
        """
        for seed in (2, 6, 7, 13):
            blocks = Blocks(seed, 200 * MB)
            for _ in range(1000):
                blocks.step()
            blocks.free_all()
        print(0)
        """,
        preload=str(building.library({"PARETOPIPE_CACHE": str(tmp_path)})),
    )


UNITS = """
    UNIT = 512 * KB  # larger than what Python itself leaves free

    def new(units):
        size = units * UNIT - PAGE
        address = libc.malloc(size)
        write(address, size, units)
        return address, size, units

    def drop(*blocks):
        for address, size, units in blocks:
            check(address, size, units)
            libc.free(address)
    """
AFTER_TRIM = """
    # What is touched first after `trim` is another mapping to the kernel than what was touched before beside it.
    first, second, third, guard = new(10), new(10), new(10), new(5)
    drop(first, third)
    drop(new(20))
    left, middle, right = new(7), new(6), new(7)
    drop(middle)
    trim()
    fillers = new(10), new(10)
    middle = new(6)
    drop(left)
    trim()
    left = new(7)
    drop(guard, left, middle)
    drop(new(40))
    """
AFTER_ADVICE = """
    # Pages with and without advice are two mappings; numpy advises huge pages for arrays of 4 MB and more.
    first, second, guard = new(40), new(40), new(5)
    begin = second[0] // PAGE * PAGE + 30 * UNIT
    assert libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(5 * UNIT), 16) == 0  # MADV_DONTDUMP
    drop(first, second)
    drop(new(90))
    assert figures().moved_bytes > 20 * UNIT  # what is one mapping is moved all the same
    """
AFTER_FORK = """
    # In a child of fork, pages that were in two mappings do not become one where they meet.
    first, second, guard, third, last = new(10), new(10), new(5), new(11), new(5)
    drop(first, third)
    both = new(21)
    child = os.fork()
    if child == 0:
        drop(both, second)
        all_three = new(31)
        fillers = new(20), new(11), new(5)
        drop(all_three)
        drop(new(60))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """


@pytest.mark.parametrize("code", [AFTER_TRIM, AFTER_ADVICE, AFTER_FORK], ids=["trim", "advice", "fork"])
def test_free_pages_that_are_more_than_one_mapping(run_with_pages: Run, refused: str, code: str) -> None:
    """Where the allocator takes them for one, Linux before 6.17 refuses to move them."""
    run_with_pages(dedent(UNITS) + dedent(code) + "print(0)", preload=refused)


def test_where_addresses_become_limited_blocks_can_be_used_or_are_not_there(run_with_pages: Run) -> None:
    """A limit below what is mapped already lets mremap unmap the destination, and map nothing there."""
    run_with_pages(
        """
        import resource

        small = [libc.malloc(MB) for _ in range(40)]
        for address in small[::2]:
            libc.free(address)
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        block = libc.malloc(10 * MB)
        if block:
            write(block, 10 * MB, 1)
            check(block, 10 * MB, 1)
        print(0)
        """
    )
