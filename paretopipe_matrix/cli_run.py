"""`pp-matrix run`, `rerun` and `profile`: options only, the work is in launch and profiling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from paretopipe_matrix.choices import ENGINES, RPC_ROUTES, RPC_TRANSPORTS, rpc_backend
from paretopipe_runtime.transport.backends import BACKENDS

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(dir_okay=False, path_type=Path)


def _options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _names(*names: str) -> Complete:
    """Shell completion with these names."""
    return lambda _context, _parameter, typed: [name for name in names if name.startswith(typed)]


_inventory = click.option(
    "--inventory", type=FILE, metavar="FILE", help="Ansible inventory (YAML). [default: inventory/local.yml]"
)
_simulate = click.option(
    "--simulate", type=FILE, envvar="PARETOPIPE_SIMULATE", hidden=True, help="Declared times instead of hosts."
)
_fail_fast = click.option("--fail-fast", is_flag=True, help="Stop at the first failed cell.")
_what = _options(
    click.option("--pipeline", "pipelines", multiple=True, metavar="NAME", help="Pipeline of the inventory."),
    click.option("--model", "models", multiple=True, metavar="M", help="torchvision name or package.module:factory."),
    click.option("--granularity", metavar="block|node", help="Where cuts may lie. [default: block]"),
    click.option(
        "--engine",
        "engines",
        multiple=True,
        metavar="E",
        shell_complete=_names(*ENGINES),
        help=f"How a stage computes: {', '.join(ENGINES)}. [default: eager]",
    ),
    click.option("--batch-size", "batch_sizes", multiple=True, metavar="N", help="Images per batch. [default: 8]"),
    click.option("--weights", metavar="W", help="random, factory, or a weights file. [default: random]"),
    click.option("--input", metavar="I", help="synthetic, synthetic:32, folder:PATH or cifar10:PATH."),
    click.option("--input-encoding", metavar="raw|jpeg", help="How images travel where split 0 sends them."),
)


@click.command()
@click.option("--spec", type=FILE, metavar="FILE", help="What to measure (YAML or TOML); flags override it.")
@_inventory
@_what
@click.option("--split", "splits", multiple=True, metavar="SEL", help="all, P3, 3, 3:9, features.2, 0, N; comma lists.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    metavar="B",
    shell_complete=_names(*BACKENDS),
    help=f"How activations travel: {', '.join(BACKENDS)}. [default: socket]",
)
@click.option(
    "--rpc-route",
    type=click.Choice(RPC_ROUTES),
    help="Makes --backend rpc rpc-hub: all through the first host, as in the paper. [default: direct]",
)
@click.option(
    "--rpc-transport",
    type=click.Choice(RPC_TRANSPORTS),
    help="Makes --backend rpc rpc-mpt_uv: 16 connections instead of one. [default: uv]",
)
@click.option("--streams", metavar="N|auto", help="TCP connections per hop of backend socket. [default: auto]")
@click.option("--profile", "profiles", multiple=True, metavar="P", help="Network profile of profiles.yml.")
@click.option("--depth", "depths", metavar="LIST", help="Batches in flight, such as 1,2,4, or auto.")
@click.option("--batches", type=int, metavar="N", help="Window of so many batches.")
@click.option("--seconds", type=float, metavar="S", help="Window of so many seconds. [default: 1]")
@click.option("--min-batches", type=int, metavar="N", help="At least so many batches in it. [default: 5]")
@click.option("--rounds", type=int, metavar="N", help="Repetitions of the whole matrix. [default: 3]")
@click.option("--seed", type=int, metavar="N", help="Of random weights and of the order. [default: 0]")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Results; existing: resume."
)
@_fail_fast
@click.option("--provision", is_flag=True, help="First run playbooks/provision.yml on the hosts of the run.")
@click.option("--dry-run", is_flag=True, help="Print cells and expected duration, measure nothing.")
@_simulate
def run(
    spec: Path | None,
    inventory: Path | None,
    out: Path | None,
    fail_fast: bool,
    provision: bool,
    dry_run: bool,
    simulate: Path | None,
    **given: Any,
) -> None:
    """Measure a matrix of cells, or resume one.

    Without --spec and flags: every block cut of mobilenet_v2 on this machine. --out on an existing directory goes on
    where it was left; nothing finished is measured twice.

    \b
    Example: pp-matrix run --model resnet18 --split P2:P6,N --profile lan --depth 1,2,4 --out results/r18
             pp-matrix run --out results/r18          (resume)
             pp-matrix run --backend socket --backend rpc --engine eager --engine best
             pp-matrix run --backend rpc --rpc-route hub --pipeline pc-pi-pi --split 0+P3
    """
    from paretopipe_matrix.launch import RunOptions
    from paretopipe_matrix.launch import run as launch

    flags = _flags(given)
    status = launch(RunOptions(spec, inventory, flags, out, fail_fast, dry_run, provision, simulate))
    click.get_current_context().exit(status)


@click.command()
@click.argument("directory", metavar="[DIR]", nargs=-1)
@click.option("--cell", "cells", multiple=True, metavar="ID", help="Measure this cell again, in all rounds.")
@click.option("--failed", is_flag=True, help="Measure again what failed or is invalid.")
@_inventory
@_fail_fast
@_simulate
def rerun(
    directory: tuple[str, ...],
    cells: tuple[str, ...],
    failed: bool,
    inventory: Path | None,
    fail_fast: bool,
    simulate: Path | None,
) -> None:
    """Measure cells of a run again, as its run.json says.

    DIR: the newest under results/.

    New records are appended and count instead of the old ones. A cell may be given by the beginning of its id.

    \b
    Example: pp-matrix rerun --failed
             pp-matrix rerun results/r18 --cell resnet18-P3-socket-eager-lan
    """
    from paretopipe_matrix.launch import rerun as launch
    from paretopipe_runtime.results import newest_run

    # `--cell A B`: what is no directory here is another cell.
    first_is_directory = bool(directory) and (failed or Path(directory[0]).is_dir())
    more = directory[1:] if first_is_directory else directory
    wanted = (*cells, *more)
    if failed == bool(wanted) or (more and not cells):
        raise click.UsageError("give either --cell ID... or --failed")
    place = Path(directory[0]) if first_is_directory else newest_run()
    status = launch(place, wanted, inventory, simulate, failed=failed, fail_fast=fail_fast)
    click.get_current_context().exit(status)


@click.command()
@_inventory
@_what
@click.option("--repeats", type=click.IntRange(min=1), default=10, show_default=True, help="Passes per block.")
@click.option("--seed", type=int, metavar="N", help="Of random weights. [default: 0]")
@click.option("--out", type=FILE, metavar="FILE", help="Write everything as JSON, too.")
@_simulate
def profile(inventory: Path | None, repeats: int, out: Path | None, simulate: Path | None, **given: Any) -> None:
    """Time every block on every host; bytes at every cut.

    \b
    Example: pp-matrix profile --model resnet18 --batch-size 1 --out resnet18.json
    """
    from paretopipe_matrix.context import new_context
    from paretopipe_matrix.profiling import profile_models

    if simulate:
        click.echo("simulated testbed: declared times, nothing is measured", err=True)
    profile_models(new_context(None, _flags(given), inventory, simulate), repeats, out)


def _with_rpc(backends: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Backends as typed, `rpc` among them by its full name; raises UsageError where it is not among them."""
    typed = [part.strip() for text in backends for part in text.split(",")]
    if "rpc" not in typed:
        raise click.UsageError("--rpc-route and --rpc-transport go with --backend rpc (or name the backend in full)")
    return tuple(name if part == "rpc" else part for part in typed)


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    """Spec fields from options that were given."""
    window = {key: given.pop(key) for key in ("batches", "seconds", "min_batches") if key in given}
    window = {key: value for key, value in window.items() if value is not None}
    if "batches" in window and "seconds" in window:
        raise click.UsageError("give either --batches or --seconds")
    given = {key: value for key, value in given.items() if value is not None}
    route, transport = given.pop("rpc_route", None), given.pop("rpc_transport", None)
    if route or transport:
        given["backends"] = _with_rpc(given["backends"], rpc_backend(route or "direct", transport or "uv"))
    flags = {key: ",".join(value) if isinstance(value, tuple) else value for key, value in given.items()}
    flags = {key: value for key, value in flags.items() if value not in (None, "")}
    return flags | ({"window": window} if window else {})
