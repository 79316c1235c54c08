"""The address that somebody probably meant who asked for one that does not exist.

Main entry: `nearest`. Law: it costs nothing until somebody asks for what is not there, and an address too long to be a
slip of the hand is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["nearest"]

_LENGTH_MAX = 80
_ALIKE = 0.85
"""Share of equal characters, 0 to 1: "/v1/chat/completion" and "/v1/completion" are told apart at this one."""


def nearest(path: str, known: Iterable[str]) -> str | None:
    """The known path that looks most like this one, None when none looks much like it."""
    if len(path) > _LENGTH_MAX:
        return None
    found = get_close_matches(path.rstrip("/"), list(known), n=1, cutoff=_ALIKE)
    return found[0] if found else None
