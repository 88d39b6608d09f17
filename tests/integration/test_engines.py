"""Every engine computes what eager computes, at cuts of the paper's models, and leaves no second copy behind."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from paretopipe_runtime.host.models import Models
from paretopipe_runtime.host.operations import OUTPUT_TOLERANCE
from paretopipe_runtime.model.cuts import Cut
from paretopipe_runtime.model.engines import onnx_export, registry
from paretopipe_runtime.model.engines.base import EngineError, StageToBuild
from paretopipe_runtime.model.engines.builder import Builder, Part
from paretopipe_runtime.model.engines.fused import Fused, fold
from paretopipe_runtime.model.engines.onnx_runtime import OnnxRuntime
from paretopipe_runtime.model.resident import ResidentModel
from paretopipe_runtime.model.stages import extract
from paretopipe_runtime.model.tracing import trace

CPU = torch.device("cpu")
BUILDER = Builder(CPU, threads=1)
FAST = ("fused", "onnxruntime")
REQUEST = {
    "model": "squeezenet1_1",
    "weights": "random",
    "seed": 0,
    "batch_size": 2,
    "granularity": "block",
    "input": "synthetic:4",
    "input_encoding": "raw",
    "engine": "best",
    "image_shape": [224, 224],
    "stage": 0,
}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOPIPE_CACHE", str(directory))
        yield directory


def images(cut: Cut, seed: int = 3) -> torch.Tensor:
    return torch.randn(cut.shape, generator=torch.Generator().manual_seed(seed))


def difference(output: torch.Tensor, expected: torch.Tensor) -> float:
    return float((output - expected).abs().max() / expected.abs().max())


def part(engine: str, model: ResidentModel, lo: Cut, hi: Cut) -> Part:
    assert registry.missing(CPU)[engine] is None, "the extra onnxruntime belongs to the development environment"
    return BUILDER.part(engine, model, lo, hi)


def cuts_to_test(model: ResidentModel, batch_size: int = 1) -> tuple[Cut, Cut, Cut, Cut]:
    """Input, an early cut with a large tensor, a late cut, output."""
    cuts = model.cuts(batch_size)
    return cuts[0], cuts[2], cuts[-3], cuts[-1]


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "resnet50", "inception_v3", "alexnet", "vgg16"])
@torch.inference_mode()
def test_three_stages_of_different_engines_equal_the_eager_model(name: str) -> None:
    """Each engine takes what the other one sent, in the other's layout."""
    model = ResidentModel.load(name)
    cuts = cuts_to_test(model)
    expected = model.whole()(images(cuts[0]))
    orders = [("fused", "onnxruntime", "fused"), ("onnxruntime", "fused", "onnxruntime")]
    for engines in orders if name == "mobilenet_v2" else orders[1:]:
        value = images(cuts[0])
        for engine, (lo, hi) in zip(engines, itertools.pairwise(cuts), strict=True):
            value = part(engine, model, lo, hi).compute(value)
            assert tuple(value.shape) == hi.shape
            assert value.untyped_storage().nbytes() <= hi.nbytes, "what is sent must fit what the receiver expects"
        assert 0 < difference(value, expected) < OUTPUT_TOLERANCE / 10


@pytest.mark.parametrize("engine", FAST)
@torch.inference_mode()
def test_all_block_cuts_of_a_model_with_branches(engine: str) -> None:
    model = ResidentModel.load("shufflenet_v2_x0_5")  # channel_shuffle views what may lie in channels_last
    cuts = model.cuts(2)
    value = expected = images(cuts[0])
    for lo, hi in itertools.pairwise(cuts):
        value = part(engine, model, lo, hi).compute(value)
        expected = model.stage(lo, hi)(expected)
        assert difference(value, expected) < OUTPUT_TOLERANCE / 10, hi.name


@pytest.mark.slow
@torch.inference_mode()
def test_compiled_equals_eager_and_compiles_once() -> None:
    from torch._dynamo.utils import counters

    model = ResidentModel.load("squeezenet1_1")
    cuts = model.cuts(1)
    lo, hi = cuts[-3], cuts[-1]
    with torch.inference_mode(False):
        compute = part("compiled", model, lo, hi).compute
    compiled = counters["stats"]["unique_graphs"]
    value = images(lo)
    expected = model.stage(lo, hi)(value.clone())
    received = torch.frombuffer(bytearray(value.numpy().tobytes()), dtype=torch.float32).view(lo.shape)
    for layout in (value, received, value.contiguous(memory_format=torch.channels_last)):
        assert difference(compute(layout.clone()), expected) < OUTPUT_TOLERANCE / 10
    assert counters["stats"]["unique_graphs"] == compiled


@torch.inference_mode()
def test_an_output_outlives_the_next_ones() -> None:
    """The stage loop holds up to three."""
    model = ResidentModel.load("squeezenet1_1")
    lo, *_, hi = model.cuts(1)
    compute = part("onnxruntime", model, lo, hi).compute
    outputs = [compute(images(lo, seed)) for seed in range(4)]
    expected = model.whole()
    for seed, output in enumerate(outputs):
        assert difference(output, expected(images(lo, seed))) < OUTPUT_TOLERANCE / 10


def test_fused_copies_only_the_weights_that_change() -> None:
    """VGG16's linear layers, nine tenths of it, stay in the file that all stages share."""
    model = ResidentModel.load("vgg16")
    lo, *_, hi = model.cuts(1)
    stage = model.stage(lo, hi)
    before = {name: tensor.data_ptr() for name, tensor in stage.state_dict().items()}
    folded = fold(stage).to(memory_format=torch.channels_last)
    after = {name: tensor.data_ptr() for name, tensor in folded.state_dict().items()}
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if name.startswith("features") and name.endswith("weight")}


def test_a_session_takes_the_weights_out_of_the_stage() -> None:
    model = ResidentModel.load("squeezenet1_1")
    lo, *_, hi = model.cuts(1)
    module = model.stage(lo, hi)
    OnnxRuntime().build(StageToBuild(module, lo.shape, lo.stride, lo.dtype, "key", CPU, 1))
    assert {tensor.device.type for tensor in module.parameters()} == {"meta"}


def test_a_stage_is_exported_once_without_its_weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ResidentModel.load("alexnet")
    lo, *_, hi = model.cuts(1)
    before = set(cache.iterdir())
    part("onnxruntime", model, lo, hi)
    (written,) = set(cache.iterdir()) - before
    assert written.stat().st_size < 20_000

    def unexpected(*_: object, **__: object) -> None:
        raise AssertionError("exported again")

    monkeypatch.setattr(torch.onnx, "export", unexpected)
    part("onnxruntime", ResidentModel.load("alexnet"), lo, hi)


def test_a_damaged_export_is_made_anew(cache: Path) -> None:
    model = ResidentModel.load("squeezenet1_1")
    cuts = model.cuts(1)
    before = set(cache.iterdir())
    part("onnxruntime", model, cuts[-4], cuts[-1])
    (written,) = set(cache.iterdir()) - before
    content = written.read_bytes()
    for damaged in (content[:-7], content[:10], b"", content[:-1] + bytes([content[-1] ^ 1])):
        written.write_bytes(damaged)
        part("onnxruntime", model, cuts[-4], cuts[-1])
        assert written.read_bytes() == content


def test_two_workers_may_export_at_once(cache: Path) -> None:
    """Each writes a file of its own and gives it the name when it is whole."""
    graph = onnx_export.Exported(b"x" * 1_000_000, ("a",))
    path = cache / "both.onnx-graph"
    seen: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = onnx_export._read(path)
            seen.append(found is None or found == graph)

    onnx_export._write(path, graph)
    reader = threading.Thread(target=read)
    reader.start()
    writers = [threading.Thread(target=lambda: [onnx_export._write(path, graph) for _ in range(10)]) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    stop.set()
    reader.join()
    assert seen
    assert all(seen)
    assert onnx_export._read(path) == graph
    assert not list(cache.glob("*.tmp"))


def test_a_cache_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = ResidentModel.load("squeezenet1_1")
    cuts = model.cuts(1)
    (tmp_path / "file").touch()
    monkeypatch.setenv("PARETOPIPE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EngineError, match=r"cannot keep an exported stage in .*file/cache") as raised:
        part("onnxruntime", model, cuts[-2], cuts[-1])
    assert "PARETOPIPE_CACHE" in str(raised.value.remedy)


class Twice(nn.Module):
    """One convolution that runs twice, each time followed by another normalisation; then a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        for norm in (self.first, self.second):
            nn.init.uniform_(norm.weight, 1.0, 2.0)
            nn.init.uniform_(norm.running_mean, 1.0, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.conv(self.first(self.conv(x)))).view(x.shape[0], -1)


@torch.inference_mode()
def test_fused_leaves_shared_layers_alone_and_takes_views() -> None:
    with torch.inference_mode(False):
        model = Twice().eval().requires_grad_(False)
        stage = extract(trace(model), None, None)
        value = torch.randn(2, 3, 8, 8)
        expected = model(value)
        compute = Fused().build(StageToBuild(stage, (2, 3, 8, 8), (192, 64, 8, 1), torch.float32, "twice", CPU, 1))
    assert difference(compute(value), expected) < OUTPUT_TOLERANCE / 10


def test_best_is_tried_before_any_window_and_told() -> None:
    models = Models("cpu", "best", 1)
    told = models.describe(REQUEST)["engines"]
    assert (told["asked"], told["left_out"]) == ("best", {})
    assert set(told["exec_s"]) == set(registry.CANDIDATES)
    assert told["picked"] == min(told["exec_s"], key=told["exec_s"].get)
    assert told["profiling_s"] > sum(told["exec_s"].values())
    assert models.describe(REQUEST)["engines"] == told | {"profiling_s": 0.0}
    cuts = models.model(REQUEST).cuts(2)
    assert models.build(REQUEST, cuts, 0, cuts[-1].index).engine == told["picked"]


def test_the_inventory_says_what_best_is() -> None:
    models = Models("cpu", "fused", 1)
    told = models.describe(REQUEST)["engines"]
    assert told == {"asked": "best", "picked": "fused", "exec_s": None, "left_out": None, "profiling_s": 0.0}
    assert models.describe(REQUEST | {"engine": "eager"})["engines"]["picked"] == "eager"
    assert "engines" not in models.describe({k: v for k, v in REQUEST.items() if k != "engine"})


@pytest.mark.parametrize("engine", ["fused", "onnxruntime"])
def test_blocks_are_profiled_with_the_engine_that_is_asked_for(engine: str) -> None:
    models = Models("cpu", "best", 1)
    answer = models.profile_blocks(REQUEST | {"engine": engine, "repeats": 2})
    assert answer["engine"] == engine
    assert len(answer["rows"]) == len(models.model(REQUEST).cuts(2)) - 1
    assert all(len(row["exec_samples_s"]) == 2 and min(row["exec_samples_s"]) > 0 for row in answer["rows"])


@torch.inference_mode()
def test_a_worker_builds_both_stages_of_a_cell() -> None:
    """From 8-bit images, each by its own host's engine."""
    with torch.inference_mode(False):
        first, second = Models("cpu", "fused", 1), Models("cpu", "onnxruntime", 1)
        cuts = first.model(REQUEST).cuts(2)
        middle = cuts[len(cuts) // 2].index
        one = first.build(REQUEST, cuts, 0, middle)
        two = second.build(REQUEST | {"stage": 1}, cuts, middle, cuts[-1].index)
    assert (one.engine, two.engine) == ("fused", "onnxruntime")
    model = first.model(REQUEST)
    batch = first.input(REQUEST, model).batch(0)
    expected = first.reference(model, REQUEST, encoded=False)
    assert difference(two.compute(one.compute(batch)), expected) < OUTPUT_TOLERANCE / 10
    whole = sum(t.nbytes for t in [*model.whole().parameters(), *model.whole().buffers()])
    assert one.parameter_bytes + two.parameter_bytes == whole
