"""What was run, and on what: from run.json and the vitals of the probes."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analysis.numbers import MISSING, significant
from analysis.report.document import Fact, Table, table_of
from analysis.report.quantities import count, number, quantity

if TYPE_CHECKING:
    from analysis.run import Run

JsonObject = Mapping[str, Any]


def run_facts(data: Run) -> tuple[Fact, ...]:
    """Command, times, spec, versions and commit of a run; what run.json does not have is left out."""
    run = data.run
    spec: JsonObject = run.get("spec") or {}
    facts = [
        ("Results directory", data.directory.resolve().name),
        ("Testbed", _text(run.get("testbed"))),
        ("Command", shlex.join(map(str, run.get("argv") or []))),
        ("Started", _text(run.get("created_at"))),
        ("Resumed", _resumed(run.get("resumed") or [])),
        ("Last record begun", last_record(data)),
        ("Pipelines", "; ".join(f"{name}: {' → '.join(hosts)}" for name, hosts in pipelines(run).items())),
        ("Rounds", _text(spec.get("rounds"))),
        ("Seed", _text(run.get("seed"))),
        ("Window", "; ".join(_each(spec, "window", _window_words))),
        ("Warm-up", "; ".join(_each(spec, "warmup_batches", lambda n: f"{n} batches, or the depth if that is more"))),
        ("Weights", "; ".join(_each(spec, "weights", str))),
        ("Input", "; ".join(_each(spec, "input", str))),
        ("Software", _software(run.get("versions") or {})),
        ("Git commit", git_words(run)),
        ("Schema", _text(run.get("schema"))),
    ]
    return tuple((name, words) for name, words in facts if words)


def last_record(data: Run) -> str:
    """When the newest record was begun (UTC, ISO 8601), empty where no record says."""
    if "started_at" not in data.frame.columns:
        return ""
    return max((str(time) for time in data.frame["started_at"].dropna().unique()), default="")


def pipelines(run: JsonObject) -> dict[str, list[str]]:
    """Pipeline -> its hosts in order, of the inventory."""
    found = (run.get("inventory") or {}).get("pipelines") or {}
    return {str(name): [str(host) for host in hosts] for name, hosts in found.items()}


def git_words(run: JsonObject) -> str:
    """The commit, and whether files differed from it."""
    git = run.get("git")
    if not git:
        return "not in a checkout" if "git" in run else ""
    return f"{git.get('commit')}{' with changes that are not committed' if git.get('dirty') else ''}"


def _resumed(starts: Sequence[JsonObject]) -> str:
    times = ", ".join(str(start.get("started_at")) for start in starts)
    return f"{count(len(starts), 'time')}: {times}" if starts else ""


def _each(spec: JsonObject, field: str, words: Any) -> list[str]:
    """The field's values in the spec's entries, each once, in words; the top level's where an entry sets none."""
    entries = spec.get("matrix") or [{}]
    values = [entry.get(field, spec.get(field)) for entry in entries]
    return list(dict.fromkeys(words(value) for value in values if value is not None))


def _window_words(window: JsonObject) -> str:
    if window.get("batches"):
        return f"{window['batches']} batches"
    return f"{significant(number(window.get('seconds')))} s and at least {window.get('min_batches')} batches"


def _software(versions: JsonObject) -> str:
    parts = [f"{name} {versions[name]}" for name in ("paretopipe", "python") if versions.get(name)]
    by_version: dict[str, list[str]] = {}
    for host, version in (versions.get("torch") or {}).items():
        by_version.setdefault(str(version), []).append(str(host))
    return "; ".join([*parts, *(f"torch {version} on {', '.join(hosts)}" for version, hosts in by_version.items())])


def host_table(data: Run) -> Table | None:
    """One row per host of run.json: its facts at the start, and its vitals over all probes."""
    hosts: JsonObject = data.run.get("hosts") or {}
    rows = [_host_row(str(name), facts or {}, data.probes) for name, facts in hosts.items()]
    return table_of("Hosts: facts at the start, temperature and throttling over all probes", rows)


def _host_row(name: str, facts: JsonObject, probes: Iterable[JsonObject]) -> dict[str, str]:
    vitals = [(probe.get("vitals") or {}).get(name) or {} for probe in probes]
    interface = facts.get("data_interface") or {}
    cores = facts.get("cpus")
    return {
        "Host": name,
        "CPU": f"{facts.get('cpu_model') or 'unknown'}, {facts.get('machine') or 'unknown'}",
        "Cores": f"{len(cores) if isinstance(cores, list) else '?'} of {facts.get('cpu_count', '?')}"
        + (", shared" if facts.get("cpus_shared") else ""),
        "Threads": _text(facts.get("threads")) or MISSING,
        "Memory": quantity(facts.get("memory_total_bytes"), "B"),
        "Computes on": _device(facts),
        "Kernel": _text(facts.get("kernel")) or MISSING,
        "Python": _text(facts.get("python")) or MISSING,
        "torch": _text(facts.get("torch")) or MISSING,
        "Governor": _text(facts.get("governor")) or MISSING,
        "TCP": _text(facts.get("congestion_control")) or MISSING,
        "Interface": f"{interface.get('name')}, MTU {interface.get('mtu')}" if interface else MISSING,
        "Temperature": _temperature(vitals),
        "Throttled": _throttled(vitals),
    }


def host_words(run: JsonObject) -> str:
    """`pi1: Cortex-A72, 4 of 4 cores; pi2: ...`, hosts of one kind together."""
    kinds: dict[str, list[str]] = {}
    for name, facts in (run.get("hosts") or {}).items():
        row = _host_row(str(name), facts or {}, ())
        kinds.setdefault(f"{row['CPU']}, {row['Cores']} cores, computing on {row['Computes on']}", []).append(str(name))
    return "; ".join(f"{', '.join(names)}: {kind}" for kind, names in kinds.items())


def _device(facts: JsonObject) -> str:
    device = _text(facts.get("device")) or "cpu"
    gpu = facts.get("gpu_device")
    name = gpu.get("name") if isinstance(gpu, Mapping) else gpu
    return f"{device} ({name})" if name else device


def _temperature(vitals: Sequence[JsonObject]) -> str:
    values = [v for v in (number(vital.get("temperature_c")) for vital in vitals) if math.isfinite(v)]
    return f"{min(values):.0f} to {max(values):.0f} °C" if values else "not measured"


def _throttled(vitals: Sequence[JsonObject]) -> str:
    values = [str(vital["throttled"]) for vital in vitals if vital.get("throttled") is not None]
    if not values:
        return "not measured"
    bad = [value for value in values if value not in ("0", "0x0", "False")]
    return f"{len(bad)} of {count(len(values), 'probe')}: {', '.join(dict.fromkeys(bad))}" if bad else "never"


def model_table(data: Run) -> Table | None:
    """One row per model request of run.json."""
    rows = [
        {
            "Model": _text(model.get("model")),
            "Pipeline": _text(model.get("pipeline")) or MISSING,
            "Engine": _text(model.get("engine")) or MISSING,
            "Batch": _text(model.get("batch_size")) or MISSING,
            "Cuts": f"{len(model['cuts'])} by {model.get('granularity')}" if model.get("cuts") else MISSING,
            "Parameters": quantity(model.get("parameters"), "").strip(),
            "Weights": _text(model.get("weights")) or MISSING,
            "Graph hash": _text(model.get("graph_hash")) or MISSING,
            "Weight hash": _text(model.get("weight_hash")) or MISSING,
        }
        for model in data.run.get("models") or []
    ]
    return table_of("Models as they were cut", rows, right=("Batch", "Parameters"))


def _text(value: object) -> str:
    return "" if value is None else str(value)
