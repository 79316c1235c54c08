"""The command line: `apikeyrouter`, also `akr` and `python -m apikeyrouter_proxy.cli`.

Main entry: `main`. One module per group of verbs; each imports what it needs when it runs, so that `--help` is quick.
Laws: results go to standard output and everything about them to standard error; the exit status is 0, 1 when the
command failed and 2 when it was not understood; users see one short message and never a traceback
(APIKEYROUTER_DEBUG=1 shows it to developers); no output holds key material.
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
from apikeyrouter_proxy.cli.failures import FAILED, USAGE, CliError

__all__ = ["app", "main"]

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
        from apikeyrouter import __version__

        sys.stdout.write(f"apikeyrouter {__version__}\n")
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit status. `arguments`: default those of the process."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = app(given, prog_name="apikeyrouter", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone, as in `... | head`; the interpreter must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (typer.Abort, KeyboardInterrupt, EOFError):
        sys.stderr.write("Stopped.\n")
        return 130
    except Exception as failure:
        if os.environ.get("APIKEYROUTER_DEBUG"):
            raise
        return _failed(failure)
    return result if isinstance(result, int) else 0


def _failed(failure: Exception) -> int:
    """Tells what went wrong; the exit status."""
    from apikeyrouter.domain.errors import ConfigurationError, RouterError
    from apikeyrouter_proxy.cli.console import complain

    if isinstance(failure, CliError):
        complain(failure.message)
        return failure.status
    if isinstance(failure, RouterError):
        complain(failure.message)
        return USAGE if isinstance(failure, ConfigurationError) else FAILED
    if type(failure).__name__.startswith("NoArgsIsHelp"):
        sys.stderr.write(f"{failure}\n")
        return USAGE
    if isinstance(failure, _ClickError):
        text = str(failure.format_message()) if hasattr(failure, "format_message") else str(failure)
        if text:
            text += "" if text.endswith((".", "?", "!")) else "."
            complain(text if not isinstance(failure, _UsageError) else f"{text} `{_path(failure)} --help` tells more.")
        return USAGE
    complain(
        f"Something unexpected happened ({type(failure).__name__}: {failure}). This is a fault of ApiKeyRouter; set "
        "APIKEYROUTER_DEBUG=1 and run the command again to see where, then please report it."
    )
    return FAILED


def _path(failure: Exception) -> str:
    context = getattr(failure, "ctx", None)
    return str(getattr(context, "command_path", "") or "apikeyrouter")
