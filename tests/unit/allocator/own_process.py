"""Run code with the allocator in a Python of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

IMPORTS = """
import json, os, sys
from blocks import *
from paretopipe_runtime.allocator.pages import figures, trim
"""

Run = Callable[..., Any]


def runner(library: Path) -> Run:
    """What runs code that begins with `blocks`, and returns the JSON that it prints."""

    def run(code: str, *arguments: object, preload: str = str(library), **options: Any) -> Any:
        environment = os.environ | {
            "LD_PRELOAD": preload,
            "PYTHONPATH": str(Path(__file__).parent),
            "OPENBLAS_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", IMPORTS + dedent(code), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **options)
        assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    return run
