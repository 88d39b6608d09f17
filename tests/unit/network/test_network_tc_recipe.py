"""tc's commands, against answers recorded from kernel 6.1 with iproute2 6.1."""

import copy

import pytest

from paretopipe_runtime.network.shape import Shape
from paretopipe_runtime.network.tc_recipe import filter_commands, mismatches, netem_command, shape_commands

SHAPE = Shape("data0", "p", ("10.79.1.2", "fd79::2"), 0.2, 0.005, 0.5, 5e6)
QDISCS = [
    {
        "kind": "htb",
        "handle": "5050:",
        "root": True,
        "refcnt": 2,
        "options": {"r2q": 10, "default": "0", "direct_packets_stat": 0, "direct_qlen": 1000},
    },
    {
        "kind": "netem",
        "handle": "5051:",
        "parent": "5050:1",
        "options": {
            "limit": 545,
            "delay": {"delay": 0.2, "jitter": 0.005, "correlation": 0},
            "loss-random": {"loss": 0.005, "correlation": 0},
            "rate": {"rate": 625000, "packetoverhead": 0, "cellsize": 0, "celloverhead": 0},
            "ecn": False,
            "gap": 0,
        },
    },
]
FILTERS = """\
filter protocol ip pref 5050 u32 chain 0
filter protocol ip pref 5050 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 *flowid 5050:1 not_in_hw
  match 0a4f0102/ffffffff at 16
filter protocol ipv6 pref 5051 u32 chain 0 fh 801::800 order 2048 key ht 801 bkt 0 *flowid 5050:1 not_in_hw
  match fd790000/ffffffff at 24
  match 00000000/ffffffff at 28
  match 00000000/ffffffff at 32
  match 00000002/ffffffff at 36
"""


def test_the_papers_profile():
    shape = Shape("eth0", "duress", ("10.0.0.2",), delay_s=0.2, rate_bit_s=5e6)
    assert [" ".join(command) for command in shape_commands("eth0", shape, 1500)] == [
        "tc qdisc add dev eth0 root handle 5050: htb default 0",
        "tc class add dev eth0 parent 5050: classid 5050:1 htb rate 100gbit ceil 100gbit burst 1mb cburst 1mb"
        " quantum 60000",
        "tc qdisc add dev eth0 parent 5050:1 handle 5051: netem limit 542 delay 200000us rate 5000000bit",
        "tc filter add dev eth0 parent 5050: protocol ip prio 5050 u32 match ip dst 10.0.0.2/32 flowid 5050:1",
    ]


def test_every_impairment():
    assert " ".join(netem_command("data0", SHAPE, 1500)).endswith(
        "netem limit 545 delay 200000us 5000us loss random 0.5% rate 5000000bit"
    )


def test_jitter_without_a_rate_keeps_packets_in_order():
    jittery = Shape("data0", "p", ("10.0.0.2",), 0.02, 0.005)
    assert netem_command("data0", jittery, 1500)[-2:] == ["rate", "100000000000bit"]
    steady = Shape("data0", "p", ("10.0.0.2",), 0.02)
    assert "rate" not in netem_command("data0", steady, 1500)


def test_a_filter_for_each_peer_of_either_family():
    first, second = (" ".join(command) for command in filter_commands("data0", SHAPE))
    assert "protocol ip prio 5050 u32 match ip dst 10.79.1.2/32 flowid 5050:1" in first
    assert "protocol ipv6 prio 5051 u32 match ip6 dst fd79::2/128 flowid 5050:1" in second


def test_what_the_kernel_shows_is_what_was_asked():
    assert mismatches(SHAPE, 1500, QDISCS, FILTERS) == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("delay", "delay"), 0.02, "delay in s: asked 0.2, the kernel has 0.02"),
        (("delay", "jitter"), 0.0, "jitter"),
        (("loss-random", "loss"), 0.05, "loss in %: asked 0.5, the kernel has 5"),
        (("rate", "rate"), 5_000_000, "rate in bytes/s: asked 625000, the kernel has 5e+06"),
        (("limit",), 1000, "limit in packets"),
        (("delay",), {}, "delay in s"),
        (("rate", "rate"), None, "the kernel has nan"),
    ],
)
def test_a_difference_is_told(path, value, words):
    qdiscs = copy.deepcopy(QDISCS)
    inner = qdiscs[1]["options"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert words in "; ".join(mismatches(SHAPE, 1500, qdiscs, FILTERS))


def test_what_is_missing_is_told():
    assert mismatches(SHAPE, 1500, [], "") == ["no htb 5050: at the root"]
    assert mismatches(SHAPE, 1500, QDISCS[:1], FILTERS) == ["no netem 5051: below 5050:1"]
    foreign = [QDISCS[0] | {"handle": "1:"}, QDISCS[1]]
    assert mismatches(SHAPE, 1500, foreign, FILTERS) == ["no htb 5050: at the root"]
    assert mismatches(SHAPE, 1500, QDISCS, FILTERS.replace("0a4f0102", "0a4f0103")) == ["no filter for 10.79.1.2"]
    assert mismatches(SHAPE, 1500, QDISCS, FILTERS.replace("00000002/", "00000003/")) == ["no filter for fd79::2"]
