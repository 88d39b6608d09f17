"""What the hosts say of themselves: versions, restarts, throttling, clocks, heat, load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from analysis.gates.violations import BREAKS, NOTE, Examined, Violation

if TYPE_CHECKING:
    from analysis.run import Run

_NOW = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of `vcgencmd get_throttled` (Raspberry Pi documentation, "vcgencmd"); 16 higher: has occurred since the boot."""
_SINCE_BOOT = 16
HOT_C = 80.0
"""A Raspberry Pi's firmware begins to lower its clock between 80 and 85 °C (Raspberry Pi documentation, config.txt)."""
CLOCK_DROP = 0.1
LOAD_ABOVE_CORES = 1.0
_VERSIONS = ("torch", "torchvision", "paretopipe", "python")
_MUST_STAY = (
    *("torch", "torchvision", "paretopipe", "python", "machine", "cpu_model", "cpus", "threads"),
    *("gpu_device", "allocator"),
)
_MAY_MATTER = ("hostname", "boot_id", "kernel", "memory_total_bytes", "governor", "congestion_control")


def examine_hosts(data: Run) -> list[Examined]:
    """Versions, what changed on a resume, and the vitals of every probe."""
    readings = _readings(data)
    return [_versions(data), _resumed(data), _throttled(readings), _clocks(data, readings), _load(data, readings)]


def sessions(run: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The first start of a run and every later one that measured, each with `versions, git, hosts`."""
    return [run, *(run.get("resumed") or [])]


def _facts(session: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    return session.get("hosts") or {}


def _versions(data: Run) -> Examined:
    says = "all hosts run the same versions"
    violations = []
    hosts: set[str] = set()
    for session in sessions(data.run):
        facts = _facts(session)
        hosts |= set(facts)
        controller = {"paretopipe": (session.get("versions") or {}).get("paretopipe")}
        for key in _VERSIONS:
            found: dict[str, list[str]] = {}
            for host, fact in facts.items():
                if fact.get(key) is not None:
                    found.setdefault(str(fact[key]), []).append(host)
            if controller.get(key) is not None and found:
                found.setdefault(str(controller[key]), []).append("the controller")
            if len(found) > 1:
                words = "; ".join(f"{key} {value} on {', '.join(names)}" for value, names in found.items())
                violations.append(_note("versions", words, BREAKS if key == "torch" else NOTE))
    return Examined("versions", says, len(hosts), "hosts", tuple(dict.fromkeys(violations)), _unless(hosts))


def _unless(hosts: object) -> str:
    return "" if hosts else "run.json has no facts of hosts"


def _note(rule: str, words: str, verdict: str = NOTE) -> Violation:
    return Violation(rule, None, None, None, words, verdict)


def _resumed(data: Run) -> Examined:
    """Rounds are repetitions of one thing only where nothing changed between the starts that measured them."""
    says = "one code, machine and shaper for all rounds"
    starts = sessions(data.run)
    violations = [*_git(starts), *_changed_facts(starts), *_shapers(data)]
    return Examined("resumed", says, len(starts), "starts", tuple(violations))


def _git(starts: list[Mapping[str, Any]]) -> Iterator[Violation]:
    states = [session.get("git") or {} for session in starts]
    commits = list(dict.fromkeys(str(state["commit"])[:12] for state in states if state.get("commit")))
    if len(commits) > 1:
        yield _note("resumed", f"measured with {len(commits)} commits of the code: {', '.join(commits)}")
    if any(state.get("dirty") for state in states):
        yield _note("resumed", "measured with uncommitted changes in the checkout (git: dirty)")


def _changed_facts(starts: list[Mapping[str, Any]]) -> Iterator[Violation]:
    first = _facts(starts[0])
    for session in starts[1:]:
        for host, facts in _facts(session).items():
            before = first.get(host, {})
            for key in (*_MUST_STAY, *_MAY_MATTER):
                if key in facts and key in before and facts[key] != before[key]:
                    words = f"{host}: {key} {before[key]!r} at first, {facts[key]!r} when resumed"
                    yield _note("resumed", words, BREAKS if key in _MUST_STAY else NOTE)


def _shapers(data: Run) -> Iterator[Violation]:
    for (pipeline, profile), rows in data.frame.groupby(["pipeline", "profile"], sort=False):
        names = [str(name) for name in dict.fromkeys(rows["shaper"]) if isinstance(name, str)]
        if len(names) > 1:
            yield _note("resumed", f"{pipeline}, {profile}: shaped by {' and '.join(names)} in different rounds")


Readings = dict[str, list[Mapping[str, Any]]]


def _readings(data: Run) -> Readings:
    """Host -> its vitals: at the first start (run.json), then at every probe in order."""
    found: Readings = {host: [facts] for host, facts in _facts(data.run).items()}
    for probe in data.probes:
        for host, vitals in (probe.get("vitals") or {}).items():
            found.setdefault(host, []).append(vitals)
    return found


def _throttled(readings: Readings) -> Examined:
    violations, checked = [], 0
    for host, series in readings.items():
        bits = [value for value in (_bits(vitals.get("throttled")) for vitals in series) if value is not None]
        checked += len(bits)
        now = [value for value in bits if value & 0xF]
        if now:
            names = _names(_union(now))
            words = f"{host}: {names} at {len(now)} of {len(bits)} readings (vcgencmd {now[0]:#x})"
            violations.append(_note("throttled", words, BREAKS))
        since = _union(bits) >> _SINCE_BOOT
        before = bits[0] >> _SINCE_BOOT if bits else 0
        if since & ~before:
            words = f"{host}: {_names(since & ~before)} between two readings of this run (vcgencmd {_union(bits):#x})"
            violations.append(_note("throttled", words, BREAKS))
        if before:
            words = f"{host}: {_names(before)} since its boot, before the run began (vcgencmd {bits[0]:#x})"
            violations.append(_note("throttled", words))
    remark = "" if checked else "no host tells (vcgencmd is a Raspberry Pi's)"
    return Examined("throttled", "no host was throttled", checked, "readings", tuple(violations), remark)


def _bits(value: object) -> int | None:
    try:
        return int(str(value), 16) if value is not None else None
    except ValueError:
        return None


def _union(values: list[int]) -> int:
    total = 0
    for value in values:
        total |= value
    return total


def _names(bits: int) -> str:
    return ", ".join(name for bit, name in _NOW.items() if bits >> bit & 1)


def _clocks(data: Run, readings: Readings) -> Examined:
    """Heat, and clocks that were lower at some probes; a governor that lowers them at rest does that too."""
    violations, checked = [], 0
    for host, series in readings.items():
        clocks = [float(v["cpu_frequency_hz"]) for v in series if v.get("cpu_frequency_hz")]
        heat = [float(v["temperature_c"]) for v in series if v.get("temperature_c") is not None]
        checked += max(len(clocks), len(heat))
        if heat and max(heat) >= HOT_C:
            violations.append(_note("clocks", f"{host}: up to {max(heat):.1f} °C (limit {HOT_C:g} °C)"))
        if clocks and min(clocks) < (1 - CLOCK_DROP) * max(clocks):
            governor = _facts(data.run).get(host, {}).get("governor") or "unknown"
            span = f"{min(clocks) / 1e6:.0f} to {max(clocks) / 1e6:.0f} MHz"
            violations.append(_note("clocks", f"{host}: clock {span} at the probes, governor {governor}"))
    says = f"below {HOT_C:g} °C, clocks within {100 * CLOCK_DROP:.0f} %"
    remark = "" if checked else "no host tells its clock or temperature"
    return Examined("clocks", says, checked, "readings", tuple(violations), remark)


def _load(data: Run, readings: Readings) -> Examined:
    violations, checked = [], 0
    for host, series in readings.items():
        cores = _facts(data.run).get(host, {}).get("cpu_count")
        loads = [float(v["load_1min"]) for v in series if v.get("load_1min") is not None]
        if not cores:
            continue
        checked += len(loads)
        high = [load for load in loads if load > cores + LOAD_ABOVE_CORES]
        if high:
            words = f"{host}: load up to {max(high):.1f} on {cores} cores, at {len(high)} of {len(loads)} readings"
            violations.append(_note("load", f"{words}: other programs ran"))
    remark = "" if checked else "no host tells its load"
    return Examined("load", "load at most 1 above the cores", checked, "readings", tuple(violations), remark)
