from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import toy_models
from fresh_process import run_python

from paretopipe_runtime.model.errors import ModelError
from paretopipe_runtime.model.loading import load_model, skeleton, weight_source
from paretopipe_runtime.model.tensors import slots_of
from paretopipe_runtime.model.weight_file import MAP_FROM_BYTES, PAGE_BYTES, read_index
from paretopipe_runtime.model.weights import WeightStore, cache_directory, cache_key, open_store

SMALL = "toy_models:small"
LARGE = "squeezenet1_1"


def store_of(name: str, directory: Path | None, weights: str | Path = "random", seed: int = 0) -> WeightStore:
    module = skeleton(name)
    slots = slots_of(module)
    source = weight_source(name, module, slots, weights, seed)
    return open_store(slots, source, cache_key(name, weights, seed, slots), directory)


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_the_store_holds_what_load_model_holds(name: str, tmp_path: Path) -> None:
    store, slots = store_of(name, tmp_path), slots_of(load_model(name))
    assert sorted(store.names) == sorted(slot.name for slot in slots)
    for slot in slots:
        tensor = store.tensor(slot.name)
        assert tensor.dtype == slot.tensor.dtype
        assert torch.equal(tensor, slot.tensor), slot.name


def test_the_file_is_written_once(tmp_path: Path) -> None:
    first = store_of(SMALL, tmp_path)
    written = first.path.stat()
    again = store_of(SMALL, tmp_path)
    assert again.path == first.path
    assert (again.path.stat().st_ino, again.path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert again.hash == first.hash
    assert list(tmp_path.iterdir()) == [first.path]


def test_the_hash_depends_on_values_only_and_not_on_the_place(tmp_path: Path) -> None:
    here, there = store_of(SMALL, tmp_path / "a"), store_of(SMALL, tmp_path / "b")
    assert here.hash == there.hash
    assert store_of(SMALL, tmp_path / "a", seed=1).hash != here.hash
    assert len(list((tmp_path / "a").iterdir())) == 2
    same_values = tmp_path / "w.pt"
    torch.save(load_model(SMALL).state_dict(), same_values)
    assert store_of(SMALL, tmp_path / "a", weights=same_values).hash == here.hash


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_large_tensors_start_on_a_page_and_only_they_are_mapped(tmp_path: Path) -> None:
    store = store_of(LARGE, tmp_path)
    with store.path.open("rb") as file:
        entries = read_index(file).entries.values()
    large = [entry for entry in entries if entry.nbytes >= MAP_FROM_BYTES]
    assert 3 < len(large) < len(entries)
    assert all(entry.mapped and entry.offset % PAGE_BYTES == 0 for entry in large)
    before = open_files()
    tensors = [store.tensor(entry.name) for entry in entries]
    assert open_files() - before == len(large)
    del tensors
    assert open_files() == before


def test_writing_to_a_tensor_does_not_reach_the_file(tmp_path: Path) -> None:
    store = store_of(LARGE, tmp_path)
    name = "classifier.1.weight"
    tensor = store.tensor(name)
    original = tensor.clone()
    tensor.zero_()
    del tensor
    assert torch.equal(store.tensor(name), original)
    assert store_of(LARGE, tmp_path).hash == store.hash


def test_a_mapping_is_shared_while_it_lives(tmp_path: Path) -> None:
    store = store_of(LARGE, tmp_path)
    first = store.tensor("classifier.1.weight")
    assert store.tensor("classifier.1.weight").data_ptr() == first.data_ptr()
    store.close()
    assert first.isfinite().all()


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(bytes(content))


def forge(path: Path) -> None:
    """Change an offset in the index: its own hash no longer fits."""
    content = path.read_bytes()
    length = int.from_bytes(content[-16:-8], "little")
    index = json.loads(content[-16 - length : -16])
    row = next(row for row in index["tensors"] if row["name"] == "body.0.weight")
    row["offset"] += 4
    text = json.dumps(index).encode()
    path.write_bytes(content[: -16 - length] + text + len(text).to_bytes(8, "little") + content[-8:])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, 3),
        lambda path: flip(path, -1),
        lambda path: flip(path, -12),
        lambda path: flip(path, -40),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(path.read_bytes()[:40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"{}" + (2).to_bytes(8, "little") + b"PPWEIGHT"),
        lambda path: path.write_bytes(b"[]" + (2).to_bytes(8, "little") + b"PPWEIGHT"),
        forge,
    ],
)
def test_a_damaged_file_is_rewritten(damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = store_of(SMALL, tmp_path)
    content = sound.path.read_bytes()
    damage(sound.path)
    assert sound.path.read_bytes() != content
    with caplog.at_level(logging.WARNING):
        assert store_of(SMALL, tmp_path).hash == sound.hash
    assert "damaged" in caplog.text
    assert sound.path.read_bytes() == content


def test_a_factory_that_returns_other_weights_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store_of(SMALL, tmp_path, weights="factory")
    assert store_of(SMALL, tmp_path, weights="factory").hash == before.hash

    def retrained() -> torch.nn.Module:
        model = toy_models.Small()
        torch.nn.init.constant_(model.head.weight, 2.0)
        return model

    monkeypatch.setattr(toy_models, "small", retrained)
    after = store_of(SMALL, tmp_path, weights="factory")
    assert after.hash != before.hash
    assert torch.equal(after.tensor("head.weight"), torch.full((4, 4), 2.0))


def test_a_factory_whose_constants_changed_gets_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = store_of(SMALL, tmp_path)

    def changed() -> torch.nn.Module:
        model = toy_models.Small()
        model.shift += 1
        return model

    monkeypatch.setattr(toy_models, "small", changed)
    after = store_of(SMALL, tmp_path)
    assert after.path != before.path
    assert torch.equal(after.tensor("shift"), torch.arange(4.0) + 1)


def test_a_changed_state_dict_file_gets_another_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(load_model(SMALL, seed=1).state_dict(), path)
    before = store_of(SMALL, tmp_path, weights=path)
    torch.save(load_model(SMALL, seed=2).state_dict(), path)
    os.utime(path, ns=(1, 1))
    after = store_of(SMALL, tmp_path, weights=path)
    assert after.path != before.path
    assert after.hash == store_of(SMALL, tmp_path, seed=2).hash


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, r"no space left in .* for 0 MB of weights: delete old files there, or set PARETOPIPE_CACHE"),
        (errno.EROFS, r"cannot keep weights in .* \(Read-only file system\): set PARETOPIPE_CACHE"),
    ],
)
def test_a_disk_that_refuses_is_reported_and_left_clean(
    number: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ModelError, match=message):
        store_of(SMALL, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"cannot keep weights in .*file/cache"):
        store_of(SMALL, tmp_path / "file" / "cache")


def test_what_killed_writers_left_is_removed_but_not_what_others_write(tmp_path: Path) -> None:
    old, young = tmp_path / "old.tmp", tmp_path / "young.tmp"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 2 * 24 * 3600,) * 2)
    store_of(SMALL, tmp_path)
    assert not old.exists()
    assert young.exists()


def test_processes_that_race_agree_and_leave_one_file(tmp_path: Path) -> None:
    code = """
from pathlib import Path
import sys
from paretopipe_runtime.model.resident import ResidentModel
print(ResidentModel.load("squeezenet1_1", cache_dir=Path(sys.argv[1])).weight_hash)
"""
    racers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    hashes = {racer.communicate(timeout=60)[0] for racer in racers}
    assert hashes == {store_of(LARGE, tmp_path).hash + "\n"}
    assert len(list(tmp_path.iterdir())) == 1


def test_writing_and_checking_528_mb_takes_little_memory(weight_cache: Path) -> None:
    code = """
        import sys, resource, torchvision
        from pathlib import Path
        from paretopipe_runtime.model.resident import ResidentModel
        ResidentModel.load("squeezenet1_1", cache_dir=Path(sys.argv[1]))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ResidentModel.load("vgg16", cache_dir=Path(sys.argv[1]))
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)
    """
    assert float(run_python(code, str(weight_cache))) < 60


def test_the_cache_directory_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOPIPE_CACHE", str(tmp_path / "x"))
    assert store_of(SMALL, None).path.parent == tmp_path / "x"
    monkeypatch.delenv("PARETOPIPE_CACHE")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_directory() == Path("/home/somebody/.cache/paretopipe/weights")
