"""What is asked for: one impairment of the traffic from this host's data interface to named peers."""

from __future__ import annotations

import ipaddress
import math
from dataclasses import asdict, dataclass
from typing import Any

JsonObject = dict[str, Any]

UNLIMITED_BIT_S = 10e9
"""Where a profile sets no rate, room is kept for what a link of this rate has on the way."""
QUEUE_S = 1.0
"""Queue of the bottleneck beyond what is on the way, as time at its rate: long enough that slow start loses nothing."""
QUEUE_PACKETS = 100
"""The least queue, in full-size packets."""


@dataclass(frozen=True)
class Shape:
    """One request to shape; two equal ones impose the same and are guarded the same."""

    interface: str
    profile: str
    peers: tuple[str, ...]
    """Addresses (IPv4 or IPv6) towards which traffic is impaired; all other traffic passes as it is."""
    delay_s: float = 0.0
    jitter_s: float = 0.0
    """Uniform, plus or minus, around the delay."""
    loss_pct: float = 0.0
    rate_bit_s: float | None = None
    shaper: str = "auto"
    lease_s: float = 60.0
    lease_owner: str = "root"

    def __post_init__(self) -> None:
        """Normalise the peers; raises ValueError for an impairment or a peer that makes no sense."""
        object.__setattr__(self, "peers", tuple(sorted({_peer(text) for text in self.peers})))
        if not self.peers:
            raise ValueError("name at least one peer; only traffic to peers is shaped")
        if not (self.delay_s or self.jitter_s or self.loss_pct or self.rate_bit_s):
            raise ValueError("nothing to impose: give a delay, jitter, loss or rate, or use restore")
        if self.jitter_s > self.delay_s:
            raise ValueError("the jitter is larger than the delay; a packet cannot arrive before it was sent")
        if self.lease_s <= 0:
            raise ValueError("a lease must last longer than zero seconds")

    def queue_limit_bytes(self, mtu: int) -> int:
        """Room for packets in the shaper, in bytes: 1.5 times what is on the way, plus the bottleneck's queue.

        A shaper keeps delayed packets and queued ones in one place, so a limit without the bandwidth-delay product
        would drop packets that merely travel (tc-netem(8): `limit`).
        """
        rate = self.rate_bit_s or UNLIMITED_BIT_S
        on_the_way = 1.5 * rate * (self.delay_s + self.jitter_s) / 8
        queue = max(QUEUE_PACKETS * mtu, QUEUE_S * self.rate_bit_s / 8 if self.rate_bit_s else 0.0)
        return math.ceil(on_the_way + queue)

    def queue_limit_packets(self, mtu: int) -> int:
        """The same in packets of `mtu` bytes."""
        return math.ceil(self.queue_limit_bytes(mtu) / mtu)

    def as_json(self) -> JsonObject:
        """As the state file keeps it."""
        return asdict(self) | {"peers": list(self.peers)}

    @classmethod
    def from_json(cls, data: JsonObject) -> Shape:
        """The inverse of `as_json`."""
        return cls(**(data | {"peers": tuple(data["peers"])}))


def _peer(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IP address; a peer is its data address, such as 10.0.0.2") from error
    if address.is_multicast or address.is_unspecified or address.is_link_local or address.is_loopback:
        raise ValueError(f"{text} cannot be a peer; name the data address of another host")
    return str(address)


def family(address: str) -> int:
    """4 or 6."""
    return ipaddress.ip_address(address).version
