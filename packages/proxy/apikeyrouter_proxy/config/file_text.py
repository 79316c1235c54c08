"""The configuration file's own text, for people's eyes: as it stands on disk, secrets masked where they are written.

Main entry: `masked_text`. Laws: a text is shown only when it can be read and every secret in it could be masked at its
very place; what looks like a credential in a comment is masked too; nothing is followed and nothing is run; a file of
another product, whose secrets stand elsewhere, is not shown. Callers make sure that the text has no unknown member,
since such a one may hold anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apikeyrouter.domain.resilience.redact import redact
from apikeyrouter_proxy.config.faults import Faults, Path, Place
from apikeyrouter_proxy.config.from_litellm import is_litellm
from apikeyrouter_proxy.config.masking import MASK, is_secret, masked
from apikeyrouter_proxy.config.tree import read_yaml

__all__ = ["UnshowableError", "masked_text"]

_REPEATED_MIN = 6
"""Shorter secrets are masked at their place only: elsewhere the same letters are most likely something else."""


class UnshowableError(Exception):
    """A secret of the text stands in a form that cannot be masked. The message says which and where."""


def masked_text(text: str, name: str) -> str:
    """The text with secrets masked. Raises UnshowableError. `name`: of the file, for messages."""
    faults = Faults()
    tree = read_yaml(text, name, faults)
    if faults.found:
        raise UnshowableError(str(faults.found[0]))
    if isinstance(tree, dict) and is_litellm(tree):
        raise UnshowableError("The file is another product's, translated as it is read.")
    lines = text.splitlines(keepends=True)
    secrets = list(_secrets(tree, ()))
    for path, value in sorted(secrets, key=lambda one: faults.places[one[0]], reverse=True):
        _mask_at(lines, faults.places[path], value)
    shown = "".join(_without_comment(line) for line in lines)
    for _, value in secrets:
        if len(value) >= _REPEATED_MIN:
            shown = shown.replace(value, MASK)
    return masked(shown, ())


def _secrets(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """Every secret that is written out, by its path; references are none."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _secrets(one, (*path, name))
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _secrets(one, (*path, number))
    elif value is not None and is_secret(path) and masked(value, path) == MASK:
        yield path, str(value)


def _mask_at(lines: list[str], place: Place, value: str) -> None:
    line = lines[place.line - 1]
    begin = place.column - 1
    for quote in ('"', "'", ""):
        written = f"{quote}{value}{quote}"
        if line.startswith(written, begin):
            lines[place.line - 1] = f'{line[:begin]}"{MASK}"{line[begin + len(written) :]}'
            return
    if line.startswith(f'"{MASK}"', begin):  # the same value by an anchor, masked already
        return
    raise UnshowableError(
        f"The secret in line {place.line} is written in a form that cannot be masked, so the text is not shown. Put it "
        "on one line, or refer to it: ${NAME}."
    )


def _without_comment(line: str) -> str:
    before, mark, comment = line.partition("#")
    return before + mark + redact(comment) if mark else line
