"""Build the paretopipe wheel of a checkout, so that the same sources give the same bytes.

Usage: build_wheel.py CHECKOUT DIRECTORY. Prints a JSON object: `wheel` (its path), `sha256`, `requirements`, what a
host needs beside torch, and `extras`, what each optional group of pyproject.toml adds; every requirement is
`name==version` as constraints.txt pins it.

The sources are copied first: setuptools leaves a `build/` in a source tree, and takes modules from there that the
tree has no more. SOURCE_DATE_EPOCH is what makes the archive's times equal (https://reproducible-builds.org/specs/).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

EPOCH_S = "315532800"
"""1980-01-01, the first moment that a zip archive can hold."""
NOT_OURS = ("torch", "torchvision")


class BuildError(Exception):
    """Why there is no wheel, in a line."""


def copy_sources(checkout: Path, target: Path) -> None:
    """Copy what a wheel is made of, with modes that do not depend on who checked it out."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    top_level = [pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    for name in ("pyproject.toml", project["project"]["readme"], *project["project"]["license-files"]):
        shutil.copyfile(checkout / name, target / name)
    for name in top_level:
        shutil.copytree(checkout / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def requirements(pyproject: str, constraints: str) -> list[str]:
    """`name==version` for every dependency of the package but torch's, from the texts of both files."""
    return _pinned(tomllib.loads(pyproject)["project"]["dependencies"], constraints)


def extras(pyproject: str, constraints: str) -> dict[str, list[str]]:
    """Extra -> what it adds, as `requirements` has it."""
    groups = tomllib.loads(pyproject)["project"].get("optional-dependencies", {})
    return {name: _pinned(lines, constraints) for name, lines in groups.items()}


def _pinned(lines: list[str], constraints: str) -> list[str]:
    pins = {_canonical(name): pin for name, pin in re.findall(r"(?m)^([A-Za-z0-9_.-]+)==(\S+)", constraints)}
    names = [name for line in lines if (name := re.split(r"[^A-Za-z0-9_.-]", line)[0]) not in NOT_OURS]
    unpinned = [name for name in names if _canonical(name) not in pins]
    if unpinned:
        raise BuildError(f"constraints.txt does not pin {', '.join(unpinned)}")
    return [f"{name}=={pins[_canonical(name)]}" for name in names]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()  # PEP 503


def setuptools_arguments() -> list[str]:
    """Without build isolation where setuptools is at hand: faster, and no index is asked."""
    try:
        new_enough = int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return []
    return ["--no-build-isolation", "--no-index"] if new_enough else []


def build(checkout: Path, directory: Path) -> Path:
    """Build the wheel into a directory, replacing older ones there; returns its path. Raises BuildError."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="paretopipe-wheel-") as temporary:
        sources, wheels = Path(temporary, "sources"), Path(temporary, "wheels")
        sources.mkdir()
        copy_sources(checkout, sources)
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
        result = subprocess.run(
            [*command, *setuptools_arguments(), "--wheel-dir", str(wheels), str(sources)],
            env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH_S, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
        built = list(wheels.glob("paretopipe-*.whl"))
        if result.returncode or len(built) != 1:
            lines = result.stderr.strip().splitlines() or ["pip said nothing"]
            raise BuildError(f"{sys.executable} could not build the wheel: {lines[-1]}")
        for old in directory.glob("paretopipe-*.whl"):
            if old.name != built[0].name:
                old.unlink()
        target = directory / built[0].name
        # Renamed into place: another controller process may be copying the one that is there.
        staged = directory / f".{target.name}.{os.getpid()}"
        shutil.copyfile(built[0], staged)
        return staged.replace(target)


def main() -> int:
    """Build and report."""
    checkout, directory = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    try:
        texts = (checkout / "pyproject.toml").read_text(), (checkout / "constraints.txt").read_text()
        needed = {"requirements": requirements(*texts), "extras": extras(*texts)}
        wheel = build(checkout, directory.resolve())
    except (BuildError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    sys.stdout.write(json.dumps({"wheel": str(wheel), "sha256": digest} | needed) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
