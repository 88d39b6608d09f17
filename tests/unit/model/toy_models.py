"""Models of a user's own, for the tests: named `toy_models:small` and so on."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """Two blocks with a functional step between them, a persistent and an unregistered constant, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, 4)
        self.again = nn.Linear(4, 4)
        self.again.weight = self.head.weight
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("shift", torch.arange(4.0), persistent=False)
        self.factor = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, x: torch.Tensor, extra: torch.Tensor | None = None) -> torch.Tensor:
        x = self.body(x).mean(dim=(2, 3))
        if extra is not None:
            x = x + extra
        return self.again(self.head(x * self.scale + self.shift) * self.factor + torch.tensor([0.5, 0.25, 0.0, 1.0]))


def small() -> nn.Module:
    return Small()


small.image_size = 32


def not_a_module() -> int:
    return 3


def broken() -> nn.Module:
    raise OSError("no such dataset")


class Branches(nn.Module):
    """Cannot be traced: its path depends on a value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class Reused(nn.Module):
    """One activation that runs twice: two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1)
        self.act = nn.ReLU()
        self.second = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.second(self.act(self.first(x))))


class WritesInPlace(nn.Module):
    """Statements whose value nobody uses, but whose effect counts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        self.act(x)
        y = x * 2
        y.add_(1)
        y[:, 0].zero_()
        return y


class Pair(nn.Module):
    """Returns two tensors."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class TwoInputs(nn.Module):
    """Needs two inputs."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Diamond(nn.Module):
    """Its second block joins two tensors, so no boundary next to it has one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 3, 1)
        self.b = nn.Conv2d(3, 3, 1)
        self.c = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.b(a)
        return self.c(b + a)
