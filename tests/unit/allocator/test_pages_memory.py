"""What memory the allocator of `pages.c` takes, and when it gives it back."""

from __future__ import annotations

import pytest
from own_process import Run

from paretopipe_runtime.allocator.choice import _KEEPING

KB, MB = 1 << 10, 1 << 20
MOST_BREAKS = 16384  # of pages.c
OWN = MB  # what Python itself may hold in large blocks
NETWORK = "import batches; batches.report(rounds=6)"


def test_repeated_batches_take_no_new_pages_and_no_more_than_their_peak(run_with_pages: Run) -> None:
    found = run_with_pages(NETWORK)
    first, *later = found["rounds"]
    assert first["faults"] > found["peak"] / (4 * KB)  # they are touched indeed
    assert sum(each["faults"] for each in later) < 1e-3 * found["touched"] / (4 * KB)
    assert {each["fresh"] for each in later} == {first["fresh"]}
    assert found["resident"] < found["peak"] + 4 * MB


def test_a_heap_that_keeps_blocks_needs_more_for_those_batches(
    run_with_pages: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the bound above says something."""
    monkeypatch.setenv("GLIBC_TUNABLES", _KEEPING["GLIBC_TUNABLES"])
    found = run_with_pages(NETWORK, preload="")
    assert sum(each["faults"] for each in found["rounds"][1:]) < 1e-3 * found["touched"] / (4 * KB)
    assert found["resident"] > found["peak"] + 40 * MB


def test_trim_gives_free_pages_back_and_forgets_moves(run_with_pages: Run) -> None:
    found = run_with_pages(
        """
        def state():
            asked = blocks.live_bytes + blocks.count * 68 * KB
            return {"resident": status("VmRSS"), "asked": asked, **figures()._asdict()}

        blocks = Blocks(7, 200 * MB)
        start = state()
        states = []
        for _ in range(2):
            for _ in range(1000):
                blocks.step()
            busy = state()
            for _ in range(40):
                blocks.free_one()
            trim()
            blocks.check_all()
            some = state()
            blocks.free_all()
            trim()
            states.append((busy, some, state()))
        print(json.dumps([start, states]))
        """
    )
    start, rounds = found
    for busy, some, end in rounds:
        assert busy["mappings"] > 50
        assert busy["resident"] > start["resident"] + 100 * MB
        assert some["asked"] < busy["asked"] - 10 * MB
        assert some["resident"] < start["resident"] + some["asked"] + 4 * MB
        assert some["mappings"] < busy["mappings"]
        assert end["resident"] < start["resident"] + 4 * MB
        assert end["peak_bytes"] == end["live_bytes"] < OWN
        assert end["mappings"] < 10


def test_many_moves_leave_the_kernel_enough_mappings(run_with_pages: Run) -> None:
    """Live and free blocks lie in turn, and what lies free is asked for in large blocks, until it must not be moved."""
    found = run_with_pages(
        """
        import random

        UNIT, SMALL = 64 * KB, 2000
        choose = random.Random(8)
        small, start, most = {}, mappings(), 0

        def add(number):
            size = choose.randint(5, 9) * UNIT - PAGE
            address = libc.malloc(size)
            contents(address, 8)[:] = contents(address + size - 8, 8)[:] = number.to_bytes(8, "little")
            small[address] = size, number

        def drop(address):
            size, number = small.pop(address)
            assert contents(address, 8) == contents(address + size - 8, 8) == number.to_bytes(8, "little")
            libc.free(address)

        number = rounds_beyond = 0
        while rounds_beyond < 5:
            while len(small) < SMALL:
                add(number := number + 1)
            for address in choose.sample(sorted(small), SMALL // 2):
                drop(address)
            free = figures().peak_bytes - figures().live_bytes
            large = [libc.malloc(1500 * UNIT - PAGE) for _ in range(free // (1500 * UNIT))]
            most = max(most, mappings() - start)
            for address in large:
                libc.free(address)
            rounds_beyond += figures().dropped_bytes > 0
        busy = figures()
        for address in list(small):
            drop(address)
        trim()
        print(json.dumps([busy._asdict(), most, figures().mappings, mappings() - start]))
        """
    )
    busy, most, recorded_after_trim, after_trim = found
    assert busy["moves"] > MOST_BREAKS
    assert busy["peak_bytes"] < 1500 * MB
    assert MOST_BREAKS < busy["mappings"] <= MOST_BREAKS + 3
    assert abs(most - busy["mappings"]) < 100  # what the process itself mapped besides
    assert recorded_after_trim < 10
    assert after_trim < 100
