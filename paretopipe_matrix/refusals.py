"""What a spec asks for that its inventory cannot measure honestly; found before any host is touched. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from paretopipe_matrix.errors import SpecError
from paretopipe_matrix.hosts.inventory import Inventory
from paretopipe_matrix.spec_source import LoadedSpec
from paretopipe_matrix.testbed import Profile
from paretopipe_runtime.transport.backends import BACKENDS

_HUB_HOSTS = 3


def refuse_unmeasurable(loaded: LoadedSpec, inventory: Inventory, profiles: Mapping[str, Profile]) -> None:
    """Raise SpecError, one line per mistake, each with its place and the ways out.

    Every entry of `matrix` is looked at on its own: its backends against its own profiles and pipelines.
    """
    problems = []
    for index, settings in enumerate(loaded.spec.entries()):
        shaped = [name for name in settings.profiles if profiles[name].links]
        where = f"{loaded.where_entry(index, 'backends')}: backends"
        for backend in (BACKENDS[name] for name in settings.backends if BACKENDS[name].kind == "rpc"):
            for pipeline in settings.pipelines:
                if shaped and inventory.is_local(pipeline):
                    problems.append(
                        f"{where}: {backend.name} cannot be measured under {', '.join(shaped)} on pipeline {pipeline}: "
                        "all its hosts are this machine, where the link model shapes sockets only. Either take hosts "
                        "with a network of their own (make testbed, then --inventory inventory/virtual.yml), or "
                        "profile lan or backend socket"
                    )
                if backend.route == "hub" and len(inventory.pipeline(pipeline)) < _HUB_HOSTS:
                    problems.append(
                        f"{where}: {backend.name} on pipeline {pipeline} of two hosts is the same as without -hub: "
                        "the hub is the first host, which sends and gets everything anyway. Take a pipeline of three "
                        "whose first host is the orchestrator, as [pc, pi1, pi2], and a split such as 0+P3"
                    )
        several = settings.streams != "auto" and settings.streams > 1 and "socket" in settings.backends
        problems += [
            f"{loaded.where_entry(index, 'streams')}: streams: {settings.streams} cannot be measured under "
            f"{', '.join(shaped)} on pipeline {pipeline}: all its hosts are this machine, and the link model has one "
            "connection per hop. Either take hosts with a network of their own, or streams: auto"
            for pipeline in settings.pipelines
            if several and shaped and inventory.is_local(pipeline)
        ]
    if problems:
        raise SpecError("\n".join(dict.fromkeys(problems)))
