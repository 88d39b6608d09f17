"""A batch of images as JPEG, for cut 0: what a camera host with a hardware encoder would send."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import nn

QUALITY = 90
_LENGTH_BYTES = 8


class JpegEncode(nn.Module):
    """uint8 `[batch, 3, height, width]` -> uint8 `[bytes]`: the lengths as int64, then the images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Encode every image of the batch at quality 90."""
        encoded = [_encode(image) for image in images]
        lengths = np.array([len(item) for item in encoded], dtype=np.int64)
        return torch.frombuffer(bytearray(lengths.tobytes() + b"".join(encoded)), dtype=torch.uint8)


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
        return torch.stack([_decode(part) for part in parts])


def _encode(image: torch.Tensor) -> bytes:
    file = BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _decode(part: torch.Tensor) -> torch.Tensor:
    try:
        with Image.open(BytesIO(part.numpy().tobytes()), formats=("JPEG",)) as image:
            pixels = np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise RuntimeError(f"a received image is not JPEG: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def worst_case_bytes(batch_size: int, height: int, width: int) -> int:
    """A bound on the encoded size that noise at quality 90 does not reach: the raw size twice, plus headers."""
    return batch_size * (2 * 3 * height * width + 4096 + _LENGTH_BYTES)
