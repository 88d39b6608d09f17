"""Frames: what is encoded comes back, and nothing else is let in."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_runtime.transport.frame import (
    DTYPES,
    PREFIX_BYTES,
    FrameError,
    Header,
    Kind,
    StageTimes,
    decode_prefix,
    decode_rest,
    encode,
    extent,
)

LIMIT_BYTES = 64 * 1024 * 1024
finite = st.floats(allow_nan=False, allow_infinity=False)
stages = st.lists(st.builds(StageTimes, *[finite] * len(StageTimes._fields)), max_size=4).map(tuple)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    shape = tuple(draw(st.lists(st.integers(0, 12), max_size=5)))
    order = draw(st.permutations(range(len(shape))))
    stride, step = [0] * len(shape), 1
    for axis in order:
        stride[axis] = step
        step *= max(1, shape[axis])
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    nbytes = extent(shape, tuple(stride)) * DTYPES[dtype][1]
    return Header(Kind.TENSOR, draw(st.integers(0, 2**63)), dtype, shape, tuple(stride), nbytes, draw(stages))


def decode(raw: bytes, limit_bytes: int = LIMIT_BYTES) -> Header:
    if len(raw) < PREFIX_BYTES:
        raise FrameError("short")
    prefix = decode_prefix(raw[:PREFIX_BYTES], limit_bytes)
    rest = raw[PREFIX_BYTES:]
    if len(rest) < prefix.rest_bytes:
        raise FrameError("short")
    return decode_rest(prefix, rest[: prefix.rest_bytes])


@given(headers())
def test_round_trip(header: Header) -> None:
    assert decode(encode(header)) == header


@given(headers())
def test_payload_above_the_limit_is_refused(header: Header) -> None:
    if header.payload_bytes:
        with pytest.raises(FrameError, match="agreed on"):
            decode(encode(header), header.payload_bytes - 1)


def random_header(rng: random.Random) -> Header:
    shape = tuple(rng.randrange(1, 64) for _ in range(rng.randrange(5)))
    stride, step = [], 1
    for size in reversed(shape):
        stride.insert(0, step)
        step *= size
    times = tuple(StageTimes(*(rng.random() for _ in StageTimes._fields)) for _ in range(rng.randrange(3)))
    dtype = rng.choice(sorted(DTYPES))
    nbytes = extent(shape, tuple(stride)) * DTYPES[dtype][1]
    return Header(Kind.TENSOR, rng.randrange(2**32), dtype, shape, tuple(stride), nbytes, times)


def mutate(raw: bytes, rng: random.Random) -> bytes:
    mutated = bytearray(raw)
    kind = rng.randrange(4)
    at = rng.randrange(len(raw))
    if kind == 0:
        mutated[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del mutated[at:]
    elif kind == 2:
        mutated[at : at + 8] = rng.randbytes(len(mutated[at : at + 8]))
    else:
        mutated[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(mutated)


def test_mutated_frames_are_rejected_without_allocation() -> None:
    """200 random frames x 50 mutations: none passes, and no announced size is believed."""
    rng = random.Random(20261121)
    passed = []
    tracemalloc.start()
    try:
        for _ in range(200):
            raw = encode(random_header(rng))
            for _ in range(50):
                damaged = mutate(raw, rng)
                if damaged[: len(raw)] == raw:
                    continue  # bytes appended behind a whole header are the next frame's
                try:
                    decode(damaged)
                except FrameError:
                    continue
                passed.append(damaged)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert passed == []
    assert peak_bytes < 1_000_000


def test_huge_announcement_is_refused_from_the_prefix_alone() -> None:
    raw = bytearray(encode(Header(Kind.BULK, payload_bytes=16)))
    raw[12:20] = (2**60).to_bytes(8, "little")
    with pytest.raises(FrameError, match=str(2**60)):
        decode_prefix(raw[:PREFIX_BYTES], LIMIT_BYTES)


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\nHost: example\r\n", b"\x00" * 40, b"SSH-2.0-OpenSSH_9.2p1" * 2]
)
def test_other_protocols_are_named_as_such(garbage: bytes) -> None:
    with pytest.raises(FrameError, match="not a ParetoPipe frame"):
        decode_prefix(garbage[:PREFIX_BYTES], LIMIT_BYTES)


def test_negative_stride_is_refused() -> None:
    header = Header(Kind.TENSOR, 0, "float32", (2, 3), (-3, 1), 24)
    with pytest.raises(FrameError, match="negative"):
        decode(encode(header))


def test_unknown_dtype_cannot_be_sent() -> None:
    with pytest.raises(FrameError, match="complex64"):
        encode(Header(Kind.TENSOR, dtype="complex64"))


def test_extent_of_strided_layouts() -> None:
    assert extent((2, 3), (3, 1)) == 6
    assert extent((2, 3), (1, 2)) == 6
    assert extent((3, 4), (1, 0)) == 3
    assert extent((0, 4), (4, 1)) == 0
    assert extent((), ()) == 1
