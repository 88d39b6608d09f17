"""Who may import whom, and where torch is allowed. Read from the source, so nothing has to be imported."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = ("paretopipe_runtime", "paretopipe_matrix", "analysis")
MAY_IMPORT = {
    "paretopipe_runtime": {"paretopipe_runtime"},
    "paretopipe_matrix": {"paretopipe_matrix", "paretopipe_runtime"},
    "analysis": {"analysis", "paretopipe_runtime"},
}
TENSOR_ROOMS = ("paretopipe_runtime/model/", "paretopipe_runtime/transport/", "paretopipe_runtime/pipeline/")
TENSOR_FILES = (
    "paretopipe_runtime/host/models.py",
    "paretopipe_runtime/host/operations.py",
    "paretopipe_runtime/host/cell.py",
    "paretopipe_runtime/host/worker.py",
)
SOURCES = [path for package in OURS for path in sorted((ROOT / package).rglob("*.py"))]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


def used(path: Path) -> set[str]:
    """Attributes of imported modules, as `module.attribute`."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    package = relative.split("/")[0]
    found = imported(path)
    assert found & set(OURS) <= MAY_IMPORT[package]
    if not relative.startswith(TENSOR_ROOMS) and relative not in TENSOR_FILES:
        assert not found & {"torch", "torchvision"}, f"{relative} imports torch"
    assert not {"pickle.load", "pickle.loads", "pickle.Unpickler"} & used(path), f"{relative} reads a pickle"


@pytest.mark.parametrize("module", ["paretopipe_matrix.cli", "analysis.cli", "paretopipe_runtime.host.agent"])
def test_commands_start_light(module: str) -> None:
    """Nothing heavy is imported before it is needed."""
    code = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {
        "torch",
        "pandas",
        "numpy",
        "scipy",
        "matplotlib",
        "seaborn",
        "moocore",
        "pydantic",
        "rich",
        "ansible_runner",
    }
    assert not heavy & set(json.loads(result.stdout))
