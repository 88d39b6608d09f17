"""Playbooks against the real Ansible, on this machine: small plays, and every way in which one can fail."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent

import psutil
import pytest

from paretopipe_matrix.hosts import ansible
from paretopipe_matrix.hosts.ansible import Playbooks
from paretopipe_matrix.testbed import CellError

INVENTORY = """\
    all:
      hosts:
        edge:
        server:
        gone: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}
      vars: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
Write = Callable[..., Playbooks]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Playbooks of a checkout that has one, `play.yml`, with these tasks."""

    def write(tasks: str, hosts: str = "edge:server", log_dir: Path | None = None) -> Playbooks:
        (tmp_path / "playbooks").mkdir()
        head = f"- name: A play\n  hosts: {hosts}\n  gather_facts: false\n  tasks:\n"
        (tmp_path / "playbooks/play.yml").write_text(head + indent(dedent(tasks), "    "))
        (tmp_path / "ansible.cfg").write_text("[defaults]\nhost_key_checking = True\n")
        (tmp_path / "inventory.yml").write_text(dedent(INVENTORY))
        return Playbooks(tmp_path / "inventory.yml", log_dir, tmp_path)

    return write


def failure(playbooks: Playbooks, **extra: object) -> CellError:
    with pytest.raises(CellError) as error:
        playbooks.run("play.yml", extra)
    assert error.value.kind == "ansible"
    assert len(error.value.message.splitlines()) <= 2
    return error.value


def ansible_runs(folder: Path) -> bool:
    """Whether there is an ansible-playbook, or a worker of one, for a playbook in that folder."""
    return any(
        f"{folder}/playbooks/play.yml" in (process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline"])
    )


def runs(word: str) -> bool:
    """Whether there is a `sleep` with that argument."""
    return any(process.info["cmdline"] == ["sleep", word] for process in psutil.process_iter(["cmdline"]))


@contextmanager
def interrupted_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Ctrl-C for this process once the condition holds."""

    def interrupt() -> None:
        until(condition)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    yield
    interrupter.join()


def test_a_play_that_works_is_counted_and_logged(write: Write, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    playbooks = write(
        """\
        - name: Greet
          ansible.builtin.debug: {msg: "hello {{ whom }}"}
        - name: Write
          ansible.builtin.copy: {content: x, dest: "{{ playbook_dir }}/{{ inventory_hostname }}", mode: "0600"}
        """,
        log_dir=tmp_path / "logs",
    )
    result = playbooks.run("play.yml", {"whom": "you: there"}, ["edge", "server"])
    assert (dict(result.changed), result.changed_tasks) == ({"edge": 1, "server": 1}, 2)
    assert playbooks.run("play.yml", {"whom": "again"}, ["edge"]).changed == {"edge": 0}
    first, second = playbooks.calls
    assert (first["playbook"], first["limit"], first["status"], first["changed"]) == (
        "play.yml",
        ["edge", "server"],
        "successful",
        2,
    )
    assert first["extra_vars"] == {"whom": "you: there"}
    assert 0 < first["duration_s"] < 60
    assert second["changed"] == 0
    log = (tmp_path / "logs/ansible.log").read_text()
    assert "hello you: there" in log
    assert "PLAY RECAP" in log
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_failed_tasks_name_host_task_place_and_reason(write: Write) -> None:
    playbooks = write(
        """\
        - name: Look at the interface
          ansible.builtin.shell: "echo no interface eth7 >&2; exit 3"
          when: inventory_hostname == 'edge'
        - name: Look again
          ansible.builtin.fail: {msg: "bad {{ item }}"}
          loop: [1]
        """
    )
    assert failure(playbooks).message.splitlines() == [
        'edge: task "Look at the interface" (playbooks/play.yml:5): exit status 3; no interface eth7',
        'server: task "Look again" (playbooks/play.yml:8): item 1: bad 1',
    ]
    assert playbooks.calls[0]["status"] == "failed"


def test_one_failed_host_is_the_errors_host(write: Write) -> None:
    error = failure(write("- name: Ask\n  ansible.builtin.ping:\n", hosts="edge:gone"))
    assert error.host == "gone"
    assert error.message.startswith('task "Ask" (playbooks/play.yml:5): ')
    assert "Connection refused" in error.message
    assert "is it up" in (error.remedy or "")


def test_ignored_and_rescued_failures_are_none(write: Write) -> None:
    playbooks = write(
        """\
        - name: Ignored
          ansible.builtin.command: "false"
          ignore_errors: true
        - name: Tried
          block:
            - name: Fails
              ansible.builtin.command: "false"
          rescue:
            - name: Mend
              ansible.builtin.debug:
        """
    )
    assert playbooks.run("play.yml", {}).changed == {"edge": 1, "server": 1}


def test_what_is_hidden_stays_hidden(write: Write, tmp_path: Path) -> None:
    playbooks = write(
        """\
        - name: Hidden
          ansible.builtin.command: "sh -c 'echo {{ token }}; exit 1'"
          no_log: true
        """,
        log_dir=tmp_path / "logs",
    )
    error = failure(playbooks, token="open-sesame")
    assert "hidden (no_log)" in error.message
    assert "open-sesame" not in (tmp_path / "logs/ansible.log").read_text()


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("- name: q\n  nosuchmodule: {}\n", "play.yml: couldn't resolve module/action 'nosuchmodule'"),
        ("- name: [\n", "play.yml: YAML parsing failed"),
    ],
)
def test_a_playbook_that_cannot_be_read(write: Write, tmp_path: Path, tasks: str, words: str) -> None:
    message = failure(write(tasks)).message
    assert words in message
    assert f"({tmp_path}/playbooks/play.yml:" in message


def test_a_playbook_that_touches_nobody_has_failed(write: Write) -> None:
    playbooks = write("- name: Ask\n  ansible.builtin.ping:\n", hosts="edg")
    assert "no host of the inventory was touched" in failure(playbooks).message
    with pytest.raises(CellError, match="no hosts to target"):
        playbooks.run("play.yml", {}, ["edgy"])


def test_files_that_are_missing(write: Write, tmp_path: Path) -> None:
    playbooks = write("- name: Ask\n  ansible.builtin.ping:\n")
    with pytest.raises(CellError, match=r"playbooks/none.yml: no such playbook"):
        playbooks.run("none.yml", {})
    (tmp_path / "inventory.yml").unlink()
    assert "no such inventory" in failure(playbooks).message
    assert playbooks.calls == []


def test_it_can_be_cancelled_from_another_thread_and_leaves_nothing_running(write: Write, tmp_path: Path) -> None:
    playbooks = write("- name: Wait\n  ansible.builtin.command: sleep {{ seconds }}\n")
    with ThreadPoolExecutor(2) as pool:
        running, waiting = (pool.submit(playbooks.run, "play.yml", {"seconds": 30.25}) for _ in range(2))
        until(lambda: runs("30.25"))
        assert ansible_runs(tmp_path)
        playbooks.cancel()
        for cancelled in (running, waiting):
            with pytest.raises(CellError, match="was stopped") as error:
                cancelled.result(10)
            assert error.value.kind == "aborted"
    assert not ansible_runs(tmp_path)
    assert not runs("30.25")
    assert [call["status"] for call in playbooks.calls] == ["canceled", "canceled"]
    assert playbooks.run("play.yml", {"seconds": 0}).changed_tasks == 2


def test_ctrl_c_lets_a_play_end(write: Write, tmp_path: Path) -> None:
    """The hosts shall be in a known state when what follows undoes it."""
    playbooks = write(
        """\
        - name: Begin
          ansible.builtin.copy: {content: x, dest: "{{ playbook_dir }}/begun", mode: "0600"}
        - name: Work
          ansible.builtin.command: sleep 1
        """,
        hosts="edge",
    )
    with interrupted_when((tmp_path / "playbooks/begun").exists), pytest.raises(KeyboardInterrupt):
        playbooks.run("play.yml", {})
    assert [call["changed"] for call in playbooks.calls] == [2]


def test_ctrl_c_ends_a_play_that_takes_too_long(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ansible, "_GRACE_S", 0.1)
    playbooks = write("- name: Wait\n  ansible.builtin.command: sleep 30.5\n")
    with interrupted_when(lambda: runs("30.5")), pytest.raises(KeyboardInterrupt):
        playbooks.run("play.yml", {})
    assert not ansible_runs(tmp_path)
    assert not runs("30.5")


def test_a_log_that_cannot_be_written(write: Write, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    playbooks = write("- name: Ask\n  ansible.builtin.ping:\n", log_dir=tmp_path / "logs")
    assert "cannot write" in failure(playbooks).message


def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.05)
