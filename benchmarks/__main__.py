"""Run the benchmarks and print their table; exits with 1 if a claim falls short or a benchmark could not run."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib import import_module

from benchmarks import settings
from benchmarks.report import HEADER, Table, forget, save
from paretopipe_matrix.testbed import CellError

BENCHMARKS = {
    "help_time": "commands:help_time",
    "analysis_speed": "analysis_speed:run",
    "hop": "hop:run",
    "transports": "transports:run",
    "backends": "backends:run",
    "efficiency": "pipeline:efficiency",
    "engines": "engines:run",
    "reference": "against_reference:run",
    "link": "pipeline:link",
    "memory": "pipeline:memory",
    "allocators": "allocators:run",
    "sweep": "commands:sweep",
}
"""Name -> module:function that returns claims, raw figures and, if it likes, tables."""


def _one(name: str) -> int:
    module, function = BENCHMARKS[name].split(":")
    start_s = time.perf_counter()
    forget(name)
    try:
        ratios, raw, *rest = getattr(import_module(f"benchmarks.{module}"), function)()
    except settings.CannotRunError as reason:
        print(f"benchmark {name} was not run: {reason}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    except (CellError, RuntimeError) as error:
        print(f"benchmark {name} failed: {error}", file=sys.stderr, flush=True)
        return 1
    tables: list[Table] = rest[0] if rest else []
    save(name, ratios, raw, tables, time.perf_counter() - start_s)
    for ratio in ratios:
        print(ratio.row(), flush=True)
    return 0 if all(ratio.passed for ratio in ratios) else 1


def main() -> int:
    """Every benchmark in a process of its own, so that none inherits another's cores and memory."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones (default: all): {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="little work: shows that it runs, figures mean nothing")
    parser.add_argument("--docs", action="store_true", help="measure nothing; put the last results into the docs")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {unknown.pop()!r}; known: {', '.join(BENCHMARKS)}")
    if asked.docs:
        from benchmarks.document import write

        write(asked.names or list(BENCHMARKS))
        return 0
    if asked.one:
        return _one(asked.names[0])
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("benchmarks need two cores: one per stage")
    if asked.quick:
        settings.set_quick()
    print(HEADER, flush=True)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    try:
        codes = [_in_a_process(name) for name in asked.names or BENCHMARKS]
    except KeyboardInterrupt:
        return 130
    return 1 if any(codes) else 0


def _in_a_process(name: str) -> int:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks", "--one", name])
    try:
        return process.wait()
    except KeyboardInterrupt:  # the terminal told it too
        process.wait()
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise


if __name__ == "__main__":
    sys.exit(main())
