"""The hosts that a connection goes through, as the ssh client itself sees them.

`ssh -G` prints the configuration that ssh would use: the inventory's options first, then ~/.ssh/config with its
Include, Host and Match lines, then the system's and ssh's defaults (ssh(1), ssh_config(5)). Ansible runs that same
client, so both reach a host in the same way. As with ssh, the inventory's options are for the host itself: jump
hosts take theirs from ~/.ssh/config.
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from paretopipe_matrix.hosts.connection import SshTarget
from paretopipe_matrix.testbed import CellError

Settings = Mapping[str, tuple[str, ...]]
AgentKeys = Literal["all", "named", "none"]
Ask = Callable[[list[str]], Settings]
_ASK_S = 20.0
_MOST_HOPS = 8
_CANNOT = ("bindaddress", "bindinterface", "pkcs11provider")


@dataclass(frozen=True)
class Hop:
    """One ssh server on the way; the last one is the host itself."""

    address: str
    port: int
    user: str
    known_as: str
    """The name under which known_hosts files have its key."""
    known_hosts: tuple[Path, ...]
    key_files: tuple[Path, ...]
    keys_named: bool
    """Whether the inventory named the key files: then they must be usable."""
    agent_keys: AgentKeys
    """Which of the ssh-agent's keys may be offered: all, those of `key_files`, or none."""
    family: str
    """`any`, `inet` or `inet6`."""
    proxy_command: str | None

    def __str__(self) -> str:
        return f"{self.user}@{self.address}:{self.port}"


def hops(host: str, target: SshTarget, ask: Ask | None = None) -> tuple[Hop, ...]:
    """All servers from here to the target.

    `ask` gives what `ssh -G` prints for its arguments. Raises CellError (`ssh`) for what ssh does not take, and for
    settings that only ssh can honour.
    """
    ask = ask or (lambda arguments: ask_ssh(host, arguments))
    settings = ask(_arguments(target))
    return (*_jumps(host, settings, target.config_file, ask, 1), _hop(host, settings, target))


def _jumps(host: str, settings: Settings, config_file: str | None, ask: Ask, depth: int) -> tuple[Hop, ...]:
    """The jump hosts before a server; the first one may have a jump host of its own in ~/.ssh/config."""
    names = [name for name in _one(settings, "proxyjump", "none").split(",") if name != "none"]
    found: tuple[Hop, ...] = ()
    if depth + len(names) > _MOST_HOPS:
        raise CellError("ssh", f"more than {_MOST_HOPS} jump hosts, or a circle of them", host, "look at ~/.ssh/config")
    for index, name in enumerate(names):
        jump = _jump_target(host, name, config_file)
        jump_settings = ask(_arguments(jump))
        if index == 0:
            found += _jumps(host, jump_settings, config_file, ask, depth + len(names))
        found += (_hop(host, jump_settings, jump),)
    return found


def _jump_target(host: str, name: str, config_file: str | None) -> SshTarget:
    try:
        parts = urlsplit(name if name.startswith("ssh://") else f"ssh://{name}")
        if parts.hostname and not parts.hostname.startswith("-"):
            return SshTarget(parts.hostname, parts.port, parts.username, config_file=config_file)
    except ValueError:
        pass  # a port that is no number, or half an IPv6 address
    raise CellError("ssh", f"ProxyJump: {name!r} is not [user@]host[:port]", host, "mend it in the inventory")


def _arguments(target: SshTarget) -> list[str]:
    options = dict(target.options)
    if target.known_hosts:
        options["userknownhostsfile"] = " ".join(f'"{file}"' for file in target.known_hosts)
    for name, value in (
        ("port", target.port),
        ("user", target.user),
        ("proxyjump", target.proxy_jump),
        ("proxycommand", target.proxy_command),
    ):
        if value is not None:
            options[name] = str(value)
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [*(["-F", target.config_file] if target.config_file else []), *words, "--", target.address]


def ask_ssh(host: str, arguments: list[str]) -> Settings:
    """What `ssh -G` prints: option in lower case -> its values, in order."""
    try:
        done = subprocess.run(
            ["ssh", "-G", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except FileNotFoundError:
        raise CellError("ssh", "the ssh client is not installed here", host, "apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise CellError("ssh", f"ssh -G took more than {_ASK_S:.0f} s", host, "look at ~/.ssh/config") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]
        raise CellError("ssh", f"ssh refuses its options: {said}", host, "mend the inventory or ~/.ssh/config")
    return parse_settings(done.stdout)


def parse_settings(text: str) -> Settings:
    """The lines of `ssh -G` by option."""
    settings: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        option, _, value = line.partition(" ")
        settings[option] = (*settings.get(option, ()), value)
    return settings


def _one(settings: Settings, option: str, default: str) -> str:
    return settings.get(option, (default,))[0]


def _hop(host: str, settings: Settings, target: SshTarget) -> Hop:
    for option in _CANNOT:
        if _one(settings, option, "none") != "none":
            raise CellError("ssh", f"{option} is set for it, which only ssh itself can honour", host, "leave it out")
    socket = _one(settings, "identityagent", "SSH_AUTH_SOCK")
    if socket not in ("SSH_AUTH_SOCK", "none", os.environ.get("SSH_AUTH_SOCK")):
        raise CellError("ssh", f"IdentityAgent {socket} is set for it", host, "set SSH_AUTH_SOCK to it instead")
    agent: AgentKeys = "named" if _one(settings, "identitiesonly", "no") == "yes" else "all"
    address = _one(settings, "hostname", target.address).lower()
    port = int(_one(settings, "port", "22"))
    user = _one(settings, "user", _login())
    alias = _one(settings, "hostkeyalias", "none")
    tokens = {"%": "%", "d": _home(), "h": address, "n": target.address, "p": str(port), "r": user, "u": _login()}
    known_hosts = [
        *(target.known_hosts or _one(settings, "userknownhostsfile", "none").split()),
        *_one(settings, "globalknownhostsfile", "none").split(),
    ]
    command = _one(settings, "proxycommand", "none")
    return Hop(
        address=address,
        port=port,
        user=user,
        known_as=alias if alias != "none" else (address if port == 22 else f"[{address}]:{port}"),
        known_hosts=tuple(_file(name, tokens) for name in known_hosts if name != "none"),
        key_files=tuple(_file(name, tokens) for name in target.key_files or settings.get("identityfile", ())),
        keys_named=bool(target.key_files),
        agent_keys="none" if socket == "none" else agent,
        family=_one(settings, "addressfamily", "any"),
        proxy_command=None if command == "none" else expand(command, tokens),
    )


def _home() -> str:
    return pwd.getpwuid(os.getuid()).pw_dir  # as ssh does: not $HOME


def _login() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _file(name: str, tokens: Mapping[str, str]) -> Path:
    return Path(expand(re.sub(r"^~(?=/)", _home(), name), tokens))


def expand(text: str, tokens: Mapping[str, str]) -> str:
    """Replace ssh's tokens (ssh_config(5), "TOKENS"); one that is not known stays as it is."""
    return re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), text)
