"""The network playbook on guests whose kernels have netem: what it imposes, what it leaves alone, what it puts back."""

import statistics
import threading
from collections.abc import Iterator

import pytest

from tests.system.uml.guest import BYSTANDER_ADDRESS, CONTROLLER_ADDRESS
from tests.system.uml.testbed import (
    Testbed,
    bandwidth_bit_s,
    bystander_bandwidth_bit_s,
    link_state,
    ping_ms,
    ssh_echo_ms,
)

DURESS = "duress-200ms-5mbit"


@pytest.fixture(scope="module")
def untouched(testbed: Testbed) -> Iterator[dict[str, str]]:
    """Both guests' links before anything was shaped, and after."""
    before = {guest.name: link_state(guest) for guest in (testbed.first, testbed.second)}
    yield before
    for guest in (testbed.first, testbed.second):
        testbed.restore(guest)
    assert {guest.name: link_state(guest) for guest in (testbed.first, testbed.second)} == before


@pytest.fixture(scope="class")
def duress(testbed: Testbed) -> None:
    """The paper's profile: 200 ms and 5 Mbit/s on the first host's egress. It stays until the next profile is set."""
    play = testbed.play(DURESS)
    assert play.status == 0, play.output
    assert play.changed == {"uml1": 1, "uml2": 0}, play.output


@pytest.mark.usefixtures("duress")
class TestOneDirection:
    def test_only_the_first_host_is_shaped_and_by_tc(self, testbed: Testbed, untouched: dict[str, str]) -> None:
        active = testbed.net(testbed.first, "status")["active"]
        assert active["shaper"] == "tc"
        assert active["profile"] == DURESS
        assert active["peers"] == [testbed.second.data_address]
        assert testbed.net(testbed.second, "status")["active"] is None
        assert link_state(testbed.second) == untouched["uml2"]

    def test_round_trip_is_200_ms(self, testbed: Testbed) -> None:
        there = ping_ms(testbed.first, testbed.second.data_address)
        back = ping_ms(testbed.second, testbed.first.data_address)
        assert len(there) == len(back) == 5
        assert statistics.median(there) == pytest.approx(200, rel=0.02)
        assert statistics.median(back) == pytest.approx(200, rel=0.02)

    def test_receiver_gets_5_mbit_s_while_ssh_stays_fast(self, testbed: Testbed) -> None:
        # The commands run on one ssh connection; its round trips are taken while the shaped link is full.
        measured: list[float] = []
        load = threading.Thread(
            target=lambda: measured.append(bandwidth_bit_s(testbed.first, testbed.second, nbytes=2_500_000))
        )
        load.start()
        try:
            echo_ms = ssh_echo_ms(testbed.first, count=50)
            control_ms = ping_ms(testbed.first, CONTROLLER_ADDRESS)
            busy = load.is_alive()
        finally:
            load.join()
        assert busy, "the link was no longer full when ssh was timed"
        assert measured[0] == pytest.approx(5e6, rel=0.1)
        assert echo_ms < 20
        assert len(control_ms) == 5
        assert statistics.median(control_ms) < 20

    def test_the_other_direction_keeps_its_bandwidth(self, testbed: Testbed) -> None:
        assert bandwidth_bit_s(testbed.second, testbed.first, nbytes=8_000_000) > 25e6

    def test_a_host_that_is_no_peer_is_not_shaped(self, testbed: Testbed) -> None:
        times = ping_ms(testbed.first, BYSTANDER_ADDRESS)
        assert len(times) == 5
        assert statistics.median(times) < 20
        assert bystander_bandwidth_bit_s(testbed.first, nbytes=20_000_000) > 50e6

    def test_what_was_sent_is_counted(self, testbed: Testbed) -> None:
        def netem() -> dict[str, int]:
            qdiscs = testbed.net(testbed.first, "status")["statistics"]["qdiscs"]
            return next(q for q in qdiscs if q["kind"] == "netem")

        before = netem()
        bandwidth_bit_s(testbed.first, testbed.second, nbytes=300_000)
        after = netem()
        assert 300_000 < after["bytes"] - before["bytes"] < 360_000
        assert after["packets"] - before["packets"] > 300_000 / 1500
        assert after["drops"] >= before["drops"] >= 0

    def test_a_second_run_changes_nothing(self, testbed: Testbed) -> None:
        before = testbed.net(testbed.first, "status"), link_state(testbed.first)
        play = testbed.play(DURESS)
        assert play.status == 0, play.output
        assert play.changed == {"uml1": 0, "uml2": 0}, play.output
        after = testbed.net(testbed.first, "status"), link_state(testbed.first)
        assert after[1] == before[1]
        assert after[0]["active"] == before[0]["active"]
        assert after[0]["guard"]["alive"] is True


class TestBothDirections:
    """A profile with links both ways, which takes the place of the one before it."""

    def test_each_host_imposes_its_half_and_lan_restores_both(
        self, testbed: Testbed, untouched: dict[str, str]
    ) -> None:
        play = testbed.play("both-30ms-20mbit")
        assert play.status == 0, play.output
        assert play.changed == {"uml1": 1, "uml2": 1}, play.output
        times = ping_ms(testbed.first, testbed.second.data_address)
        assert len(times) == 5
        assert statistics.median(times) == pytest.approx(60, rel=0.05)
        for sender, receiver in ((testbed.first, testbed.second), (testbed.second, testbed.first)):
            assert bandwidth_bit_s(sender, receiver, nbytes=3_000_000) == pytest.approx(20e6, rel=0.1)
        play = testbed.play("lan")
        assert play.status == 0, play.output
        assert play.changed == {"uml1": 1, "uml2": 1}, play.output
        assert {guest.name: link_state(guest) for guest in (testbed.first, testbed.second)} == untouched


def test_check_mode_changes_nothing(testbed: Testbed, untouched: dict[str, str]) -> None:
    play = testbed.play(DURESS, "--check")
    assert play.status == 0, play.output
    assert play.changed == {"uml1": 1, "uml2": 0}, play.output
    assert link_state(testbed.first) == untouched["uml1"]
    assert testbed.net(testbed.first, "status")["active"] is None
