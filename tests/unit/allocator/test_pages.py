"""The allocator of `pages.c` at work, each time in a process of its own."""

from __future__ import annotations

import pytest
from own_process import Run

KB, MB = 1 << 10, 1 << 20
OWN = MB  # what Python itself may hold in large blocks


# Contents ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_blocks_keep_their_contents_and_do_not_overlap(run_with_pages: Run, seed: int) -> None:
    found = run_with_pages(
        """
        blocks = Blocks(int(sys.argv[1]))
        for _ in range(2000):
            blocks.step()
        busy = figures()
        blocks.free_all()
        print(json.dumps([busy._asdict(), figures().live_bytes]))
        """,
        seed,
    )
    busy, live_at_end = found
    assert busy["moves"] > 100
    assert busy["fresh_bytes"] - busy["dropped_bytes"] == busy["peak_bytes"]
    assert live_at_end < OWN


def test_blocks_keep_their_contents_while_free_memory_is_given_back(run_with_pages: Run) -> None:
    run_with_pages(
        """
        blocks = Blocks(4)
        for step in range(2000):
            blocks.step()
            if step % 50 == 0:
                trim()
                now = figures()
                assert now.live_bytes == now.peak_bytes == now.fresh_bytes - now.dropped_bytes, now
        blocks.free_all()
        print(0)
        """
    )


def test_threads_do_not_disturb_each_other(run_with_pages: Run) -> None:
    moves, live_at_end = run_with_pages(
        """
        import threading

        sys.setswitchinterval(1e-5)
        errors = []

        def work(thread):
            try:
                blocks = Blocks(5, 60 * MB, thread)
                for _ in range(800):
                    blocks.step()
                blocks.free_all()
            except BaseException as error:
                errors.append(repr(error))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
        print(json.dumps([figures().moves, figures().live_bytes]))
        """
    )
    assert moves > 10
    assert live_at_end < OWN


def test_numpy_computes_the_same(run_with_pages: Run) -> None:
    code = """
        from hashlib import sha256
        import numpy

        digest = sha256()
        random = numpy.random.default_rng(6)
        kept = []
        for width in (700, 1100, 400, 1300, 900) * 2:
            left = random.integers(-9, 9, (width, width)).astype(numpy.float64)  # whole numbers: no rounding
            product = left @ left.T
            kept = [numpy.sort(product, axis=0), *kept[:2]]
            digest.update(numpy.concatenate([array.ravel() for array in kept]).tobytes())
            digest.update(numpy.ascontiguousarray(product[::3, ::-1].T).tobytes())
        print(json.dumps([digest.hexdigest(), figures() and figures().moves]))
        """
    with_pages, moves = run_with_pages(code)
    without, nothing = run_with_pages(code, preload="")
    assert with_pages == without
    assert moves > 0
    assert nothing is None


# Interface -----------------------------------------------------------------------------------------------------


def test_errors_and_unusual_requests_are_those_of_the_c_library(run_with_pages: Run) -> None:
    run_with_pages(
        """
        from errno import EINVAL, ENOMEM

        def errno_after(function, *arguments):
            ctypes.set_errno(77)
            return function(*arguments), ctypes.get_errno()

        held = libc.malloc(3 * MB)
        write(held, 3 * MB, 1)
        for function, arguments in (
            (libc.malloc, (1 << 62,)),
            (libc.calloc, (1 << 40, 1 << 40)),
            (libc.aligned_alloc, (4096, 1 << 62)),
            (libc.realloc, (held, 1 << 62)),
            (libc.reallocarray, (held, 1 << 40, 1 << 40)),
        ):
            assert errno_after(function, *arguments) == (None, ENOMEM), (function, arguments)
        check(held, 3 * MB, 1)

        untouched = ctypes.c_void_p(1234)
        for alignment, size, error in (
            (0, MB, EINVAL), (4, MB, EINVAL), (24, MB, EINVAL), (96, 5, EINVAL), (64, 1 << 62, ENOMEM),
        ):
            found = errno_after(libc.posix_memalign, ctypes.byref(untouched), alignment, size)
            assert found == (error, 77), (alignment, size, found)
        assert untouched.value == 1234

        block, errno = errno_after(libc.malloc, MB)
        assert errno_after(libc.free, block) == (None, 77)
        assert errno_after(libc.free, None) == (None, 77)
        assert errno == 77
        assert libc.malloc_usable_size(None) == 0

        live = figures().live_bytes
        assert libc.realloc(held, 0) is None
        assert figures().live_bytes == live - 3 * MB - 64 * KB
        new = libc.realloc(None, MB)
        write(new, MB, 2)
        new = libc.reallocarray(new, 5, MB)
        check(new, MB, 2, is_cut=True)
        libc.free(new)
        print(0)
        """
    )


def test_alignments_are_respected_and_other_blocks_do_not_all_begin_alike(run_with_pages: Run) -> None:
    run_with_pages(
        """
        blocks = []
        for alignment in (8, 64, 128, 4096, 16 * KB, MB, 16 * MB):
            for size in (256 * KB, 4 * MB, 4 * MB + 1):
                blocks.append((posix_memalign(alignment, size), size, len(blocks)))
                assert blocks[-1][0] % alignment == 0, (alignment, size)
                write(*blocks[-1])
        for block in blocks:
            check(*block)
        addresses = [libc.malloc(MB) for _ in range(12)]
        assert len({address % PAGE for address in addresses}) == 12
        assert not any(address % 64 for address in addresses)
        print(0)
        """
    )


def test_a_forked_child_has_its_own_copy_and_can_go_on(run_with_pages: Run) -> None:
    """Threads hold the lock at many of the forks; what a child inherits of them is in a state to go on from."""
    run_with_pages(
        """
        import threading

        blocks, ends = Blocks(9, 40 * MB), threading.Event()
        for _ in range(200):
            blocks.step()

        def churn(sizes):
            held = []
            while not ends.is_set():
                held = [*held[-5:], *(libc.malloc(size * MB) for size in sizes)]
                for address in held[:-5]:
                    libc.free(address)

        threads = [threading.Thread(target=churn, args=(sizes,)) for sizes in ((1, 5, 2), (9, 1, 3), (2, 2, 13))]
        for thread in threads:
            thread.start()
        for _ in range(15):
            child = os.fork()
            if child == 0:
                try:
                    blocks.check_all()
                    for _ in range(40):
                        blocks.step()
                    blocks.free_all()
                    os._exit(0)
                finally:
                    os._exit(1)
            for _ in range(10):
                blocks.step()
            assert os.waitpid(child, 0)[1] == 0
            blocks.check_all()
        ends.set()
        for thread in threads:
            thread.join()
        print(0)
        """
    )
