from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch
import torchvision
from fresh_process import run_python
from safetensors.torch import save_file
from torch import nn

from paretopipe_runtime import load_model
from paretopipe_runtime.model.loading import ModelError, image_size, normalisation, skeleton

SMALL = "toy_models:small"


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
    code = """
        import torchvision
        from paretopipe_runtime.model.loading import skeleton
        skeleton("alexnet")
        before = resident_mb()
        model = skeleton("vgg16")
        print(resident_mb() - before)
    """
    assert float(run_python(code)) < 20
    assert sum(p.nbytes for p in skeleton("vgg16").parameters()) > 528e6


@pytest.mark.parametrize(("name", "size"), [("inception_v3", 299), ("resnet18", 224), (SMALL, 32), ("vit_h_14", 518)])
def test_image_size(name: str, size: int) -> None:
    assert image_size(name) == size


def test_vision_transformers_are_built_for_the_size_they_are_fed() -> None:
    assert skeleton("vit_h_14").image_size == image_size("vit_h_14")


def test_image_size_of_a_factory_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_models

    monkeypatch.setattr(toy_models.small, "image_size", "big", raising=False)
    with pytest.raises(ModelError, match="image_size must be a positive whole number of pixels, not 'big'"):
        image_size(SMALL)


def test_normalisation_is_torchvisions() -> None:
    assert normalisation("resnet18") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation(SMALL) == normalisation("resnet18")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet81", r"unknown model 'resnet81': did you mean resnet18.*package\.module:factory"),
        ("zzz", r"unknown model 'zzz': Name it as torchvision does"),
        ("fasterrcnn_resnet50_fpn", "'fasterrcnn_resnet50_fpn' is not a classification model"),
        ("raft_large", "'raft_large' is not a classification model"),
        ("no_such_package:thing", "cannot import 'no_such_package'.*PYTHONPATH, on every host"),
        ("toy_models:missing", r"'missing' does not exist in .*toy_models\.py"),
        ("toy_models:nn", "'nn' is not callable"),
        ("toy_models:not_a_module", "the factory returned int, not a torch.nn.Module"),
        ("toy_models:broken", "the factory failed with OSError: no such dataset"),
    ],
)
def test_names_that_cannot_be_used(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(name)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_factory_in_the_current_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net_of_mine.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(2, 2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert isinstance(load_model("net_of_mine:make"), nn.Linear)


def test_factory_weights_are_the_factorys_own_and_follow_the_seed() -> None:
    first, again = (load_model(SMALL, weights="factory", seed=1).state_dict() for _ in range(2))
    assert torch.equal(first["body.0.weight"], again["body.0.weight"])
    assert torch.equal(first["scale"], torch.ones(4))
    assert not torch.equal(first["body.0.weight"], load_model(SMALL, weights="factory", seed=2).body[0].weight)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("factory", "'factory' needs a model named package.module:factory; for 'alexnet' give random or a file"),
        ("imagenet", "weights 'imagenet' not understood: give random, factory .*or the path of"),
        ("nowhere/x.pth", "no weights file nowhere/x.pth on this host"),
    ],
)
def test_weights_that_cannot_be_used(weights: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model("alexnet", weights=weights)


@pytest.fixture
def trained() -> nn.Module:
    return load_model(SMALL, weights="factory", seed=11)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    expected = other.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in one.state_dict().items())


def save(tensors: object, path: Path, **options: object) -> Path:
    torch.save(tensors, path, **options)
    return path


def test_state_dict_files_load(tmp_path: Path, trained: nn.Module) -> None:
    state = trained.state_dict()
    plain = save(state, tmp_path / "plain.pt")
    nested = save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "nested.pth")
    before_1_6 = save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    half = save({k: v.double() for k, v in state.items()}, tmp_path / "double.pt")
    for path in (plain, nested, before_1_6, half):
        assert_same(load_model(SMALL, weights=path), trained)


def test_safetensors_load_also_with_tied_weights_stored_once(tmp_path: Path, trained: nn.Module) -> None:
    path = tmp_path / "x.safetensors"
    save_file({k: v for k, v in trained.state_dict().items() if k != "again.weight"}, path)
    loaded = load_model(SMALL, weights=path)
    assert_same(loaded, trained)
    assert loaded.again.weight is loaded.head.weight


def test_files_of_before_batch_counting_load(tmp_path: Path, trained: nn.Module) -> None:
    state = {k: v for k, v in trained.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert_same(load_model(SMALL, weights=save(state, tmp_path / "old.pt")), trained)


def test_published_densenet_files_load(tmp_path: Path) -> None:
    state = load_model("densenet121", seed=2).state_dict()
    legacy = {k.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for k, v in state.items()}
    assert legacy.keys() != state.keys()
    loaded = load_model("densenet121", weights=save(legacy, tmp_path / "d.pth")).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path, trained: nn.Module) -> None:
    state = trained.state_dict()
    cases = {
        "lacks body.0.weight, body.0.bias": {k: v for k, v in state.items() if not k.startswith("body.0")},
        "has unexpected extra": state | {"extra": torch.zeros(1)},
        r"head.bias is \[5\], expected \[4\]": state | {"head.bias": torch.zeros(5)},
        "is not a state dict": [1, 2],
    }
    for message, content in cases.items():
        path = save(content, tmp_path / "wrong.pt")
        with pytest.raises(ModelError, match=message):
            load_model(SMALL, weights=path)
    many = save(load_model("squeezenet1_1").state_dict(), tmp_path / "other.pt")
    with pytest.raises(ModelError, match=r"lacks .* and \d+ more"):
        load_model(SMALL, weights=many)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_refused(tmp_path: Path, trained: nn.Module, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pt":
        save(trained.state_dict(), path)
    else:
        save_file({k: v.clone() for k, v in trained.state_dict().items()}, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match=r"w\.\w+ cannot be read as a state dict|holds more than tensors"):
        load_model(SMALL, weights=path)


class Malicious:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.victim,))


@pytest.mark.parametrize("archive", [True, False])
def test_a_file_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, archive: bool) -> None:
    victim, path = tmp_path / "victim", tmp_path / "evil.pt"
    if archive:
        torch.save({"body.0.weight": Malicious(victim)}, path)
    else:
        path.write_bytes(pickle.dumps({"body.0.weight": Malicious(victim)}, protocol=2))
    with pytest.raises(ModelError, match="holds more than tensors and was not loaded"):
        load_model(SMALL, weights=path)
    assert not victim.exists()


def test_a_factory_with_shapes_yet_unknown_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_models

    monkeypatch.setattr(toy_models, "small", lambda: nn.LazyLinear(3))
    with pytest.raises(ModelError, match=r"parameter weight has no shape yet .a Lazy module.: run the model once"):
        skeleton(SMALL)
