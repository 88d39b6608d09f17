"""`list` and `show`: what a results directory holds, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from paretopipe_matrix.context import SIMULATED
from paretopipe_matrix.lookup import find_cell
from paretopipe_matrix.states import CellState, cell_states, slots_of
from paretopipe_matrix.tables import print_table
from paretopipe_runtime.results import RunData, load_run

_LOG_LINES = 15


def list_cells(directory: Path) -> None:
    """Print every planned cell with its state."""
    data = load_run(directory)
    states = cell_states(slots_of(data.run), data.run["spec"]["rounds"], data.records)
    _heading(data)
    print_table(
        ("cell", "state", "rounds ok", "note"),
        [(state.cell, state.word, f"{state.ok}/{state.rounds}", _note(state, data.records)) for state in states],
    )


def show_cell(directory: Path, text: str) -> None:
    """Print all about one cell: records, errors, log tails, provenance."""
    data = load_run(directory)
    cell = find_cell(text, [slot.cell for slot in slots_of(data.run)])
    plan = next(entry for entry in data.run["cells"] if entry["cell"] == cell)
    records = sorted((r for r in data.records if r["cell"] == cell), key=lambda r: (r["round"], r["depth"]))
    _heading(data)
    click.echo(cell)
    click.echo("  " + ", ".join(f"{key} {plan[key]}" for key in plan if key not in ("cell", "depths")))
    if records:
        print_table(
            ("round", "depth", "state", "latency ms", "img/s", "network ms", "stages ms", "rtt ms", "Mbit/s"),
            [_row(record) for record in records],
            right=("round", "depth", "latency ms", "img/s", "network ms", "rtt ms", "Mbit/s"),
        )
        for line in dict.fromkeys(line for record in records if record["stages"] for line in _how(record)):
            click.echo(f"  {line}")
    else:
        click.echo("  not measured yet")
    for record in records:
        _trouble(record)
    for host in data.run["inventory"]["pipelines"][plan["pipeline"]]:
        _log(directory / "logs" / host / "worker.log")
    _provenance(data.run)


def _heading(data: RunData) -> None:
    simulated = " (simulated: declared times, nothing was measured)" if data.run["testbed"] == SIMULATED else ""
    click.echo(f"{data.directory}{simulated}")


def _note(state: CellState, records: Sequence[Mapping[str, Any]]) -> str:
    for record in records:
        if record["cell"] != state.cell:
            continue
        if record["status"] != "ok":
            return f"{record['error']['kind']}: {record['error']['message'].splitlines()[0]}"
        if not record["valid"]:
            return str(record["invalid_reason"])
    return f"{state.pending} round(s) to go" if state.pending else ""


def _row(record: Mapping[str, Any]) -> tuple[object, ...]:
    state = "failed" if record["status"] != "ok" else "ok" if record["valid"] else "invalid"
    stages = " + ".join(_ms(stage["exec_s"]) or "-" for stage in record["stages"] or [])
    rate = record["bandwidth_bit_s"]
    return (
        record["round"],
        record["depth"],
        state,
        _ms(record["latency_s"]),
        None if record["throughput_img_s"] is None else f"{record['throughput_img_s']:.2f}",
        _ms(record["network_s"]),
        stages,
        _ms(record["rtt_s"]),
        None if rate is None else f"{rate / 1e6:.2f}",
    )


def _how(record: Mapping[str, Any]) -> list[str]:
    """How activations travelled and who computed; what crossed the interfaces, per round and depth."""
    engines = ", ".join(f"{s['host']}: {s['engine']} (set up in {s['setup_s']:.2f} s)" for s in record["stages"])
    found = [f"round {record['round']} engines: {engines}"]
    transport = record["transport"]
    if transport:
        found = [f"transport: {_told(transport)}", *found]
    crossed = [
        f"{s['host']} sent {s['tx_bytes'] / 1e6:.3f} MB, got {s['rx_bytes'] / 1e6:.3f} MB"
        for s in record["stages"]
        if s["tx_bytes"] is not None
    ]
    if crossed:
        where = f"round {record['round']}, depth {record['depth']}"
        found.append(f"{where}, {record['window_batches']} batches: {'; '.join(crossed)} on the data interface")
    return found


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(item)}" for key, item in value.items() if item not in ([], None))
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _ms(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1e3:.2f}"


def _trouble(record: Mapping[str, Any]) -> None:
    where = f"round {record['round']}, depth {record['depth']}"
    if record["status"] != "ok":
        error = record["error"]
        host = f" on {error['host']}" if error["host"] else ""
        click.echo(f"{where}: {error['kind']}{host}: {error['message']}")
        if error["remedy"]:
            click.echo(f"  remedy: {error['remedy']}")
        for line in error["log_tail"]:
            click.echo(f"  | {line}")
    elif not record["valid"]:
        click.echo(f"{where}: invalid: {record['invalid_reason']}")


def _log(path: Path) -> None:
    lines = path.read_text(errors="replace").splitlines()[-_LOG_LINES:] if path.is_file() else []
    if lines:
        click.echo(f"{path}, last {len(lines)} lines:")
        for line in lines:
            click.echo(f"  | {line}")


def _provenance(run: Mapping[str, Any]) -> None:
    git = run["git"]
    commit = f"{git['commit']}{' with uncommitted changes' if git['dirty'] else ''}" if git else "unknown"
    versions = run["versions"]
    click.echo(f"made {run['created_at']} by: {' '.join(run['argv'])}")
    click.echo(
        f"  paretopipe {versions['paretopipe']}, python {versions['python']}, commit {commit}, seed {run['seed']}"
    )
    for again in run["resumed"]:
        click.echo(f"  resumed {again['started_at']} by: {' '.join(again['argv'])}")
    for host, facts in run["hosts"].items():
        plain = ", ".join(f"{key} {value}" for key, value in facts.items() if isinstance(value, str | int | float))
        click.echo(f"  {host}: {plain}")
