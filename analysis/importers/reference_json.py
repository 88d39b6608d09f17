"""Results of the reference implementation of "Where to Split?" (2026): its JSON files, both variants.

Its socket variant writes one file per model and split, `<Model>_split_<k>_metrics.json`. Its RPC variant writes one per
session, with the same object per split and run within `results`, or per split where the runs were averaged; there are
also files of one split with `worker_metrics`. So an object is taken for a result wherever it lies in a file, by the key
`system_inference_throughput_imgs_per_s`; what it lacks is taken from the objects around it, then from the file's name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.importers.defects import (
    REFERENCE_BATCH_SIZE,
    RPC,
    SOCKET,
    Numbers,
    reference_defects,
    same_bytes_defect,
)
from analysis.importers.writing import Imported, Point, SourceError, count_defects, records_of

JsonObject = dict[str, Any]

_THROUGHPUT = "system_inference_throughput_imgs_per_s"
_SESSION_KEYS = ("session_id", "configuration", "device_mapping")
_TORCHVISION = {
    **{"alexnet": "alexnet", "inceptionv3": "inception_v3", "mobilenetv2": "mobilenet_v2"},
    **{"resnet18": "resnet18", "resnet50": "resnet50", "vgg16": "vgg16"},
}
_FILE_NAME = re.compile(r"(?P<model>[A-Za-z0-9]+)_split_(?P<split>\d+)_metrics")
_SPLIT_KEY = re.compile(r"(?:split_?)?(\d+)")
_AVERAGED = "_averaged"
_MIB_BIT, _MIBIT_BIT = 8.0 * 2**20, float(2**20)


@dataclass(frozen=True)
class _Found:
    """A result in a file."""

    source: str
    result: JsonObject
    around: tuple[JsonObject, ...]
    """The objects that it lies in, the outermost first."""
    keys: tuple[str, ...]
    """The keys that lead to it; indices of lists as `[0]`."""

    @property
    def variant(self) -> str:
        """RPC where it has worker metrics or lies in a session."""
        in_session = any(key in outer for outer in self.around for key in _SESSION_KEYS)
        return RPC if in_session or isinstance(_first(self, "worker_metrics"), dict) else SOCKET


def import_reference(
    sources: Sequence[tuple[str, Path]], batch_size: int | None, *, keep_defective: bool, skip_others: frozenset[Path]
) -> Imported:
    """Read files, given as (name to show, path), in the order in which repeated results count as rounds.

    `batch_size` replaces what the files say; 8, which is written into that code, where neither says anything. Files in
    `skip_others` may hold something else; they are left out with a remark. A file of averages is left out where the
    file it was made from is there too. Raises SourceError where a file cannot be read or holds no result, a result
    has no model or no split, or no result has numbers.
    """
    remarks: list[str] = []
    found: list[_Found] = []
    paths = {path for _, path in sources}
    for name, path in sources:
        original = path.with_name(path.name.replace(_AVERAGED, ""))
        if original != path and original in paths:
            remarks.append(f"{name} left out: averages of {original.name}, which is there too")
            continue
        results = list(_results(name, _read(name, path)))
        if not results and path not in skip_others:
            raise SourceError(f"{name}: no result of the reference implementation in it (no {_THROUGHPUT})")
        if not results:
            remarks.append(f"{name} left out: no {_THROUGHPUT} in it")
        found += results
    points = [point for result in found if (point := _point(result, batch_size, remarks))]
    if not points:
        raise SourceError(f"no result with a throughput and a latency in {len(sources)} files")
    points = _sorted(_with_shared_defects(points))
    remarks += _general_remarks(points, batch_size)
    records = records_of(points, keep_defective=keep_defective)
    return Imported(
        "the reference implementation", tuple(records), count_defects(points), tuple(dict.fromkeys(remarks))
    )


def _read(name: str, path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror}") from error
    except RecursionError as error:
        raise SourceError(f"{name}: nested too deeply to be a result") from error
    except ValueError as error:
        raise SourceError(f"{name}: no JSON: {error}") from error


def _results(
    source: str, value: object, around: tuple[JsonObject, ...] = (), keys: tuple[str, ...] = ()
) -> Iterator[_Found]:
    if isinstance(value, dict):
        if _THROUGHPUT in value:
            yield _Found(source, value, around, keys)
            return
        for key, inner in value.items():
            yield from _results(source, inner, (*around, value), (*keys, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _results(source, inner, around, (*keys, f"[{index}]"))


def _point(found: _Found, batch_size: int | None, remarks: list[str]) -> Point | None:
    """The result as a point; None, with a remark, where it has no latency or no throughput above 0."""
    metrics = found.result.get("average_metrics_per_batch")
    metrics = metrics if isinstance(metrics, dict) else {}
    model, index = _model(found, remarks), _split(found)
    throughput, latency = _number(found.result.get(_THROUGHPUT)), _number(metrics.get("end_to_end_latency_s"))
    if not throughput or throughput < 0 or latency is None:
        missing = "latency" if latency is None else "throughput"
        remarks.append(f"{found.source}: {model} P{index} left out: no {missing}")
        return None
    delay_ms = _number(_first(found, "static_network_delay_ms"))
    numbers = Numbers(
        latency_s=latency,
        throughput_img_s=throughput,
        batch_size=batch_size or _batch_size(found) or REFERENCE_BATCH_SIZE,
        parts_s=tuple(_number(metrics.get(f"part{k}_inference_time_s")) for k in (1, 2)),
        network_s=_number(metrics.get("network_time_s")),
        bytes_per_batch=_number(metrics.get("intermediate_data_size_bytes")),
        averaged=_is_averaged(found, latency),
    )
    return Point(
        source=found.source,
        model=model,
        split=f"P{index}",
        # A measured run's cut 0 sends the images as they are; what split 0 is here, the files do not say.
        split_index=str(index) if index else "P0",
        granularity="reference",
        backend=found.variant,
        engine="eager",
        profile="imported" if delay_ms is None else f"imported-{delay_ms:g}ms",
        batch_size=numbers.batch_size,
        latency_s=latency,
        throughput_img_s=throughput,
        parts_s=numbers.parts_s,
        network_s=numbers.network_s,
        bytes_per_batch=numbers.bytes_per_batch,
        defects=tuple(reference_defects(numbers, found.variant, model, delay_ms)),
        extra=_extra(found, metrics),
    )


def _extra(found: _Found, metrics: Mapping[str, Any]) -> JsonObject:
    """What has no key of its own in a record, its unit put right."""
    more: JsonObject = {}
    rate = _number(metrics.get("network_throughput_mbps"))
    if rate is not None:
        more["imported_network_bit_s"] = rate * (_MIB_BIT if found.variant == SOCKET else _MIBIT_BIT)
    workers = _first(found, "worker_metrics")
    for rank, worker in workers.items() if isinstance(workers, dict) else ():
        if isinstance(worker, dict):
            more[f"imported_{rank}_cpu_pct"] = _number(worker.get("avg_cpu_usage_percent"))
            more[f"imported_{rank}_memory_mb"] = _number(worker.get("avg_memory_usage_mb"))
    return more


def _with_shared_defects(points: Sequence[Point]) -> list[Point]:
    """Mark what only the results of one model together show."""
    groups: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    for point in points:
        if point.backend == RPC:
            groups.setdefault((point.model, point.profile), []).append((point.split, point.bytes_per_batch))
    shared = {key: defect for key, sizes in groups.items() if (defect := same_bytes_defect(sizes))}
    marked = []
    for point in points:
        defect = shared.get((point.model, point.profile)) if point.backend == RPC else None
        marked.append(replace(point, defects=(*point.defects, defect)) if defect else point)
    return marked


def _sorted(points: Sequence[Point]) -> list[Point]:
    """By network, model, variant and split; results of the same split stay in file order."""

    def key(point: Point) -> tuple[float, str, str, str, int]:
        delay = point.profile.removeprefix("imported-").removesuffix("ms")
        known = float(delay) if delay != point.profile else -1.0
        return (known, point.profile, point.model, point.backend, int(point.split[1:]))

    return sorted(points, key=key)


def _general_remarks(points: Sequence[Point], batch_size: int | None) -> list[str]:
    remarks = []
    sizes = sorted({point.batch_size for point in points})
    if batch_size is None and sizes == [REFERENCE_BATCH_SIZE]:
        remarks.append(f"batch size {REFERENCE_BATCH_SIZE}, as in that code; --batch-size N if it was changed")
    if any("imported_network_bit_s" in point.extra for point in points):
        backends = {point.backend for point in points if "imported_network_bit_s" in point.extra}
        units = [unit for backend, unit in ((SOCKET, "MiB/s (socket)"), (RPC, "Mibit/s (rpc)")) if backend in backends]
        remarks.append(f"network_throughput_mbps is {' and '.join(units)}: converted to imported_network_bit_s")
    remarks.append("depth unknown: that code does not keep the number of batches in flight")
    return remarks


def _model(found: _Found, remarks: list[str]) -> str:
    """The torchvision name; a name that is none of the paper's stays as it is, with a remark."""
    named = _FILE_NAME.search(found.source)
    candidates = [found.result.get("model_name"), _first(found, "model"), named["model"] if named else None]
    names = [name for name in candidates if isinstance(name, str) and name and name.casefold() != "unknown"]
    if not names:
        raise SourceError(f"{found.source}: a result has no model_name, and the file's name does not say it")
    known = _TORCHVISION.get(re.sub(r"[^a-z0-9]", "", names[0].casefold()))
    if known is None:
        remarks.append(f"{found.source}: model {names[0]!r} is none of the paper's; the name is kept")
    return known or names[0]


def _split(found: _Found) -> int:
    named = _FILE_NAME.search(found.source)
    keys = [match[1] for key in reversed(found.keys) if (match := _SPLIT_KEY.fullmatch(key))]
    for candidate in (found.result.get("split_index"), *keys, named["split"] if named else None):
        if isinstance(candidate, int | str) and str(candidate).isdecimal():
            return int(candidate)
    raise SourceError(f"{found.source}: a result has no split_index, and the file's name does not say it")


def _is_averaged(found: _Found, latency_s: float) -> bool:
    """Whether it stands for several runs: nothing between `results` and its split, times rounded to a millionth."""
    below = found.keys[found.keys.index("results") + 1 :] if "results" in found.keys else ()
    return len(below) == 1 and below[0].isdecimal() and round(latency_s, 6) == latency_s


def _batch_size(found: _Found) -> int | None:
    size = _first(found, "batch_size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def _first(found: _Found, key: str) -> object:
    """The value of `key` in the result, else in the nearest object around it or its `configuration`."""
    for scope in (found.result, *reversed(found.around)):
        configuration = scope.get("configuration")
        for place in (scope, configuration if isinstance(configuration, dict) else {}):
            if place.get(key) is not None:
                return place[key]
    return None


def _number(value: object) -> float | None:
    """A finite number as float; None for all else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
