"""Options that several verbs share, each defined once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

__all__ = ["AsJson", "Config", "EnvFile", "KeyName", "Objective", "Store", "Surplus", "Url", "Yes", "refuse_surplus"]

from apikeyrouter_proxy.cli.completing import key_names, objective_names
from apikeyrouter_proxy.cli.failures import USAGE, CliError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of words and tables.")]
Url = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Option(
        "--url", help="The running proxy. Default: APIKEYROUTER_URL, else this machine's, else the store is used."
    ),
]
Store = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--store",
        help="Work on this store: sqlite:///path, postgresql://... or redis://... Default: APIKEYROUTER_STORE.",
    ),
]
EnvFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--env-file", help="Variables besides the environment.", show_default=".env"),
]
Config = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--config",
        "-c",
        help="The configuration file. Default: APIKEYROUTER_CONFIG, else apikeyrouter.yaml here.",
    ),
]
Objective = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--objective",
        "-o",
        help="fairness, cost, reliability, latency, quality or balanced.",
        autocompletion=objective_names,
    ),
]
KeyName = Annotated[
    str,
    typer.Argument(metavar="KEY", help="A key's label, its id, or the beginning of its id.", autocompletion=key_names),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Surplus = Annotated[Optional[list[str]], typer.Argument(hidden=True, metavar="")]  # noqa: UP045


def refuse_surplus(surplus: list[str] | None) -> None:
    """Refuses anything more on the command line of a verb that reads a secret; it may be one, so it is not repeated."""
    if surplus:
        raise CliError(
            "A secret does not belong on the command line: it stays in the shell's history, and every user of this "
            "machine can see it while the command runs. Leave it out and type it when asked, or pipe it in with "
            "--stdin. If what you typed was a key, clear it from the history, and better make a new one.",
            USAGE,
        )
