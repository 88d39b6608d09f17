"""Block times of a file that `pp-matrix profile --out` wrote."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from analysis.paper.blocks import BlockTime
from analysis.paper.measured import device_of
from analysis.paper.reference import GRANULARITY

SCHEMA = 1


class BlockFileError(Exception):
    """A file that is no profile of pp-matrix; one line that says why."""


def read_blocks(path: Path) -> list[BlockTime]:
    """Block times of a file that `pp-matrix profile --out` wrote: medians and quartiles of the passes.

    Raises BlockFileError where it is no such file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != SCHEMA:
            raise BlockFileError(f"{path}: schema {document['schema']!r}, this version reads {SCHEMA}")
        if document["testbed"] == "simulated":
            raise BlockFileError(f"{path}: simulated: declared times, nothing was measured")
        return [time for model in document["models"] for time in _of_profile(model, document["hosts"])]
    except OSError as error:
        raise BlockFileError(f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BlockFileError(f"{path}: not what pp-matrix profile --out writes ({error!r})") from error


def _of_profile(model: Mapping[str, Any], facts: Mapping[str, Any]) -> list[BlockTime]:
    if model["granularity"] != GRANULARITY:
        return []
    samples: dict[tuple[str, int], list[float]] = {}
    names: dict[int, str] = {}
    hosts: dict[str, list[str]] = {}
    gpus: dict[str, bool] = {}
    for host, rows in model["blocks"].items():
        device = device_of(host, facts.get(host))
        kind = device.kind
        gpus[kind] = device.gpu is not None
        hosts.setdefault(kind, []).append(host)
        for row in rows:
            names[int(row["cut_index"])] = str(row["name"])
            samples.setdefault((kind, int(row["cut_index"])), []).extend(map(float, row["exec_samples_s"]))
    times = []
    for (kind, block), seconds in sorted(samples.items(), key=lambda item: item[0][1]):
        low, middle, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (math.nan, seconds[0], math.nan)
        times.append(
            BlockTime(
                model=str(model["model"]),
                batch_size=int(model["batch_size"]),
                engine=str(model["engine"]),
                kind=kind,
                on_gpu=gpus[kind],
                block=block,
                name=names[block],
                exec_s=middle,
                exec_s_low=low,
                exec_s_high=high,
                n=len(seconds),
                source="profile",
                hosts="+".join(hosts[kind]),
            )
        )
    return times
