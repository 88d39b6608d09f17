"""Playbooks around a run: hosts are provisioned before it, and what they know of it is fetched after."""

from __future__ import annotations

from pathlib import Path

import click

from paretopipe_matrix.context import Context, worded
from paretopipe_matrix.errors import UserError
from paretopipe_matrix.testbed import CellError, JsonObject


def provision(context: Context, log_dir: Path) -> list[JsonObject]:
    """Run provision.yml on the hosts of the run; the calls. Raises UserError where a host could not be provisioned."""
    from paretopipe_matrix.hosts.ansible import Playbooks

    click.echo(f"provisioning {', '.join(context.hosts)} (log: {log_dir / 'ansible.log'})", err=True)
    playbooks = Playbooks(context.inventory.path, log_dir)
    try:
        playbooks.run("provision.yml", {}, context.hosts)
    except CellError as error:
        raise UserError(worded(error)) from error
    return list(playbooks.calls)


def collect(context: Context, log_dir: Path) -> list[JsonObject]:
    """Fetch the logs of remote hosts into `log_dir`; what cannot be had is told and fails nothing."""
    remote = [host for host in context.hosts if context.inventory.hosts[host].connection != "local"]
    if context.simulate or not remote:
        return []
    from paretopipe_matrix.hosts.ansible import Playbooks

    playbooks = Playbooks(context.inventory.path, log_dir)
    try:
        playbooks.run("collect.yml", {"collect_directory": str(log_dir.absolute())}, remote)
    except CellError as error:
        click.echo(f"logs of the hosts were not all fetched: {worded(error)}", err=True)
    return list(playbooks.calls)
