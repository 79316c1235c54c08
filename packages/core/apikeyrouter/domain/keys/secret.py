"""Key material that cannot leak by accident.

Main entry: `Secret`. The one way out is `reveal()` (or `reveal_bytes()`), called where a request's headers are built.
Laws: repr, str, format, json, pickle, copies, `vars`, `dataclasses.asdict` and `inspect.getmembers` never show the
material, not even its length. The material lives in a closure and not in an attribute, so tools that print every
attribute of every object in a traceback print a function. What this cannot do: CPython has no way to wipe memory.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import NoReturn

__all__ = ["HINT_LENGTH_MIN", "Secret"]

HINT_LENGTH_MIN = 16
"""Characters that a secret needs before four of them may be shown: below that, four would be a sizeable share."""

_HINT_LENGTH = 4


class Secret:
    """Key material. Equal when the material is equal, compared in constant time; not hashable; immutable."""

    __slots__ = ("_unlock",)

    _unlock: Callable[[], bytes]

    def __init__(self, material: str | bytes) -> None:
        held = material.encode() if isinstance(material, str) else bytes(material)
        object.__setattr__(self, "_unlock", lambda: held)

    def reveal(self) -> str:
        """The material. Call it only where it goes onto the wire, and keep the result in no attribute."""
        return self._unlock().decode()

    def reveal_bytes(self) -> bytes:
        """The material as UTF-8."""
        return self._unlock()

    @property
    def hint(self) -> str:
        """A label for people: an ellipsis and the last four characters, or the ellipsis alone for short secrets."""
        text = self.reveal()
        return "…" + text[-_HINT_LENGTH:] if len(text) >= HINT_LENGTH_MIN else "…"

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._unlock(), other._unlock())

    # A hash that follows the material would tell equal secrets apart outside constant time.
    __hash__ = None  # type: ignore[assignment]  # how Python spells "not hashable"

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("A Secret cannot be changed; make a new one.")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("A Secret cannot be changed; make a new one.")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("A Secret cannot be pickled or sent to another process. Store it sealed instead.")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A Secret cannot be pickled or sent to another process. Store it sealed instead.")
