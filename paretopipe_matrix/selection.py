"""Split selectors: `all`, `P3`, `3`, `3:9`, `features.2`, `0`, `N`, comma lists; pure."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable, Sequence

from paretopipe_matrix.errors import SelectionError
from paretopipe_matrix.testbed import CutInfo

Split = tuple[CutInfo, ...]


def parse_selectors(text: str | Iterable[str]) -> tuple[str, ...]:
    """Comma lists taken apart; order kept, repeats dropped."""
    texts = [text] if isinstance(text, str) else list(text)
    terms = [term.strip() for part in texts for term in part.split(",")]
    return tuple(dict.fromkeys(term for term in terms if term))


def select(selectors: Iterable[str], cuts: Sequence[CutInfo], model: str, n_hosts: int = 2) -> list[Split]:
    """The splits that the selectors name, in execution order, each once.

    A split has one cut per hop, so `n_hosts - 1`. For more than two hosts they are joined by `+` (`P3+P9`), and
    `all` is every increasing combination plus the two baselines (everything on the first, or on the last host).
    A range `A:B` includes both ends and is for two hosts only.

    Raises SelectionError listing what is valid.
    """
    chosen: dict[tuple[int, ...], Split] = {}
    for term in parse_selectors(selectors):
        for split in _term(term, cuts, model, n_hosts - 1):
            chosen[tuple(cut.index for cut in split)] = split
    return [chosen[key] for key in sorted(chosen)]


def _term(term: str, cuts: Sequence[CutInfo], model: str, hops: int) -> list[Split]:
    if term == "all":
        return _all(cuts, hops)
    if ":" in term:
        low, _, high = term.partition(":")
        if hops != 1:
            raise SelectionError(f"split {term!r}: a range is for two hosts; here name {hops} cuts joined by +")
        first, last = _cut(low, cuts, model, term), _cut(high, cuts, model, term)
        if first.index > last.index:
            raise SelectionError(f"split {term!r}: the range is empty; write {high}:{low}")
        return [(cut,) for cut in cuts if first.index <= cut.index <= last.index]
    names = term.split("+")
    if len(names) != hops:
        raise SelectionError(f"split {term!r}: names {len(names)} cut(s), this pipeline needs {hops} (joined by +)")
    split = tuple(_cut(name, cuts, model, term) for name in names)
    if list(split) != sorted(split, key=lambda cut: cut.index):
        raise SelectionError(f"split {term!r}: the cuts must follow the order of execution")
    return [split]


def _all(cuts: Sequence[CutInfo], hops: int) -> list[Split]:
    splits = list(itertools.combinations(cuts, hops))
    if hops > 1:
        splits += [(cuts[0],) * hops, (cuts[-1],) * hops]
    return splits


def _cut(name: str, cuts: Sequence[CutInfo], model: str, term: str) -> CutInfo:
    if name == "N":
        return cuts[-1]
    if name.isdecimal():
        found = [cut for cut in cuts if cut.index == int(name)]
    else:
        found = [cut for cut in cuts if cut.paper_name == name] or [cut for cut in cuts if cut.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        indices = ", ".join(str(cut.index) for cut in found)
        raise SelectionError(f"split {term!r}: {name} names several cuts of {model}; use the index: {indices}")
    raise SelectionError(f"split {term!r}: {model} has no cut {name!r}{_close(name, cuts)}; valid: {describe(cuts)}")


def describe(cuts: Sequence[CutInfo]) -> str:
    """What may be selected, compactly: index range, P-names, some names."""
    parts = [f"{cuts[0].index}..{cuts[-1].index} (N = {cuts[-1].index})"]
    papers = [cut.paper_name for cut in cuts if cut.paper_name]
    if papers:
        parts.append(papers[0] if len(papers) == 1 else f"{papers[0]}..{papers[-1]}")
    names = [cut.name for cut in cuts[1:-1]]
    if names:
        parts.append("names such as " + ", ".join(names[:3]))
    return ", ".join(parts) + "; or all, ranges such as 3:9, comma lists"


def _close(name: str, cuts: Sequence[CutInfo]) -> str:
    known = [cut.name for cut in cuts] + [cut.paper_name for cut in cuts if cut.paper_name]
    close = [other for other in known if other.lower() == name.lower()] or difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
