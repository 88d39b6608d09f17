"""How many TCP connections a hop of the socket backend is spread over, where the spec leaves it open. Pure."""

from __future__ import annotations

from typing import Literal

from paretopipe_matrix.testbed import Profile

DELAYED_STREAMS = 8
"""On a path with an added delay. Activations of up to 104 kB (8 initial windows) then cross it in one round trip also
after an idle time; larger ones take one of the connections (`paretopipe_runtime.transport.streams`)."""


def streams_of(asked: Literal["auto"] | int, profile: Profile, *, modelled: bool) -> int:
    """Connections per hop. `modelled`: the link model in the sockets stands in for the network.

    A TCP connection starts slowly again after an idle time on a path with a long round trip; several share that
    (RFC 5681, section 4.1). The link model delays what is sent and leaves TCP alone, so there one is enough.
    """
    if asked != "auto":
        return asked
    return DELAYED_STREAMS if profile.added_rtt_s > 0 and not modelled else 1
