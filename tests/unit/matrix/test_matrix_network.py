"""When Ansible is asked, what is refused, and how everything is put back; hosts are played by dictionaries."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from paretopipe_matrix.hosts import network as module
from paretopipe_matrix.hosts.inventory import HostVars, Inventory
from paretopipe_matrix.hosts.network import Network
from paretopipe_matrix.testbed import CellError, Link, Profile

LAN = Profile("lan")
DURESS = Profile("duress", {"first-egress": Link(delay_s=0.2, rate_bit_s=5e6)})
BOTH = Profile("both", {"first-egress": Link(delay_s=0.1), "first-ingress": Link(delay_s=0.1)})


class Hosts:
    """A fleet whose hosts are shaped by what the plays say."""

    def __init__(self):
        self.active = {}
        self.renewed = []
        self.agents = {name: self.Agent(self, name) for name in ("pi1", "pi2", "gpu1")}

    class Agent:
        def __init__(self, hosts, name):
            self.hosts, self.name = hosts, name

        def send(self, operation, params):
            assert operation == "renew_network"
            self.hosts.renewed.append((self.name, params["state_dir"]))

    def together(self, operation, params, timeout_s):
        assert operation == "network_status"
        return {host: {"active": self.active.get(host)} for host in params}


class Plays:
    def __init__(self, hosts, obey=True):
        self.hosts, self.obey, self.calls, self.fail = hosts, obey, [], None

    def run(self, playbook, extra_vars, limit):
        self.calls.append((playbook, dict(extra_vars), list(limit)))
        if self.fail:
            raise self.fail
        name, restored = extra_vars["network_profile_name"], extra_vars.get("network_profile_state") == "restored"
        links = {"lan": [], "duress": ["first-egress"], "both": ["first-egress", "first-ingress"]}[name]
        for index, host in enumerate(limit):
            shaped = ("first-ingress" if index else "first-egress") in links and not restored
            self.hosts.active.pop(host, None)
            if shaped and self.obey:
                self.hosts.active[host] = {"profile": name, "shaper": "tc"}


def inventory(**changes):
    hosts = {
        name: HostVars(name, "ssh", data_address=f"10.0.0.{n}", data_interface="eth0")
        for n, name in enumerate(("pi1", "pi2", "gpu1"), start=1)
    } | changes
    return Inventory(Path("inventory/test.yml"), hosts, {"pi-to-pi": ("pi1", "pi2"), "pi-to-gpu": ("pi1", "gpu1")})


@pytest.fixture
def made():
    hosts = Hosts()
    plays = Plays(hosts)
    lane = ("pi-to-pi", "pi-to-gpu")
    return Network(hosts, inventory(), plays, dict.fromkeys(lane, lane)), plays, hosts


def test_an_unshaped_group_needs_no_playbook(made):
    network, plays, _ = made
    assert network.apply("pi-to-pi", LAN) == "none"
    network.close(pytest.fail)
    assert plays.calls == []


def test_what_somebody_left_behind_is_restored_for_an_unshaped_group(made):
    network, plays, hosts = made
    hosts.active["pi2"] = {"profile": "duress", "shaper": "tc"}
    assert network.apply("pi-to-pi", LAN) == "none"
    assert [limit for _, _, limit in plays.calls] == [["pi1", "pi2"]]
    assert hosts.active == {}


def test_one_playbook_per_group_and_one_to_put_back(made):
    network, plays, hosts = made
    assert network.apply("pi-to-pi", DURESS) == "tc"
    playbook, variables, limit = plays.calls[0]
    assert (playbook, limit) == ("network.yml", ["pi1", "pi2"])
    assert variables["network_profile_name"] == "duress"
    assert variables["network_profile_pipeline"] == "pi-to-pi"
    assert Path(variables["network_profile_file"]).name == "profiles.yml"
    network.close(pytest.fail)
    assert len(plays.calls) == 2
    assert hosts.active == {}


def test_another_pipeline_of_the_lane_is_restored_first(made):
    network, plays, _ = made
    network.apply("pi-to-pi", DURESS)
    network.apply("pi-to-gpu", DURESS)
    asked = [(v["network_profile_pipeline"], v.get("network_profile_state")) for _, v, _ in plays.calls]
    assert asked == [("pi-to-pi", None), ("pi-to-pi", "restored"), ("pi-to-gpu", None)]


def test_a_profile_that_did_not_take_is_never_run(made):
    network, plays, _ = made
    plays.obey = False
    with pytest.raises(CellError, match="profile duress was set, but the host is not shaped") as caught:
        network.apply("pi-to-pi", DURESS)
    assert caught.value.host == "pi1"


def test_both_directions_must_have_taken(made):
    network, _, hosts = made
    assert network.apply("pi-to-pi", BOTH) == "tc"
    assert sorted(hosts.active) == ["pi1", "pi2"]


def test_a_missing_interface_is_told_before_anything_is_touched():
    hosts = Hosts()
    plays = Plays(hosts)
    without = inventory(pi1=HostVars("pi1", "ssh", data_address="10.0.0.1", data_interface=None))
    network = Network(hosts, without, plays, {"pi-to-pi": ("pi-to-pi",)})
    with pytest.raises(CellError, match="paretopipe_data_interface is not set") as caught:
        network.apply("pi-to-pi", DURESS)
    assert (caught.value.host, plays.calls) == ("pi1", [])


def test_a_half_done_playbook_is_undone_and_a_failing_undo_is_told(made):
    network, plays, _ = made
    plays.fail = CellError("ansible", "pi2: sudo: a password is required", "pi2")
    with pytest.raises(CellError, match="sudo"):
        network.apply("pi-to-pi", DURESS)
    told = []
    network.close(told.append)
    assert plays.calls[-1][1]["network_profile_state"] == "restored"
    assert len(told) == 1
    assert "restores itself within 60 s" in told[0]


def test_leases_are_renewed_on_shaped_hosts_only_until_the_end(made, monkeypatch):
    monkeypatch.setattr(module, "_RENEW_EVERY_S", 0.02)
    network, _, hosts = made
    network.apply("pi-to-pi", DURESS)
    time.sleep(0.2)
    network.close(pytest.fail)
    assert {name for name, _ in hosts.renewed} == {"pi1"}
    assert len(hosts.renewed) > 2
    count = len(hosts.renewed)
    time.sleep(0.1)
    assert len(hosts.renewed) <= count + 1


def test_local_hosts_have_the_link_model():
    local = Inventory(Path("x.yml"), {n: HostVars(n) for n in ("edge", "server")}, {"local": ("edge", "server")})
    plays = Plays(Hosts())
    network = Network(Hosts(), local, plays, {"local": ("local",)})
    assert network.apply("local", DURESS) == "link-model"
    assert network.egress("local", 0, 2) == {"delay_s": 0.2, "jitter_s": 0.0, "rate_bit_s": 5e6, "seed": 0}
    assert network.egress("local", 1, 2) is None
    with pytest.raises(CellError, match="which the link model cannot do"):
        network.apply("local", Profile("lossy", {"first-egress": Link(loss_pct=1.0)}))
    assert plays.calls == []


def test_the_link_model_never_doubles_a_shaped_network(made):
    network, _, _ = made
    network.apply("pi-to-pi", DURESS)
    assert network.egress("pi-to-pi", 0, 2) is None
