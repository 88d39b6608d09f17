"""Combinations that cannot be measured honestly are refused before any host is touched, with the ways out."""

import pytest

from paretopipe_matrix.context import new_context
from paretopipe_matrix.errors import SpecError

TWO_KINDS = """
all:
  hosts:
    edge: {ansible_connection: local}
    server: {ansible_connection: local}
    third: {ansible_connection: local}
    pi1: {ansible_connection: ssh, paretopipe_data_address: 10.0.0.1}
    pi2: {ansible_connection: ssh, paretopipe_data_address: 10.0.0.2}
  vars:
    paretopipe_pipelines: {local: [edge, server], pi-to-pi: [pi1, pi2], three: [edge, server, third]}
"""


@pytest.fixture
def refusal(place):
    (place / "inventory.yml").write_text(TWO_KINDS)

    def read(text):
        (place / "spec.yml").write_text(text)
        try:
            new_context(place / "spec.yml", {}, place / "inventory.yml", None)
        except SpecError as error:
            return str(error).replace(f"{place}/", "")
        return None

    return read


def test_rpc_under_a_shaped_profile_where_only_sockets_can_be_shaped(refusal):
    message = refusal("profiles: [lan, slow]\nbackends: [socket, rpc, rpc-mpt_uv]\n")
    first, second = message.splitlines()
    assert first.startswith("spec.yml:2: backends: rpc cannot be measured under slow on pipeline local: ")
    assert "spec.yml:2: backends: rpc-mpt_uv cannot" in second
    for way_out in ("make testbed", "inventory/virtual.yml", "profile lan", "backend socket"):
        assert way_out in first


@pytest.mark.parametrize(
    "text",
    [
        "profiles: [lan, slow]\nbackends: socket\n",
        "profiles: lan\nbackends: [socket, rpc]\n",
        "profiles: slow\nbackends: rpc\npipelines: pi-to-pi\n",
        "matrix:\n- {profiles: slow}\n- {backends: [socket, rpc]}\n",
        "backends: rpc-hub\npipelines: three\n",
    ],
)
def test_what_can_be_measured_is_not_refused(refusal, text):
    assert refusal(text) is None


def test_entries_are_looked_at_on_their_own_and_named(refusal):
    message = refusal("matrix:\n- {profiles: slow}\n- {backends: rpc}\n- profiles: slow\n  backends: rpc\n")
    assert message.startswith("spec.yml:5: backends: rpc cannot")
    assert len(message.splitlines()) == 1


def test_the_link_model_has_one_connection_per_hop(refusal):
    message = refusal("profiles: [lan, slow]\nstreams: 4\n")
    assert message.startswith("spec.yml:2: streams: 4 cannot be measured under slow on pipeline local")
    assert len(message.splitlines()) == 1
    assert refusal("profiles: slow\nstreams: 1\n") is None
    assert refusal("profiles: slow\nstreams: 4\npipelines: pi-to-pi\n") is None


def test_a_hub_needs_three_hosts(refusal):
    message = refusal("backends: rpc-hub\npipelines: [three, pi-to-pi]\n")
    assert message.startswith("spec.yml:1: backends: rpc-hub on pipeline pi-to-pi of two hosts is the same")
    assert "split such as 0+P3" in message
    assert len(message.splitlines()) == 1
