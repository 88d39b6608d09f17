"""Roles: what they declare, and the Python in them that decides something."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
OURS = {"base", "collect", "network_profile", "preflight", "runtime", "smoke", "teardown", "torch", "venv"}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(role: Path) -> dict[str, Any]:
    """The options of all entry points."""
    entries = read(role / "meta" / "argument_specs.yml")["argument_specs"].values()
    return {name: option for entry in entries for name, option in entry["options"].items()}


def tasks(path: Path) -> list[dict[str, Any]]:
    """All tasks of a file, those inside blocks too."""
    found = []
    for task in read(path) or []:
        found.append(task)
        for part in ("block", "rescue", "always"):
            found += task.get(part, [])
    return found


def test_the_roles_are_there() -> None:
    assert {role.name for role in ROLES} >= OURS


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_specs_are_in_step_with_defaults(role: Path) -> None:
    defaults = read(role / "defaults" / "main.yml")
    declared = options(role)
    assert {name for name, option in declared.items() if not option.get("required")} == set(defaults)
    for name, value in defaults.items():
        assert declared[name].get("default", value) == value, name
    main = read(role / "meta" / "argument_specs.yml")["argument_specs"]["main"]
    assert set(main["options"]) >= set(defaults)
    assert all(name.startswith(f"{role.name}_") for name in declared)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_readme_names_every_variable_and_no_other(role: Path) -> None:
    text = (role / "README.md").read_text()
    rows = re.findall(rf"^\| `({role.name}_\w+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(options(role))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_modules_are_those_of_ansible_core(role: Path) -> None:
    for path in (role / "tasks").glob("*.yml"):
        for task in tasks(path):
            modules = [key for key in task if "." in key]
            assert modules or "block" in task, f"{path.name}: {task['name']}"
            assert all(module.startswith("ansible.builtin.") for module in modules), f"{path.name}: {modules}"


@pytest.mark.parametrize("playbook", ["provision", "network", "collect", "teardown"])
def test_every_playbook_checks_the_inventory_first(playbook: str) -> None:
    first = read(ROOT / "playbooks" / f"{playbook}.yml")[0]
    assert [role["role"] for role in first["roles"]] == ["preflight"]
    assert first["hosts"] == "all"
    assert first["gather_facts"] is False
    assert first["any_errors_fatal"] is True


# The wheel ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def build_wheel() -> ModuleType:
    return load("roles/runtime/files/build_wheel.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project that looks like this one."""
    checkout = tmp_path / "checkout"
    (checkout / "toy" / "inner").mkdir(parents=True)
    (checkout / "toy" / "__init__.py").write_text("")
    (checkout / "toy" / "inner" / "__init__.py").write_text("x = 1\n")
    (checkout / "README.md").write_text("toy\n")
    (checkout / "LICENSE").write_text("toy\n")
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "paretopipe"\nversion = "0.1"\nreadme = "README.md"\nlicense-files = ["LICENSE"]\n'
        'dependencies = ["click>=8.1", "torch>=2"]\n'
        '[tool.setuptools.packages.find]\ninclude = ["toy*"]\n'
    )
    return checkout


def test_same_sources_same_bytes(build_wheel: ModuleType, checkout: Path, tmp_path: Path) -> None:
    wheel = build_wheel.build(checkout, tmp_path / "wheels")
    first = wheel.read_bytes()
    (checkout / "toy" / "inner" / "__init__.py").chmod(0o600)
    (checkout / "toy" / "__init__.py").touch()
    assert build_wheel.build(checkout, tmp_path / "wheels").read_bytes() == first
    assert not (checkout / "build").exists(), "the checkout is left as it was"
    (checkout / "toy" / "inner" / "__init__.py").write_text("x = 2\n")
    assert build_wheel.build(checkout, tmp_path / "wheels").read_bytes() != first


def test_wheel_holds_what_the_sources_hold_now(build_wheel: ModuleType, checkout: Path, tmp_path: Path) -> None:
    build_wheel.build(checkout, tmp_path / "wheels")
    (checkout / "toy" / "inner" / "__init__.py").unlink()
    (checkout / "toy" / "inner").rmdir()
    wheel = build_wheel.build(checkout, tmp_path / "wheels")
    assert [name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("toy")] == ["toy/__init__.py"]
    assert [path.name for path in (tmp_path / "wheels").iterdir()] == [wheel.name]


def test_a_project_that_cannot_be_built_says_why(build_wheel: ModuleType, checkout: Path, tmp_path: Path) -> None:
    text = (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(text.replace('version = "0.1"', 'version = "not a version"'))
    with pytest.raises(build_wheel.BuildError, match="could not build the wheel: "):
        build_wheel.build(checkout, tmp_path / "wheels")


def test_requirements_are_pinned_and_without_torch(build_wheel: ModuleType) -> None:
    pyproject = '[project]\ndependencies = ["click>=8.1", "nvidia-ml-py>=1", "torch>=2", "torchvision>=0.2"]\n'
    pins = "click==8.5.1\nnvidia-ml-py==13.0\ntorch==2.1\ntorchvision==0.3\nother==1\n"
    assert build_wheel.requirements(pyproject, pins) == ["click==8.5.1", "nvidia-ml-py==13.0"]
    with pytest.raises(build_wheel.BuildError, match="does not pin nvidia-ml-py"):
        build_wheel.requirements(pyproject, pins.replace("nvidia-ml-py", "nvidia-ml"))


def test_extras_are_pinned_like_the_rest(build_wheel: ModuleType) -> None:
    pyproject = (
        '[project]\ndependencies = []\n[project.optional-dependencies]\nfast = ["Fast.Lib>=1", "torch>=2"]\nnone = []\n'
    )
    assert build_wheel.extras(pyproject, "fast-lib==1.5\n") == {"fast": ["Fast.Lib==1.5"], "none": []}
    with pytest.raises(build_wheel.BuildError, match=r"does not pin Fast\.Lib"):
        build_wheel.extras(pyproject, "")
    assert build_wheel.extras("[project]\ndependencies = []\n", "") == {}


def test_requirements_of_this_checkout_are_all_pinned(build_wheel: ModuleType) -> None:
    texts = [(ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt")]
    names = {requirement.split("==")[0] for requirement in build_wheel.requirements(*texts)}
    assert {"click", "numpy", "psutil", "safetensors"} <= names
    assert not names & {"torch", "torchvision", "pandas"}
    assert build_wheel.extras(*texts)


def test_what_is_installed() -> None:
    program = (ROOT / "roles" / "runtime" / "files" / "installed.py").read_text()
    import click

    version = importlib.metadata.version(click.__name__)
    result = subprocess.run(
        [sys.executable, "-c", program, f"click=={version}", "click==0.1", "no-such-thing==1"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["missing"] == ["click==0.1", "no-such-thing==1"]


# The base role's look at a host ------------------------------------------------------------------------------


def test_only_a_directory_of_its_own_is_taken(tmp_path: Path) -> None:
    look = load("roles/base/files/look.py")
    root = tmp_path / "paretopipe"
    assert look.root_state(root) == "absent"
    root.mkdir()
    assert look.root_state(root) == "empty"
    (root / "thesis.tex").write_text("years of work")
    assert look.root_state(root) == "foreign"
    (root / look.MARKER).touch()
    assert look.root_state(root) == "ours"
    (tmp_path / "file").touch()
    assert look.root_state(tmp_path / "file") == "foreign"


def test_directories_that_are_missing_are_made(tmp_path: Path) -> None:
    import getpass

    look = load("roles/base/files/look.py")
    root = tmp_path / "paretopipe"
    assert str(root) in look.to_make(root, getpass.getuser())
    for name in look.DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    assert look.to_make(root, getpass.getuser()) == []
    (root / "wheels").rmdir()
    assert look.to_make(root, getpass.getuser()) == [str(root / "wheels")]


def test_a_missing_program_is_recorded_as_missing() -> None:
    ask = load("roles/collect/files/ask.py")
    missing = ask.ask(["no-such-program-here"])
    assert missing["status"] is None
    assert "No such file" in missing["error"]
    assert ask.ask(["false"])["status"] == 1
    assert ask.ask(["echo", "x"])["stdout"] == "x\n"
