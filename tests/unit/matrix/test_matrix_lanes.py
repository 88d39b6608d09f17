"""Pipelines that share hosts or cores never run at the same time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.lanes import lanes


def test_disjoint_pipelines_have_lanes_of_their_own() -> None:
    assert lanes({"a": {1, 2}, "b": {3, 4}}) == [("a",), ("b",)]


def test_pipelines_that_share_through_a_third_are_in_one_lane() -> None:
    assert lanes({"a": {1, 2}, "b": {3, 4}, "c": {2, 3}, "d": {9}}) == [("a", "b", "c"), ("d",)]


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.sets(st.integers(0, 9), min_size=1), max_size=8))
def test_lanes_partition_and_never_overlap(occupied: dict[str, set[int]]) -> None:
    found = lanes(occupied)
    assert sorted(name for lane in found for name in lane) == sorted(occupied)
    used = [set().union(*(occupied[name] for name in lane)) for lane in found]
    for index, one in enumerate(used):
        assert all(not one & other for other in used[index + 1 :])
