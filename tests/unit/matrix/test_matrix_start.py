"""The command starts at once, and the controller never needs torch."""

import subprocess
import sys

HEAVY = ("torch", "numpy", "pandas", "pyarrow", "pydantic", "rich", "yaml", "paramiko", "ansible_runner")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from paretopipe_matrix.cli import main\n"
        "for command in ([], ['run'], ['list'], ['show'], ['rerun'], ['profile']):\n"
        "    result = CliRunner().invoke(main, [*command, '--help'])\n"
        "    assert result.exit_code == 0 and 'Example' in result.output, result.output\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    assert run(code) == []


def test_no_module_of_the_controller_imports_torch():
    code = (
        "import importlib, pkgutil, sys, paretopipe_matrix\n"
        "names = [m.name for m in pkgutil.walk_packages(paretopipe_matrix.__path__, 'paretopipe_matrix.')]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "assert len(names) > 20, names\n"
        "print(*[name for name in ('torch', 'analysis') if name in sys.modules])\n"
    )
    assert run(code) == []
