"""`--on KIND=NAME`: what a budget covers, what a report is about, how a request would be sent; one way to say it.

Main entry: `read_on`. Names are what people use (a key's label, a virtual key's name); the management API knows ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Annotated, Optional

import typer

from apikeyrouter_proxy.cli.failures import USAGE, CliError

__all__ = ["KINDS", "On", "OnOne", "read_on"]

KINDS = ("provider", "key", "model", "virtual-key", "team", "tag")

_HELP = "KIND=NAME: provider, key (label or id), model, virtual-key (name or id), team, or tag (tag=name=value)."
OnOne = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option("--on", metavar="KIND=NAME", help=f"What it covers, as {_HELP} Default: everything."),
]
On = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--on", metavar="KIND=NAME", help=f"{_HELP} May be repeated."),
]


def read_on(given: Sequence[str], *, many_tags: bool = False) -> list[tuple[str, str]]:
    """(kind, name) for each text; each kind once, tags aside with `many_tags`. Raises CliError for what is not that;
    names are not repeated, since somebody may have pasted a secret."""
    found: list[tuple[str, str]] = []
    for text in given:
        kind, equals, name = text.partition("=")
        kind = kind.strip().lower().replace("_", "-")
        if not equals or not name.strip():
            raise CliError(f"--on takes KIND=NAME, such as --on key=team-a; KIND is one of {', '.join(KINDS)}.", USAGE)
        if kind not in KINDS:
            close = get_close_matches(kind, KINDS, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise CliError(f"--on knows no {kind[:40]!r}: it is one of {', '.join(KINDS)}.{hint}", USAGE)
        if kind == "tag" and not all(part.strip() for part in name.partition("=")):
            raise CliError("A tag is name=value: --on tag=feature=search.", USAGE)
        if kind in [known for known, _ in found] and not (many_tags and kind == "tag"):
            raise CliError(f"--on {kind}= is given twice; give it once.", USAGE)
        found.append((kind, name.strip()))
    return found
