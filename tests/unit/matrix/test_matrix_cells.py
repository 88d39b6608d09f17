from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.cells import Cell

CELL = Cell("mobilenet_v2", "block", (3,), "P3", "socket", "eager", "lan", 8, "local")


def test_id_is_readable_and_stable():
    assert CELL.id.startswith("mobilenet_v2-P3-socket-eager-lan-b8-local-")
    # Results of different runs are compared by these ids: a change of the hash breaks that.
    assert CELL.id == "mobilenet_v2-P3-socket-eager-lan-b8-local-793798cd"


def test_every_axis_changes_the_hash():
    changes = {
        "model": "resnet18",
        "granularity": "node",
        "cuts": (4,),
        "backend": "rpc",
        "engine": "fused",
        "profile": "duress",
        "batch_size": 1,
        "pipeline": "other",
    }
    hashes = {replace(CELL, **{key: value}).id[-8:] for key, value in changes.items()} | {CELL.id[-8:]}
    assert len(hashes) == len(changes) + 1


def test_label_is_not_part_of_the_hash():
    assert replace(CELL, split="3").id == "mobilenet_v2-cut3-socket-eager-lan-b8-local-793798cd"


@given(st.text(min_size=1), st.text(min_size=1))
def test_ids_are_safe_file_names(model, profile):
    cell_id = replace(CELL, model=model, profile=profile).id
    assert len(cell_id) < 200
    assert not cell_id.startswith((".", "-"))
    assert all(char.isascii() and (char.isalnum() or char in "_.+-") for char in cell_id)
