"""A cell of the matrix, and the id it goes by in every file."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

_MAX_SLUG = 160


@dataclass(frozen=True)
class Cell:
    """model x cuts x backend x engine x profile x batch size x pipeline.

    A cut is identified by its granularity and its index there; `split` is how people call it (`P3`).
    """

    model: str
    granularity: str
    cuts: tuple[int, ...]
    split: str
    backend: str
    engine: str
    profile: str
    batch_size: int
    pipeline: str

    @property
    def id(self) -> str:
        """Readable slug and hash, safe as a file name: `mobilenet_v2-P3-socket-eager-lan-b8-local-1a2b3c4d`."""
        split = f"cut{self.split}" if self.split[0].isdigit() else self.split
        parts = [self.model, split, self.backend, self.engine, self.profile, f"b{self.batch_size}", self.pipeline]
        return f"{slug('-'.join(parts))}-{self._hash()}"

    def _hash(self) -> str:
        identity = [
            self.model,
            [[self.granularity, index] for index in self.cuts],
            self.backend,
            self.engine,
            self.profile,
            self.batch_size,
            self.pipeline,
        ]
        return hashlib.sha256(json.dumps(identity, separators=(",", ":")).encode()).hexdigest()[:8]


def slug(text: str) -> str:
    """The text with everything that a file name or a shell could trip over replaced by `_`."""
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text).lstrip(".-")[:_MAX_SLUG]
