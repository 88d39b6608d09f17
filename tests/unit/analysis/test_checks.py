import pytest
from sampled_run import sampled
from synthetic_run import failed, write_run

from analysis.gates.checks import BREAKS, NOTE, examine, find_violations
from analysis.run import read_run

CLEAN = sampled()


def found(run, tmp_path, rule=None, verdict=None):
    """Violations of a rule, after the change."""
    examined = examine(run.read(tmp_path), run.samples)
    all_of = [violation for one in examined for violation in one.violations]
    return [v for v in all_of if rule in (None, v.rule) and verdict in (None, v.verdict)]


def test_clean_run_keeps_every_rule_and_every_rule_was_applied(tmp_path):
    examined = examine(CLEAN.read(tmp_path), CLEAN.samples)
    assert [violation for rule in examined for violation in rule.violations] == []
    assert [rule.rule for rule in examined if not rule.checked] == []
    counts = {rule.rule: rule.checked for rule in examined}
    records = len(CLEAN.records)
    assert counts["samples"] == counts["little"] == counts["validity"] == records
    assert counts["latency"] == records // 2, "depth 1 only"
    assert counts["link"] == 2 * 2 * 3, "two cells with a link, two depths, three rounds"
    assert counts["network"] == 6
    assert counts["drift"] == 6, "cells of both groups"


def rule_latency(run):
    for stage in run.find()["stages"]:
        stage["exec_s"] *= 1.2


def rule_throughput(run):
    record = run.find(depth=2)
    record["throughput_img_s"] *= 1.5
    record["latency_s"] /= 1.5


def rule_link(run):
    # The bound is 5e6 / 8 / bytes x 8 images; 10 % and half a batch of twelve are allowed.
    record = run.find(profile="slow")
    record["bytes_per_batch"] = 1.2 * 5e6 / record["throughput_img_s"]


def rule_little(run):
    run.find()["latency_s"] *= 1.2


def rule_output(run):
    run.find()["output_max_rel_err"] = 0.0011


def rule_crossing(run):
    run.find()["stages"][0]["tx_bytes"] = 0.89 * 11 * 1000


@pytest.mark.parametrize("change", [rule_latency, rule_throughput, rule_link, rule_little, rule_output, rule_crossing])
def test_record_that_breaks_a_rule_and_is_marked_valid(change, tmp_path):
    run = CLEAN.copy()
    change(run)
    rule = change.__name__.removeprefix("rule_")
    (violation,) = found(run, tmp_path, rule)
    assert violation.verdict == BREAKS
    assert (violation.cell or "").startswith("mobilenet_v2-P3")
    assert violation.round == 1
    (marked,) = found(run, tmp_path, "validity")
    assert rule in marked.words


@pytest.mark.parametrize(("off", "count"), [(1 - 1e-15, 0), (1 - 1e-6, 1)])
def test_latency_has_no_tolerance_but_the_last_bits(off, count, tmp_path):
    run = CLEAN.copy()
    record = run.find()
    record["latency_s"] = off * sum(stage["exec_s"] for stage in record["stages"])
    assert len(found(run, tmp_path, "latency")) == count


def test_tolerances_are_those_of_the_documentation(tmp_path):
    for off, count in ((1 + 0.05 + 1 / 12 - 0.02, 0), (1 + 0.05 + 1 / 12 + 0.02, 1)):
        run = CLEAN.copy()
        record = run.find()
        record["latency_s"] = off * record["depth"] * 8 / record["throughput_img_s"]
        assert len(found(run, tmp_path, "little")) == count
    for off, count in ((1.01, 0), (1.02 + 0.5 / 12 + 0.001, 1)):
        run = CLEAN.copy()
        record = run.find(depth=2)
        record["throughput_img_s"] = off * 8 / max(stage["exec_s"] for stage in record["stages"])
        assert len(found(run, tmp_path, "throughput")) == count


def test_crossing_with_three_stages_shares_the_bytes_as_the_cuts_have_them(tmp_path):
    run = CLEAN.copy()
    run.run["models"][0]["cuts"][5]["nbytes"] = 3000
    record = run.find()
    record["split_index"] = "3+5"
    record["bytes_per_batch"] = 4000
    record["stages"].append(dict(record["stages"][1], host="pi3"))
    record["stages"][1]["tx_bytes"] = 11 * 3000 * 0.91
    assert found(run, tmp_path, "crossing") == []
    record["stages"][1]["tx_bytes"] = 11 * 3000 * 0.89
    (violation,) = found(run, tmp_path, "crossing")
    assert "pi2" in violation.words


def test_record_marked_invalid_that_breaks_nothing(tmp_path):
    run = CLEAN.copy()
    run.find().update(valid=False, invalid_reason="I do not like it")
    (violation,) = found(run, tmp_path, "validity")
    assert violation.verdict == BREAKS
    assert "I do not like it" in violation.words


def test_record_marked_invalid_that_breaks_a_rule_is_one_violation(tmp_path):
    run = CLEAN.copy()
    rule_output(run)
    run.find().update(valid=False, invalid_reason="output")
    assert [violation.rule for violation in found(run, tmp_path)] == ["output"]


def test_network_after_that_is_not_as_declared_is_said_once_per_segment(tmp_path):
    run = CLEAN.copy()
    probe = next(p for p in run.probes if p["segment"] == "slow-2" and p["when"] == "after")
    probe.update(ok=False, reason="declared 5 Mbit/s, measured 9", bandwidth_bit_s=9e6)
    (violation,) = found(run, tmp_path)
    assert violation.rule == "network"
    assert violation.verdict == BREAKS
    assert "6 records" in violation.words, "they are invalid for it, and no rule of their own is broken"


def no_after(run):
    run.probes = [p for p in run.probes if (p["segment"], p["when"]) != ("slow-2", "after")]


def no_before(run):
    run.probes = [p for p in run.probes if (p["segment"], p["when"]) != ("slow-2", "before")]


def round_trip_off(run):
    run.probes[7].update(rtt_s=0.23, rtt_samples_s=[0.23])


def bandwidth_off(run):
    run.probes[7]["bandwidth_bit_s"] = 5.6e6


def not_the_median(run):
    run.probes[7]["rtt_samples_s"] = [0.2, 0.201, 0.202]


def called_off_although_it_is_not(run):
    run.probes[7].update(ok=False, reason="a mood")


def record_with_another_round_trip(run):
    run.find(profile="slow")["rtt_s"] *= 1.01


@pytest.mark.parametrize(
    "change",
    [
        *(no_after, no_before, round_trip_off, bandwidth_off, not_the_median, called_off_although_it_is_not),
        record_with_another_round_trip,
    ],
)
def test_network(change, tmp_path):
    run = CLEAN.copy()
    assert (run.probes[7]["segment"], run.probes[7]["when"]) == ("slow-1", "after")
    change(run)
    assert found(run, tmp_path, "network", BREAKS)


def test_late_probe_is_a_note(tmp_path):
    run = CLEAN.copy()
    run.probes[7]["late"] = True
    (violation,) = found(run, tmp_path)
    assert (violation.rule, violation.verdict) == ("network", NOTE)


def test_own_round_trip_is_granted_on_top_of_the_declared_one(tmp_path):
    run = CLEAN.copy()
    run.probes[7].update(rtt_s=0.2149, rtt_samples_s=[0.2149])
    assert found(run, tmp_path) == []
    run.probes[7].update(rtt_s=0.2153, rtt_samples_s=[0.2153])
    assert found(run, tmp_path, "network")


def test_missing_rounds_are_named_by_cell(tmp_path):
    run = CLEAN.copy()
    gone = [r for r in run.records if r["split_index"] == "5" and r["profile"] == "lan" and r["round"] > 1]
    run.records = [r for r in run.records if r not in gone]
    run.samples = run.samples[~((run.samples["cell"] == gone[0]["cell"]) & (run.samples["round"] > 1))]
    (violation,) = found(run, tmp_path, "complete")
    assert violation.cell == gone[0]["cell"]
    assert "2-3 of 3" in violation.words


def test_missing_depth(tmp_path):
    run = CLEAN.copy()
    run.records.remove(run.find(depth=2, round_=2))
    (violation,) = found(run, tmp_path, "complete")
    assert "round 2 of 3 depth 2" in violation.words


def test_failed_cell(tmp_path):
    run = CLEAN.copy()
    record = run.find(depth=2, round_=2)
    record.update(failed(depth=2, round_=2), cell=record["cell"], **{k: record[k] for k in ("profile", "split_index")})
    (violation,) = found(run, tmp_path, "failed")
    assert violation.verdict == BREAKS
    assert (violation.cell, violation.round) == (record["cell"], 2)
    assert "out-of-memory on pi2" in violation.words


def test_record_with_another_axis_than_planned(tmp_path):
    run = CLEAN.copy()
    run.find()["batch_size"] = 4
    assert any("batch_size 4 recorded, 8 planned" in v.words for v in found(run, tmp_path, "planned"))


def test_record_of_a_cell_that_was_not_planned(tmp_path):
    run = CLEAN.copy()
    run.run["cells"] = run.run["cells"][1:]
    (violation,) = found(run, tmp_path, "planned")
    assert violation.cell == "mobilenet_v2-P3-socket-lan"


@pytest.mark.parametrize(("asked", "verdict"), [(5, BREAKS), (4, NOTE)])
def test_short_window(asked, verdict, tmp_path):
    run = CLEAN.copy()
    run.run["spec"]["matrix"] = [{"window": {"batches": None, "seconds": 1.0, "min_batches": asked}}]
    run.find()["window_batches"] = 4
    (violation,) = found(run, tmp_path, "window")
    assert violation.verdict == verdict


@pytest.mark.parametrize("name", ["graph_hash", "weight_hash"])
def test_record_of_another_model(name, tmp_path):
    run = CLEAN.copy()
    run.find()[name] = "x"
    (violation,) = found(run, tmp_path, "hashes")
    assert "run.json has" in violation.words
    run.run["models"] = []
    (violation,) = found(run, tmp_path, "hashes")
    assert "most records have" in violation.words


@pytest.mark.parametrize(("fact", "verdict"), [("torch", BREAKS), ("python", NOTE), ("paretopipe", NOTE)])
def test_versions_differ(fact, verdict, tmp_path):
    run = CLEAN.copy()
    run.run["hosts"]["pi2"][fact] = "9.9"
    assert [v.verdict for v in found(run, tmp_path, "versions")] == [verdict]


@pytest.mark.parametrize(
    ("fact", "verdict"), [("cpu_model", BREAKS), ("allocator", BREAKS), ("kernel", NOTE), ("boot_id", NOTE)]
)
def test_host_that_changed_on_resume(fact, verdict, tmp_path):
    run = CLEAN.copy()
    later = CLEAN.copy().run
    later["hosts"]["pi1"][fact] = "another"
    run.run["resumed"] = [{"hosts": later["hosts"], "git": later["git"], "versions": later["versions"]}]
    assert [v.verdict for v in found(run, tmp_path, "resumed")] == [verdict]


def test_code_that_changed_on_resume_and_was_dirty(tmp_path):
    run = CLEAN.copy()
    run.run["resumed"] = [run.run | {"git": {"commit": "d" * 40, "dirty": True}, "resumed": []}]
    words = [v.words for v in found(run, tmp_path, "resumed", NOTE)]
    assert len(words) == 2
    assert "cccccccccccc, dddddddddddd" in words[0]


def test_two_shapers_in_one_group(tmp_path):
    run = CLEAN.copy()
    run.find(profile="slow")["shaper"] = "wirefilter"
    (violation,) = found(run, tmp_path, "resumed")
    assert "wirefilter" in violation.words


@pytest.mark.parametrize(
    ("readings", "verdicts"),
    [
        (("0x0", "0x4"), [BREAKS]),  # throttled while it was asked
        (("0x0", "0x40000"), [BREAKS]),  # throttled between two questions
        (("0x40000", "0x40000"), [NOTE]),  # throttled at some time since the boot
        (("0x0", "0x0"), []),
    ],
)
def test_throttled_pi(readings, verdicts, tmp_path):
    run = CLEAN.copy()
    run.run["hosts"]["pi1"]["throttled"] = readings[0]
    for probe in run.probes:
        probe["vitals"]["pi1"]["throttled"] = readings[0] if probe is run.probes[0] else readings[1]
    assert [v.verdict for v in found(run, tmp_path, "throttled")] == verdicts


def test_heat_lower_clock_and_load_are_notes(tmp_path):
    run = CLEAN.copy()
    run.probes[3]["vitals"]["pi1"] |= {"temperature_c": 81.0, "cpu_frequency_hz": 600_000_000, "load_1min": 5.5}
    assert [(v.rule, v.verdict) for v in found(run, tmp_path)] == [("clocks", NOTE), ("clocks", NOTE), ("load", NOTE)]


@pytest.mark.parametrize(("factor", "verdicts"), [(1.1, [BREAKS]), (0.9, [BREAKS]), (1.03, [])])
def test_drift_between_first_and_last_round(factor, verdicts, tmp_path):
    run = CLEAN.copy()
    for record in run.records:
        if record["round"] == 3 and record["profile"] == "lan":
            record["latency_s"] *= factor
            record["throughput_img_s"] /= factor
    assert [v.verdict for v in found(run, tmp_path, "drift")] == verdicts


def test_drift_that_is_not_sure_is_a_note(tmp_path):
    run = CLEAN.copy()
    for record in run.records:
        if record["round"] == 3 and record["profile"] == "lan" and record["split_index"] != "3":
            record["latency_s"] *= 1.15
            record["throughput_img_s"] /= 1.15
    (violation,) = found(run, tmp_path, "drift")
    assert violation.verdict == NOTE


def test_windows_that_do_not_settle(tmp_path):
    run = CLEAN.copy()
    late = run.samples["batch_id"] >= 10
    lan = run.samples["cell"].str.endswith("lan") & (run.samples["depth"] == 1)
    run.samples.loc[late & lan, "latency_s"] *= 1.2
    assert [v.verdict for v in found(run, tmp_path, "settled") if v.cell is None] == [BREAKS]
    assert len([v for v in found(run, tmp_path, "settled", BREAKS) if v.cell]) == 3, "each of its points by itself too"


def test_one_round_says_what_could_not_be_checked(tmp_path):
    run = sampled(rounds=1)
    drift = next(rule for rule in examine(run.read(tmp_path), run.samples) if rule.rule == "drift")
    assert drift.checked == 0
    assert "two rounds" in drift.remark


def test_run_in_which_everything_failed(tmp_path):
    data = read_run(write_run(tmp_path, [failed(), failed(k=4)], cells=[]))
    violations = find_violations(data)
    assert [v.rule for v in violations if v.verdict == BREAKS] == ["failed", "failed"]


def test_imported_run_without_depth_probes_and_samples(tmp_path):
    run = CLEAN.copy()
    for record in run.records:
        record.update(depth=None, segment=None, imported=True, window_batches=None, stages=[])
    directory = write_run(tmp_path, run.records[:2], testbed="imported")
    examined = {rule.rule: rule for rule in examine(read_run(directory), None)}
    assert all(rule.remark for rule in examined.values() if not rule.checked)
    assert [v.rule for rule in examined.values() for v in rule.violations] == []


def test_imported_record_that_counts_in_spite_of_its_defects(tmp_path):
    run = CLEAN.copy()
    run.find()["imported_defects"] = "latency is 8 / throughput"
    (violation,) = found(run, tmp_path, "validity")
    assert "latency is 8 / throughput" in violation.words
    run.find().update(valid=False, invalid_reason="defective", window_batches=None)
    (violation,) = found(run, tmp_path, "validity")
    assert violation.verdict == NOTE, "its own numbers are too few to judge it"
