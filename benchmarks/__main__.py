"""Run the benchmarks and print their table; exits with 1 if a claim falls short."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.report import HEADER

NAMES = ("help_time", "hop", "efficiency", "link", "memory", "sweep")


def _one(name: str) -> int:
    from benchmarks import commands, hop, pipeline
    from benchmarks.report import save

    functions = {
        "help_time": commands.help_time,
        "hop": hop.run,
        "efficiency": pipeline.efficiency,
        "link": pipeline.link,
        "memory": pipeline.memory,
        "sweep": commands.sweep,
    }
    ratios, raw = functions[name]()
    save(name, ratios, raw)
    for ratio in ratios:
        print(ratio.row(), flush=True)
    return 0 if all(ratio.passed for ratio in ratios) else 1


def main() -> int:
    """Every benchmark in a process of its own, so that none inherits another's cores and memory."""
    asked = sys.argv[1:]
    if asked[:1] == ["--one"]:
        return _one(asked[1])
    unknown = set(asked) - set(NAMES)
    if unknown:
        print(f"unknown benchmark {unknown.pop()!r}; known: {', '.join(NAMES)}", file=sys.stderr)
        return 2
    if len(os.sched_getaffinity(0)) < 2:
        print("benchmarks need two cores: one per stage", file=sys.stderr)
        return 2
    print(HEADER, flush=True)
    codes = [
        subprocess.run([sys.executable, "-m", "benchmarks", "--one", name], check=False).returncode
        for name in asked or NAMES
    ]
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
