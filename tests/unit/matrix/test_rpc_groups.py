"""RPC groups: kept from cell to cell, never mixed, and gone with the workers after a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from paretopipe_matrix.hosts.rpc_groups import RpcGroups
from paretopipe_matrix.testbed import CellError, JsonObject


class Hosts:
    """Notes what is asked; `refuses` operations that fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.refuses: set[str] = set()

    def _ask(self, operation: str, hosts: Sequence[str]) -> None:
        self.asked.append((operation, tuple(hosts)))
        if operation in self.refuses:
            raise CellError("timeout", "no answer")

    def together(self, operation: str, params: Mapping[str, JsonObject], timeout_s: float) -> None:
        assert timeout_s <= 30, "bounded"
        self._ask(operation, list(params))

    def restart(self, hosts: Sequence[str]) -> None:
        self._ask("restart", hosts)


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def groups(hosts: Hosts) -> RpcGroups:
    return RpcGroups(hosts)


def test_a_group_is_kept_as_long_as_nothing_changes(groups: RpcGroups, hosts: Hosts) -> None:
    first = groups.token("p", ["a", "b"], "rpc")
    assert groups.token("p", ["a", "b"], "rpc") == first
    assert hosts.asked == []


@pytest.mark.parametrize(
    ("pipeline", "members", "backend"),
    [("p", ["a", "b"], "rpc-mpt_uv"), ("p", ["a"], "rpc"), ("q", ["a", "b"], "rpc"), ("p", ["b", "a"], "rpc")],
)
def test_a_host_is_in_one_group_and_leaves_it_with_all_others(
    groups: RpcGroups, hosts: Hosts, pipeline: str, members: list[str], backend: str
) -> None:
    first = groups.token("p", ["a", "b"], "rpc")
    other = groups.token(pipeline, members, backend)
    again = groups.token("p", ["a", "b"], "rpc")
    assert len({first, other, again}) == 3, "a token is never used again"
    assert hosts.asked[0] == ("close_rpc", ("a", "b"))


def test_groups_of_disjoint_hosts_live_side_by_side(groups: RpcGroups, hosts: Hosts) -> None:
    first = groups.token("p", ["a", "b"], "rpc")
    groups.token("q", ["c", "d"], "rpc")
    assert groups.token("p", ["a", "b"], "rpc") == first
    groups.leave(["c"])
    assert hosts.asked == [("close_rpc", ("c", "d"))]
    assert groups.token("p", ["a", "b"], "rpc") == first


def test_leaving_nothing_asks_nobody(groups: RpcGroups, hosts: Hosts) -> None:
    groups.leave(["a", "b"])
    groups.close()
    assert hosts.asked == []


def test_after_a_failure_all_hosts_concerned_get_new_workers(groups: RpcGroups, hosts: Hosts) -> None:
    first = groups.token("p", ["a", "b"], "rpc")
    groups.replace(["a", "b", "c"])
    assert hosts.asked == [("restart", ("a", "b", "c"))]
    assert groups.token("p", ["a", "b"], "rpc") != first


def test_a_group_that_cannot_be_ended_goes_with_its_workers(groups: RpcGroups, hosts: Hosts) -> None:
    hosts.refuses = {"close_rpc", "restart"}
    groups.token("p", ["a", "b"], "rpc")
    groups.leave(["a"])
    assert hosts.asked == [("close_rpc", ("a", "b")), ("restart", ("a", "b"))]


def test_closing_ends_all_groups_and_starts_no_worker(groups: RpcGroups, hosts: Hosts) -> None:
    groups.token("p", ["a", "b"], "rpc")
    hosts.refuses = {"close_rpc"}
    groups.close()
    assert hosts.asked == [("close_rpc", ("a", "b"))]
