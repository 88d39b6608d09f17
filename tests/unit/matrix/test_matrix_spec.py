import json
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.errors import SpecError
from paretopipe_matrix.spec import Spec, auto_depths, differences
from paretopipe_matrix.spec_source import check_paths, load_spec, parse_spec, stored_spec


def spec(text="", suffix=".yml", **flags):
    return parse_spec(dedent(text).lstrip("\n"), f"spec{suffix}", suffix, flags).spec


def refusal(text="", suffix=".yml", **flags):
    with pytest.raises(SpecError) as error:
        spec(text, suffix, **flags)
    return str(error.value)


def test_defaults():
    default = spec()
    assert (default.models, default.splits, default.profiles) == (("mobilenet_v2",), ("all",), ("lan",))
    assert (default.batch_sizes, default.depths, default.rounds) == ((8,), (1, 2, 4), 3)
    assert (default.window.seconds, default.window.min_batches, default.window.batches) == (1.0, 5, None)
    assert (default.backends, default.engines, default.streams) == (("socket",), ("eager",), "auto")
    assert default.pipelines == ()
    assert auto_depths(2) == (1, 2, 4)


def test_yaml_and_toml_mean_the_same():
    yaml = spec(
        """
        models: [resnet18, alexnet]
        splits: P3, 3:9
        backends: socket, rpc-hub
        streams: 4
        depths: 4,1
        window: {batches: 20}
        matrix:
          - profiles: duress
          - batch_sizes: 1
        """
    )
    toml = spec(
        """
        models = ["resnet18", "alexnet"]
        splits = "P3, 3:9"
        backends = ["socket", "rpc-hub"]
        streams = "4"
        depths = [4, 1]
        window = {batches = 20}
        [[matrix]]
        profiles = "duress"
        [[matrix]]
        batch_sizes = [1]
        """,
        ".toml",
    )
    assert yaml == toml
    assert yaml.depths == (1, 4)
    first, second = yaml.entries()
    assert (first.profiles, first.batch_sizes) == (("duress",), (8,))
    assert (second.profiles, second.batch_sizes, second.window.batches) == (("lan",), (1,), 20)


def test_unquoted_range_is_no_sexagesimal_number():
    assert spec("splits: 3:9").splits == ("3:9",)
    assert spec("splits: [3:9, 0, N]").splits == ("3:9", "0", "N")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "models: [a]\nbath_sizes: 8",
            ["spec.yml:2: bath_sizes: unknown key", "did you mean batch_sizes", "pipelines"],
        ),
        ("rounds: 3\ndepths: [1, 0]", ["spec.yml:2: depths: 0 is not a whole number from 1; valid: auto"]),
        ("depths: true", ["spec.yml:1: depths: True is not"]),
        ("granularity: layer", ["spec.yml:1: granularity", "'block' or 'node'", "'layer'"]),
        ("backends: rcp", ["unknown backend 'rcp' (did you mean rpc?); valid: socket, rpc, rpc-mpt_uv, rpc-hub"]),
        ("engines: [eager, onnx]", ["unknown engine 'onnx'", "valid: eager, fused, onnxruntime, compiled, best"]),
        ("streams: 0", ["spec.yml:1: streams: 0: valid: auto, or a whole number from 1 to 64"]),
        ("streams: many", ["streams: 'many': valid: auto"]),
        ("models: ['bad name']", ["neither a torchvision name"]),
        ("models: []", ["must name at least one"]),
        ("models: [{a: 1}]", ["is not a name"]),
        ("splits: [[1]]", ["is not a split"]),
        ("input: webcam", ["valid: synthetic, synthetic:32, folder:PATH, cifar10:PATH"]),
        ("input_encoding: png", ["'raw' or 'jpeg'"]),
        ("window: {batches: 5, seconds: 1}", ["window: give either batches or seconds"]),
        ("window:\n  min_batches: -1", ["spec.yml:2: window.min_batches"]),
        ("window:\n  min_batch: 1", ["spec.yml:2: window.min_batch: unknown key (did you mean min_batches?)"]),
        ("cell_timeout_s: .inf", ["cell_timeout_s"]),
        ("matrix:\n- rounds: 2", ["spec.yml:2: matrix[0].rounds: unknown key"]),
        ("matrix:\n- {}\n- models: a\n  granularity: b", ["spec.yml:4: matrix[1].granularity"]),
        ("models: a\nmodels: b", ["spec.yml:2: models: given twice (first on line 1)"]),
        ("models: [a\nx: 1", ["spec.yml:2: not valid YAML"]),
        ("- models", ["spec.yml:1: a spec is a mapping"]),
        ("seed: '7'", ["spec.yml:1: seed"]),
    ],
)
def test_yaml_mistakes_name_the_line_and_what_is_valid(text, words):
    message = refusal(text)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('models = ["a"]\nrounds = 0', ["spec.toml:2: rounds"]),
        ("[window]\nbatches = 5\nmin_batches = 0", ["spec.toml:3: window.min_batches"]),
        ('[[matrix]]\nmodels = "a"\n\n[[matrix]]\nmodels = "b"\ngranularity = "x"', ["spec.toml:6: matrix[1].gran"]),
        ("[[matrix]]\n[[matrix]]\n[matrix.window]\nbatches = 0", ["spec.toml:4: matrix[1].window.batches"]),
        ('matrix = [{granularity = "x"}]', ["spec.toml:1: matrix[0].granularity"]),
        ("rounds = 1\nmodels = [", ["spec.toml:2: not valid TOML"]),
        ("rounds = 1\nrouns = 1", ["spec.toml:2: rouns: unknown key (did you mean rounds?)"]),
    ],
)
def test_toml_mistakes_name_the_line(text, words):
    message = refusal(text, ".toml")
    for word in words:
        assert word in message


def test_all_mistakes_are_told_at_once():
    assert len(refusal("rounds: 0\nseed: -1\nfoo: 1").splitlines()) == 3


def test_flags_win_over_top_level_and_entries_and_are_named():
    text = "models: a\nwindow: {min_batches: 9}\nmatrix: [{models: b, profiles: p}, {splits: 3}]"
    loaded = spec(text, models="c", window={"batches": 4})
    assert [entry.models for entry in loaded.entries()] == [("c",), ("c",)]
    assert loaded.entries()[0].profiles == ("p",)
    assert (loaded.window.batches, loaded.window.seconds, loaded.window.min_batches) == (4, None, 9)
    assert refusal(text, batch_sizes="x").startswith("--batch-size: batch_sizes: 'x'")
    assert refusal(text, window={"min_batches": 0}).startswith("--min-batches: window.min_batches")


def test_unknown_suffix_and_missing_file(tmp_path):
    with pytest.raises(SpecError, match=r"\.yml, \.yaml, \.json or \.toml"):
        parse_spec("", "spec.ini", ".ini")
    with pytest.raises(SpecError, match=r"nope\.yml: cannot read the spec: No such file"):
        load_spec(tmp_path / "nope.yml")


def test_paths_are_checked_and_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.safetensors").touch()
    (tmp_path / "images").mkdir()
    loaded = check_paths(parse_spec("weights: w.safetensors\ninput: folder:images", "s.yml", ".yml"))
    assert loaded.spec.weights == str(tmp_path / "w.safetensors")
    assert loaded.spec.input == f"folder:{tmp_path / 'images'}"
    for text, words in (
        ("rounds: 1\nweights: nope.pth", r"s\.yml:2: weights: no file nope\.pth; valid: random, factory"),
        ("input: cifar10:nope", r"s\.yml:1: input: cifar10:nope: nope does not exist"),
        ("matrix:\n- models: a\n- weights: nope.pth", r"s\.yml:3: weights"),
    ):
        with pytest.raises(SpecError, match=words):
            check_paths(parse_spec(text, "s.yml", ".yml"))


def test_canonical_json_reads_back_as_the_same_spec(tmp_path):
    original = spec(
        "pipelines: [p]\nsplits: [P3, 1:2]\ndepths: auto\nmatrix: [{window: {batches: 3}}, {weights: random}]"
    )
    stored = json.loads(json.dumps(original.as_json()))
    again = stored_spec(stored, tmp_path / "run.json").spec
    assert again.as_json() == original.as_json()
    assert [e.model_dump() for e in again.entries()] == [e.model_dump() for e in original.entries()]


def test_differences_name_old_and_new():
    changed = differences(spec("rounds: 3").as_json(), spec("rounds: 5\nwindow: {batches: 2}\nsplits: 1,2").as_json())
    assert set(changed) == {
        "rounds: 3 -> 5",
        "splits: all -> 1,2",
        "window.batches: (none) -> 2",
        "window.seconds: 1.0 -> (none)",
    }
    assert differences(spec().as_json(), spec("rounds: 3").as_json()) == []


@given(st.lists(st.integers(1, 64), min_size=1))
def test_depths_from_text_and_list_agree(depths):
    text = ",".join(map(str, depths))
    assert spec(f"depths: {json.dumps(text)}").depths == spec(f"depths: {depths}").depths == tuple(sorted(set(depths)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_escaped_surrogate_pairs_are_one_character():
    assert parse_spec('{"pipelines": "\\ud83d\\ude80"}', "spec", ".json").spec.pipelines == ("\U0001f680",)


@given(st.sampled_from(sorted(Spec.model_fields)), json_values)
def test_any_value_is_taken_or_refused_in_words(key, value):
    try:
        loaded = parse_spec(json.dumps({key: value}), "spec", ".json")
    except SpecError as error:
        message = str(error)
        loaded = None
    if loaded is None:
        assert message.startswith("spec:1: ")
        return
    stored = loaded.spec.with_default_pipeline("p").as_json()
    assert stored_spec(json.loads(json.dumps(stored)), Path("run.json")).spec.as_json() == stored
