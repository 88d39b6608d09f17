"""From a batch of 8-bit images to a model's input."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


class Preprocess(nn.Module):
    """uint8 `[batch, 3, height, width]` -> float32 `[batch, 3, size, size]`, scaled to 0..1 and normalised per channel.

    Images of another height or width are resized first (bilinear, antialiased, aspect ratio not kept).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Raises `ValueError` for anything but a batch of 8-bit images."""
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise ValueError(f"expected uint8 [batch, 3, height, width], got {images.dtype} {list(images.shape)}")
        pixels = images.to(torch.float32) / 255.0
        if pixels.shape[-2:] != (self.size, self.size):
            pixels = functional.interpolate(
                pixels, size=(self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        return (pixels - self.mean) / self.std
