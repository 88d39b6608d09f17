from __future__ import annotations

import copy
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
import torchvision
import toy_models
from torch import nn

from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.loading import skeleton
from paretopipe_runtime.model.tracing import graph_hash, trace

BLOCKS = {"mobilenet_v2": 21, "resnet18": 14, "resnet50": 22, "inception_v3": 21, "alexnet": 21, "vgg16": 39}
OTHERS = (
    *("convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "maxvit_t", "mnasnet0_5"),
    *("mobilenet_v3_small", "regnet_y_400mf", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t"),
    *("swin_v2_t", "vgg11_bn", "vit_b_16"),
)


@pytest.mark.parametrize(("name", "count"), BLOCKS.items())
def test_paper_models_have_the_papers_blocks(name: str, count: int) -> None:
    assert len(trace(skeleton(name)).blocks) == count


def test_block_names_are_module_names_in_order_and_what_does_not_run_is_none() -> None:
    blocks = trace(skeleton("inception_v3")).blocks
    assert blocks[:3] == ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
    assert blocks[-3:] == ("avgpool", "dropout", "fc")
    assert "AuxLogits" not in blocks
    assert trace(skeleton("mobilenet_v2")).blocks[-3:] == ("features.18", "classifier.0", "classifier.1")
    assert trace(skeleton("resnet18")).blocks[3:6] == ("maxpool", "layer1.0", "layer1.1")


def test_a_module_that_runs_again_later_is_another_block() -> None:
    assert trace(toy_models.Reused()).blocks == ("first", "act", "second", "act@2")


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_trace(name: str) -> None:
    module = skeleton(name)
    traced = trace(module)
    assert len(traced.blocks) >= 3
    assert set(traced.module.state_dict()) <= set(module.state_dict()) | {n for n, _ in module.named_buffers()} | {
        n for n in traced.module.state_dict() if n.startswith("_tensor_constant")
    }


def test_every_torchvision_classification_model_traces() -> None:
    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) >= 80
    for name in names:
        assert len(trace(skeleton(name)).blocks) >= 3, name


def test_tracing_leaves_the_module_as_it_was() -> None:
    module = toy_models.Small().eval()
    before, state = dict(vars(module)), copy.deepcopy(module.state_dict())
    traced = trace(module)
    assert vars(module).keys() == before.keys()
    assert type(module) is toy_models.Small
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
    assert traced.module.body.get_submodule("0") is module.body[0]


def test_optional_inputs_are_their_defaults() -> None:
    traced = trace(toy_models.Small().eval())
    assert [node.op for node in traced.nodes].count("placeholder") == 1
    assert "extra" not in traced.module.code


def test_statements_that_write_in_place_are_kept(images: torch.Tensor) -> None:
    module = toy_models.WritesInPlace().eval()
    with torch.no_grad():
        assert torch.equal(trace(module).module(images), module(images))


def test_dead_code_is_dropped() -> None:
    class Dead(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.sin(x)
            return x + 1

    assert [node.op for node in trace(Dead()).nodes] == ["placeholder", "call_function", "output"]


def test_untraceable_models_say_where() -> None:
    with pytest.raises(ModelError) as caught:
        trace(toy_models.Branches())
    message = str(caught.value)
    assert message.startswith("Branches cannot be traced by torch.fx: symbolically traced variables cannot be used")
    assert "toy_models.py:" in message
    assert message.endswith("if x.sum() > 0:")
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (toy_models.Pair(), "Pair returns tuple, not one tensor: call eval.. first, or wrap it"),
        (toy_models.Pair().eval(), "Pair returns tuple, not one tensor: wrap it"),
        (toy_models.TwoInputs(), "TwoInputs.forward also needs y: wrap it"),
    ],
)
def test_models_of_another_form_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        trace(module)


def test_graph_hash_is_the_same_in_another_process() -> None:
    code = """
from paretopipe_runtime.model.loading import skeleton
from paretopipe_runtime.model.tracing import graph_hash, trace
print(*(graph_hash(trace(skeleton(name))) for name in ("swin_t", "resnet18", "vit_b_16")))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [graph_hash(trace(skeleton(name))) for name in ("swin_t", "resnet18", "vit_b_16")]


def test_graph_hash_tells_models_settings_and_constants_apart() -> None:
    def scaled(by: float) -> nn.Module:
        class Scaled(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x * torch.tensor([by])

        return Scaled()

    modules = [
        nn.Sequential(nn.Conv2d(3, 3, 3)),
        nn.Sequential(nn.Conv2d(3, 3, 3, stride=2)),
        nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)),
        scaled(2.0),
        scaled(3.0),
    ]
    hashes = [graph_hash(trace(module.eval())) for module in modules]
    assert len(set(hashes)) == len(hashes)
    assert graph_hash(trace(scaled(2.0).eval())) == hashes[3]
    assert all(len(digest) == 32 for digest in hashes)
    assert all(a != b for a, b in pairwise(hashes))
