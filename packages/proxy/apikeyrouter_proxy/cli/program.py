"""The command line's verbs, one module per group; each imports what it needs when it runs, so that `--help` is quick.

Main entry: `execute`. Laws: the exit status is that of the command, 2 when the command line was not understood; what
was wrong with it is told as a CliError, and what the user broke off is a KeyboardInterrupt, so that nobody else needs
to know the library that reads the command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from apikeyrouter_proxy.cli import (
    budgets,
    chat,
    config,
    credentials,
    decisions,
    deployments,
    doctor,
    imports,
    keys,
    models,
    muxer,
    policies,
    prices,
    providers,
    quota,
    run,
    serve,
    sim,
    simulate,
    spend,
    top,
    virtual_keys,
)
from apikeyrouter_proxy.cli.at_once import print_version
from apikeyrouter_proxy.cli.failures import USAGE, CliError

__all__ = ["app", "execute"]

# The library's base of everything that a wrong command line raises; it exports the leaves only.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="apikeyrouter",
    help="Routes LLM requests over many API keys: one OpenAI-compatible endpoint, and the reasons for every choice.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_version()
        raise typer.Exit


@app.callback()
def _whole(
    _version: Annotated[
        bool,
        typer.Option("--version", "-V", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    pass


serve.register(app)
run.register(app)
sim.register(app)
simulate.register(app)
config.register(app)
imports.register(app)
keys.register(app)
credentials.register(app)
providers.register(app)
models.register(app)
muxer.register(app)
virtual_keys.register(app)
budgets.register(app)
spend.register(app)
quota.register(app)
prices.register(app)
deployments.register(app)
policies.register(app)
decisions.register(app)
chat.register(app)
doctor.register(app)
top.register(app)


def execute(given: Sequence[str]) -> int:
    """Runs one command; the exit status. Raises CliError, KeyboardInterrupt, and whatever the command raises."""
    try:
        result = app(given, prog_name="apikeyrouter", standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _ClickError as failure:
        if os.environ.get("APIKEYROUTER_DEBUG"):
            raise
        return _misunderstood(failure)
    return result if isinstance(result, int) else 0


def _misunderstood(failure: Exception) -> int:
    """What was wrong with the command line: raised as a CliError, or the exit status when it is told already."""
    if type(failure).__name__.startswith("NoArgsIsHelp"):
        sys.stderr.write(f"{failure}\n")
        return USAGE
    from apikeyrouter_proxy.cli.misread import in_words

    text = in_words(failure) or str(failure.format_message() if hasattr(failure, "format_message") else failure)
    if not text:
        return USAGE
    text += "" if text.endswith((".", "?", "!")) else "."
    if isinstance(failure, _UsageError):
        text = f"{text} `{_path(failure)} --help` tells more."
    raise CliError(text, USAGE) from None


def _path(failure: Exception) -> str:
    context = getattr(failure, "ctx", None)
    return str(getattr(context, "command_path", "") or "apikeyrouter")
