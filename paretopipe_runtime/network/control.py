"""Apply, restore and status: the order in which shaping, guard and state file change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Protocol

from paretopipe_runtime.network import guard, lease, probing
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.processes import end, is_alive
from paretopipe_runtime.network.shape import JsonObject, Shape
from paretopipe_runtime.network.state import Shaping, StateDirectory, boot_id, network_namespace
from paretopipe_runtime.network.tc_shaper import TcShaper
from paretopipe_runtime.network.wire_shaper import WireShaper


class Shaper(Protocol):
    """One way to impose a shape. Everything it changes is in the plan that it makes first."""

    name: str

    def prepare(self, shape: Shape, directory: StateDirectory) -> JsonObject:
        """Check, and plan what will be changed; changes nothing."""

    def impose(self, shape: Shape, plan: JsonObject) -> JsonObject:
        """Shape; returns the plan with what came out of it."""

    def mismatches(self, shape: Shape, plan: JsonObject) -> list[str]:
        """What the kernel does not show of the request, in words."""

    def undo(self, shape: Shape, plan: JsonObject) -> None:
        """Put back what was there, wherever `impose` got to."""

    def leftovers(self, shape: Shape, plan: JsonObject) -> list[str]:
        """What of ours is still there, in words."""

    def statistics(self, shape: Shape, plan: JsonObject) -> JsonObject:
        """Counters of what is shaped; needs no root."""


_SHAPERS: dict[str, Shaper] = {shaper.name: shaper for shaper in (TcShaper(), WireShaper())}


def apply(directory: StateDirectory, shape: Shape, controller: str, *, check: bool = False) -> JsonObject:
    """Shape this host as asked, guarded by a lease that is renewed now. The same again only renews the lease.

    With `check` nothing is changed; `changed` says whether it would be. Returns what is in force.
    Raises NetworkError if it cannot be done (then nothing stays shaped) or the host is busy for another controller.
    """
    _need_root()
    if check:
        return _apply(directory, shape, controller, check=True)
    directory.create()
    with directory.locked():
        return _apply(directory, shape, controller, check=False)


def _apply(directory: StateDirectory, shape: Shape, controller: str, *, check: bool) -> JsonObject:
    present = directory.read()
    if present is not None:
        _refuse_if_busy(directory, present, shape, controller)
        if present.shape == shape and _in_force(present):
            if not check:
                lease.grant(directory, shape.lease_owner)
            return _applied(present, changed=False, check=check)
        if not check:
            _restore_present(directory, present)
    shaper = _SHAPERS[probing.choose(shape.shaper)]
    if check and present is not None:
        return {"changed": True, "check": True, "shaper": shaper.name} | _asked(shape)
    plan = shaper.prepare(shape, directory)
    shaping = Shaping(shape, shaper.name, plan, controller)
    if check:
        return _applied(shaping, changed=True, check=True)
    lease.grant(directory, shape.lease_owner)
    directory.write(shaping)
    try:
        shaping = guard.arm(directory, shaping, undo)
        shaping = directory.update(shaping, plan=shaper.impose(shape, plan))
        wrong = shaper.mismatches(shape, shaping.plan)
        if wrong:
            raise NetworkError(f"{shape.profile} is not in force after applying: {'; '.join(wrong)}")
        shaping = directory.update(shaping, phase="active")
    except (NetworkError, OSError) as error:
        try:
            _restore_present(directory, directory.read() or shaping)
        except (NetworkError, OSError) as second:
            raise NetworkError(f"{error}; and undoing it failed: {second}") from error
        raise NetworkError(f"{error} (undone: nothing is shaped)") from error
    return _applied(shaping, changed=True, check=False)


def restore(directory: StateDirectory, *, check: bool = False) -> JsonObject:
    """Take off whatever this state directory's shaping is, finished or half done. Nothing there: nothing changed.

    Raises NetworkError if something of ours is still there afterwards; the state stays, for another try.
    """
    present = directory.read()
    if present is None:
        return {"changed": False, "check": check}
    _need_root()
    if not check:
        with directory.locked():
            present = directory.read()
            if present is None:
                return {"changed": False, "check": False}
            _restore_present(directory, present)
    return {"changed": True, "check": check, "shaper": present.shaper} | _asked(present.shape)


def undo(directory: StateDirectory, shaping: Shaping, end_guard: Callable[[], None]) -> None:
    """Put everything back, end guard and wire, check that nothing is left, forget. The lock must be held."""
    with contextlib.suppress(OSError):  # a full disk must not keep the host shaped
        directory.update(shaping, phase="restoring")
    shaper = _SHAPERS[shaping.shaper]
    shaper.undo(shaping.shape, shaping.plan)
    end_guard()
    for process in shaping.processes:
        end(process)
    left = shaper.leftovers(shaping.shape, shaping.plan)
    if left:
        raise NetworkError(f"restoring is not complete: {'; '.join(left)}")
    directory.clear()


def _restore_present(directory: StateDirectory, present: Shaping) -> None:
    if present.boot_id != boot_id():
        directory.clear()  # a reboot has undone it
        return
    watching = present.guard or guard.holder(directory)
    if present.namespace != network_namespace():
        if any(is_alive(process) for process in (watching, *present.processes) if process):
            raise NetworkError(
                f"{directory.path} is about another network namespace (net:[{present.namespace}]); run pp-net there, "
                f"or wait {present.shape.lease_s:g} s for its guard"
            )
        # Its processes are gone and so is, with a namespace's last process, the namespace.
        directory.clear()
        return
    undo(directory, present, lambda: guard.dismiss(watching) if watching else None)


def status(directory: StateDirectory) -> JsonObject:
    """What is shaped, its statistics and its lease; needs no root.

    Keys: `active` (the shape with `shaper`, `phase`, `controller` and `plan`; null if nothing is), `statistics`,
    `lease` {age_s, lease_s}, `guard` {pid, alive}, `guard_log` (what the guard noted last, if anything).
    """
    present = directory.read()
    result: JsonObject = {
        "active": None,
        "statistics": None,
        "lease": None,
        "guard": None,
        "guard_log": [words] if (words := directory.last_words()) else [],
    }
    if present is None:
        return result
    watching = present.guard
    return result | {
        "active": present.shape.as_json()
        | {"shaper": present.shaper, "phase": present.phase, "controller": present.controller, "plan": present.plan},
        "statistics": _SHAPERS[present.shaper].statistics(present.shape, present.plan),
        "lease": {"age_s": lease.age_s(directory), "lease_s": present.shape.lease_s},
        "guard": {"pid": watching.pid, "alive": is_alive(watching)} if watching else None,
    }


def _in_force(present: Shaping) -> bool:
    return (
        present.phase == "active"
        and present.boot_id == boot_id()
        and present.namespace == network_namespace()
        and present.guard is not None
        and all(is_alive(process) for process in (present.guard, *present.processes))
        and not _SHAPERS[present.shaper].mismatches(present.shape, present.plan)
    )


def _refuse_if_busy(directory: StateDirectory, present: Shaping, shape: Shape, controller: str) -> None:
    age = lease.age_s(directory)
    guarded = present.guard is not None and present.boot_id == boot_id() and is_alive(present.guard)
    if present.controller == controller or present.shape == shape or not guarded or age is None:
        return
    left_s = present.shape.lease_s - age
    if left_s > 0:
        raise NetworkError(
            f"busy: {present.shape.profile} is imposed on {present.shape.interface} for {present.controller}, "
            f"whose lease runs for another {left_s:.0f} s; wait until it ends, or run pp-net restore"
        )


def _asked(shape: Shape) -> JsonObject:
    return {"interface": shape.interface, "profile": shape.profile, "peers": list(shape.peers)}


def _applied(shaping: Shaping, *, changed: bool, check: bool) -> JsonObject:
    return {
        "changed": changed,
        "check": check,
        "shaper": shaping.shaper,
        **_asked(shaping.shape),
        "lease_s": shaping.shape.lease_s,
        "controller": shaping.controller,
        "guard": shaping.guard.pid if shaping.guard else None,
        "plan": shaping.plan,
    }


def _need_root() -> None:
    if os.geteuid() != 0:
        raise NetworkError("shaping a network needs root; use sudo, or `become: true` in Ansible")
