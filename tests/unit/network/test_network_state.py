import json
import os
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from paretopipe_runtime.network import state
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.processes import Identity, end, identify, is_alive
from paretopipe_runtime.network.state import StateDirectory


def test_what_is_written_is_read_back(directory, shaping):
    written = replace(shaping, processes=(Identity(7, 70),), phase="active")
    assert directory.write(written) == written
    assert directory.read() == written
    assert stat.S_IMODE(directory.state.stat().st_mode) == 0o644
    assert sorted(path.name for path in directory.path.iterdir()) == ["state.json"]


def test_nothing_written_is_nothing_shaped(directory, tmp_path):
    assert directory.read() is None
    assert StateDirectory(tmp_path / "nowhere").read() is None


def test_clear_forgets_everything_but_the_log(directory, shaping):
    directory.write(shaping)
    directory.lease.write_text("1")
    directory.guard_log.write_text("last words\n")
    directory.clear()
    assert [path.name for path in directory.path.iterdir()] == ["guard.log"]
    assert directory.last_words() == "last words"


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 99}', '{"schema": 1}'])
def test_a_damaged_state_is_not_guessed_at(directory, damage):
    directory.state.write_text(damage)
    with pytest.raises(NetworkError, match=r"state.json cannot be understood .* reboot"):
        directory.read()


@pytest.mark.parametrize("which", ["", "network"])
def test_a_directory_that_others_may_write_is_refused(directory, tmp_path, which):
    (tmp_path / which).chmod(0o777)
    with pytest.raises(NetworkError, match=f"{which} belongs to somebody else or others may write"), directory.locked():
        pass


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NetworkError, match=r"cannot make .*file/network"):
        StateDirectory(tmp_path / "file").create()


def test_one_at_a_time(directory, monkeypatch):
    monkeypatch.setattr(state, "LOCK_WAIT_S", 0.05)
    with directory.locked(), pytest.raises(NetworkError, match="another pp-net is at work"), directory.locked():
        pass
    with directory.locked():  # free again
        pass


def test_the_lock_is_waited_for(directory):
    order = []

    def second():
        with directory.locked():
            order.append("second")

    with directory.locked():
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_process_is_more_than_its_pid():
    me = identify(os.getpid())
    assert is_alive(me)
    assert not is_alive(Identity(me.pid, me.start_ticks + 1))
    assert identify(2**22 + 1) is None


def test_a_stranger_with_the_same_pid_is_not_ended():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        found = identify(process.pid)
        end(Identity(process.pid, found.start_ticks + 1))
        assert process.poll() is None
        end(found)
        assert process.wait(timeout=1) == -15


def test_who_does_not_listen_is_killed():
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", deaf], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        end(identify(process.pid), patience_s=0.2)
        assert process.wait(timeout=1) == -9


def test_a_zombie_is_not_alive():
    with subprocess.Popen(["true"]) as process:
        found = None
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and (found := identify(process.pid)) is not None:
            time.sleep(0.01)
        assert found is None
        assert os.path.exists(f"/proc/{process.pid}")  # noqa: PTH110 - it is there, unreaped


def test_state_of_another_schema_says_so(directory, shaping):
    directory.state.write_text(json.dumps(shaping.as_json() | {"schema": 2}))
    with pytest.raises(NetworkError, match="schema 2, this version reads 1"):
        directory.read()
