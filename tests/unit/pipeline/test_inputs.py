"""Images from every source, and what is said when there are none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from paretopipe_runtime.pipeline.inputs import InputError, open_input
from paretopipe_runtime.pipeline.jpeg import JpegDecode, JpegEncode, worst_case_bytes


def test_synthetic_is_seeded_and_of_the_models_size() -> None:
    one, two, other = (open_input("synthetic", 2, 64, seed) for seed in (0, 0, 1))
    assert one.batch(0).shape == (2, 3, 64, 64)
    assert one.batch(0).dtype == torch.uint8
    assert torch.equal(one.batch(0), two.batch(0))
    assert not torch.equal(one.batch(0), other.batch(0))
    assert not torch.equal(one.batch(0), one.batch(1))


def test_synthetic_of_another_size() -> None:
    assert open_input("synthetic:32", 2, 224, 0).batch(0).shape == (2, 3, 32, 32)


def test_folder_is_decoded_resized_and_repeated(tmp_path: Path) -> None:
    for k, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        Image.new("RGB", (300 + 50 * k, 200), colour).save(tmp_path / f"{k}.png")
    Image.new("L", (100, 100), 128).save(tmp_path / "grey.jpg")
    images = open_input(f"folder:{tmp_path}", 2, 64, 0)
    assert len(images.batches) == 2
    assert images.batch(0).shape == (2, 3, 64, 64)
    assert images.batch(0)[0, :, 32, 32].tolist() == [255, 0, 0]
    assert images.batch(0)[1, :, 32, 32].tolist() == [0, 255, 0]
    assert torch.equal(images.batch(2), images.batch(0))


def test_fewer_images_than_a_batch_are_repeated(tmp_path: Path) -> None:
    Image.new("RGB", (80, 80), (9, 9, 9)).save(tmp_path / "one.png")
    assert open_input(f"folder:{tmp_path}", 3, 32, 0).batch(0).shape == (3, 3, 32, 32)


def test_cifar10_binary_version(tmp_path: Path) -> None:
    rows = b"".join(bytes([label]) + bytes([10 * label]) * 3072 for label in range(5))
    (tmp_path / "test_batch.bin").write_bytes(rows)
    images = open_input(f"cifar10:{tmp_path}", 2, 224, 0)
    assert images.batch(0).shape == (2, 3, 32, 32)
    assert images.batch(1)[1].unique().tolist() == [30]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("webcam", "unknown input 'webcam': use synthetic"),
        ("synthetic:big", "give the side of the image in pixels"),
        ("folder:/nowhere", "no such folder"),
        ("folder:", "unknown input"),
        ("cifar10:/nowhere", "no cifar-10-batches-py and no test_batch.bin"),
    ],
)
def test_a_bad_input_is_named_with_its_remedy(spec: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_input(spec, 2, 64, 0)


def test_a_folder_without_images_and_a_broken_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images there"):
        open_input(f"folder:{tmp_path}", 2, 64, 0)
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"broken\.png: not a readable image"):
        open_input(f"folder:{tmp_path}", 2, 64, 0)


def test_a_damaged_cifar_file(tmp_path: Path) -> None:
    (tmp_path / "test_batch.bin").write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="not a whole number"):
        open_input(f"cifar10:{tmp_path}", 2, 64, 0)


def test_a_damaged_python_cifar_is_refused_before_it_is_unpickled(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(InputError, match="corrupted"):
        open_input(f"cifar10:{tmp_path}", 2, 64, 0)


def test_jpeg_round_trip_is_smaller_and_close() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).repeat(64, 1)
    images = ramp.expand(4, 3, 64, 64).contiguous()
    packed = JpegEncode()(images)
    assert packed.dtype == torch.uint8
    assert packed.ndim == 1
    assert len(packed) < images.numel() / 3
    decoded = JpegDecode(4)(packed)
    assert decoded.shape == images.shape
    assert (decoded.int() - images.int()).abs().max() < 16


def test_noise_stays_below_the_bound_of_a_frame() -> None:
    images = open_input("synthetic", 4, 96, 0).batch(0)
    assert len(JpegEncode()(images)) <= worst_case_bytes(4, 96, 96)


def test_bytes_that_are_no_batch_of_jpegs() -> None:
    with pytest.raises(RuntimeError, match="not a batch of 4 JPEG images"):
        JpegDecode(4)(torch.ones(100, dtype=torch.uint8))
