"""From a target and what `ssh -G` says to the servers on the way. The real `ssh -G` is asked where it matters."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from paretopipe_matrix.hosts.connection import SshTarget
from paretopipe_matrix.hosts.ssh_hops import Hop, ask_ssh, hops, parse_settings
from paretopipe_matrix.testbed import CellError

ME = pwd.getpwuid(os.getuid())
CONFIG = """
Host pi1
  HostName 10.0.0.1
  ProxyJump inner
Host inner
  HostName 10.9.0.1
  User jumper
  ProxyJump ops@outer:2022
  IdentityFile /keys/inner
Host outer
  HostName OUTER.example
  UserKnownHostsFile /known/outer
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "config").write_text(CONFIG)
    return str(tmp_path / "config")


def test_what_is_not_said_is_sshs_default() -> None:
    (hop,) = hops("pi1", SshTarget("Pi1.local", config_file="none"))
    home = Path(ME.pw_dir)
    assert (hop.address, hop.port, hop.user, hop.known_as) == ("pi1.local", 22, ME.pw_name, "pi1.local")
    assert hop.known_hosts[0] == home / ".ssh/known_hosts"
    assert Path("/etc/ssh/ssh_known_hosts") in hop.known_hosts
    assert home / ".ssh/id_ed25519" in hop.key_files
    assert (hop.keys_named, hop.agent_keys, hop.proxy_command) == (False, "all", None)


def test_the_inventory_wins_over_the_configuration() -> None:
    target = SshTarget(
        "10.0.0.1",
        2222,
        "pi",
        ("/keys/a", "/keys/b"),
        ("/known/with space", "/known/two"),
        config_file="none",
        options=(("identitiesonly", "yes"), ("addressfamily", "inet")),
    )
    (hop,) = hops("pi1", target)
    assert hop == Hop(
        address="10.0.0.1",
        port=2222,
        user="pi",
        known_as="[10.0.0.1]:2222",
        known_hosts=(
            Path("/known/with space"),
            Path("/known/two"),
            Path("/etc/ssh/ssh_known_hosts"),
            Path("/etc/ssh/ssh_known_hosts2"),
        ),
        key_files=(Path("/keys/a"), Path("/keys/b")),
        keys_named=True,
        agent_keys="named",
        family="inet",
        proxy_command=None,
    )


def test_jump_hosts_have_their_own_configuration(config: str) -> None:
    outer, inner, pi1 = hops("pi1", SshTarget("pi1", user="pi", known_hosts=("/known/pi",), config_file=config))
    assert (str(outer), str(inner), str(pi1)) == ("ops@outer.example:2022", "jumper@10.9.0.1:22", "pi@10.0.0.1:22")
    assert outer.known_as == "[outer.example]:2022"
    assert outer.known_hosts[0] == Path("/known/outer")
    assert inner.key_files == (Path("/keys/inner"),)
    assert pi1.known_hosts[0] == Path("/known/pi")


def test_jump_hosts_of_the_inventory_in_their_order(config: str) -> None:
    found = hops("pi1", SshTarget("pi1", proxy_jump="outer,root@[fe80::1]:23", config_file=config))
    assert [(hop.address, hop.port) for hop in found] == [("outer.example", 22), ("fe80::1", 23), ("10.0.0.1", 22)]
    assert len(hops("pi1", SshTarget("pi1", proxy_jump="none", config_file=config))) == 1


def test_an_alias_and_a_proxy_command() -> None:
    target = SshTarget("pi1", proxy_command="nc -x %r %h %p %%", options=(("hostkeyalias", "pi"),), config_file="none")
    (hop,) = hops("pi1", target)
    assert hop.known_as == "pi"
    assert hop.proxy_command == f"nc -x {ME.pw_name} pi1 22 %"


def test_what_only_ssh_can_do_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/run/agent")
    for line, words in (
        ("BindAddress 10.0.0.9", "bindaddress"),
        ("IdentityAgent /run/other", "IdentityAgent /run/other"),
    ):
        (tmp_path / "config").write_text(f"{line}\n")
        with pytest.raises(CellError, match=words) as error:
            hops("pi1", SshTarget("pi1", config_file=str(tmp_path / "config")))
        assert (error.value.kind, error.value.host) == ("ssh", "pi1")
    (tmp_path / "config").write_text("IdentityAgent none\n")
    assert hops("pi1", SshTarget("pi1", config_file=str(tmp_path / "config")))[0].agent_keys == "none"


def test_a_circle_of_jump_hosts_ends(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(CellError, match="a circle"):
        hops("pi1", SshTarget("a", config_file=str(tmp_path / "config")))


@pytest.mark.parametrize("jump", ["a:b", "@", "-oProxyCommand=evil"])
def test_a_jump_host_that_is_none(jump: str) -> None:
    with pytest.raises(CellError, match="is not"):
        hops("pi1", SshTarget("pi1", config_file="none"), lambda _arguments: {"proxyjump": (jump,)})


def test_ssh_says_what_it_does_not_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("Nonsense yes\n")
    with pytest.raises(CellError, match=r"refuses its options: .*: line 1: Bad configuration option: nonsense"):
        ask_ssh("pi1", ["-F", str(tmp_path / "config"), "--", "pi1"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CellError, match="the ssh client is not installed here"):
        ask_ssh("pi1", ["--", "pi1"])


def test_settings_keep_all_values_in_order() -> None:
    assert parse_settings("port 22\nidentityfile a b\nidentityfile c\n") == {
        "port": ("22",),
        "identityfile": ("a b", "c"),
    }
