"""What is wrong with the variables of a host, found on the controller alone, before any host is touched."""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from jinja2.exceptions import UndefinedError
from jinja2.runtime import Undefined

# Ansible is imported where it calls us, and no sooner: it patches sys.intern, and torch cannot be imported after that.
Where = Callable[[Mapping[str, Any], str, object], str]

FLAVOURS = ("plain", "cpu", "cuda")
CONNECTIONS = ("ssh", "local")
ENGINES = ("eager", "fused", "onnxruntime", "compiled", "best")
NOT_SHOWN = ("paretopipe_pipelines", "ansible_password", "ansible_ssh_pass")
REMEDY_KNOWN_HOSTS = "check the hosts' fingerprints and write their keys there with ssh-keyscan"


def _whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _address(value: object) -> str | None:
    try:
        address = ipaddress.ip_address(str(value))
    except ValueError:
        return "must be an IP address of the data network, such as 10.0.1.11"
    return "cannot be an address of one host" if address.is_unspecified or address.is_multicast else None


def _interface(value: object) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"[^/\s:]{1,15}", value)
    return None if fits else "must be the name of a network interface, such as eth0"


def _port(value: object) -> str | None:
    return None if _whole(value, 0, 65535) else "must be a port from 1 to 65535, or 0 for any free one"


def _cpus(value: object) -> str | None:
    if value == "auto" or (isinstance(value, list) and value and all(_whole(cpu, 0, 4095) for cpu in value)):
        return None
    return "must be auto or a list of cores such as [0, 1]"


def _threads(value: object) -> str | None:
    return None if value == "auto" or _whole(value, 1, 4096) else "must be auto or a whole number from 1"


def _directory(value: object) -> str | None:
    """An absolute path that can hold our files alone: two levels deep at least, nothing a shell would split."""
    if not isinstance(value, str) or not re.fullmatch(r"/[^\s'\"\\$:]+", value) or ".." in value.split("/"):
        return "must be an absolute path without spaces, quotes, colons or `..`"
    if len([part for part in value.split("/") if part]) < 2:
        return "must be a directory of its own, such as /opt/paretopipe"
    return None


def _device(value: object) -> str | None:
    fits = isinstance(value, str) and re.fullmatch(r"cpu|cuda(:\d{1,2})?", value)
    return None if fits else "valid: cpu, cuda, cuda:1"


def _names(value: object) -> str | None:
    fits = isinstance(value, list) and all(
        isinstance(name, str) and re.fullmatch(r"[a-z0-9-]+", name) for name in value
    )
    return None if fits else "must be a list of optional groups of pyproject.toml, such as [onnxruntime]"


def _shared(value: object) -> str | None:
    if value == "" or (isinstance(value, str) and re.fullmatch(r"/\S+/lib/python3\.\d+/site-packages/?", value)):
        return None
    return "must be empty or an absolute path .../lib/python3.X/site-packages"


def _boolean(value: object) -> str | None:
    remedy = "must be true or false (on the command line as JSON: -e '{\"name\": false}')"
    return None if isinstance(value, bool) else remedy


def _text(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else "must be text"


def _one_of(*valid: str) -> Callable[[object], str | None]:
    return lambda value: None if value in valid else f"valid: {', '.join(valid)}"


def _ssh_port(value: object) -> str | None:
    number = int(value) if isinstance(value, str) and value.isdigit() else value
    return None if _whole(number, 1, 65535) else "must be a port from 1 to 65535"


def _connection(value: object) -> str | None:
    return _one_of(*CONNECTIONS)(str(value).removeprefix("ansible.builtin."))


def _key_file(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return "must be the path of a private key on this machine"
    return None if Path(value).expanduser().is_file() else "does not exist on this machine"


def _ssh_arguments(value: object) -> str | None:
    """Host keys stay checked, and the file that holds them is there."""
    if not isinstance(value, str):
        return "must be text"
    try:
        text = " ".join(shlex.split(value))
    except ValueError as error:
        return f"cannot be split into words ({error})"
    if re.search(r"StrictHostKeyChecking[ =](no|off|accept-new)\b", text, re.IGNORECASE):
        return "switches the check of host keys off; leave StrictHostKeyChecking out"
    for path in re.findall(r"UserKnownHostsFile[ =](\S+)", text, re.IGNORECASE):
        if path == "/dev/null":
            return f"throws host keys away; {REMEDY_KNOWN_HOSTS}"
        if "%" not in path and not Path(path).expanduser().is_file():
            return f"UserKnownHostsFile {path} does not exist; {REMEDY_KNOWN_HOSTS}"
    return None


def _no_password(_value: object) -> str:
    return "passwords are not used; give the user a key (ssh-copy-id), or use ssh-agent"


OURS: dict[str, Callable[[object], str | None]] = {
    "paretopipe_cpus": _cpus,
    "paretopipe_data_address": _address,
    "paretopipe_data_interface": _interface,
    "paretopipe_data_port": _port,
    "paretopipe_device": _device,
    "paretopipe_engine": _one_of(*ENGINES),
    "paretopipe_extras": _names,
    "paretopipe_manage_system": _boolean,
    "paretopipe_pipelines": lambda _value: None,  # see `pipeline_problems`
    "paretopipe_python": _text,
    "paretopipe_root": _directory,
    "paretopipe_shared_packages": _shared,
    "paretopipe_state_dir": _directory,
    "paretopipe_threads": _threads,
    "paretopipe_torch_flavour": _one_of(*FLAVOURS),
    "paretopipe_wheel_dir": lambda _value: None,  # see `wheel_problem`
}
CONNECTING: dict[str, Callable[[object], str | None]] = {
    "ansible_connection": _connection,
    "ansible_host": _text,
    "ansible_password": _no_password,
    "ansible_port": _ssh_port,
    "ansible_python_interpreter": _text,
    "ansible_ssh_common_args": _ssh_arguments,
    "ansible_ssh_extra_args": _ssh_arguments,
    "ansible_ssh_pass": _no_password,
    "ansible_ssh_private_key_file": _key_file,
    "ansible_user": _text,
}


def wheel_problem(value: object, constraints: str) -> str | None:
    """Whether a wheel directory of the controller holds torch and torchvision as pinned in `constraints` (text)."""
    if value == "":
        return None
    if not isinstance(value, str) or not value.startswith("/"):
        return "must be empty or an absolute path on this machine (use {{ inventory_dir }})"
    if not Path(value).is_dir():
        return "is no directory on this machine"
    for name in ("torch", "torchvision"):
        pin = re.search(rf"^{name}==(\S+)", constraints, re.MULTILINE)
        if pin is None:
            return f"cannot be checked: constraints.txt does not pin {name}"
        if not [*Path(value).glob(f"{name}-{pin[1]}-*.whl"), *Path(value).glob(f"{name}-{pin[1]}+*.whl")]:
            return f"holds no {name}-{pin[1]}*.whl, the version that constraints.txt pins"
    return None


def pipeline_problems(value: object, hosts: Sequence[str]) -> list[str]:
    """What is wrong with `paretopipe_pipelines` for an inventory with these hosts."""
    if not isinstance(value, Mapping) or not value:
        return ["must map names to lists of hosts, such as {pi-to-pi: [pi1, pi2]}"]
    problems = []
    for name, members in value.items():
        if not isinstance(members, list) or not all(isinstance(member, str) for member in members):
            problems.append(f"{name}: must be a list of hosts in pipeline order")
            continue
        if len(members) < 2:
            problems.append(f"{name}: needs at least two hosts")
        problems += [
            f"{name}: unknown host {member!r}{_close(member, hosts)}; the inventory has: {', '.join(hosts)}"
            for member in dict.fromkeys(members)
            if member not in hosts
        ]
        problems += [f"{name}: names {member!r} twice" for member in sorted(set(members)) if members.count(member) > 1]
    return problems


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _is_local(variables: Mapping[str, Any]) -> bool:
    return str(variables.get("ansible_connection", "ssh")).removeprefix("ansible.builtin.") == "local"


def _pipelines(variables: Mapping[str, Any]) -> dict[str, list[str]]:
    value = variables.get("paretopipe_pipelines")
    if not isinstance(value, Mapping):
        return {}
    return {str(name): members for name, members in value.items() if isinstance(members, list)}


def _reached_over_network(host: str, hostvars: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first pipeline in which this host meets one on another machine."""
    for name, members in _pipelines(hostvars[host]).items():
        known = [member for member in members if member in hostvars]
        if host in known and not all(_is_local(hostvars[member]) for member in known):
            return name
    return None


def _data_path_problems(host: str, hostvars: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    variables = hostvars[host]
    address = variables.get("paretopipe_data_address")
    pipeline = _reached_over_network(host, hostvars)
    if pipeline is not None:
        if "paretopipe_data_address" not in variables:
            yield f"paretopipe_data_address is missing; pipeline {pipeline} reaches the host there"
        elif _address(address) is None and ipaddress.ip_address(str(address)).is_loopback:
            yield f"paretopipe_data_address: {address} is a loopback address; pipeline {pipeline} needs a reachable one"
        if not _is_local(variables) and "paretopipe_data_interface" not in variables:
            yield (
                "paretopipe_data_interface is missing; it is the interface that carries the data address, "
                "and network profiles are imposed there"
            )
    if address is not None:
        twins = [
            other
            for other in hostvars
            if other != host
            and hostvars[other].get("paretopipe_data_address") == address
            and not (_is_local(variables) and _is_local(hostvars[other]))
        ]
        if twins:
            yield f"paretopipe_data_address: {address} is also that of {', '.join(twins)}"


def _defined(value: object) -> object:
    """The value. Raises UndefinedError for a template that lacks something, also inside a list or mapping."""
    if isinstance(value, Undefined):
        str(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            _defined(item)
    elif isinstance(value, list):
        for item in value:
            _defined(item)
    return value


def _evaluated(variables: Mapping[str, Any], where: Where) -> tuple[dict[str, Any], list[str]]:
    """The variables that are checked, and a complaint for each whose template fails or whose name is unknown."""
    values: dict[str, Any] = {}
    problems = []
    for name in sorted(variables):
        if name.startswith("paretopipe_") and name not in OURS:
            close, place = _close(name, list(OURS)), where(variables, name, None)
            problems.append(f"{name}: unknown variable{close}{place}; known: {', '.join(OURS)}")
        elif name in OURS or name in CONNECTING:
            try:
                values[name] = _defined(variables[name])
            except UndefinedError as error:
                why = str(error).splitlines()[0].removeprefix("A captured exception marker was tripped: ")
                problems.append(f"{name}: {why}{where(variables, name, None)}")
    return values, problems


def preflight_problems(
    hostvars: Mapping[str, Mapping[str, Any]],
    host: str,
    hosts: Sequence[str],
    constraints: str,
    *,
    pipelines: bool,
    where: Where = lambda _variables, _name, _value: "",
) -> list[str]:
    """All that is wrong with one host's `paretopipe_*` and connection variables, one line each.

    `hosts` are all hosts of the inventory, `constraints` the text of constraints.txt. Pipelines belong to the whole
    inventory: one host is asked for their problems too. `where` says in which file and line a value was set.
    """
    variables = hostvars[host]
    values, problems = _evaluated(variables, where)
    for name, value in values.items():
        if name == "paretopipe_pipelines":
            complaints: list[str | None] = [*pipeline_problems(value, hosts)] if pipelines else []
        elif name == "paretopipe_wheel_dir":
            complaints = [wheel_problem(value, constraints)]
        else:
            complaints = [{**OURS, **CONNECTING}[name](value)]
        shown = "" if name in NOT_SHOWN else f" {value!r}:"
        place = where(variables, name, value)
        problems += [f"{name}:{shown} {complaint}{place}" for complaint in complaints if complaint is not None]
    if pipelines and "paretopipe_pipelines" not in variables:
        problems.append("paretopipe_pipelines is missing; set it under all/vars, such as {pi-to-pi: [pi1, pi2]}")
    every = {other: _evaluated(hostvars[other], where)[0] for other in hosts} | {host: values}
    return problems + list(_data_path_problems(host, every))


def _origin(variables: Mapping[str, Any], name: str, value: object) -> str:
    """` (set in FILE:LINE)`; nothing where Ansible does not tell, which has no public way to ask."""
    try:
        from ansible._internal._datatag._tags import Origin
    except ImportError:
        return ""
    key = next((key for key in variables if key == name), None)
    origin = Origin.get_tag(value) or Origin.get_tag(key)
    if origin is None:
        return ""
    return f" (set in {origin.path}:{origin.line_num})" if origin.path else f" (set in {origin.description})"


class FilterModule:
    """The filters of this role."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name to function."""
        return {"preflight_problems": partial(preflight_problems, where=_origin)}
