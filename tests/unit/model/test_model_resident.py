from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest
import torch
import toy_models
from fresh_process import run_python
from torch import nn

from paretopipe_runtime import load_model
from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.resident import ResidentModel

SMALL = "toy_models:small"


def names(stage: nn.Module) -> set[str]:
    return {name for name, _ in [*stage.named_parameters(remove_duplicate=False), *stage.named_buffers()]}


def test_it_says_what_the_model_is() -> None:
    model = ResidentModel.load("squeezenet1_1")
    assert model.parameters == 1_235_496
    assert model.image_size == 224
    assert len(model.blocks) == 17
    assert len(model.graph_hash) == len(model.weight_hash) == 32
    again = ResidentModel.load("squeezenet1_1")
    assert (again.graph_hash, again.weight_hash) == (model.graph_hash, model.weight_hash)
    assert ResidentModel.load("squeezenet1_1", seed=1).weight_hash != model.weight_hash
    assert ResidentModel.load("squeezenet1_0").graph_hash != model.graph_hash


@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_16", SMALL])
@pytest.mark.parametrize("seed", [0, 3])
def test_the_whole_equals_load_model(name: str, seed: int) -> None:
    model = ResidentModel.load(name, seed=seed)
    example = torch.randn(2, 3, model.image_size, model.image_size)
    with torch.inference_mode():
        assert torch.equal(model.whole()(example), load_model(name, seed=seed)(example))


def test_factory_and_file_weights_equal_load_model(tmp_path: Path, images: torch.Tensor) -> None:
    factory = load_model(SMALL, weights="factory", seed=4)
    path = tmp_path / "w.pt"
    torch.save(factory.state_dict(), path)
    with torch.inference_mode():
        expected = factory(images)
        assert torch.equal(ResidentModel.load(SMALL, weights="factory", seed=4).whole()(images), expected)
        assert torch.equal(ResidentModel.load(SMALL, weights=path).whole()(images), expected)


def test_stages_hold_their_own_tensors_only_in_eval_mode() -> None:
    model = ResidentModel.load("squeezenet1_1")
    cut = model.cuts(1)[5]
    first, second = model.stage(None, cut), model.stage(cut, None)
    assert "features.0.weight" in names(first)
    assert "classifier.1.weight" in names(second)
    assert not names(first) & names(second)
    assert names(first) | names(second) == names(model.whole())
    for stage in (first, second):
        assert not any(module.training for module in stage.modules())
        assert not any(parameter.requires_grad for parameter in stage.parameters())
        assert all(parameter.isfinite().all() for parameter in stage.parameters())


def test_tied_tensors_stay_tied() -> None:
    stage = ResidentModel.load(SMALL).whole()
    assert stage.get_parameter("head.weight") is stage.get_parameter("again.weight")


def test_a_new_stage_shares_pages_with_one_that_is_alive_but_no_parameters() -> None:
    model = ResidentModel.load("squeezenet1_1")
    first, second = model.whole(), model.whole()
    one, two = first.get_parameter("classifier.1.weight"), second.get_parameter("classifier.1.weight")
    assert one is not two
    assert one.data_ptr() == two.data_ptr()
    first.to(memory_format=torch.channels_last)
    assert two.data_ptr() == model.whole().get_parameter("classifier.1.weight").data_ptr()
    weight = "features.3.expand3x3.weight"
    assert not first.get_parameter(weight).is_contiguous()
    assert second.get_parameter(weight).is_contiguous()
    assert model.whole().get_parameter(weight).is_contiguous()


def test_cuts_are_listed_per_batch_size_and_granularity() -> None:
    model = ResidentModel.load("resnet18")
    assert [cut.paper_name for cut in model.cuts(8)][5] == "P1"
    assert model.cuts(8)[5].nbytes == 8 * model.cuts(1)[5].nbytes
    assert len(model.cuts(1, "node")) == 24
    assert model.cuts(1) is not model.cuts(1)
    with pytest.raises(ModelError, match="granularity"):
        model.cuts(1, "layer")


def test_block_stages_lie_between_consecutive_cuts() -> None:
    model = ResidentModel.load("squeezenet1_1")
    cuts = model.cuts(2)
    stages = model.block_stages(cuts)
    assert len(stages) == len(cuts) - 1
    value = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = model.whole()(value)
        for stage, cut in zip(stages, cuts[1:], strict=True):
            value = stage(value)
            assert (tuple(value.shape), value.stride(), value.dtype) == (cut.shape, cut.stride, cut.dtype)
    assert torch.equal(value, expected)


def test_preprocess_makes_the_models_input() -> None:
    made = ResidentModel.load(SMALL).preprocess()(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert made.shape == (2, 3, 32, 32)
    assert made[0, 0, 0, 0] == pytest.approx(-0.485 / 0.229)


def test_an_untraceable_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_models, "small", toy_models.Branches)
    with pytest.raises(ModelError, match="Branches cannot be traced"):
        ResidentModel.load(SMALL)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet50", "inception_v3", "vgg16"])
def test_a_stage_is_made_well_within_100_ms(name: str) -> None:
    model = ResidentModel.load(name)
    cut = model.cuts(1)[3]
    taken: list[float] = []
    for _ in range(5):
        begin = perf_counter()
        model.stage(cut, None)
        taken.append(perf_counter() - begin)
    assert min(taken) < 0.09


def test_memory_is_what_a_stage_needs_and_is_given_back(weight_cache: Path) -> None:
    """vgg16: classifier.0 has 411 MB of weights, classifier.6 has 16 MB, the first convolution 7 kB."""
    code = """
        import gc, sys, torch
        from pathlib import Path
        from paretopipe_runtime.model.resident import ResidentModel
        torch.set_num_threads(1)
        model = ResidentModel.load("vgg16", cache_dir=Path(sys.argv[1]))
        cuts = {cut.name: cut for cut in model.cuts(1)}
        def grow(lo, hi):
            stage, example = model.stage(cuts[lo], cuts[hi]), torch.zeros(cuts[lo].shape)
            with torch.inference_mode():
                stage(example)
            growth = resident_mb() - before
            del stage, example
            gc.collect()
            return growth
        before = resident_mb()
        grow("classifier.5", "output")
        before = resident_mb()
        print(grow("input", "features.0"), grow("classifier.5", "output"), grow("avgpool", "classifier.0"))
        print(resident_mb() - before)
    """
    first, last, largest, after = map(float, run_python(code, str(weight_cache)).split())
    assert first < 40
    assert 14 < last < 40
    assert 400 < largest < 450
    assert after < 40
