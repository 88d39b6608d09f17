from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
import toy_models
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_runtime import Cut, cut_points
from paretopipe_runtime.model.cuts import extent_bytes
from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.loading import image_size, skeleton
from paretopipe_runtime.model.paper_names import paper_model, paper_names

COUNTS = {
    "mobilenet_v2": (20, 72),
    "resnet18": (13, 22),
    "resnet50": (21, 38),
    "inception_v3": (20, 31),
    "alexnet": (20, 21),
    "vgg16": (38, 39),
}


def cuts_of(name: str, granularity: str = "block", batch_size: int = 1) -> list[Cut]:
    size = image_size(name)
    return cut_points(skeleton(name), torch.empty(batch_size, 3, size, size), granularity)


@pytest.mark.parametrize(("name", "counts"), COUNTS.items())
def test_paper_models_have_the_known_number_of_cuts(name: str, counts: tuple[int, int]) -> None:
    for granularity, count in zip(("block", "node"), counts, strict=True):
        cuts = cuts_of(name, granularity)
        assert len(cuts) == count + 2
        assert (cuts[0].index, cuts[0].name, cuts[0].paper_name) == (0, "input", None)
        assert (cuts[-1].name, cuts[-1].paper_name, cuts[-1].shape) == ("output", None, (1, 1000))
        positions = [cut.position for cut in cuts]
        assert positions == sorted(set(positions))
        assert [cut.index for cut in cuts] == list(range(count + 2))
        assert len({cut.name for cut in cuts}) == len(cuts)
        assert all(cut.nbytes > 0 for cut in cuts)


def test_block_cuts_take_the_cheapest_place_between_two_blocks() -> None:
    cuts = {cut.name: cut for cut in cuts_of("mobilenet_v2")}
    assert cuts["input"].nbytes == 4 * 3 * 224 * 224
    assert cuts["features.17"].nbytes == 62_720
    assert cuts["features.18"].nbytes == 5_120  # after pooling, not 250,880 before it
    assert cuts["features.18"].shape == (1, 1280, 1, 1)  # the pooling itself: flatten sends as much, and is later
    assert cuts["features.0"].shape == (1, 32, 112, 112)


def test_bytes_grow_with_the_batch() -> None:
    one, eight = cuts_of("resnet18"), cuts_of("resnet18", batch_size=8)
    assert [8 * cut.nbytes for cut in one] == [cut.nbytes for cut in eight]
    assert eight[3].shape == (8, 64, 112, 112)


def test_a_boundary_that_two_tensors_cross_has_no_cut(images: torch.Tensor) -> None:
    model = toy_models.Diamond().eval()
    assert [(cut.index, cut.name) for cut in cut_points(model, images)] == [
        (0, "input"),
        (1, "a"),
        (2, "b"),
        (3, "output"),
    ]
    assert cut_points(model, images)[2].node == "add"  # behind b both a and b are needed until they are added
    assert [cut.name for cut in cut_points(model, images, "node")] == ["input", "a", "add", "output"]


def test_sizes_do_not_cross() -> None:
    class Sized(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = torch.nn.ReLU(), torch.nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            batch = x.shape[0]
            return self.b(self.a(x)).view(batch, -1)

    names = [cut.name for cut in cut_points(Sized().eval(), torch.empty(2, 3, 4, 4), "node")]
    assert names == ["input", "output"]


def test_parameters_used_outside_modules_do_not_prevent_cuts() -> None:
    assert len(cuts_of("convnext_tiny")) == 13
    assert len(cuts_of("swin_t", "node")) > 20


def test_cuts_are_values() -> None:
    cut = cuts_of("alexnet")[1]
    assert cut == cuts_of("alexnet")[1]
    assert cut.dtype is torch.float32
    with pytest.raises(FrozenInstanceError):
        cut.index = 5


def labels(name: str) -> dict[str, str]:
    return {cut.paper_name: cut.name for cut in cuts_of(name) if cut.paper_name}


def test_paper_names() -> None:
    mobilenet = labels("mobilenet_v2")
    assert [*mobilenet] == [f"P{k}" for k in range(1, 21)]
    assert (mobilenet["P1"], mobilenet["P3"], mobilenet["P17"]) == ("features.0", "features.2", "features.16")
    resnet18 = labels("resnet18")
    assert [*resnet18] == [f"P{k}" for k in range(1, 9)]
    assert (resnet18["P1"], resnet18["P2"], resnet18["P8"]) == ("layer1.0", "layer1.1", "layer4.1")
    resnet50 = labels("resnet50")
    assert len(resnet50) == 16
    assert (resnet50["P5"], resnet50["P15"]) == ("layer2.1", "layer4.1")
    assert len(labels("vgg16")) == 38
    inception = labels("inception_v3")
    assert (len(inception), inception["P10"], inception["P19"]) == (20, "Mixed_5d", "avgpool")
    assert labels("alexnet")["P14"] == "avgpool"


def test_node_cuts_carry_the_paper_name_of_the_block_cut_at_their_node() -> None:
    nodes = {cut.node: cut.paper_name for cut in cuts_of("resnet18", "node")}
    for cut in cuts_of("resnet18")[1:-1]:
        assert nodes[cut.node] == cut.paper_name


@pytest.mark.parametrize("name", ["resnet34", "resnext50_32x4d", "wide_resnet50_2", "vgg16_bn", "vgg19", "googlenet"])
def test_other_models_have_no_paper_names(name: str) -> None:
    assert paper_model(skeleton(name)) is None
    assert not labels(name)


def test_a_paper_model_with_other_classes_is_still_that_model() -> None:
    import torchvision

    assert paper_model(torchvision.models.mobilenet_v2(weights=None, num_classes=10)) == "mobilenet_v2"
    assert paper_names(None, 21) == {}


def test_what_cannot_be_cut_says_why(images: torch.Tensor) -> None:
    with pytest.raises(ModelError, match="granularity 'layer' not understood: block or node"):
        cut_points(toy_models.Diamond(), images, "layer")
    with pytest.raises(ModelError, match=r"does not take an input of shape \[2, 5, 8, 8\] \(torch.float32\): at a: "):
        cut_points(toy_models.Diamond(), torch.empty(2, 5, 8, 8))

    class Scalar(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> int:
            return x.size(0)

    with pytest.raises(ModelError, match="does not return one tensor"):
        cut_points(Scalar(), images)


@given(st.lists(st.integers(0, 4), min_size=0, max_size=4), st.data())
def test_extent_is_what_the_storage_spans(shape: list[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    tensor = torch.empty([shape[i] for i in order]).permute([order.index(i) for i in range(len(shape))])
    assert list(tensor.shape) == shape
    step = data.draw(st.integers(1, 3))
    if shape:
        tensor = tensor[::step]
    expected = 0
    if tensor.numel():
        offsets = [sum(i * s for i, s in zip(at, tensor.stride(), strict=True)) for at in _indices(tensor)]
        expected = (max(offsets) + 1) * 4
    assert extent_bytes(tensor.shape, tensor.stride(), tensor.dtype) == expected


def _indices(tensor: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(index) for index in torch.ones(tensor.shape).nonzero().tolist()]
