"""What is read of the state before, so that it can be put back."""

import pytest

from paretopipe_runtime.network import saved_qdisc
from paretopipe_runtime.network.commands import CommandError
from paretopipe_runtime.network.errors import NetworkError
from paretopipe_runtime.network.links import Interface
from paretopipe_runtime.network.offloads import parse_features
from paretopipe_runtime.network.saved_qdisc import rebuild_candidates, save

CARD = Interface("eth0", "02:00:00:00:00:01", 1500, "ether", 1000)
FEATURES = """\
Features for eth0:
rx-checksumming: on
tx-checksumming: on
	tx-checksum-ipv4: off [fixed]
scatter-gather: on
	tx-scatter-gather: on
tcp-segmentation-offload: on
	tx-tcp-segmentation: on
	tx-tcp-ecn-segmentation: off [requested on]
	tx-tcp6-segmentation: on [fixed]
generic-segmentation-offload: on
generic-receive-offload: off
large-receive-offload: off [fixed]
"""
FQ_CODEL = "qdisc fq_codel 77: root refcnt 2 limit 2000p flows 1024 target 7ms memory_limit 32Mb ecn drop_batch 64 \n"


def test_the_offloads_that_matter_are_read_one_by_one():
    assert parse_features(FEATURES) == {
        "tx-tcp-segmentation": (True, False),
        "tx-tcp-ecn-segmentation": (False, False),
        "tx-tcp6-segmentation": (True, True),
        "gso": (True, False),
        "gro": (False, False),
    }


def test_an_interface_without_offloads_has_none():
    assert parse_features("Features for wg0:\n") == {}


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that shows `qdiscs` and `text`, and whose loopback shows `again` for whatever is tried."""

    class Kernel:
        qdiscs = ({"kind": "fq_codel", "handle": "77:", "root": True},)
        text = FQ_CODEL
        classes = ""
        again = staticmethod(lambda _arguments: FQ_CODEL)

    def run(args):
        return Kernel.text if args[1] == "qdisc" else Kernel.classes

    monkeypatch.setattr(saved_qdisc, "show", lambda _name: list(Kernel.qdiscs))
    monkeypatch.setattr(saved_qdisc, "run", run)
    monkeypatch.setattr(saved_qdisc, "run_elsewhere", lambda commands: Kernel.again(commands[1][5:]))
    return Kernel


def test_kernel_defaults_come_back_by_themselves(kernel):
    kernel.qdiscs = (
        {"kind": "mq", "handle": "0:", "root": True},
        {"kind": "fq_codel", "handle": "0:", "parent": ":1"},
        {"kind": "ingress", "handle": "ffff:", "parent": "ffff:fff1"},
    )
    assert save(CARD) is None


def test_a_configured_qdisc_is_rebuilt_letter_for_letter(kernel):
    wanted = "root handle 77: fq_codel limit 2000 flows 1024 target 7ms memory_limit 32Mb ecn drop_batch 64"
    assert " ".join(save(CARD)) == wanted


def test_the_second_way_is_tried_when_tc_does_not_read_its_units(kernel):
    kernel.text = "qdisc sfq 77: root refcnt 2 limit 127p quantum 1514b perturb 10sec \n"

    def again(arguments):
        if "10sec" in arguments:
            raise CommandError(["tc"], 'Illegal "perturb"')
        return kernel.text

    kernel.again = again
    assert " ".join(save(CARD)) == "root handle 77: sfq limit 127 quantum 1514 perturb 10"
    assert [c[-1] for c in rebuild_candidates(kernel.text.replace(" refcnt 2", ""))] == ["10sec", "10"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"again": staticmethod(lambda _: FQ_CODEL.replace("ecn ", ""))}, "cannot be put back exactly"),
        ({"classes": "class htb 77:1 root"}, "has classes or children"),
        (
            {"qdiscs": ({"kind": "mq", "handle": "0:", "root": True}, {"kind": "fq", "handle": "8:", "parent": ":1"})},
            "has classes or children",
        ),
        ({"qdiscs": ({"kind": "htb", "handle": "5050:", "root": True},)}, "another --state-dir"),
    ],
)
def test_what_would_not_come_back_is_not_touched(kernel, changes, words):
    for name, value in changes.items():
        setattr(kernel, name, value)
    with pytest.raises(NetworkError, match=words) as error:
        save(CARD)
    assert "eth0" in str(error.value)
