"""Names that a spec, an inventory and the command line share. Pure; imports neither torch nor pydantic."""

from __future__ import annotations

import re

from paretopipe_runtime.transport.backends import BACKENDS

ENGINES = ("eager", "fused", "onnxruntime", "compiled", "best")
"""`best` is no engine of its own: each host's own choice (`paretopipe_engine`), by default the fastest one there."""

RPC_ROUTES = ("direct", "hub")
RPC_TRANSPORTS = ("uv", "mpt_uv")
_CHANNELS = {"uv": ("basic",), "mpt_uv": ("mpt_uv",)}

DEVICES = "cpu, cuda, cuda:1"
_DEVICE = re.compile(r"cpu|cuda(:\d{1,2})?")


def is_device(text: str) -> bool:
    """Whether a text names a device as torch does: `cpu`, `cuda`, or `cuda:` with the GPU's number."""
    return _DEVICE.fullmatch(text) is not None


def rpc_backend(route: str = "direct", transport: str = "uv") -> str:
    """The name of the rpc backend with this route and transport: `rpc`, `rpc-hub`, `rpc-mpt_uv`, `rpc-hub-mpt_uv`."""
    return next(
        backend.name
        for backend in BACKENDS.values()
        if (backend.kind, backend.route, backend.channels) == ("rpc", route, _CHANNELS[transport])
    )
