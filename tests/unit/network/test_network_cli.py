import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from paretopipe_runtime.network import control, probing
from paretopipe_runtime.network.cli import main
from paretopipe_runtime.network.commands import CommandError, run, run_json, tool_path
from paretopipe_runtime.network.controller import default_controller
from paretopipe_runtime.network.errors import NetworkError

APPLY = ["apply", "--interface", "data0", "--profile", "p", "--peer", "10.0.0.2"]


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([*APPLY, "--delay", "200"], "such as 200ms"),
        ([*APPLY, "--rate", "5mbps"], "such as 5mbit"),
        ([*APPLY, "--loss", "100%"], "lets nothing through"),
        ([*APPLY], "nothing to impose"),
        ([*APPLY, "--delay", "1ms", "--jitter", "2ms"], "jitter is larger"),
        ([*APPLY, "--delay", "1ms", "--shaper", "magic"], "magic"),
        ([*APPLY, "--delay", "1ms", "--lease-s", "0"], "lease-s"),
        ([*APPLY[:-1], "pi2", "--delay", "1ms"], "'pi2' is not an IP address"),
        (["apply", "--delay", "1ms"], "--interface"),
    ],
)
def test_bad_usage_is_status_2(args, words):
    result = call(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not result.stdout


def test_without_root_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = call(*APPLY, "--delay", "1ms", "--state-dir", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("pp-net on ")
    assert "needs root; use sudo" in result.stderr
    assert not list(tmp_path.iterdir())


def test_nothing_shaped_is_no_error_and_needs_no_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = call("restore", "--state-dir", tmp_path / "none")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"changed": False, "check": False})
    told = json.loads(call("status", "--state-dir", tmp_path / "none").stdout)
    assert (told["active"], told["lease"], told["statistics"]) == (None, None, None)


def test_a_host_that_can_do_nothing_says_both_remedies(monkeypatch):
    monkeypatch.setattr(probing, "why_not", {"tc": "no netem", "wirefilter": "apt install vde2"}.get)
    with pytest.raises(NetworkError, match=r"cannot shape its network. tc: no netem. wirefilter: apt install vde2"):
        probing.choose("auto")
    with pytest.raises(NetworkError) as error:
        probing.choose("tc")
    assert "vde2" not in str(error.value)


def test_tc_is_preferred(monkeypatch):
    monkeypatch.setattr(probing, "why_not", {}.get)
    assert probing.choose("auto") == "tc"
    monkeypatch.setattr(probing, "why_not", {"tc": "no netem"}.get)
    assert probing.choose("auto") == "wirefilter"


def test_a_missing_tool_is_told_with_its_package(monkeypatch):
    monkeypatch.setattr("paretopipe_runtime.network.commands._PATH", "/nowhere")
    with pytest.raises(NetworkError, match=r"ethtool is not installed; apt install ethtool"):
        tool_path("ethtool")
    assert "apt install vde2" in probing.why_not("wirefilter")


def test_a_tool_that_fails_is_quoted_in_one_line():
    with pytest.raises(CommandError, match=r"^`sh -c .*` failed: one two$") as error:
        run(["sh", "-c", "echo one >&2; echo two >&2; exit 3"])
    assert error.value.words == "one two"
    with pytest.raises(CommandError, match="exit status 4"):
        run(["sh", "-c", "exit 4"])
    with pytest.raises(CommandError, match="printed no JSON"):
        run_json(["echo", "hello"])
    assert run_json(["true"]) == []


def test_who_asks_is_found_without_sudo_telling(monkeypatch):
    """sudo hides SSH_CONNECTION from the program, but not from /proc."""
    code = "from paretopipe_runtime.network.controller import default_controller; print(default_controller())"
    environment = {"PATH": os.environ["PATH"], "SSH_CONNECTION": "192.0.2.9 50000 192.0.2.1 22"}
    inner = f'env -u SSH_CONNECTION SUDO_USER=pi {sys.executable} -c "{code}"; true'
    told = subprocess.run(["sh", "-c", inner], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "pi@192.0.2.9"
    monkeypatch.setenv("SUDO_USER", "pi")
    assert default_controller().startswith("pi@")


def test_the_program_imports_nothing_heavy():
    code = "import paretopipe_runtime.network.cli, json, sys; print(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pydantic", "yaml", "rich"} & set(json.loads(told.stdout))


def test_a_full_disk_does_not_keep_the_host_shaped(directory, shaping, monkeypatch):
    directory.write(shaping)
    undone = []
    monkeypatch.setattr("paretopipe_runtime.network.tc_shaper.TcShaper.undo", lambda *_: undone.append("undone"))
    monkeypatch.setattr("paretopipe_runtime.network.tc_shaper.TcShaper.leftovers", lambda *_: [])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paretopipe_runtime.network.state.StateDirectory.write", full)
    control.undo(directory, shaping, lambda: undone.append("guard ended"))
    assert undone == ["undone", "guard ended"]
    assert directory.read() is None


def test_what_is_left_is_told_and_the_state_kept(directory, shaping, monkeypatch):
    directory.write(shaping)
    monkeypatch.setattr("paretopipe_runtime.network.tc_shaper.TcShaper.undo", lambda *_: None)
    monkeypatch.setattr("paretopipe_runtime.network.tc_shaper.TcShaper.leftovers", lambda *_: ["htb is there"])
    with pytest.raises(NetworkError, match="restoring is not complete: htb is there"):
        control.undo(directory, shaping, lambda: None)
    assert directory.read().phase == "restoring"


def test_restore_of_a_state_from_before_a_reboot_only_forgets(directory, shaping, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    shaped = shaping.as_json() | {"boot_id": "an earlier one", "guard": None}
    directory.state.write_text(json.dumps(shaped))
    monkeypatch.setattr("paretopipe_runtime.network.tc_shaper.TcShaper.undo", lambda *_: pytest.fail("nothing to undo"))
    assert control.restore(directory)["changed"] is True
    assert directory.read() is None
