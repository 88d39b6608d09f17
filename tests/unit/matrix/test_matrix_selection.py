import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretopipe_matrix.errors import SelectionError
from paretopipe_matrix.selection import parse_selectors, select
from paretopipe_matrix.testbed import CutInfo

N = 20
CUTS = tuple(
    CutInfo(i, "input" if i == 0 else f"features.{i - 1}", f"P{i}" if 0 < i < N else None, 1000 * i)
    for i in range(N + 1)
)


def indices(*selectors, cuts=CUTS, n_hosts=2):
    found = select(selectors, cuts, "mobilenet_v2", n_hosts)
    return [tuple(cut.index for cut in split) for split in found]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("all", list(range(N + 1))),
        ("P3", [3]),
        ("3", [3]),
        ("0", [0]),
        ("N", [N]),
        ("features.2", [3]),
        ("3:9", [3, 4, 5, 6, 7, 8, 9]),
        ("P18:N", [18, 19, 20]),
        ("0:features.0", [0, 1]),
        ("N, P3,3 ,0", [0, 3, N]),
        ("5:5", [5]),
    ],
)
def test_selects(selector, expected):
    assert indices(selector) == [(index,) for index in expected]


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("P20", ["no cut 'P20'", "0..20 (N = 20)", "P1..P19", "features.0"]),
        ("21", ["no cut '21'"]),
        ("feature.3", ["did you mean features.3?"]),
        ("9:3", ["empty", "write 3:9"]),
        ("3:", ["no cut ''"]),
        ("-1", ["no cut '-1'"]),
        ("p3", ["no cut 'p3'", "did you mean P3"]),
        ("3+9", ["names 2 cut(s), this pipeline needs 1"]),
    ],
)
def test_refuses_with_what_is_valid(selector, words):
    with pytest.raises(SelectionError) as error:
        indices(selector)
    for word in words:
        assert word in str(error.value)


def test_ambiguous_name_asks_for_the_index():
    cuts = (CutInfo(0, "input", None, 1), CutInfo(1, "relu", None, 1), CutInfo(2, "relu", None, 1))
    with pytest.raises(SelectionError, match="use the index: 1, 2"):
        indices("relu", cuts=cuts)


def test_three_hosts_take_two_cuts():
    assert indices("P3+9", n_hosts=3) == [(3, 9)]
    assert indices("4+4", n_hosts=3) == [(4, 4)]
    few = CUTS[:4]
    assert indices("all", cuts=few, n_hosts=3) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3), (3, 3)]
    for bad, words in (("9+3", "order of execution"), ("3:9", "two hosts"), ("3", "needs 2")):
        with pytest.raises(SelectionError, match=words):
            indices(bad, n_hosts=3)


@given(st.integers(0, N), st.integers(0, N))
def test_range_is_what_lies_between(a, b):
    low, high = min(a, b), max(a, b)
    assert indices(f"{low}:{high}") == [(i,) for i in range(low, high + 1)]


@given(st.lists(st.sampled_from(["P1", "0", "N", "2:4", "all", "features.7"]), min_size=1))
def test_order_and_repeats_do_not_matter(terms):
    together = indices(",".join(terms))
    assert together == indices(*reversed(terms)) == sorted(set(together))
    assert set(together) == {split for term in terms for split in indices(term)}


@given(st.text(max_size=12))
def test_any_text_selects_or_is_refused(text):
    try:
        found = indices(text)
    except SelectionError:
        return
    assert all(0 <= index <= N for (index,) in found)
    assert bool(found) == bool(parse_selectors(text))
