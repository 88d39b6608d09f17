from __future__ import annotations

import pytest
import torch
import toy_models
from torch import nn

from paretopipe_runtime import cut_points, load_model, split
from paretopipe_runtime.model.errors import ModelError


def run(stages: list[nn.Module], value: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        for stage in stages:
            value = stage(value)
    return value


def test_stages_hold_only_their_own_tensors_and_share_them_with_the_model(images: torch.Tensor) -> None:
    model = load_model("squeezenet1_1")
    cut = cut_points(model, images)[4]
    first, second = split(model, [cut])
    one, two = set(first.state_dict()), set(second.state_dict())
    assert one | two == set(model.state_dict())
    assert not one & two
    assert first.get_parameter("features.0.weight") is model.features[0].weight


def test_several_cuts_give_several_stages(images: torch.Tensor) -> None:
    model = load_model("squeezenet1_1")
    cuts = cut_points(model, images, "node")
    stages = split(model, [cuts[2], cuts[9], cuts[20]])
    assert len(stages) == 4
    assert torch.equal(run(stages, images), run([model], images))
    assert len(split(model, [])) == 1


@pytest.mark.parametrize("which", [0, -1])
def test_the_outer_cuts_give_a_stage_that_returns_its_input(which: int, images: torch.Tensor) -> None:
    model = load_model("squeezenet1_1")
    cut = cut_points(model, images)[which]
    stages = split(model, [cut])
    idle = stages[which]
    assert idle(images) is images
    assert not idle.state_dict()
    assert torch.equal(run(stages, images), run([model], images))


def test_both_outer_cuts_at_once(images: torch.Tensor) -> None:
    model = load_model("toy_models:small")
    cuts = cut_points(model, images)
    assert torch.equal(run(split(model, [cuts[0], cuts[-1]]), images), run([model], images))


@pytest.mark.parametrize("make", [toy_models.Small, toy_models.WritesInPlace, toy_models.Reused, toy_models.Diamond])
def test_own_models_split_bitwise_at_every_node(make: type[nn.Module], images: torch.Tensor) -> None:
    model = make().eval()
    expected = run([model], images.clone())
    for cut in cut_points(model, images, "node"):
        assert torch.equal(run(split(model, [cut]), images.clone()), expected), cut.name


def test_an_effect_after_the_output_belongs_to_the_stage_that_makes_it(images: torch.Tensor) -> None:
    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            z = y + x
            z.add_(y)
            return z

    model = Late().eval()
    last = cut_points(model, images)[-1]
    first, second = split(model, [last])
    assert torch.equal(first(images), model(images))
    assert second(images) is images


def test_the_model_is_not_changed(images: torch.Tensor) -> None:
    model = load_model("squeezenet1_1")
    model.train()
    modules, attributes = list(model.modules()), set(vars(model))
    cuts = cut_points(model, images)
    split(model, cuts[1:4])
    assert list(model.modules()) == modules
    assert set(vars(model)) == attributes
    assert all(module.training for module in model.modules())


def test_stages_are_in_the_models_mode(images: torch.Tensor) -> None:
    model = load_model("squeezenet1_1")
    cuts = cut_points(model, images)
    assert not any(module.training for stage in split(model, cuts[3:5]) for module in stage.modules())


def test_cuts_in_the_wrong_order_or_of_another_model_are_refused(images: torch.Tensor) -> None:
    model = load_model("squeezenet1_1")
    cuts = cut_points(model, images)
    with pytest.raises(ModelError, match=r"cut 4 'features.3' is not before cut 2 'features.1'"):
        split(model, [cuts[4], cuts[2]])
    with pytest.raises(ModelError, match="each once: cut 3"):
        split(model, [cuts[3], cuts[3]])
    foreign = cut_points(load_model("resnet18"), images)[5]
    with pytest.raises(ModelError, match=r"cut 5 'layer1.0' \(node layer1_0_relu_1\) is not a cut of this model"):
        split(model, [foreign])
