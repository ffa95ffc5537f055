"""Names that were mistyped, and the known ones that come nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def slip(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` was meant to be, if by a slip only.

    That is one edit in a short name, two in one of eight letters or more;
    a name that is itself known is no slip.
    """
    known = list(known) if isinstance(known, Sequence) else sorted(known)
    if not known or name in known:
        return None
    # Of several as near, the first.
    near = min(known, key=lambda other: edit_distance(name, other))
    limit = 2 if len(name) >= 8 else 1
    return near if edit_distance(name, near) <= limit else None


def edit_distance(a: str, b: str) -> int:
    """Fewest insertions, deletions, changes and swaps of neighbours.

    The restricted Damerau-Levenshtein distance: no letter is edited twice.
    """
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        new = [i]
        for j, y in enumerate(b, 1):
            cost = min(row[j] + 1, new[-1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and (x, a[i - 2]) == (b[j - 2], y):
                cost = min(cost, before[j - 2] + 1)
            new.append(cost)
        before, row = row, new
    return row[-1]


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The known names most like ``name``, best first; may be empty."""
    names = sorted(set(known))
    lower: dict[str, str] = {}
    for other in names:
        lower.setdefault(other.lower(), other)
    return [
        lower[hit] for hit in difflib.get_close_matches(
            name.lower(), lower, n=count, cutoff=0.6)
    ]


def did_you_mean(names: Iterable[str]) -> str:
    """The question that ends a message; empty without names."""
    names = list(names)
    return f' Did you mean {" or ".join(map(repr, names))}?' if names else ''
