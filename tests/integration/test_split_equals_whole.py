"""Running the stages in turn gives the model's own output, bit for bit, at every cut."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from paretopipe_runtime import Cut, cut_points, load_model, split
from paretopipe_runtime.model.loading import image_size
from paretopipe_runtime.model.resident import ResidentModel


@pytest.fixture(scope="module", autouse=True)
def _weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOPIPE_CACHE", str(tmp_path_factory.mktemp("weights")))
        yield


def batch(name: str, batch_size: int) -> torch.Tensor:
    size = image_size(name)
    return torch.randn(batch_size, 3, size, size, generator=torch.Generator().manual_seed(3))


def over_the_wire(tensor: torch.Tensor, cut: Cut) -> torch.Tensor:
    """What a receiver makes of the raw bytes: a new storage, with the sender's shape and strides."""
    extent = cut.nbytes // cut.dtype.itemsize
    raw = bytearray(tensor.as_strided((extent,), (1,)).numpy().tobytes())
    assert len(raw) == cut.nbytes
    return torch.frombuffer(raw, dtype=cut.dtype).as_strided(tensor.shape, tensor.stride())


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "resnet50", "inception_v3", "alexnet", "vgg16"])
def test_paper_models_at_every_block_cut(name: str) -> None:
    """The prefix grows by one block per cut, through bytes; the suffix is one stage."""
    model = ResidentModel.load(name)
    value = batch(name, 2 if name in ("mobilenet_v2", "alexnet") else 1)
    cuts = model.cuts(len(value))
    with torch.inference_mode():
        expected = model.whole()(value)
        for before, cut in pairwise(cuts):
            value = model.stage(before, cut)(value)
            assert (tuple(value.shape), value.stride(), value.dtype) == (cut.shape, cut.stride, cut.dtype), cut.name
            value = over_the_wire(value, cut)
            assert torch.equal(model.stage(cut, None)(value.clone()), expected), cut.name
        assert torch.equal(value, expected)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5", "regnet_y_400mf"])
def test_other_models_at_every_node_cut(name: str) -> None:
    model, example = load_model(name), batch(name, 2)
    cuts = cut_points(model, example, "node")
    assert len(cuts) > 20
    with torch.inference_mode():
        expected = model(example)
        for cut in cuts:
            first, second = split(model, [cut])
            assert torch.equal(second(first(example)), expected), cut.name


def test_strides_must_travel() -> None:
    """ConvNeXt's activations are not contiguous; some operations sum in another order when they are made so."""
    model = ResidentModel.load("convnext_tiny")
    example = batch("convnext_tiny", 1)
    with torch.inference_mode():
        expected = model.whole()(example)
        value, turned = example, 0
        for before, cut in pairwise(model.cuts(1)[:-1]):
            value = model.stage(before, cut)(value)
            assert value.stride() == cut.stride
            rest = model.stage(cut, None)
            assert torch.equal(rest(over_the_wire(value, cut)), expected), cut.name
            if not value.is_contiguous():
                turned += 1
                # How much contiguous copies differ depends on the processor's kernels; they must stay close.
                assert torch.allclose(rest(value.contiguous()), expected, rtol=1e-4, atol=1e-4), cut.name
    assert turned >= 5


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_transformers_at_every_block_cut(name: str) -> None:
    model, example = load_model(name), batch(name, 1)
    with torch.inference_mode():
        expected = model(example)
        for cut in cut_points(model, example):
            first, second = split(model, [cut])
            assert torch.equal(second(first(example)), expected), cut.name
