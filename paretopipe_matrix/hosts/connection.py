"""How a host of the inventory is reached by ssh: Ansible's own connection variables, read strictly.

What Ansible hands to the ssh client, pp-matrix must honour or refuse: a difference between the two would show as a
host that one of them reaches. Source: ansible-core's ssh connection plugin (`ansible-doc -t connection ssh`), ssh(1).
"""

from __future__ import annotations

import getopt
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.testbed import JsonObject

_FIRST_ARGUMENTS = "ansible_ssh_args"
_LAST_ARGUMENTS = ("ansible_ssh_common_args", "ansible_ssh_extra_args")
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "ansible_host": ("ansible_ssh_host",),
    "ansible_port": ("ansible_ssh_port",),
    "ansible_user": ("ansible_ssh_user",),
    "ansible_ssh_private_key_file": ("ansible_private_key_file",),
}
_PASSWORDS = ("ansible_password", "ansible_ssh_pass", "ansible_ssh_password", "ansible_ssh_private_key_passphrase")
_HOST_KEY_CHECKING = ("ansible_host_key_checking", "ansible_ssh_host_key_checking")
CONNECTION_VARIABLES = (
    "ansible_connection",
    *_ALIASES,
    *(old for olds in _ALIASES.values() for old in olds),
    _FIRST_ARGUMENTS,
    *_LAST_ARGUMENTS,
    *_HOST_KEY_CHECKING,
)
"""The variables that are read here, apart from passwords, whose values are never looked at."""

_FLAGS = "46AaCKkNnqTtVvXxYy"
_VALUES = "BbcDEeFIiJLlmOopQRSWw"
_TAKEN = {"-i": "identityfile", "-J": "proxyjump", "-l": "user", "-p": "port"}
_PROXIES = ("proxyjump", "proxycommand")
# Handed on to `ssh -G` as they are.
_PASSED_ON = ("addressfamily", "globalknownhostsfile", "hostkeyalias", "identitiesonly")
# About ssh's own process, terminal, patience or shared connections: nothing that pp-matrix has or could do otherwise.
_WITHOUT_MEANING = (
    "addkeystoagent batchmode checkhostip compression connectionattempts connecttimeout controlmaster controlpath "
    "controlpersist forwardagent forwardx11 gssapiauthentication hashknownhosts kbdinteractiveauthentication loglevel "
    "numberofpasswordprompts passwordauthentication permitlocalcommand preferredauthentications pubkeyauthentication "
    "requesttty serveralivecountmax serveraliveinterval tcpkeepalive updatehostkeys visualhostkey"
)
_FLAGS_WITHOUT_MEANING = "AaCknqTtvXxYy"
_HONOURED = (
    "-F, -J, -i, -l, -p, and -o with UserKnownHostsFile, GlobalKnownHostsFile, HostKeyAlias, ProxyJump, ProxyCommand, "
    "IdentityFile, IdentitiesOnly, User, Port, AddressFamily"
)


@dataclass(frozen=True)
class SshTarget:
    """One host as the inventory says to reach it. What is None or empty is left to ~/.ssh/config and ssh's defaults."""

    address: str
    port: int | None = None
    user: str | None = None
    key_files: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    """Files that stand in for ~/.ssh/known_hosts."""
    proxy_jump: str | None = None
    proxy_command: str | None = None
    config_file: str | None = None
    """Stands in for ~/.ssh/config and the system's; `none`: no configuration."""
    options: tuple[tuple[str, str], ...] = ()
    """Further ssh options, such as `("hostkeyalias", "pi1")`."""

    def as_json(self) -> JsonObject:
        """What run.json keeps. Proxy commands may hold anything, so only the program's name is kept."""
        return {
            "address": self.address,
            "port": self.port,
            "user": self.user,
            "key_files": list(self.key_files),
            "known_hosts": list(self.known_hosts),
            "proxy_jump": self.proxy_jump,
            "proxy_command": self.proxy_command.split()[0] if self.proxy_command else None,
            "config_file": self.config_file,
            "options": dict(self.options),
        }


def ssh_target(name: str, values: Mapping[str, Any], fail: Callable[[str, str], InventoryError]) -> SshTarget:
    """The target of host `name` from its variables; `fail(variable, message)` makes the error to raise.

    Raises InventoryError for passwords, for anything that would switch host key checking off, and for ssh options
    that only ssh itself can honour.
    """
    for variable in _PASSWORDS:
        if variable in values:
            raise fail(variable, "passwords are not used; set up a key, and ssh-agent where it has a passphrase")
    for variable in _HOST_KEY_CHECKING:
        if variable in values and str(values[variable]).lower() not in ("true", "yes", "1", "on"):
            raise fail(variable, f"{values[variable]!r}: host keys are always checked; leave this out")
    options = _Options(fail)
    given = {variable: _first(values, variable, old) for variable, old in _ALIASES.items()}
    # In Ansible's order: for ssh the first value of an option counts.
    options.take_arguments(_FIRST_ARGUMENTS, values.get(_FIRST_ARGUMENTS))
    for variable, option in (
        ("ansible_port", "port"),
        ("ansible_ssh_private_key_file", "identityfile"),
        ("ansible_user", "user"),
    ):
        if given[variable] is not None:
            options.take(option, str(given[variable]), variable)
    for variable in _LAST_ARGUMENTS:
        options.take_arguments(variable, values.get(variable))
    address = str(given["ansible_host"] if given["ansible_host"] is not None else name)
    if not address or address.startswith("-") or any(letter.isspace() for letter in address):
        raise fail("ansible_host", f"{address!r}: must be a host name or an address")
    return options.target(address)


def _first(values: Mapping[str, Any], name: str, older: tuple[str, ...]) -> Any:
    return next((values[variable] for variable in (name, *older) if values.get(variable) is not None), None)


class _Options:
    """Options of one host while they are read; the first value of each counts."""

    def __init__(self, fail: Callable[[str, str], InventoryError]) -> None:
        self._fail = fail
        self._found: dict[str, str] = {}
        self._key_files: list[str] = []
        self._known_hosts: list[str] = []

    def take_arguments(self, variable: str, text: Any) -> None:
        """Take in one variable that holds arguments for ssh."""
        if text is None:
            return
        if not isinstance(text, str):
            raise self._fail(variable, f"{text!r}: must be text")
        try:
            words = shlex.split(text)
            found, rest = getopt.getopt(words, _FLAGS + "".join(f"{letter}:" for letter in _VALUES))
        except (ValueError, getopt.GetoptError) as error:
            raise self._fail(variable, f"{text!r}: not arguments for ssh: {error}") from error
        if rest:
            raise self._fail(variable, f"{rest[0]!r}: not an option of ssh")
        for flag, value in found:
            if flag == "-o":
                option, separator, setting = value.replace("=", " ", 1).strip().partition(" ")
                if not separator:
                    raise self._fail(variable, f"-o {value}: must be -o OPTION=VALUE")
                self.take(option.lower(), setting.strip(), variable, f"-o {value}")
            elif flag == "-F":
                self._found.setdefault("config_file", str(Path(value).expanduser()))
            elif flag in _TAKEN:
                self.take(_TAKEN[flag], value, variable, f"{flag} {value}")
            elif flag[1] not in _FLAGS_WITHOUT_MEANING:
                raise self._unknown(variable, flag)

    def take(self, option: str, value: str, variable: str, written: str = "") -> None:
        """Take in one option, in lower case, as `ssh -G` names them."""
        written = written or repr(value)
        if option == "stricthostkeychecking":
            if value.lower() not in ("yes", "true", "ask"):
                raise self._fail(
                    variable, f"{written}: host keys are always checked; leave it out and put the key in known_hosts"
                )
        elif option == "port":
            if not value.isdecimal() or not 1 <= int(value) <= 65535:
                raise self._fail(variable, f"{written}: must be a port from 1 to 65535")
            self._found.setdefault(option, value)
        elif option in ("identityfile", "user", "userknownhostsfile", *_PROXIES, *_PASSED_ON):
            if not value:
                raise self._fail(variable, f"{written}: is empty")
            if option == "userknownhostsfile":
                self._known_hosts = self._known_hosts or self._files(value, variable, written)
            elif option == "identityfile":
                self._key_files.append(str(Path(value).expanduser()))
            elif option not in _PROXIES or not self._found.keys() & set(_PROXIES):
                self._found.setdefault(option, value)
        elif option not in _WITHOUT_MEANING.split():
            raise self._unknown(variable, written)

    def _files(self, value: str, variable: str, written: str) -> list[str]:
        try:
            return [str(Path(file).expanduser()) for file in shlex.split(value)]
        except ValueError as error:
            raise self._fail(variable, f"{written}: {error}") from error

    def _unknown(self, variable: str, written: str) -> InventoryError:
        return self._fail(variable, f"{written}: pp-matrix cannot honour this option; valid: {_HONOURED}")

    def target(self, address: str) -> SshTarget:
        """The finished target."""
        found = self._found
        return SshTarget(
            address=address,
            port=int(found["port"]) if "port" in found else None,
            user=found.get("user"),
            key_files=tuple(dict.fromkeys(self._key_files)),
            known_hosts=tuple(self._known_hosts),
            proxy_jump=found.get("proxyjump"),
            proxy_command=found.get("proxycommand"),
            config_file=found.get("config_file"),
            options=tuple((option, found[option]) for option in _PASSED_ON if option in found),
        )
