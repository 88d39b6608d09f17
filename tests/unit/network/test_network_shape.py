import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_runtime.network.shape import QUEUE_PACKETS, QUEUE_S, UNLIMITED_BIT_S, Shape

MTU = 1500


def shape(**changes):
    values = {"interface": "data0", "profile": "p", "peers": ("10.0.0.2",), "delay_s": 0.2, "rate_bit_s": 5e6}
    return Shape(**(values | changes))


def test_limit_of_the_papers_profile():
    # 1.5 x 125 kB on the way, and 1 s of 5 Mbit/s = 625 kB, which is more than 100 packets.
    assert shape().queue_limit_bytes(MTU) == 187_500 + 625_000
    assert shape().queue_limit_packets(MTU) == 542


def test_a_slow_link_has_the_least_queue():
    assert shape(rate_bit_s=1e5, delay_s=0.0).queue_limit_packets(MTU) == QUEUE_PACKETS


def test_without_a_rate_a_fast_link_fits():
    limit = shape(rate_bit_s=None).queue_limit_bytes(MTU)
    assert limit == pytest.approx(1.5 * UNLIMITED_BIT_S * 0.2 / 8 + QUEUE_PACKETS * MTU)


@given(st.floats(1e3, 1e10), st.floats(0, 2), st.integers(576, 9000))
def test_nothing_that_only_travels_is_dropped(rate, delay, mtu):
    limit = shape(rate_bit_s=rate, delay_s=delay).queue_limit_packets(mtu)
    on_the_way_packets = rate * delay / 8 / mtu
    assert limit >= 1.5 * on_the_way_packets + max(QUEUE_PACKETS, QUEUE_S * rate / 8 / mtu) - 1


def test_jitter_needs_room_too():
    assert shape(jitter_s=0.1).queue_limit_bytes(MTU) > shape().queue_limit_bytes(MTU)


def test_equal_whatever_the_order_and_spelling_of_the_peers():
    assert shape(peers=("FD00::2", "10.0.0.2", "fd00:0::2")) == shape(peers=("10.0.0.2", "fd00::2"))


def test_json_round_trip():
    asked = shape(jitter_s=0.01, loss_pct=0.5, lease_s=30.0, lease_owner="pi", shaper="tc")
    assert Shape.from_json(json.loads(json.dumps(asked.as_json()))) == asked


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peers": ()}, "at least one peer"),
        ({"peers": ("pi2",)}, "'pi2' is not an IP address"),
        ({"peers": ("224.0.0.1",)}, "cannot be a peer"),
        ({"peers": ("127.0.0.1",)}, "cannot be a peer"),
        ({"peers": ("fe80::1",)}, "cannot be a peer"),
        ({"delay_s": 0.0, "rate_bit_s": None}, "nothing to impose"),
        ({"jitter_s": 0.3}, "jitter is larger than the delay"),
        ({"lease_s": 0}, "longer than zero"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        shape(**changes)
