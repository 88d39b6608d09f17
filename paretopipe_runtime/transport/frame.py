"""The bytes of one message between stages: a checked binary header, then the tensor's memory as it lies.

Layout, little-endian: prefix (magic, version, kind, dtype, ndim, stage count, header size, payload size, batch
id), shape, stride, one block of durations per stage passed, CRC-32 of all of these. The payload is the range of
storage that the tensor covers, so that strides survive the wire: ConvNeXt and MaxViT give other last bits when
their activations arrive contiguous. Every length is checked against what the handshake agreed on before a byte
of payload is read, and nothing is ever allocated at a peer's word.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

MAGIC = b"PPF1"
VERSION = 2
MAX_NDIM = 8
MAX_STAGES = 16

_PREFIX = struct.Struct("<4sBBBBBxHQQ")
PREFIX_BYTES = _PREFIX.size
PREFIX_BEFORE_ID = PREFIX_BYTES - 8
"""The part of the prefix that all tensors of a stream have alike; the batch id follows."""
_CRC = struct.Struct("<I")

# Name of a torch dtype -> (code on the wire, bytes per element).
DTYPES: dict[str, tuple[int, int]] = {
    "uint8": (1, 1),
    "int8": (2, 1),
    "int16": (3, 2),
    "int32": (4, 4),
    "int64": (5, 8),
    "float16": (6, 2),
    "bfloat16": (7, 2),
    "float32": (8, 4),
    "float64": (9, 8),
    "bool": (10, 1),
}
# Header fields are packed and unpacked in one call per frame; the format depends on two small numbers only.
_formats: dict[tuple[int, int], struct.Struct] = {}
_BY_CODE = {code: (name, size) for name, (code, size) in DTYPES.items()}


class FrameError(Exception):
    """A frame that is not ours, damaged, or larger than what was agreed on."""


class Kind(IntEnum):
    """What a frame is for."""

    TENSOR = 1
    END = 2
    PING = 3
    BULK = 4


_KINDS = {int(kind): kind for kind in Kind}


class StageTimes(NamedTuple):
    """What one stage reports about one batch; all from that host's own clocks."""

    recv_s: float
    """From the arrival of the frame's header to its last byte; 0 at the driver."""
    queue_s: float
    """Waiting for the stage to be free."""
    exec_s: float
    """Computing, wall time."""
    out_queue_s: float
    """Waiting for the sender to be free."""
    serialize_s: float
    """Turning the result into what is sent; a dense tensor's memory is sent as it lies, without a copy."""
    cpu_time_s: float
    """CPU seconds of the worker process so far, all threads."""
    clock_s: float
    """The host's monotonic clock when `cpu_time_s` was read. Never compared with another host's."""
    peak_rss_bytes: float
    """Largest resident memory of the worker process since its stage was prepared."""
    sent_bytes: float
    """Payload that this stage sends on for this batch."""
    kernel_s: float
    """Part of `exec_s` in which an accelerator computed, by its own events; NaN where there is none."""
    gpu_busy_s: float
    """Seconds so far in which the GPU had work, as NVML's utilisation adds up; NaN without a GPU, as the next two."""
    gpu_energy_j: float
    """Energy that the GPU has used so far."""
    gpu_mem_bytes: float
    """Memory in use on the GPU."""
    tx_bytes: float
    """What the data interface has sent so far, by the kernel's counter; NaN where no interface is known."""
    rx_bytes: float
    """What the data interface has received so far."""


_STAGE_FIELDS = len(StageTimes._fields)
_STAGE_BYTES = 8 * _STAGE_FIELDS


def _rest_format(ndim: int, n_stages: int) -> struct.Struct:
    """Shape, stride and stage times."""
    key = (ndim, n_stages)
    if key not in _formats:
        _formats[key] = struct.Struct(f"<{2 * ndim}q{_STAGE_FIELDS * n_stages}d")
    return _formats[key]


class Header(NamedTuple):
    """A frame without its payload."""

    kind: Kind
    batch_id: int = 0
    dtype: str = "uint8"
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    payload_bytes: int = 0
    stages: tuple[StageTimes, ...] = ()


class Prefix(NamedTuple):
    """The fixed part of a header, checked."""

    kind: Kind
    dtype: str
    itemsize: int
    ndim: int
    n_stages: int
    rest_bytes: int
    payload_bytes: int
    batch_id: int
    raw: bytes


def extent(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements of storage between a strided tensor's first and last element, both included; 0 if it is empty."""
    if 0 in shape:
        return 0
    last = 0
    for size, step in zip(shape, stride, strict=True):
        last += (size - 1) * step
    return last + 1


def _rest_bytes(ndim: int, n_stages: int) -> int:
    return 16 * ndim + _STAGE_BYTES * n_stages + _CRC.size


MAX_HEADER_BYTES = PREFIX_BYTES + _rest_bytes(MAX_NDIM, MAX_STAGES)


def encode(header: Header) -> bytes:
    """The header's bytes.

    Raises FrameError for what the format cannot carry: an unknown dtype, too many dimensions or stages.
    """
    if header.dtype not in DTYPES:
        raise FrameError(f"dtype {header.dtype} cannot be sent; known: {', '.join(DTYPES)}")
    if len(header.shape) > MAX_NDIM or len(header.stages) > MAX_STAGES:
        raise FrameError(f"at most {MAX_NDIM} dimensions and {MAX_STAGES} stages fit a frame")
    code, _ = DTYPES[header.dtype]
    ndim, n_stages = len(header.shape), len(header.stages)
    prefix = _PREFIX.pack(
        MAGIC,
        VERSION,
        header.kind,
        code,
        ndim,
        n_stages,
        PREFIX_BYTES + _rest_bytes(ndim, n_stages),
        header.payload_bytes,
        header.batch_id,
    )
    times = chain.from_iterable(header.stages)
    body = prefix + _rest_format(ndim, n_stages).pack(*header.shape, *header.stride, *times)
    return body + _CRC.pack(zlib.crc32(body))


def decode_prefix(raw: bytes | bytearray | memoryview, limit_bytes: int) -> Prefix:
    """Check the fixed part of a header.

    Raises FrameError if it is not ours or announces a payload of more than `limit_bytes`.
    """
    magic, version, kind, code, ndim, n_stages, header_bytes, payload_bytes, batch_id = _PREFIX.unpack(raw)
    if magic != MAGIC:
        raise FrameError(f"not a ParetoPipe frame (starts with {bytes(magic)!r})")
    if version != VERSION:
        raise FrameError(f"frame version {version}, this host speaks {VERSION}: install the same paretopipe on both")
    if kind not in _KINDS:
        raise FrameError(f"unknown frame kind {kind}")
    if code not in _BY_CODE:
        raise FrameError(f"unknown dtype code {code}")
    if ndim > MAX_NDIM or n_stages > MAX_STAGES:
        raise FrameError(f"{ndim} dimensions and {n_stages} stages; at most {MAX_NDIM} and {MAX_STAGES}")
    if raw[9] != 0:
        raise FrameError("a reserved byte is set")
    rest_bytes = _rest_bytes(ndim, n_stages)
    if header_bytes != PREFIX_BYTES + rest_bytes:
        raise FrameError(f"header of {header_bytes} B announced, {PREFIX_BYTES + rest_bytes} B expected")
    if payload_bytes > limit_bytes:
        raise FrameError(f"payload of {payload_bytes} B announced, at most {limit_bytes} B agreed on")
    dtype, itemsize = _BY_CODE[code]
    return Prefix(_KINDS[kind], dtype, itemsize, ndim, n_stages, rest_bytes, payload_bytes, batch_id, bytes(raw))


def decode_rest(prefix: Prefix, raw: bytes | bytearray | memoryview) -> Header:
    """Check the variable part of a header against its prefix and give the whole.

    Raises FrameError if the checksum is wrong or the payload is not what shape, stride and dtype cover.
    """
    (crc,) = _CRC.unpack(raw[-_CRC.size :])
    if crc != zlib.crc32(raw[: -_CRC.size], zlib.crc32(prefix.raw)):
        raise FrameError("header checksum is wrong")
    ndim = prefix.ndim
    values = _rest_format(ndim, prefix.n_stages).unpack_from(raw)
    shape, stride = values[:ndim], values[ndim : 2 * ndim]
    if ndim and min(values[: 2 * ndim]) < 0:
        raise FrameError("a negative size or stride")
    if prefix.kind is Kind.TENSOR and prefix.payload_bytes != extent(shape, stride) * prefix.itemsize:
        raise FrameError(f"payload of {prefix.payload_bytes} B does not fit shape {shape}, stride {stride}")
    stages = tuple(
        StageTimes._make(values[start : start + _STAGE_FIELDS]) for start in range(2 * ndim, len(values), _STAGE_FIELDS)
    )
    return Header(prefix.kind, prefix.batch_id, prefix.dtype, shape, stride, prefix.payload_bytes, stages)
