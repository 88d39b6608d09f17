"""The pp-matrix command. Heavy imports wait until a command needs them, so that --help is immediate."""

from __future__ import annotations

import click

from paretopipe_matrix.cli_results import list_command, show
from paretopipe_matrix.cli_run import profile, rerun, run
from paretopipe_matrix.errors import UserError
from paretopipe_matrix.interrupts import EXIT_INTERRUPTED
from paretopipe_matrix.testbed import CellError
from paretopipe_runtime import __version__
from paretopipe_runtime.results import ResultsError


class _Commands(click.Group):
    """Words errors that a user can meet, instead of a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (UserError, ResultsError) as error:
            click.echo(f"pp-matrix: {error}", err=True)
            ctx.exit(error.exit_code if isinstance(error, UserError) else 2)
        except CellError as error:
            host = f"{error.host}: " if error.host else ""
            click.echo(f"pp-matrix: {host}{error.message}", err=True)
            if error.remedy:
                click.echo(error.remedy, err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="pp-matrix")
def main() -> None:
    """Measure every split of a model over a chain of devices.

    \b
    Example: pp-matrix run --model mobilenet_v2 --profile duress-200ms-5mbit
             pp-matrix list
             pp-analyze frontier

    Exit status: 0 all cells ok, 1 some failed, 2 bad usage or input, 130 interrupted (what was finished is saved).
    """


for command in (run, list_command, show, rerun, profile):
    main.add_command(command)
