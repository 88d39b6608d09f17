"""Ansible's connection variables as an ssh target: honoured or refused, never overlooked."""

from __future__ import annotations

import json

import pytest

from paretopipe_matrix.errors import InventoryError
from paretopipe_matrix.hosts.connection import SshTarget, ssh_target


def target(**values):
    return ssh_target("pi1", values, lambda variable, message: InventoryError(f"{variable}: {message}"))


def test_the_name_is_the_address_and_the_rest_is_left_to_ssh():
    assert target() == SshTarget("pi1")


def test_variables_win_over_arguments():
    assert target(
        ansible_host="10.0.0.1",
        ansible_port=2222,
        ansible_user="pi",
        ansible_ssh_private_key_file="/keys/pi",
        ansible_ssh_common_args="-p 22 -l root -i /keys/other -J bastion,deep:23 -F /etc/my_config",
        ansible_ssh_extra_args="-o UserKnownHostsFile='/a /b' -J late",
    ) == SshTarget(
        "10.0.0.1",
        2222,
        "pi",
        ("/keys/pi", "/keys/other"),
        ("/a", "/b"),
        proxy_jump="bastion,deep:23",
        config_file="/etc/my_config",
    )


def test_ansible_ssh_args_come_before_the_variables():
    assert target(ansible_port=22, ansible_ssh_args="-o Port=2200").port == 2200


def test_ways_to_write_options():
    found = target(
        ansible_ssh_common_args='-oHostKeyAlias=pi -o "IdentitiesOnly yes" -Jhop -o "ProxyCommand = nc %h %p" -vvC '
        "-o ServerAliveInterval=5 -o ControlPersist=60s -o StrictHostKeyChecking=yes"
    )
    assert found.options == (("hostkeyalias", "pi"), ("identitiesonly", "yes"))
    # Of the two ways around, ssh takes the one that it read first.
    assert (found.proxy_jump, found.proxy_command) == ("hop", None)


def test_older_names_and_the_home_directory(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    found = target(ansible_ssh_host="h", ansible_ssh_user="u", ansible_ssh_port="23", ansible_private_key_file="~/k")
    assert found == SshTarget("h", 23, "u", ("/home/me/k",))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ansible_ssh_common_args": "-o StrictHostKeyChecking=no"}, "host keys are always checked"),
        ({"ansible_ssh_common_args": "-o stricthostkeychecking=accept-new"}, "host keys are always checked"),
        ({"ansible_host_key_checking": False}, "host keys are always checked"),
        ({"ansible_ssh_host_key_checking": "no"}, "host keys are always checked"),
        ({"ansible_ssh_extra_args": "-o BindAddress=10.0.0.9"}, "-o BindAddress=10.0.0.9: pp-matrix cannot honour"),
        ({"ansible_ssh_extra_args": "-b 10.0.0.9"}, "-b: pp-matrix cannot honour"),
        ({"ansible_ssh_extra_args": "-L 80:a:80"}, "-L: pp-matrix cannot honour"),
        ({"ansible_ssh_extra_args": "-o"}, "not arguments for ssh: option -o requires argument"),
        ({"ansible_ssh_extra_args": "-J 'a"}, "not arguments for ssh: No closing quotation"),
        ({"ansible_ssh_extra_args": "-C uptime"}, "'uptime': not an option of ssh"),
        ({"ansible_ssh_extra_args": "-o 'UserKnownHostsFile=\"/a'"}, "No closing quotation"),
        ({"ansible_ssh_extra_args": "-o Port"}, "must be -o OPTION=VALUE"),
        ({"ansible_ssh_extra_args": ["-C"]}, "must be text"),
        ({"ansible_port": "ssh"}, "ansible_port: 'ssh': must be a port"),
        ({"ansible_port": 70000}, "must be a port from 1 to 65535"),
        ({"ansible_host": "-oProxyCommand=evil"}, "must be a host name or an address"),
        ({"ansible_host": "a b"}, "must be a host name or an address"),
        ({"ansible_user": ""}, "is empty"),
    ],
)
def test_mistakes(values, words):
    with pytest.raises(InventoryError) as error:
        target(**values)
    assert words in str(error.value)
    assert next(iter(values)) in str(error.value)


@pytest.mark.parametrize("variable", ["ansible_password", "ansible_ssh_pass", "ansible_ssh_password"])
def test_passwords_are_refused_and_not_repeated(variable):
    with pytest.raises(InventoryError, match="passwords are not used; set up a key") as error:
        target(**{variable: "hunter2"})
    assert "hunter2" not in str(error.value)


def test_what_run_json_keeps_has_no_secrets():
    kept = target(ansible_ssh_extra_args="-o 'ProxyCommand=sshpass -p hunter2 ssh -W %h:%p hop' -i /k").as_json()
    assert "hunter2" not in json.dumps(kept)
    assert (kept["proxy_command"], kept["key_files"]) == ("sshpass", ["/k"])
