"""A batch of images as JPEG, for cut 0: what a camera host with a hardware encoder would send."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.io import decode_jpeg, encode_jpeg

QUALITY = 90
_LENGTH_BYTES = 8


class JpegEncode(nn.Module):
    """uint8 `[batch, 3, height, width]` -> uint8 `[bytes]`: the lengths as int64, then the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode every image of the batch at quality 90."""
        encoded = [encode_jpeg(image, quality=QUALITY) for image in images]
        lengths = torch.tensor([len(item) for item in encoded], dtype=torch.int64)
        return torch.cat([lengths.view(torch.uint8), *encoded])


class JpegDecode(nn.Module):
    """The inverse of `JpegEncode` for a known batch size."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size

    def forward(self, packed: torch.Tensor) -> torch.Tensor:
        """Decode to uint8 `[batch, 3, height, width]`. Raises RuntimeError if the bytes are not such a batch."""
        head = self.batch_size * _LENGTH_BYTES
        lengths = packed[:head].clone().view(torch.int64).tolist()
        if any(length <= 0 for length in lengths) or head + sum(lengths) != len(packed):
            raise RuntimeError(f"{len(packed)} B are not a batch of {self.batch_size} JPEG images")
        parts = torch.split(packed[head:], lengths)
        return torch.stack([decode_jpeg(part) for part in parts])


def worst_case_bytes(batch_size: int, height: int, width: int) -> int:
    """A bound on the encoded size that noise at quality 90 does not reach: the raw size twice, plus headers."""
    return batch_size * (2 * 3 * height * width + 4096 + _LENGTH_BYTES)
