"""What is known to be wrong with imported numbers, found where it shows. Pure.

The reference implementation is that of "Where to Split? A Pareto-Front Analysis of DNN Partitioning for Edge Inference"
(2026). Its socket variant takes the start of a batch on one host and its end on the other, and feeds batches without
bound. Its RPC variant computes the latency as 8 / throughput, caps the throughput at 10 images/s and estimates the
network time; where its log has no times of the parts, they become 0.3 and 0.6 of a batch time, and unknown bytes are a
constant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SOCKET, RPC = "socket", "rpc"
"""The two variants of the reference implementation, as backends."""
REFERENCE_BATCH_SIZE = 8
"""Written into the reference implementation."""

_CAP_IMG_S = 10.0
_FALLBACK_BYTES = 8 * 32 * 56 * 56 * 4
_FALLBACK_DELAY_MS = 0.094
_RELATIVE = 1e-6
_ROUNDED_S = 2e-6
"""How far times that are rounded to a millionth of a second, and a multiple of one, can be apart."""
_ROUNDED_IMG_S = 0.005
_SPREAD = 0.01
"""How far the mean of ratios may be from the ratio of means, in files of averages: the runs' relative variance."""
_MANY_SPLITS = 8
_WHOLE = 0.1
"""How far throughput x latency may be from a whole number of batches, relative to that number."""

LATENCY_FORMULA = "latency is batch size / throughput: defined, not measured"
LATENCY_SUM = "latency is the sum of part times and network time: defined, not measured"
LATENCY_BELOW_PARTS = "latency is less than the time in the parts: two clocks, or not of the same batches"
LATENCY_NEGATIVE = "latency is not above 0: two clocks"
LATENCY_CLOCKS = "latency is a difference of two hosts' clocks"
LATENCY_QUEUE = "latency includes queueing from the second batch on: batches are fed without bound"
THROUGHPUT_CAPPED = "throughput is exactly 10 images/s, where that code caps it"
PARTS_ESTIMATED = "part times are 0.3 and 0.6 of one time: estimated, not measured"
NETWORK_ESTIMATED = "network time is a formula, not measured"
NETWORK_AFTER_HEADER = "network_s is the time to receive a batch after its header, and bytes are those of the pickle"
BYTES_FALLBACK = "bytes per batch are that code's constant for an unknown size"
BYTES_ALL_EQUAL = "all splits sent the same number of bytes: they may have been one split"
DELAY_CONSTANT = "the network delay of 0.094 ms is a constant of that code, not measured"
NO_WHOLE_DEPTH = "throughput x latency is no whole number of batches in flight"
NAMES_SHIFTED = "split names of ResNet50 shift by one block between two scripts of that code"
AVERAGED = "a mean over runs, rounded: counts as one round"


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a measurement."""

    kind: str
    """What is wrong, in the same words for all measurements that have it."""
    detail: str = ""
    invalidates: bool = False
    """Whether the point is no measurement because of it."""
    drops: tuple[str, ...] = ()
    """Keys of a record (`exec_s`: of its stages) that are no measurement because of it."""

    @property
    def words(self) -> str:
        """The kind, with the detail in brackets; never with a semicolon."""
        return f"{self.kind} ({self.detail})" if self.detail else self.kind

    @property
    def consequence(self) -> str:
        """What it leads to unless it is kept; empty where nothing but the mark."""
        return "invalid" if self.invalidates else f"{', '.join(self.drops)} left out" if self.drops else ""


@dataclass(frozen=True)
class Numbers:
    """One measurement as its source has it, in SI units; None is unknown."""

    latency_s: float
    """Per batch."""
    throughput_img_s: float
    batch_size: int
    depth: int | None = None
    parts_s: tuple[float | None, ...] = ()
    """Computing time per batch of each stage."""
    network_s: float | None = None
    bytes_per_batch: float | None = None
    averaged: bool = False
    """Means over runs that were rounded: throughput to 0.01 images/s, times to a millionth of a second."""


def general_defects(numbers: Numbers, slack: float = _RELATIVE) -> list[Defect]:
    """What any source's numbers can show. `slack`: by what part a latency may be below its parts, for rounded tables.

    - The latency is batch size / throughput to 1e-6, and the depth is not known to be 1. At depth 1 nothing is said:
      there the throughput may be what was computed from the other.
    - The latency is less than the parts' times and the network's together: no batch can be back before it was computed.
    - The latency is not above 0.
    - The depth is unknown, and throughput x latency / batch size, by Little's law the mean number of batches in
      flight, is more than 10 % off the next whole number: the number in flight was not held constant.
    """
    found = []
    formula = numbers.depth != 1 and _is_formula(numbers, numbers.batch_size)
    if formula:
        found.append(Defect(LATENCY_FORMULA, invalidates=True))
    known = [part for part in (*numbers.parts_s, numbers.network_s) if part is not None]
    if numbers.latency_s <= 0:
        found.append(Defect(LATENCY_NEGATIVE, f"{numbers.latency_s:.4g} s", invalidates=True))
    elif known and numbers.latency_s < math.fsum(known) * (1 - slack):
        detail = f"{numbers.latency_s:.4g} s of {math.fsum(known):.4g} s"
        found.append(Defect(LATENCY_BELOW_PARTS, detail, invalidates=True))
    if numbers.depth is None and not formula and numbers.latency_s > 0:
        in_flight = numbers.latency_s * numbers.throughput_img_s / numbers.batch_size
        whole = max(1, round(in_flight))
        if abs(in_flight - whole) > _WHOLE * whole:
            found.append(Defect(NO_WHOLE_DEPTH, f"{in_flight:.2f}"))
    return found


def reference_defects(numbers: Numbers, variant: str, model: str, delay_ms: float | None) -> list[Defect]:
    """What a result of the reference implementation shows, and what is true of all results of its `variant`.

    Estimated part times, and an estimated network time, are not compared with the latency.
    """
    found: list[Defect] = []
    parts, network = numbers.parts_s, numbers.network_s
    if _is_estimate(numbers):
        found.append(Defect(PARTS_ESTIMATED, drops=("exec_s",)))
        parts = ()
    if variant == RPC:
        if network is not None:
            found.append(Defect(NETWORK_ESTIMATED, drops=("network_s",)))
        if _is_sum(numbers):
            found.append(Defect(LATENCY_SUM, invalidates=True))
        network = None
    if numbers.throughput_img_s == _CAP_IMG_S:
        found.append(Defect(THROUGHPUT_CAPPED, invalidates=True))
    if numbers.bytes_per_batch == _FALLBACK_BYTES:
        found.append(Defect(BYTES_FALLBACK, drops=("bytes_per_batch",)))
    measured = Numbers(
        numbers.latency_s,
        numbers.throughput_img_s,
        numbers.batch_size,
        parts_s=parts,
        network_s=network,
        averaged=numbers.averaged,
    )
    general = general_defects(measured)
    if numbers.batch_size != REFERENCE_BATCH_SIZE and _is_formula(numbers, REFERENCE_BATCH_SIZE):
        general = [Defect(LATENCY_FORMULA, "with that code's batch size of 8", True), *general]
    found = [*general, *found]
    if variant == SOCKET:
        found += [Defect(LATENCY_CLOCKS), Defect(LATENCY_QUEUE)]
        found += [Defect(NETWORK_AFTER_HEADER)] if numbers.network_s is not None else []
    if variant == RPC and delay_ms == _FALLBACK_DELAY_MS:
        found.append(Defect(DELAY_CONSTANT))
    if model == "resnet50":
        found.append(Defect(NAMES_SHIFTED))
    if numbers.averaged:
        found.append(Defect(AVERAGED))
    return found


def same_bytes_defect(bytes_of_splits: Iterable[tuple[str, float | None]]) -> Defect | None:
    """Of one model's (split, bytes per batch): whether eight splits or more all sent the same number.

    The RPC variant has a script that copies one split's parts to all splits. Of the paper's six models none sends the
    same number of bytes at eight cuts in a row. Unknown sizes and that code's constant for them do not count.
    """
    known = {(split, size) for split, size in bytes_of_splits if size is not None and size != _FALLBACK_BYTES}
    sizes = {size for _, size in known}
    splits = {split for split, _ in known}
    if len(splits) < _MANY_SPLITS or len(sizes) > 1:
        return None
    return Defect(BYTES_ALL_EQUAL, f"{len(splits)} splits, {sizes.pop():.0f} bytes")


def _is_formula(numbers: Numbers, batch_size: int) -> bool:
    latency, throughput = numbers.latency_s, numbers.throughput_img_s
    tolerance = batch_size * _RELATIVE
    if numbers.averaged:
        tolerance += batch_size * _SPREAD + _ROUNDED_IMG_S * abs(latency) + _ROUNDED_S * throughput
    return abs(latency * throughput - batch_size) <= tolerance


def _is_estimate(numbers: Numbers) -> bool:
    """Two parts whose times are as 0.3 to 0.6, to the last digit: measured times are not."""
    if len(numbers.parts_s) != 2:
        return False
    first, second = numbers.parts_s
    if not first or not second:
        return False
    tolerance = _ROUNDED_S if numbers.averaged else _RELATIVE * second
    return abs(second - 2 * first) <= tolerance


def _is_sum(numbers: Numbers) -> bool:
    terms = [part for part in (*numbers.parts_s, numbers.network_s) if part is not None]
    if len(terms) < 3:
        return False
    tolerance = _ROUNDED_S if numbers.averaged else _RELATIVE * abs(numbers.latency_s)
    return abs(numbers.latency_s - math.fsum(terms)) <= tolerance
