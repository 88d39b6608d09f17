"""wirefilter's commands, against answers recorded from vde2 2.3.2."""

from pathlib import Path

import pytest

from paretopipe_runtime.network.shape import Shape
from paretopipe_runtime.network.wire_process import counters
from paretopipe_runtime.network.wire_recipe import (
    filter_command,
    info_mismatches,
    link_commands,
    parse_info,
    peer_commands,
)

SHAPE = Shape("data0", "p", ("10.79.1.2",), 0.2, 0.005, 0.5, 10e6)
INFO = """\
0000 DATA END WITH '.'
WireFilter: monodirectional
Loss   0.5+0U
Lburst 0+0U
Delay  200+5U
Dup    0+0U
Bandw  1.25e+06+0U
Speed  0+0U
Noise  0+0U
MTU    0
Cap.   1634375+0U
Current Delay Queue size:   0
Fifoness TRUE
Waiting packets in delay queues 0
.
1000 Success
"""


def test_one_wire_in_its_own_units():
    assert filter_command(SHAPE, 1500, Path("/s"))[-8:] == [
        "-d",
        "200+5",
        "-l",
        "0.5",
        "-b",
        "1250000",
        "-c",
        "1634375",
    ]


def test_what_is_not_asked_is_not_imposed():
    command = filter_command(Shape("data0", "p", ("10.79.1.2",), delay_s=0.0005), 1500, Path("/s"))
    assert command[command.index("-d") + 1] == "0.5"
    assert not {"-l", "-b"} & set(command)


def test_its_own_account_is_read():
    assert parse_info(INFO)["Bandw"] == (1.25e6, 0.0)
    assert parse_info(INFO)["Delay"] == (200.0, 5.0)
    assert info_mismatches(SHAPE, 1500, INFO) == []


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("200+5U", "20+5U", "Delay"),
        ("200+5U", "200+0U", "Delay"),
        ("0.5+0U", "0+0U", "Loss"),
        ("1.25e+06", "625000", "Bandw"),
        ("1634375", "0", "Cap"),
        ("Cap.   1634375+0U\n", "", "Cap"),
    ],
)
def test_a_difference_is_told(old, new, name):
    assert f"wirefilter's {name}: asked" in "; ".join(info_mismatches(SHAPE, 1500, INFO.replace(old, new)))


def test_links_come_up_last_and_lead_to_the_data_interface():
    commands = [" ".join(command) for command in link_commands("02:00:00:00:00:01", 1400, "data0")]
    assert commands[0] == "ip link set ppw0 address 02:00:00:00:00:01"
    assert "ip link set ppw1 mtu 1400 addrgenmode none" in commands
    up = commands.index("ip link set ppw0 up")
    assert up > commands.index("tc qdisc add dev ppw1 ingress")
    assert commands[-1].endswith("match u32 0 0 action mirred egress redirect dev data0")


@pytest.mark.parametrize(("address", "version", "bits"), [("10.0.0.2", "-4", 32), ("fd00::2", "-6", 128)])
def test_only_the_peer_is_led_into_the_wire(address, version, bits):
    commands = peer_commands({"address": address, "mac": "02:00:00:00:00:02", "source": "SRC"})
    assert [" ".join(command) for command in commands] == [
        f"ip {version} neigh replace {address} lladdr 02:00:00:00:00:02 dev ppw0 nud permanent",
        f"ip {version} route add {address}/{bits} dev ppw0 src SRC",
    ]


def test_counters_tell_what_the_wire_kept():
    def link(name, tx, rx):
        zero = {"bytes": 0, "dropped": 0, "errors": 0}
        return {"ifname": name, "stats64": {"tx": zero | {"packets": tx}, "rx": zero | {"packets": rx}}}

    told = counters([link("lo", 7, 7), link("ppw0", 100, 3), link("ppw1", 4, 90)])
    assert (told["entry"]["packets"], told["exit"]["packets"], told["missing_packets"]) == (100, 90, 10)
    assert counters([link("lo", 7, 7)])["missing_packets"] is None
