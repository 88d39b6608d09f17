from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def weight_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests: what one wrote, the next maps."""
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, weight_cache: Path) -> None:
    monkeypatch.setenv("PARETOPIPE_CACHE", str(weight_cache))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(7))
