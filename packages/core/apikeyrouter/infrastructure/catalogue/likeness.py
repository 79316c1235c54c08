"""Names that are nearly another: what somebody meant who mistyped.

Main entry: `alike`. It is called on failures only, and looks at a bounded number of names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import islice

__all__ = ["alike"]

_NAMES_MAX = 4096
_LENGTH_MAX = 128
_RATIO_MIN = 0.6
_DROPPED = re.compile(r"[^a-z0-9.]+")


def alike(name: str, known: Iterable[str], *, most: int = 3) -> list[str]:
    """Up to `most` known names, the nearest first; those that differ in case or separators only come before others.
    `[]` when nothing is near."""
    wanted = _folded(name[:_LENGTH_MAX])
    if not wanted:
        return []
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted)
    found: list[tuple[float, str]] = []
    for one in dict.fromkeys(islice(known, _NAMES_MAX)):
        matcher.set_seq1(folded := _folded(one[:_LENGTH_MAX]))
        if matcher.real_quick_ratio() < _RATIO_MIN or matcher.quick_ratio() < _RATIO_MIN:
            continue
        ratio = matcher.ratio() + (0.2 if folded.startswith(wanted) or wanted.startswith(folded) else 0.0)
        if ratio >= _RATIO_MIN:
            found.append((-ratio, one))
    return [one for _, one in sorted(found, key=lambda pair: (pair[0], len(pair[1]), pair[1]))[:most]]


def _folded(name: str) -> str:
    return _DROPPED.sub("-", name.strip().lower())
