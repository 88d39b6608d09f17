"""Failed playbooks in a couple of lines, from events as ansible-runner gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from paretopipe_matrix.hosts.playbook_errors import play_error

ROOT = Path("/checkout")
LOG = Path("/results/logs/ansible.log")


def failed(host, result, task="Shape", kind="runner_on_failed", **data):
    return {
        "event": kind,
        "stdout": "",
        "event_data": {
            "host": host,
            "task": task,
            "task_path": "/checkout/roles/network_profile/tasks/main.yml:7",
            "res": result,
        }
        | data,
    }


def stats(failures=(), dark=()):
    data = {"failures": dict.fromkeys(failures, 1), "dark": dict.fromkeys(dark, 1)}
    return {"event": "playbook_on_stats", "stdout": "", "event_data": data}


def said(*events, limit=None):
    return play_error("network.yml", events, limit, ROOT, LOG)


def test_one_host_is_named_once():
    error = said(failed("pi1", {"msg": "no interface eth7"}), stats(["pi1"]))
    assert (error.kind, error.host) == ("ansible", "pi1")
    assert error.message == 'task "Shape" (roles/network_profile/tasks/main.yml:7): no interface eth7'
    assert error.remedy == f"the whole output is in {LOG}"


def test_hosts_with_the_same_failure_share_a_line():
    error = said(
        *(failed(host, {"msg": "no interface eth7"}) for host in ("pi1", "pi2")),
        failed("gpu", {"msg": "other"}),
        stats(["pi1", "pi2", "gpu"]),
    )
    assert error.host is None
    assert [line.split(" task")[0] for line in error.message.splitlines()] == ["pi1, pi2:", "gpu:"]


def test_what_was_ignored_or_rescued_is_not_the_cause():
    error = said(
        failed("pi1", {"msg": "rescued"}, task="Try"),
        failed("pi2", {"msg": "ignored"}, ignore_errors=True),
        failed("pi2", {"msg": "the cause"}),
        failed("pi2", {"msg": "ignored"}, ignore_errors=True),
        stats(["pi2"]),
    )
    assert error.host == "pi2"
    assert error.message.endswith(": the cause")


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"msg": "non-zero return code", "rc": 2, "stderr": "one\ntwo\nthree\n"}, "exit status 2; two; three"),
        ({"msg": "non-zero return code", "rc": 1, "stderr": "", "stdout": "only this"}, "exit status 1; only this"),
        ({"msg": "MODULE FAILURE", "module_stderr": "Traceback\n  x\nOSError: full"}, "MODULE FAILURE; OSError: full"),
        ({"censored": "hidden", "msg": "secret"}, "its result is hidden (no_log)"),
        ({}, "it failed without a message"),
        (
            {"msg": "One or more items failed", "results": [{"item": 1}, {"item": 2, "failed": True, "msg": "bad"}]},
            "item 2: bad",
        ),
        ({"msg": "Task failed: it was\n  wrapped \x1b[31mred\x1b[0m"}, "it was wrapped red"),
    ],
)
def test_the_reason_of_a_task(result, words):
    assert said(failed("pi1", result), stats(["pi1"])).message.split("): ", 1)[1] == words


def test_a_wall_of_output_is_cut():
    error = said(failed("pi1", {"msg": "word " * 500}), stats(["pi1"]))
    assert len(error.message) < 600
    assert error.message.endswith("…")


CHANGED = """Task failed: Failed to connect to the host via ssh: @@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
Offending ED25519 key in /home/me/.ssh/known_hosts:3
Host key verification failed."""


@pytest.mark.parametrize(
    ("message", "words", "remedy"),
    [
        (CHANGED, "its host key HAS CHANGED: /home/me/.ssh/known_hosts:3 has another one", "installed anew"),
        ("Host key verification failed.", "verification failed", "ssh-keyscan"),
        ("pi@10.0.0.1: Permission denied (publickey).", "Permission denied", "ssh-agent"),
        ("ssh: connect to host 10.0.0.1 port 22: No route to host", "No route", "is it up"),
        ("Missing sudo password", "Missing sudo", "NOPASSWD"),
        ("[Errno 28] No space left on device", "No space", "free some space"),
    ],
)
def test_failures_that_users_meet_have_a_remedy(message, words, remedy):
    error = said(failed("pi1", {"msg": message}, kind="runner_on_unreachable"), stats(dark=["pi1"]))
    assert words in error.message
    assert remedy in error.remedy


def test_what_never_started():
    lines = ["[WARNING]: careful", "[ERROR]: YAML parsing failed.", "Origin: /checkout/playbooks/network.yml:3:1", ""]
    events = [{"event": "verbose", "stdout": line, "event_data": {}} for line in lines]
    message = "network.yml: YAML parsing failed. (/checkout/playbooks/network.yml:3:1)"
    assert said(*events).message == message
    assert said(stats(), limit=["pi1", "pi2"]).message == "network.yml: no host of pi1, pi2 was touched"
    assert said().message == "network.yml: it ended without a word"
