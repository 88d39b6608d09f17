from __future__ import annotations

from pathlib import Path

import pytest
from own_process import Run, runner

from paretopipe_runtime.allocator import building


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return building.library({"PARETOPIPE_CACHE": str(tmp_path_factory.mktemp("cache"))})


@pytest.fixture(scope="session")
def run_with_pages(library: Path) -> Run:
    return runner(library)
