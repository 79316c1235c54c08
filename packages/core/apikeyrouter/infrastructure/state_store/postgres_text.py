"""Text in PostgreSQL, which knows no NUL character.

Main entries: `frozen` for a row on its way in, `thawed` for one on its way out; `escaped` and `plain` for single texts.
Laws: `plain(escaped(text)) == text` for every text; different texts stay different; a text without backslash and NUL is
kept as it is, for whoever looks into the tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from apikeyrouter.infrastructure.state_store.codec import Row

__all__ = ["escaped", "frozen", "plain", "thawed"]


def escaped(text: str) -> str:
    """The text as it is kept: a backslash twice, the character NUL as backslash and zero."""
    if "\\" in text or "\x00" in text:
        return text.replace("\\", "\\\\").replace("\x00", "\\0")
    return text


def plain(text: str) -> str:
    """The text behind `escaped`."""
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\0", "\x00") for part in text.split("\\\\"))


def frozen(row: Sequence[object], document: int = -1) -> Row:
    """The row with its text escaped, except for column number `document`, which is JSON."""
    return tuple([escaped(one) if type(one) is str and i != document else one for i, one in enumerate(row)])


def thawed(row: Iterable[object], document: int = -1) -> Row:
    """The row behind `frozen`."""
    return tuple([plain(one) if type(one) is str and i != document else one for i, one in enumerate(row)])
