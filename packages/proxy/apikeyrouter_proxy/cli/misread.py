"""What is wrong with a value of the command line, in the words of whoever typed it.

Main entry: `in_words`. Laws: it says what the option takes, with its bounds, instead of what a parser expected; the
value is not repeated, since somebody may have pasted a secret.
"""

from __future__ import annotations

from typing import Any

__all__ = ["in_words"]

_NUMBERS = {"int": "a whole number", "float": "a number"}
_ABOUT_NUMBERS = ("int_", "float_", "finite_number", "less_than", "greater_than")


def in_words(failure: Exception) -> str | None:
    """The sentence about a number that is none, or is out of bounds; None for faults of other kinds."""
    parameter: Any = getattr(failure, "param", None)
    cause: Any = failure.__cause__
    read = getattr(parameter, "get_runtime_param", None)
    if parameter is None or read is None or not hasattr(cause, "errors"):
        return None
    told: list[dict[str, Any]] = cause.errors()
    found = read()
    kind = _NUMBERS.get(getattr(found.annotation, "__name__", ""))
    if kind is None or not all(str(one["type"]).startswith(_ABOUT_NUMBERS) for one in told):
        return None
    names = " or ".join(one for one in parameter.opts if one.startswith("-")) or parameter.name.upper()
    about = (getattr(parameter, "help", None) or "").strip().rstrip(".")
    return f"{names} takes {kind}{_bounds(found.parameter_info)}." + (f" {about}." if about else "")


def _bounds(info: Any) -> str:
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}" if high < 1e6 else f" of {low:g} or more"
    return f", {low:g} or more" if low is not None else f", {high:g} at most" if high is not None else ""
