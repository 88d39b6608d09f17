"""Preprocessing and segment timing."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from paretopipe_runtime.model.loading import IMAGENET_MEAN, IMAGENET_STD
from paretopipe_runtime.model.preprocess import Preprocess
from paretopipe_runtime.model.timing import time_segments


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_pixels_are_scaled_and_normalised_per_channel(photos: torch.Tensor) -> None:
    result = Preprocess(32, IMAGENET_MEAN, IMAGENET_STD)(photos)
    assert result.dtype == torch.float32
    for channel in range(3):
        expected = (photos[:, channel].double() / 255 - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        assert torch.allclose(result[:, channel].double(), expected, atol=1e-6)


def test_other_sizes_are_resized_and_the_result_is_repeatable(photos: torch.Tensor) -> None:
    preprocess = Preprocess(64, (0.0,) * 3, (1.0,) * 3)
    result = preprocess(photos)
    assert result.shape == (2, 3, 64, 64)
    assert torch.equal(result, preprocess(photos))
    assert result.min() >= 0
    assert result.max() <= 1
    flat = preprocess(torch.full((1, 3, 20, 30), 51, dtype=torch.uint8))
    assert torch.allclose(flat, torch.full((1, 3, 64, 64), 0.2))


def test_preprocess_takes_8_bit_batches_only(photos: torch.Tensor) -> None:
    preprocess = Preprocess(32, IMAGENET_MEAN, IMAGENET_STD)
    for wrong in (photos.float(), photos[0]):
        with pytest.raises(ValueError, match=r"expected uint8 \[batch, 3, height, width\], got"):
            preprocess(wrong)


class Sleep(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        return x.add_(1) if torch.is_inference_mode_enabled() else x


def test_segments_are_timed_in_turn_from_the_same_example() -> None:
    example = torch.zeros(3)
    seen: list[float] = []

    class Note(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(float(x[0]))
            return x

    passes = time_segments([Sleep(0.02), Note(), Sleep(0.001)], example, repeats=3)
    assert [len(seconds) for seconds in passes] == [3, 3, 3]
    assert all(slow > 0.02 > quick for slow, _, quick in passes)
    assert seen == [1.0, 1.0, 1.0]
    assert torch.equal(example, torch.zeros(3))
