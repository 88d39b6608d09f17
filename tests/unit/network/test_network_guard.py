"""The guard as a real daemon, with a restore that only takes notes."""

import os
import pwd
import shutil
import signal
import time
from dataclasses import replace

import pytest

from paretopipe_runtime.network import guard
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.lease import grant, renew
from paretopipe_runtime.network.processes import is_alive

ME = pwd.getpwuid(os.getuid()).pw_name
LEASE_S = 1.0
LATEST_S = LEASE_S + 2 * guard.TICK_S + 1.0


@pytest.fixture
def arm(directory, shaping):
    """Arm a guard; whatever runs at the end of the test is ended."""
    armed = []

    def arm_with(restore, lease_s=LEASE_S):
        grant(directory, ME)
        asked = replace(shaping, guard=None, shape=replace(shaping.shape, lease_s=lease_s))
        armed.append(guard.arm(directory, directory.write(asked), restore))
        return armed[-1].guard

    yield arm_with
    for found in armed:
        guard.dismiss(found.guard)


def taking_notes(directory, shaping, end_wire):
    end_wire()
    (directory.path / "restored").write_text(shaping.shape.profile)
    directory.clear()


def wait_until(condition, latest_s):
    deadline = time.monotonic() + latest_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_it_restores_when_nobody_renews_and_ends(directory, arm):
    watching = arm(taking_notes)
    assert is_alive(watching)
    assert directory.read().guard == watching
    started = time.monotonic()
    wait_until((directory.path / "restored").exists, LATEST_S)
    assert time.monotonic() - started > LEASE_S * 0.9
    wait_until(lambda: not is_alive(watching), 1.0)
    assert "was not renewed for" in directory.last_words()
    assert "took duress off data0" in directory.last_words()


def test_renewing_keeps_the_shaping(directory, arm, tmp_path):
    watching = arm(taking_notes)
    until = time.monotonic() + 3 * LEASE_S
    while time.monotonic() < until:
        renew(tmp_path)
        time.sleep(0.2)
    assert is_alive(watching)
    assert not (directory.path / "restored").exists()
    wait_until((directory.path / "restored").exists, LATEST_S)


def test_a_lease_that_says_nonsense_does_not_shape_forever(directory, arm):
    arm(taking_notes)
    directory.lease.write_text("99999999999")
    wait_until((directory.path / "restored").exists, LATEST_S)


def test_it_belongs_to_no_session_and_holds_nothing_open(directory, arm):
    watching = arm(taking_notes)
    assert os.getsid(watching.pid) != os.getsid(0)
    assert os.getpgid(watching.pid) != os.getpgid(0)
    links = {os.readlink(f"/proc/{watching.pid}/fd/{n}") for n in os.listdir(f"/proc/{watching.pid}/fd")}  # noqa: PTH208, PTH115
    assert links == {"/dev/null", str(directory.guard_log), str(directory.guard_lock)}
    assert os.readlink(f"/proc/{watching.pid}/cwd") == "/"  # noqa: PTH115


@pytest.mark.parametrize("lost", ["deleted", "damaged"])
def test_it_restores_from_memory_when_the_state_file_is_lost(directory, arm, lost):
    watching = arm(taking_notes, lease_s=60)
    time.sleep(1.5 * guard.TICK_S)  # so that it has seen the file once
    if lost == "deleted":
        shutil.rmtree(directory.path)
    else:
        directory.state.write_text("{")
    wait_until((directory.path / "restored").exists, 2 * guard.TICK_S + 1)
    wait_until(lambda: not is_alive(watching), 1.0)


def test_it_makes_way_for_another_guard(directory, arm, shaping):
    watching = arm(taking_notes, lease_s=60)
    directory.write(shaping)  # whose guard is the test
    wait_until(lambda: not is_alive(watching), 2 * guard.TICK_S + 1)
    assert not (directory.path / "restored").exists()


def test_who_restores_can_dismiss_it_at_once(directory, arm):
    watching = arm(taking_notes)
    started = time.monotonic()
    guard.dismiss(watching)
    assert time.monotonic() - started < 0.5
    assert not is_alive(watching)
    assert not (directory.path / "restored").exists()


def test_being_terminated_by_somebody_else_restores_at_once(directory, arm):
    """As a session manager does that clears up when the user has left."""
    watching = arm(taking_notes, lease_s=60)
    os.kill(watching.pid, signal.SIGTERM)
    wait_until((directory.path / "restored").exists, 0.8)
    assert "the guard was terminated" in directory.last_words()


def test_one_guard_per_state_directory(directory, shaping, arm, monkeypatch):
    monkeypatch.setattr(guard, "_LOCK_WAIT_S", 0.2)
    first = arm(taking_notes, lease_s=60)
    assert guard.holder(directory) == first
    with pytest.raises(NetworkError, match="another guard is at work"):
        guard.arm(directory, shaping, taking_notes)
    assert is_alive(first)
    guard.dismiss(first)
    assert guard.holder(directory) is None


def test_what_fails_is_tried_again(directory, arm):
    def failing_once(directory, shaping, end_wire):
        if not (directory.path / "failed").exists():
            (directory.path / "failed").write_text("")
            raise NetworkError("the interface is busy")
        taking_notes(directory, shaping, end_wire)

    arm(failing_once)
    wait_until((directory.path / "restored").exists, LATEST_S + guard.TICK_S)
    assert "could not restore, trying again: the interface is busy" in directory.guard_log.read_text()


def test_a_restore_that_is_under_way_is_not_disturbed(directory, arm):
    """While somebody else holds the lock, the guard waits, and goes when it is told to."""
    watching = arm(taking_notes)
    with directory.locked():
        time.sleep(LEASE_S + 2 * guard.TICK_S)
        assert is_alive(watching)
        guard.dismiss(watching)
        directory.clear()
    assert not is_alive(watching)
    assert not (directory.path / "restored").exists()
