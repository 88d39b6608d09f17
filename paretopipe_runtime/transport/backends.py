"""The backends by name: what carries activations, over which connections, along which route. Pure; imports no torch.

`socket` is this project's own. `rpc` is torch.distributed.rpc over TensorPipe's plain TCP (`uv` transport, `basic`
channel); `rpc-mpt_uv` spreads every tensor over 16 TCP connections (`mpt_uv` channel), as TensorPipe does by default
between two machines. With `-hub` every activation goes through the driver's host, as in the reference paper.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    """One backend. `channels` are TensorPipe's, empty for sockets; its shared-memory transports are never offered,
    because they pass by the network that is being measured."""

    name: str
    kind: str
    """`socket` or `rpc`."""
    transports: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    route: str = "direct"
    """`direct`: from stage to stage; `hub`: through the first host of the pipeline."""

    def as_json(self) -> dict[str, Any]:
        """The part of a record's `transport` that the name stands for."""
        return asdict(self) | {"transports": list(self.transports), "channels": list(self.channels)}


_UV = ("uv",)
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("socket", "socket"),
        Backend("rpc", "rpc", _UV, ("basic",)),
        Backend("rpc-mpt_uv", "rpc", _UV, ("mpt_uv",)),
        Backend("rpc-hub", "rpc", _UV, ("basic",), "hub"),
        Backend("rpc-hub-mpt_uv", "rpc", _UV, ("mpt_uv",), "hub"),
    )
}
