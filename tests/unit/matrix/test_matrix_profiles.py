import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.errors import ProfileError
from paretopipe_matrix.profiles import (
    OWN_RTT_ALLOWANCE_S,
    load_profiles,
    parse_delay_s,
    parse_loss_pct,
    parse_rate_bit_s,
    verify,
)
from paretopipe_matrix.testbed import Link, ProbeResult, Profile

SHIPPED = Path(__file__).parents[3] / "inventory" / "profiles.yml"
DURESS = Profile("duress", {"first-egress": Link(delay_s=0.2, rate_bit_s=5e6)})
LAN = Profile("lan")


def probe(rtt_s, bandwidth_bit_s=5e6):
    return ProbeResult(rtt_s, (rtt_s,), bandwidth_bit_s, 1000)


def book(tmp_path, text):
    path = tmp_path / "profiles.yml"
    path.write_text(text)
    return load_profiles(path)


def test_units():
    assert parse_delay_s("200ms") == pytest.approx(0.2)
    assert parse_delay_s("1.5s") == 1.5
    assert parse_delay_s("50us") == pytest.approx(5e-5)
    assert parse_rate_bit_s("5mbit") == 5e6
    assert parse_rate_bit_s("1.5Gbit") == 1.5e9
    assert parse_rate_bit_s("64 kbit".replace(" ", "")) == 64e3
    assert parse_loss_pct("1%") == 1.0


@pytest.mark.parametrize("text", ["200", 200, "ms", "-1ms", "1 m", "", None, "1e3ms", "5mbit"])
def test_bad_delay_says_how(text):
    with pytest.raises(ValueError, match="such as 200ms"):
        parse_delay_s(text)


@pytest.mark.parametrize(("text", "words"), [("5", "mbit"), ("5mbps", "mbit"), ("0mbit", "zero"), (5, "mbit")])
def test_bad_rate_says_how(text, words):
    with pytest.raises(ValueError, match=words):
        parse_rate_bit_s(text)


def test_shipped_profiles():
    profiles = load_profiles(SHIPPED)
    assert profiles.get("lan").links == {}
    duress = profiles.get("duress-200ms-5mbit")
    assert duress.added_rtt_s == pytest.approx(0.2)
    assert duress.links == {"first-egress": Link(delay_s=0.2, rate_bit_s=5e6)}
    assert profiles.get("wifi-5ms-50mbit").added_rtt_s == pytest.approx(0.01)


def test_custom_profile(tmp_path):
    profile = book(
        tmp_path,
        "far:\n  rtt_tolerance_pct: 2\n  links:\n"
        "    first-ingress: {delay: 10ms, jitter: 1ms, loss: 0.5%}\n    first-egress:\n",
    ).get("far")
    assert profile.links["first-ingress"] == Link(pytest.approx(0.01), pytest.approx(0.001), 0.5, None)
    assert profile.links["first-egress"] == Link()
    assert profile.rtt_tolerance_pct == 2


def test_unknown_profile_names_the_known_ones_and_the_file():
    with pytest.raises(ProfileError) as error:
        load_profiles(SHIPPED).get("lam")
    for word in ("unknown profile 'lam'", "did you mean lan?", str(SHIPPED), "duress-200ms-5mbit"):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a:\n  links:\n    first-egress: {delay: 200}", ":3: a.links.first-egress.delay: 200: a delay is a number"),
        ("a:\n  links:\n    second: {}", ":3: a.links.second: unknown key; valid: first-egress, first-ingress"),
        ("a:\n  links: {first-egress: {latency: 1ms}}", "latency: unknown key; valid: delay, jitter, loss, rate"),
        ("a: {rtt_tolerance_pct: 0}", "must be a percentage between 0 and 100"),
        ("a: {rate_tolerance_pct: x}", "must be a percentage between 0 and 100"),
        ("a: [1]", ":1: a: [1]: must be a mapping"),
        ("", "must map profile names"),
        ("a: {links: {first-egress: {loss: 100%}}}", "lets nothing through"),
    ],
)
def test_bad_files(tmp_path, text, words):
    with pytest.raises(ProfileError) as error:
        book(tmp_path, text)
    assert words in str(error.value)


def test_missing_file_says_where_it_belongs(tmp_path):
    with pytest.raises(ProfileError, match="lies beside the inventory"):
        load_profiles(tmp_path / "profiles.yml")


@pytest.mark.parametrize(
    ("rtt_s", "bandwidth", "ok"),
    [
        (0.2006, 4.7e6, True),
        (0.2, 5e6, True),
        (0.190, 5e6, True),
        (0.189, 5e6, False),
        (0.2149, 5e6, True),
        (0.216, 5e6, False),
        (0.0002, 5e6, False),  # not shaped at all
        (0.4, 5e6, False),  # delay on both ends
        (0.2, 4.4e6, False),
        (0.2, 5.6e6, False),
        (0.2, 9e8, False),
    ],
)
def test_verify_imposed_profile(rtt_s, bandwidth, ok):
    verdict, reason = verify(DURESS, None, probe(rtt_s, bandwidth))
    assert verdict is ok
    assert (reason is None) is ok
    if not ok:
        assert "declared" in reason
        assert "measured" in reason


def test_own_round_trip_of_the_path_is_allowed_on_top():
    slow_path = probe(0.03)
    assert not verify(DURESS, None, probe(0.235))[0]
    assert verify(DURESS, slow_path, probe(0.235))[0]


def test_jitter_widens():
    jittery = replace(DURESS, links={"first-egress": Link(delay_s=0.2, jitter_s=0.05, rate_bit_s=5e6)})
    assert verify(jittery, None, probe(0.15))[0]
    assert not verify(DURESS, None, probe(0.15))[0]


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_lan_values_must_be_measurements(value):
    assert verify(LAN, None, probe(1e-4))[0]
    assert not verify(LAN, None, probe(value))[0]
    assert not verify(LAN, None, probe(1e-4, value))[0]


@given(st.floats(0.001, 2), st.floats(0.1, 50), st.floats(0, 4))
def test_verdict_is_the_documented_interval(added, tolerance, measured):
    profile = Profile("p", {"first-egress": Link(delay_s=added)}, rtt_tolerance_pct=tolerance)
    slack = added * tolerance / 100
    expected = measured > 0 and added - slack <= measured <= added + slack + OWN_RTT_ALLOWANCE_S
    assert verify(profile, None, probe(measured))[0] == expected
