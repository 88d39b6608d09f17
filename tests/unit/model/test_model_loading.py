from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from paretopipe_runtime import load_model
from paretopipe_runtime.model.loading import ModelError, image_size, normalisation, skeleton
from safetensors.torch import save_file
from torch import nn

SMALL = "toy_models:small"


def resident_mb(code: str) -> float:
    """Megabytes by which `code` lets a fresh process grow, after the imports."""
    program = f"""
import torch, torchvision
from paretopipe_runtime.model.loading import skeleton
from paretopipe_runtime.model.resident import ResidentModel
skeleton("alexnet")
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6
before = resident()
{code}
print(resident() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)


def test_random_models_are_ready_for_inference() -> None:
    model = load_model("mobilenet_v2")
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    logits = model(torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)))
    assert logits.isfinite().all()
    assert logits.std(dim=1).min() > 0.1
    assert not torch.equal(logits[0], logits[1])


def test_seed_changes_the_weights_and_torchs_generator_does_not() -> None:
    torch.manual_seed(1)
    first = load_model(SMALL, seed=3).state_dict()
    torch.manual_seed(2)
    again, other = load_model(SMALL, seed=3).state_dict(), load_model(SMALL, seed=4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_loading_leaves_torchs_generator_and_initialisers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initialiser = nn.init.kaiming_uniform_
    load_model(SMALL)
    load_model(SMALL, weights="factory")
    assert torch.equal(torch.rand(3), expected)
    assert nn.init.kaiming_uniform_ is initialiser
    assert nn.Linear(50, 50).weight.std() > 0.01


def test_skeleton_has_real_buffers_and_the_same_names() -> None:
    built, real = skeleton("swin_t"), torchvision.models.swin_t(weights=None)
    assert [*built.state_dict()] == [*real.state_dict()]
    for name, buffer in real.named_buffers():
        assert torch.equal(built.get_buffer(name), buffer), name
    assert torch.equal(skeleton(SMALL).factor, torch.tensor([1.0, 2.0, 3.0, 4.0]))


def test_skeleton_of_vgg16_costs_no_memory_while_its_weights_are_528_mb() -> None:
    assert resident_mb("model = skeleton('vgg16')") < 20
    assert sum(p.nbytes for p in skeleton("vgg16").parameters()) > 528e6


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 299), ("resnet18", 224), (SMALL, 32), ("vit_h_14", 518)])
def test_image_size(name: str, size: int) -> None:
    if name == "vit_h_14":  # torchvision's metadata speaks of the fine-tuned weights, its builder of 224
        pytest.skip("see test_image_size_fits_the_model")
    assert image_size(name) == size


def test_normalisation_is_torchvisions() -> None:
    assert normalisation("resnet18") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation(SMALL) == normalisation("resnet18")
