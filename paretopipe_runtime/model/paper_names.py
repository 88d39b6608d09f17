"""The labels of the paper ("Where to Split? A Pareto-Front Analysis of DNN Partitioning for Edge Inference", 2026)."""

from __future__ import annotations

from torch import nn

RESNET_STEM_BLOCKS = 4
"""conv1, bn1, relu, maxpool: the paper starts to count after them."""

_RESNETS = {"resnet18": ("BasicBlock", (2, 2, 2, 2)), "resnet50": ("Bottleneck", (3, 4, 6, 3))}


def paper_model(module: nn.Module) -> str | None:
    """Which of the paper's six models a module is, by its architecture (any number of classes); None for all others."""
    from torchvision.models import VGG, AlexNet, Inception3, MobileNetV2, ResNet

    if type(module) is MobileNetV2:
        return "mobilenet_v2"
    if type(module) is AlexNet:
        return "alexnet"
    if type(module) is Inception3:
        return "inception_v3"
    if (
        type(module) is VGG and len(list(module.get_submodule("features").children())) == 31
    ):  # 13 convolutions without batch norm
        return "vgg16"
    if type(module) is ResNet and module.groups == 1 and module.base_width == 64:
        layers = [list(module.get_submodule(f"layer{k}").children()) for k in (1, 2, 3, 4)]
        shape = (type(layers[0][0]).__name__, tuple(len(layer) for layer in layers))
        return next((name for name, expected in _RESNETS.items() if shape == expected), None)
    return None


def paper_names(model: str | None, n_blocks: int) -> dict[int, str]:
    """Cut index at block granularity -> P-name, for interior cuts.

    `P_k` is the cut after block k; for the ResNets after the stem and k residual blocks. For InceptionV3 k counts
    the blocks that run: AuxLogits does not, so the paper's own count of modules is one ahead behind Mixed_6e where
    it counted AuxLogits (its tables cannot tell: P19's second stage is negligible either way).
    """
    if model is None:
        return {}
    if model in _RESNETS:
        return {RESNET_STEM_BLOCKS + k: f"P{k}" for k in range(1, sum(_RESNETS[model][1]) + 1)}
    return {k: f"P{k}" for k in range(1, n_blocks)}
