"""The last result of the emulated Pi, as JSON and as text for the documentation."""

import json
from pathlib import Path
from typing import Any


def write_result(found: dict[str, Any], directory: Path) -> None:
    """Write result.json and result.md."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "result.json").write_text(json.dumps(found, indent=2) + "\n")
    (directory / "result.md").write_text(as_markdown(found))


def as_markdown(found: dict[str, Any]) -> str:
    """The result as a short text with two tables."""
    tests, emulation = found["tests"], found["emulation"]
    verdict = "passed" if tests["failed"] == 0 else f"{tests['failed']} of {tests['run']} tests failed"
    lines = [
        f"{found['date'][:10]}, commit {found['commit']}: **{verdict}**. "
        f"{emulation['qemu']}, QEMU_CPU={emulation['cpu']}, "
        f"on {found['machine']['cores']} cores, kernel {found['machine']['kernel']}.",
        "",
        "| host | machine | CPU | system | torch | torchvision |",
        "|---|---|---|---|---|---|",
    ]
    for name, host in found.get("hosts", {}).items():
        values = (name, host["machine"], host["cpu_model"], host["os"], host["torch"], host["torchvision"])
        lines.append(f"| {' | '.join(str(value) for value in values)} |")
    lines += [
        "",
        "| pipeline | cell | depth | status | output error (relative) | round trip | bandwidth | shaper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pipeline, run in found["pipelines"].items():
        for record in run["records"]:
            values = [pipeline, f"{record['model']} {record['split']}", str(record["depth"]), record["status"]]
            if record["status"] == "ok":
                values += [f"{record['output_max_rel_err']:.1e}", f"{record['rtt_s'] * 1e3:.1f} ms"]
                values += [f"{record['bandwidth_bit_s'] / 1e6:.1f} Mbit/s", record["shaper"]]
            else:
                values += ["", "", "", ""]
            lines.append(f"| {' | '.join(values)} |")
    lines += ["", *(f"- {what}: {seconds} s" for what, seconds in found["durations_s"].items()), ""]
    return "\n".join(lines)
