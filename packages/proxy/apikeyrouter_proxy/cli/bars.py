"""Bars in tables: a share as blocks and percent, coloured by how near to its end it is, or plain."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from apikeyrouter_proxy.cli.console import styled

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["bar"]

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(ratio: float, width: int = 10, *, warn: bool = True, drawn: bool | None = None) -> Text:
    """`ratio`: 0..; above 1 the bar is full. `warn`: yellow from 80 %, red from 95 %. `drawn`: with block characters;
    None: where standard output has them."""
    filled = round(min(max(ratio, 0.0), 1.0) * width * 8)
    if drawn or (drawn is None and (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"):
        blocks = "█" * (filled // 8) + (_EIGHTHS[filled % 8] if filled % 8 else "")
        blocks = blocks.ljust(width, "░")
    else:
        blocks = ("#" * round(filled / 8)).ljust(width, ".")
    style = "red" if ratio >= 0.95 else "yellow" if ratio >= 0.8 else "green"
    return styled(f"{blocks} {ratio * 100:5.1f} %", style if warn else "")
