"""How far something long has come: a bar on standard error, for people who look at a terminal.

Main entry: `steps`. Laws: nothing is drawn where standard error is no terminal, or where JSON was asked for; the bar is
gone when the work is done; what is printed meanwhile stands above it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["steps"]


@contextmanager
def steps(what: str, total: int, *, quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """Yields what is called after each of `total` steps, with a word on what comes next, "" for none."""
    if quiet or total < 2 or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    # Results that go to a file or a pipe go there; on the same terminal they are printed above the bar.
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task(what, total=total)

        def step(following: str) -> None:
            progress.update(task, advance=1, description=f"{what}: {following}" if following else what)

        yield step
