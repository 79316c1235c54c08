"""What commands print: results on standard output, everything about them on standard error.

Main entries: `print_json`, `print_table`, `say`, `note`. Laws: `--json` prints one JSON document and nothing else on
standard output; text that came from outside cannot command the terminal (control characters are shown, not sent), and
nothing that looks like a key passes an error message.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "STATE_STYLES",
    "about",
    "came_from",
    "complain",
    "note",
    "plain",
    "print_json",
    "print_table",
    "say",
    "show_line",
    "styled",
]

STATE_STYLES = {
    "available": "green",
    "throttled": "yellow",
    "exhausted": "yellow",
    "recovering": "cyan",
    "disabled": "dim",
    "invalid": "red",
    "retired": "dim",
}
_WIDE_ENOUGH = 1000


def plain(text: object) -> str:
    """The text with control characters made visible, line ends and tabs aside."""
    return "".join(c if c in "\n\t" or not _controls(c) else f"\\x{ord(c):02x}" for c in str(text))


def _controls(character: str) -> bool:
    number = ord(character)
    # C0, DEL, C1, and the marks that turn the direction of writing round
    return number < 0x20 or 0x7F <= number < 0xA0 or 0x202A <= number <= 0x202E or 0x2066 <= number <= 0x2069


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True, default=str) + "\n")
    sys.stdout.flush()


def say(*lines: object) -> None:
    """Lines on standard output."""
    for line in lines:
        sys.stdout.write(plain(line) + "\n")
    sys.stdout.flush()


def note(text: object) -> None:
    """A dim line on standard error."""
    _on_error(styled(plain(text), "dim"))


def complain(text: str) -> None:
    """An error on standard error, with whatever looks like a key masked."""
    from apikeyrouter.domain.resilience.redact import redact

    lines = [redact(line) for line in plain(text).splitlines()] or [""]
    _on_error(styled("Error: ", "bold red").append("\n".join(lines), style="default"))


def styled(text: object, style: str = "") -> Text:
    """A cell or a line with a style; never read as markup."""
    from rich.text import Text

    return Text(plain(text), style=style)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Text | str]], *, title: str | None = None) -> None:
    """A table on standard output. A cell is text, or a `styled` text."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(styled(cell) if isinstance(cell, str) else cell for cell in row))
    console = _console()
    console.print(table)


def _console() -> Console:
    """Standard output; where it is no terminal a table is as wide as it needs to be, so `grep` finds whole rows."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, emoji=False, width=_WIDE_ENOUGH)
    return console


def _on_error(text: Text) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True).print(text)


def show_line(first: Text, text: str, advice: str = "") -> None:
    """A styled word, a text, and below it an indented line of advice."""
    console = _console()
    first.append(plain(text), style="default")
    console.print(first, soft_wrap=True)
    if advice:
        console.print(styled(f"      {advice}", "dim"), soft_wrap=True)


def came_from(row: Mapping[str, Any]) -> str:
    """Where an object of the management API comes from: the line, the variable, or one word."""
    defined = row.get("defined") or {}
    return str(defined.get("at") or defined.get("source") or "-")


def about(value: Any) -> str:
    """A value as a table shows it: a dash for nothing."""
    return "-" if value is None or value == "" else str(value)
