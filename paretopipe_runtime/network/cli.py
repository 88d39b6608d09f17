"""pp-net: shape this host's own network towards named peers, and take it off again. Run as root, by Ansible."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from paretopipe_runtime import __version__
from paretopipe_runtime.network import control, probing
from paretopipe_runtime.network.controller import default_controller
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.quantities import parse_delay_s, parse_loss_pct, parse_rate_bit_s
from paretopipe_runtime.network.shape import Shape
from paretopipe_runtime.network.state import StateDirectory


def _in_units(parse: Callable[[object], float]) -> Callable[[click.Context, click.Parameter, str | None], float | None]:
    """An option's text in SI units; click reports what cannot be read."""

    def convert(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return convert


class _Failure(click.ClickException):
    """What went wrong as click ends on it: one line on standard error, exit status 1."""

    def show(self, file: Any = None) -> None:
        """Print the line."""
        click.echo(f"pp-net on {socket.gethostname()}: {self.message}", err=True, file=file)


class _Group(click.Group):
    """Turns our errors into click's."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except (NetworkError, OSError) as error:
            raise _Failure(str(error)) from error


_state_dir = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/run/paretopipe"),
    show_default=True,
    help="Where this host keeps what is shaped (only root may write there).",
)
_check = click.option("--check", is_flag=True, help="Change nothing; say whether it would.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, help=__doc__)
@click.version_option(__version__, prog_name="pp-net")
def main() -> None:
    """Parse the command line."""


@main.command()
@click.option("--interface", required=True, help="The data interface.")
@_state_dir
@click.option("--profile", required=True, help="Name of the network profile, for those who ask what is shaped.")
@click.option("--peer", "peers", multiple=True, required=True, help="Data address of a peer (repeatable).")
@click.option("--delay", callback=_in_units(parse_delay_s), help="One way, such as 200ms.")
@click.option("--jitter", callback=_in_units(parse_delay_s), help="Plus or minus, uniform.")
@click.option("--loss", callback=_in_units(parse_loss_pct), help="Such as 1%.")
@click.option("--rate", callback=_in_units(parse_rate_bit_s), help="Such as 5mbit (decimal).")
@click.option("--lease-s", type=click.FloatRange(min=1), default=60.0, show_default=True)
@click.option("--lease-owner", default="root", show_default=True, help="The user whose agent renews the lease.")
@click.option("--shaper", type=click.Choice(["auto", *probing.SHAPERS]), default="auto", show_default=True)
@click.option("--controller", default=None, help="Who asks, for a busy host to tell.  [default: user@address]")
@_check
def apply(
    interface: str,
    state_dir: Path,
    profile: str,
    peers: tuple[str, ...],
    delay: float | None,
    jitter: float | None,
    loss: float | None,
    rate: float | None,
    lease_s: float,
    lease_owner: str,
    shaper: str,
    controller: str | None,
    check: bool,
) -> None:
    """Impose a delay, loss or rate on packets to the peers, under a lease."""
    try:
        shape = Shape(
            interface, profile, peers, delay or 0.0, jitter or 0.0, loss or 0.0, rate, shaper, lease_s, lease_owner
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _print(control.apply(StateDirectory(state_dir), shape, controller or default_controller(), check=check))


@main.command()
@_state_dir
@_check
def restore(state_dir: Path, check: bool) -> None:
    """Take off what apply imposed, finished or half done."""
    _print(control.restore(StateDirectory(state_dir), check=check))


@main.command()
@_state_dir
def status(state_dir: Path) -> None:
    """Say what is shaped, with counters and lease; needs no root."""
    _print(control.status(StateDirectory(state_dir)))


@main.command()
def shapers() -> None:
    """Try which shapers this host can do; nothing is changed."""
    reasons = {name: probing.why_not(name) for name in probing.SHAPERS}
    _print({name: {"available": why is None, "reason": why} for name, why in reasons.items()})


def _print(result: dict[str, Any]) -> None:
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
