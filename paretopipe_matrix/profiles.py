"""Network profiles: the file that declares them, and whether a measured path keeps one."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paretopipe_matrix.errors import ProfileError
from paretopipe_matrix.testbed import JsonObject, Link, ProbeResult, Profile
from paretopipe_matrix.yaml_source import Loc, read_yaml
from paretopipe_runtime.network.quantities import parse_delay_s, parse_loss_pct, parse_rate_bit_s

DIRECTIONS = ("first-egress", "first-ingress")
OWN_RTT_ALLOWANCE_S = 0.005
"""Round trip granted to the path itself and to the shaper's scheduling, on top of what a profile adds."""

_PROFILE_KEYS = ("description", "links", "rtt_tolerance_pct", "rate_tolerance_pct")
_LINK_KEYS = ("delay", "jitter", "loss", "rate")


class ProfileBook:
    """All profiles of one file."""

    def __init__(self, path: Path, profiles: Mapping[str, Profile]) -> None:
        self.path = path
        self.profiles = dict(profiles)

    def get(self, name: str) -> Profile:
        """The profile of that name; raises ProfileError naming the known ones and the file."""
        if name in self.profiles:
            return self.profiles[name]
        close = difflib.get_close_matches(name, self.profiles, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ProfileError(f"unknown profile {name!r}{hint}; {self.path} has: {', '.join(self.profiles) or 'none'}")


def load_profiles(path: Path) -> ProfileBook:
    """Read a profile file: name -> {description, links, rtt_tolerance_pct, rate_tolerance_pct}.

    Raises ProfileError with file, line, key and what may be written there.
    """
    source = read_yaml(path, "profiles", ProfileError, "; profiles.yml lies beside the inventory file")

    def fail(loc: Loc, message: str) -> ProfileError:
        return ProfileError(f"{path}:{source.lines.get(loc, 1)}: {'.'.join(map(str, loc))}: {message}")

    if not isinstance(source.data, dict) or not source.data:
        raise ProfileError(f"{path}: must map profile names to {{{', '.join(_PROFILE_KEYS)}}}")
    profiles: dict[str, Profile] = {}
    for name, body in source.data.items():
        loc: Loc = (str(name),)
        body = body or {}
        _check_keys(body, _PROFILE_KEYS, loc, fail)
        links: dict[str, Link] = {}
        link_bodies = body.get("links") or {}
        _check_keys(link_bodies, DIRECTIONS, (*loc, "links"), fail)
        for direction, values in link_bodies.items():
            links[direction] = _link(values or {}, (*loc, "links", direction), fail)
        tolerances = {key: body[key] for key in _PROFILE_KEYS[2:] if key in body}
        for key, value in tolerances.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 100:
                raise fail((*loc, key), f"{value!r}: must be a percentage between 0 and 100")
        profiles[str(name)] = Profile(str(name), links, str(body.get("description") or ""), **tolerances)
    return ProfileBook(path, profiles)


def _link(values: Any, loc: Loc, fail: Any) -> Link:
    _check_keys(values, _LINK_KEYS, loc, fail)
    parsers = {"delay": parse_delay_s, "jitter": parse_delay_s, "loss": parse_loss_pct, "rate": parse_rate_bit_s}
    parsed: dict[str, float] = {}
    for key, value in values.items():
        try:
            parsed[key] = parsers[key](value)
        except ValueError as error:
            raise fail((*loc, key), str(error)) from error
    return Link(parsed.get("delay", 0.0), parsed.get("jitter", 0.0), parsed.get("loss", 0.0), parsed.get("rate"))


def _check_keys(body: Any, valid: tuple[str, ...], loc: Loc, fail: Any) -> None:
    if not isinstance(body, dict):
        raise fail(loc, f"{body!r}: must be a mapping with any of: {', '.join(valid)}")
    for key in body:
        if key not in valid:
            raise fail((*loc, str(key)), f"unknown key; valid: {', '.join(valid)}")


def as_json(profile: Profile) -> JsonObject:
    """A profile as run.json keeps it (SI units)."""
    return {
        "links": {
            direction: {
                "delay_s": link.delay_s,
                "jitter_s": link.jitter_s,
                "loss_pct": link.loss_pct,
                "rate_bit_s": link.rate_bit_s,
            }
            for direction, link in profile.links.items()
        },
        "rtt_tolerance_pct": profile.rtt_tolerance_pct,
        "rate_tolerance_pct": profile.rate_tolerance_pct,
    }


def declared(profile: Profile) -> JsonObject:
    """What a probe is judged against: `delay_s` added to the round trip, `rate_bit_s` of the first egress."""
    egress = profile.links.get("first-egress")
    return {"delay_s": float(profile.added_rtt_s), "rate_bit_s": egress.rate_bit_s if egress else None}


def verify(profile: Profile, baseline: ProbeResult | None, probe: ProbeResult) -> tuple[bool, str | None]:
    """Whether a measured path keeps its profile; if not, declared against measured in words.

    Round trip, where the profile adds one: `added (1 - tolerance) - jitter <= measured <=
    added (1 + tolerance) + jitter + own`, own being OWN_RTT_ALLOWANCE_S plus the unshaped path's round trip
    (`baseline`) if that was measured. Bandwidth, where the first egress has a rate: within the tolerance of it.
    The first ingress's rate likewise, where the profile has one. Every value must be finite and above zero.
    """
    for what, value in (("round trip", probe.rtt_s), ("bandwidth", probe.bandwidth_bit_s)):
        if not math.isfinite(value) or value <= 0:
            return False, f"profile {profile.name}: measured {what} is {value}, which is no measurement"
    added = profile.added_rtt_s
    if added > 0:
        slack = added * profile.rtt_tolerance_pct / 100 + sum(link.jitter_s for link in profile.links.values())
        own = OWN_RTT_ALLOWANCE_S + (baseline.rtt_s if baseline else 0.0)
        if not added - slack <= probe.rtt_s <= added + slack + own:
            return False, (
                f"profile {profile.name}: declared +{added * 1e3:g} ms round trip, "
                f"measured {probe.rtt_s * 1e3:.1f} ms "
                f"(tolerance {profile.rtt_tolerance_pct:g} % and {own * 1e3:.1f} ms)"
            )
    for direction, measured in (
        ("first-egress", probe.bandwidth_bit_s),
        ("first-ingress", probe.ingress_bandwidth_bit_s),
    ):
        link = profile.links.get(direction)
        rate = link.rate_bit_s if link else None
        if rate is None:
            continue
        if measured is None or not abs(measured - rate) <= rate * profile.rate_tolerance_pct / 100:
            found = "nothing" if measured is None else f"{measured / 1e6:.3g} Mbit/s"
            return False, (
                f"profile {profile.name}: declared {rate / 1e6:g} Mbit/s {direction}, "
                f"measured {found} (tolerance {profile.rate_tolerance_pct:g} %)"
            )
    return True, None
