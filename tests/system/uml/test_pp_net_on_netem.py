"""The network program against a real netem, in a guest with its own kernel."""

import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.uml.guest import DATA_INTERFACE
from tests.system.uml.testbed import STATE_DIR, Testbed, link_state, ping_ms

CONTROLLER = Path(__file__).with_name("controller.py")
LEASE_S = 3.0


@pytest.fixture(autouse=True)
def untouched(testbed: Testbed) -> Iterator[str]:
    """The first guest's link as it was, which every test leaves behind."""
    before = link_state(testbed.first)
    assert "pfifo_fast 0:" in before, "the guest does not start on its kernel's default qdisc"
    yield before
    testbed.restore(testbed.first)
    testbed.first.run(f"tc qdisc delete dev {DATA_INTERFACE} root")  # a test's own; there may be none
    assert link_state(testbed.first) == before


def test_a_kernel_with_netem_can_do_tc(testbed: Testbed) -> None:
    assert testbed.net(testbed.first, "shapers")["tc"] == {"available": True, "reason": None}


def test_restore_puts_back_qdisc_and_offloads(testbed: Testbed, untouched: str) -> None:
    assert testbed.apply("--delay 50ms")["shaper"] == "tc"
    shaped = link_state(testbed.first)
    assert "netem" in shaped
    assert "generic-segmentation-offload: off" in shaped
    assert "generic-segmentation-offload: on" in untouched
    assert testbed.net(testbed.first, "restore")["changed"] is True
    assert link_state(testbed.first) == untouched
    assert testbed.net(testbed.first, "restore")["changed"] is False


def test_check_changes_nothing(testbed: Testbed, untouched: str) -> None:
    assert testbed.apply("--delay 50ms --check")["changed"] is True
    assert link_state(testbed.first) == untouched
    assert testbed.net(testbed.first, "status")["active"] is None


def test_jitter_spreads_the_round_trips(testbed: Testbed) -> None:
    testbed.apply("--delay 40ms --jitter 20ms")
    times = ping_ms(testbed.first, testbed.second.data_address, count=150, interval_s=0.01)
    assert len(times) >= 149
    # Wide upwards: a busy machine lets the guest's timers go off late.
    assert 36 < statistics.mean(times) < 52
    assert 19 < min(times) < 28
    assert max(times) > 52
    assert statistics.stdev(times) > 7  # 11.5 for a uniform spread of 20 ms either way, next to nothing without one


def test_loss_drops_its_share_and_is_counted(testbed: Testbed) -> None:
    testbed.apply("--loss 20%")
    sent = 300
    times = ping_ms(testbed.first, testbed.second.data_address, count=sent, interval_s=0.005)
    assert 0.11 * sent < sent - len(times) < 0.29 * sent  # 20 %, four standard deviations either way
    counted = {q["kind"]: q for q in testbed.net(testbed.first, "status")["statistics"]["qdiscs"]}
    assert counted["netem"]["drops"] == sent - len(times)
    assert counted["netem"]["packets"] == len(times)
    assert counted["netem"]["bytes"] > 64 * len(times)


def test_a_configured_qdisc_comes_back(testbed: Testbed) -> None:
    testbed.first.check(
        f"tc qdisc add dev {DATA_INTERFACE} root handle 8a: fq_codel limit 777 flows 256 target 7ms interval 90ms"
    )
    configured = link_state(testbed.first)
    testbed.apply("--delay 50ms")
    assert "fq_codel" not in link_state(testbed.first)
    testbed.net(testbed.first, "restore")
    assert "fq_codel 8a: root" in configured
    assert link_state(testbed.first) == configured


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        pytest.param(
            "htb 9:",
            [
                "qdisc add dev {0} root handle 9: htb default 1",
                "class add dev {0} parent 9: classid 9:1 htb rate 1gbit",
            ],
            id="classes",
        ),
        # tc prints nothing for noecn, so what it prints would come back with ecn.
        pytest.param("fq_codel 8a:", ["qdisc add dev {0} root handle 8a: fq_codel noecn"], id="unprinted-option"),
    ],
)
def test_a_qdisc_that_cannot_come_back_is_refused(testbed: Testbed, name: str, commands: list[str]) -> None:
    testbed.first.check(" && ".join(f"tc {command.format(DATA_INTERFACE)}" for command in commands))
    configured = link_state(testbed.first)
    done = testbed.first.run(testbed.apply_command("--delay 50ms"))
    assert done.status == 1
    assert name in done.err
    assert "remove it" in done.err
    assert "Traceback" not in done.err
    assert link_state(testbed.first) == configured
    assert testbed.net(testbed.first, "status")["active"] is None


def test_a_killed_controller_leaves_a_clean_link(testbed: Testbed, untouched: str) -> None:
    applied = testbed.apply(f"--delay 200ms --rate 5mbit --lease-s {LEASE_S}")
    words = [sys.executable, CONTROLLER, sys.executable, STATE_DIR, *testbed.ssh_words(testbed.first)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as controller:
        try:
            assert controller.stdout is not None
            assert controller.stdout.readline().strip() == "renewed"
            time.sleep(LEASE_S + 1)
            status = testbed.net(testbed.first, "status")
            assert status["active"]["phase"] == "active", "not renewed: the lease ran out under a living controller"
            assert status["guard"] == {"pid": applied["guard"], "alive": True}
            assert status["lease"]["age_s"] < LEASE_S
        finally:
            controller.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    while link_state(testbed.first) != untouched:
        assert time.monotonic() - killed < LEASE_S + 4, "still shaped"
        time.sleep(0.25)
    assert time.monotonic() - killed > 1.0, "restored before the lease ran out"
    status = testbed.net(testbed.first, "status")
    assert status["active"] is None
    assert "lease was not renewed" in status["guard_log"][0]
    assert max(ping_ms(testbed.first, testbed.second.data_address)) < 50
