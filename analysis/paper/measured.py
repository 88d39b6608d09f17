"""What was measured, pipeline by pipeline; on which devices and networks is decided from recorded facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.paper.reference import (
    BACKEND,
    BATCH_SIZE,
    DURESS_DELAY_S,
    DURESS_RATE_BIT_S,
    ENGINE,
    GRANULARITY,
    reference_models,
)

if TYPE_CHECKING:
    import pandas as pd

JsonObject = dict[str, Any]

AS_IT_IS, DURESS, OTHER = "as it is", "duress", "other"
"""Networks: nothing imposed; the paper's 200 ms and 5 Mbit/s; anything else, or not declared."""


@dataclass(frozen=True)
class Device:
    """A host of a pipeline, as run.json has its facts."""

    host: str
    cpu_model: str | None
    threads: int | None
    """That compute; None where not recorded."""
    memory_total_bytes: float | None
    gpu: str | None
    """The name of the GPU that computes; None where the CPU does, or nothing is known."""
    known: bool
    """Whether run.json has facts of the host."""

    @property
    def kind(self) -> str:
        """What kind of device computes there: the GPU, or the CPU with its threads."""
        if self.gpu:
            return self.gpu
        if not self.cpu_model:
            return "device not recorded"
        if self.threads is None:
            return self.cpu_model
        return f"{self.cpu_model}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    @property
    def processor(self) -> str | None:
        """`CPU` or `GPU`; None where no fact says so."""
        return ("GPU" if self.gpu else "CPU") if self.known else None


@dataclass(frozen=True)
class Measured:
    """One pipeline of one results directory."""

    directory: Path
    pipeline: str
    devices: tuple[Device, ...]
    """In the order of the stages; empty where run.json does not have the pipeline."""
    testbed: str
    profiles: Mapping[str, JsonObject]
    """Those of run.json: name -> `links`, ..."""
    inventory: str | None
    """Path of the inventory file."""
    frame: pd.DataFrame
    """The rows of a `compare_frame` that belong to the pipeline."""

    @property
    def kind(self) -> str | None:
        """`CPU to CPU`, `CPU to GPU`, ...; None where a host's facts are not recorded."""
        found = [device.processor for device in self.devices]
        return " to ".join(map(str, found)) if found and all(found) else None

    @property
    def imported(self) -> bool:
        """Whether it was measured elsewhere and imported."""
        return self.testbed == "imported"

    @property
    def words(self) -> str:
        """`pi-to-pi: pi1 (Cortex-A72, 4 threads) to pi2 (...)`."""
        origin = {"simulated": " (simulated)", "imported": " (imported)"}.get(self.testbed, "")
        hosts = " to ".join(f"{device.host} ({device.kind})" for device in self.devices) or "hosts not recorded"
        return f"{self.pipeline}{origin}: {hosts}"

    @property
    def unfit(self) -> str | None:
        """Why nothing of it stands beside the paper's figures, or None."""
        if self.testbed == "simulated":
            return "simulated: declared times, nothing was measured"
        if self.kind is None:
            return "run.json has no facts of its hosts"
        return None

    def network(self, profile: str) -> str:
        """`AS_IT_IS`, `DURESS` or `OTHER`, from the links that run.json declares for the profile."""
        declared = self.profiles.get(profile)
        if declared is None or not isinstance(declared.get("links"), dict):
            return OTHER
        links = {direction: link for direction, link in declared["links"].items() if _imposes(link)}
        if not links:
            return AS_IT_IS
        first = links.get("first-egress") or {}
        same = first.get("delay_s") == DURESS_DELAY_S and first.get("rate_bit_s") == DURESS_RATE_BIT_S
        return DURESS if same and len(links) == 1 and not first.get("loss_pct") else OTHER


def measured_pipelines(directory: Path, run: Mapping[str, Any], frame: pd.DataFrame) -> list[Measured]:
    """The pipelines of a run, in the order of its records; `frame` is its `compare_frame`.

    Rows are put in the order of the paper's models, other models behind them.
    """
    place = {row.model: n for n, row in enumerate(reference_models())}
    frame = frame.sort_values(
        "model", key=lambda names: names.map(lambda name: place.get(name, len(place))), kind="stable"
    )
    inventory = run.get("inventory") or {}
    orders = inventory.get("pipelines") or {}
    facts = run.get("hosts") or {}
    return [
        Measured(
            directory=directory,
            pipeline=str(name),
            devices=tuple(device_of(host, facts.get(host)) for host in orders.get(name) or ()),
            testbed=str(run.get("testbed")),
            profiles=run.get("profiles") or {},
            inventory=inventory.get("path"),
            frame=rows,
        )
        for name, rows in frame.groupby("pipeline", sort=False)
    ]


def like_the_paper(frame: pd.DataFrame, *, backends: bool = False) -> pd.DataFrame:
    """The rows with the paper's granularity and engine and, unless `backends`, its own backend: any batch size."""
    same = (frame["granularity"] == GRANULARITY) & (frame["engine"] == ENGINE)
    return frame[same] if backends else frame[same & (frame["backend"] == BACKEND)]


def why_lacking(measured: Measured, model: str, split: str | None, network: str = AS_IT_IS) -> str | None:
    """The first condition of the paper that nothing measured meets, in words; None where a valid round meets all."""
    frame = measured.frame
    profiles = [name for name in frame["profile"].unique() if measured.network(str(name)) == network]
    wanted: list[tuple[str, Iterable[object]]] = [
        ("model", [model]),
        *([("split", [split])] if split is not None else []),
        ("granularity", [GRANULARITY]),
        ("backend", [BACKEND]),
        ("engine", [ENGINE]),
        ("profile", profiles),
        ("batch_size", [BATCH_SIZE]),
    ]
    for column, values in wanted:
        kept = frame[frame[column].isin(list(values))]
        if kept.empty:
            if column in ("model", "split"):
                return f"{column} {model if column == 'model' else split} not measured"
            found = ", ".join(sorted(map(str, frame[column].unique())))
            return f"measured with {column.replace('_', ' ')} {found} only"
        frame = kept
    if not (frame["state"] == "valid").any():
        reasons = [text for text in (*frame["failure"], *frame["invalid_reason"]) if isinstance(text, str)]
        return f"no valid round: {reasons[0] if reasons else 'no reason recorded'}"
    return None


def without_name(why: str) -> str:
    """A reason of `why_lacking` that can be said of several models or splits at once."""
    return "not measured" if why.startswith(("model ", "split ")) else why


def _imposes(link: object) -> bool:
    return isinstance(link, dict) and any(link.get(key) for key in ("delay_s", "jitter_s", "loss_pct", "rate_bit_s"))


def device_of(host: str, facts: JsonObject | None) -> Device:
    """A host with its facts of run.json or of a profile; without facts it is not known what computes there."""
    facts = facts or {}
    gpu = facts.get("gpu_device")
    return Device(
        host=host,
        cpu_model=facts.get("cpu_model"),
        threads=facts.get("threads"),
        memory_total_bytes=facts.get("memory_total_bytes"),
        gpu=str(gpu.get("name") or "GPU") if isinstance(gpu, dict) else None,
        known=bool(facts.get("cpu_model") or gpu),
    )
