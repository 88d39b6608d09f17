"""What a failed playbook has to say, in a couple of lines. Pure: from ansible-runner's events.

An event is a dict with `event`, `stdout` and `event_data` (ansible-runner, "Runner artifact job events"). Results
of tasks with `no_log` come censored by Ansible itself, and nothing else is looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from paretopipe_matrix.testbed import CellError, JsonObject

_MOST_LETTERS = 400
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FAILURES = ("runner_on_failed", "runner_on_unreachable")
# What a message says -> what to do about it; the first match counts.
_REMEDIES: Sequence[tuple[str, str]] = (
    (
        r"(?i)sudo.*password|missing sudo|a password is required|not in the sudoers",
        "let its user become root without a password (sudo visudo: `USER ALL=(ALL) NOPASSWD: ALL`), "
        "or run ansible-playbook yourself with --ask-become-pass",
    ),
    (r"HAS CHANGED", "it was installed anew, or somebody is in between: find out which before you replace that line"),
    (
        r"Host key verification failed",
        "fetch its key (ssh-keyscan), compare it with the host's own, and keep it in the inventory's known_hosts",
    ),
    (r"Permission denied \(", "is its key, user and ssh-agent right? try: ansible -i INVENTORY HOST -m ping"),
    (
        r"Connection refused|timed out|No route to host|Could not resolve|Connection reset|closed by",
        "is it up, with sshd running, and are ansible_host and ansible_port right?",
    ),
    (r"(?i)no space left on device|disk quota", "free some space on its disk"),
)


class PlaybookError(CellError):
    """A playbook failed. With one failed host `host` names it, and the message does not repeat it."""


def play_error(
    playbook: str, events: Iterable[JsonObject], limit: Sequence[str] | None, root: Path, log: Path | None
) -> PlaybookError:
    """The error of a playbook that did not succeed, from all its events.

    `limit` is what it was limited to, `root` the directory that paths are shown relative to, `log` where the whole
    output is. Kind: `ansible`.
    """
    events = list(events)
    failures = _last_failures(events)
    if not failures:
        return _unstarted(playbook, events, limit, log)
    said: dict[str, list[str]] = {}
    for host, event in failures.items():
        said.setdefault(_describe(event, root), []).append(host)
    one = next(iter(failures)) if len(failures) == 1 else None
    lines = [text if one else f"{', '.join(hosts)}: {text}" for text, hosts in said.items()]
    return PlaybookError("ansible", "\n".join(lines), one, _remedy("\n".join(lines), log))


def _last_failures(events: Iterable[JsonObject]) -> dict[str, JsonObject]:
    """Host -> the event that ended it. A failure that was ignored or rescued has not."""
    lost = {
        host
        for event in events
        if event["event"] == "playbook_on_stats"
        for column in ("failures", "dark")
        for host in event["event_data"].get(column, {})
    }
    return {
        event["event_data"]["host"]: event
        for event in events
        if event["event"] in _FAILURES
        and event["event_data"].get("host") in lost
        and not event["event_data"].get("ignore_errors")
    }


def _describe(event: JsonObject, root: Path) -> str:
    data = event["event_data"]
    message = _message(data.get("res") or {})
    return f'task "{data["task"]}" ({_relative(data.get("task_path", "?"), root)}): {message}'


def _relative(task_path: str, root: Path) -> str:
    return task_path.removeprefix(f"{root}{os.sep}")


def _message(result: Mapping[str, object]) -> str:
    if "censored" in result:
        return "its result is hidden (no_log)"
    parts = [_without_preamble(str(result.get("msg", "")))]
    items = result.get("results")
    if isinstance(items, list):
        failed = [item for item in items if isinstance(item, dict) and item.get("failed")]
        parts = [f"item {item.get('_ansible_item_label', item.get('item'))}: {_message(item)}" for item in failed[:2]]
    elif parts[0] == "non-zero return code":
        # What a command wrote says more than that it failed.
        words = str(result.get("stderr") or result.get("stdout") or "").strip()
        parts = [f"exit status {result.get('rc')}", *words.splitlines()[-2:]]
    elif "module_stderr" in result:
        parts += str(result["module_stderr"]).strip().splitlines()[-1:]
    return _clip("; ".join(part for part in parts if part)) or "it failed without a message"


def _without_preamble(message: str) -> str:
    """Ansible's and ssh's messages without what the task's name, the host and the remedy say already."""
    message = message.strip().removeprefix("Task failed: ").removeprefix("Failed to connect to the host via ssh: ")
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in message:
        line = re.search(r"Offending \S+ key in (\S+)", message)
        return f"its host key HAS CHANGED: {line[1] if line else 'known_hosts'} has another one"
    return message


def _clip(text: str) -> str:
    text = " ".join(_COLOURS.sub("", text).split())
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def _unstarted(
    playbook: str, events: Sequence[JsonObject], limit: Sequence[str] | None, log: Path | None
) -> PlaybookError:
    """Nothing ran: a file that cannot be parsed, a limit that fits no host, or no output at all."""
    lines = [_COLOURS.sub("", line) for event in events for line in str(event.get("stdout", "")).splitlines()]
    for index, line in enumerate(lines):
        if line.startswith("[ERROR]: "):
            where = next((after for after in lines[index + 1 : index + 4] if after.startswith("Origin: ")), "")
            message = _clip(line.removeprefix("[ERROR]: "))
            message += f" ({where.removeprefix('Origin: ')})" if where else ""
            return PlaybookError("ansible", f"{playbook}: {message}", None, _remedy(message, log))
    if any(event["event"] == "playbook_on_stats" for event in events):
        whom = f"of {', '.join(limit)}" if limit else "of the inventory"
        return PlaybookError("ansible", f"{playbook}: no host {whom} was touched", None, "are its groups' names right?")
    last = next((line for line in reversed(lines) if line.strip()), "it ended without a word")
    return PlaybookError("ansible", f"{playbook}: {_clip(last)}", None, _remedy(last, log))


def _remedy(text: str, log: Path | None) -> str | None:
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, text):
            return remedy
    return f"the whole output is in {log}" if log else None
