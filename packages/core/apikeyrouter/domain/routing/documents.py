"""Reading what operators write: fields of a JSON object, with every fault collected and told with its place.

Used by `deployments` and `policy`. A fault is one line: where, what is wrong, and what is expected.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches

__all__ = ["Faults", "names_in", "text_in", "unknown_fields"]

_LENGTH_MAX = 256


class Faults:
    """Faults found so far; `within` gives one that notes them below a place."""

    def __init__(self, lines: list[str] | None = None, place: str = "") -> None:
        self._lines: list[str] = [] if lines is None else lines
        self._place = place

    def __bool__(self) -> bool:
        return bool(self._lines)

    def within(self, place: str) -> Faults:
        """The same list, one level down."""
        return Faults(self._lines, f"{self._place}{place}.")

    def add(self, place: str, what: str) -> None:
        """Notes one."""
        self._lines.append(f"{self._place}{place}: {what}")

    def take(self, place: str, fault: ValueError) -> None:
        """Notes those of a document inside this one."""
        self._lines += [f"{self._place}{place}: {line}" for line in str(fault).splitlines()]

    def raise_any(self) -> None:
        """Raises ValueError with all of them, one a line."""
        if self._lines:
            raise ValueError("\n".join(self._lines))


def unknown_fields(given: Mapping[str, object], known: Collection[str], faults: Faults) -> None:
    """A mistyped field would otherwise silently mean nothing."""
    for name in given:
        if name not in known:
            close = get_close_matches(str(name), known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            faults.add(str(name)[:_LENGTH_MAX], f"there is no such field; {hint}")


def text_in(given: Mapping[str, object], name: str, faults: Faults, *, required: bool = False) -> str:
    """A line of text without white space around it; "" when it is absent."""
    value = given.get(name)
    if value is None and not required:
        return ""
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > _LENGTH_MAX or not text.isprintable():
        faults.add(name, f"expected 1 to {_LENGTH_MAX} printable characters")
    return text


def names_in(given: Mapping[str, object], name: str, faults: Faults) -> frozenset[str] | None:
    """A list of names, or text with commas; None when it is absent."""
    value = given.get(name)
    if value is None:
        return None
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in listed):
        faults.add(name, "expected a list of names")
        return frozenset()
    return frozenset(one.strip() for one in listed if one.strip())
