"""Where batches come from: seeded noise, a folder of images, or a downloaded CIFAR-10. All as uint8 images.

Everything is decoded before a cell starts, into a fixed number of batches that are then repeated, so that
neither reading nor decoding is inside a measurement window.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch

_SYNTHETIC_BATCHES = 2
_MAX_DECODED_BATCHES = 16
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}


class InputError(Exception):
    """An input that cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class Input:
    """Decoded batches, uint8 `[batch, 3, height, width]`, repeated for as long as a measurement lasts."""

    batches: tuple[torch.Tensor, ...]

    def batch(self, index: int) -> torch.Tensor:
        """Batch number `index` of the endless sequence."""
        return self.batches[index % len(self.batches)]


def open_input(spec: str, batch_size: int, image_size: int, seed: int) -> Input:
    """Decode the batches that `spec` names: `synthetic`, `synthetic:PIXELS`, `folder:PATH` or `cifar10:PATH`.

    Raises InputError.
    """
    kind, _, argument = spec.partition(":")
    if kind == "synthetic":
        return _synthetic(argument, batch_size, image_size, seed)
    if kind == "folder" and argument:
        return _folder(Path(argument), batch_size, image_size)
    if kind == "cifar10" and argument:
        return _cifar10(Path(argument), batch_size)
    raise InputError(f"unknown input {spec!r}: use synthetic, synthetic:PIXELS, folder:PATH or cifar10:PATH")


def _synthetic(argument: str, batch_size: int, image_size: int, seed: int) -> Input:
    if argument and not re.fullmatch(r"[1-9][0-9]{0,3}", argument):
        raise InputError(f"synthetic:{argument}: give the side of the image in pixels, as in synthetic:224")
    side = int(argument) if argument else image_size
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, 3, side, side)
    return Input(
        tuple(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(_SYNTHETIC_BATCHES))
    )


def _batched(images: list[torch.Tensor], batch_size: int) -> Input:
    # A last batch that is not full is filled up from the start: every batch has the same size.
    count = max(1, min(_MAX_DECODED_BATCHES, len(images) // batch_size))
    order = [images[index % len(images)] for index in range(count * batch_size)]
    return Input(tuple(torch.stack(order[k * batch_size : (k + 1) * batch_size]) for k in range(count)))


def _folder(path: Path, batch_size: int, image_size: int) -> Input:
    """Images as torchvision's classification presets prepare them: shorter side to 256/224 of the size, centre crop."""
    from PIL import Image, UnidentifiedImageError
    from torchvision.transforms import v2

    if not path.is_dir():
        raise InputError(f"folder:{path}: no such folder on this host; give its path there")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"folder:{path}: no images there (looked for {', '.join(sorted(_IMAGE_SUFFIXES))})")
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.Resize(round(image_size * 256 / 224), antialias=True),
            v2.CenterCrop(image_size),
        ]
    )
    images: list[torch.Tensor] = []
    for file in files[: _MAX_DECODED_BATCHES * batch_size]:
        try:
            with Image.open(file) as image:
                images.append(transform(image.convert("RGB")))
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"{file}: not a readable image ({error}); remove or mend it") from error
    return _batched(images, batch_size)


def _cifar10(path: Path, batch_size: int) -> Input:
    """The test split, 32 x 32, from an already downloaded copy: the binary version, or torchvision's (Python) one.

    Format: https://www.cs.toronto.edu/~kriz/cifar.html (binary version: 1 label byte, 3,072 image bytes). The Python
    version is a pickle; torchvision reads it only if its MD5 is the published one.
    """
    if (path / "cifar-10-batches-py").is_dir():
        from torchvision.datasets import CIFAR10

        try:
            data = CIFAR10(str(path), train=False, download=False).data
        except (RuntimeError, OSError, EOFError) as error:
            raise InputError(f"cifar10:{path}: {error}; unpack a fresh copy there") from error
        images = torch.from_numpy(data[: _MAX_DECODED_BATCHES * batch_size]).permute(0, 3, 1, 2).contiguous()
        return _batched(list(images), batch_size)
    candidates = [path / "test_batch.bin", path / "cifar-10-batches-bin" / "test_batch.bin"]
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        raise InputError(
            f"cifar10:{path}: no cifar-10-batches-py and no test_batch.bin there; give the folder of an unpacked copy"
        )
    raw = file.read_bytes()
    row = 1 + 3 * 32 * 32
    if not raw or len(raw) % row:
        raise InputError(f"{file}: {len(raw)} B is not a whole number of CIFAR-10 rows of {row} B; download it anew")
    rows = torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(-1, row)
    needed = rows[: _MAX_DECODED_BATCHES * batch_size, 1:].reshape(-1, 3, 32, 32)
    return _batched(list(needed), batch_size)
