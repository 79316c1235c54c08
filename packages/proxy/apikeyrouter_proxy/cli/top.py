"""`top`: the dashboard in the terminal: keys, forecasts and decisions of the running proxy, live."""

from __future__ import annotations

import importlib.util
import sys

import typer

from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.options import EnvFile, Url
from apikeyrouter_proxy.cli.service import Remote, Where, open_remote

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the verb."""
    app.command("top")(top)


def top(url: Url = None, env_file: EnvFile = None) -> None:
    """Watch keys, forecasts and decisions of the running proxy in the terminal. Needs the extra `tui`."""
    if not _installed():
        raise CliError("`top` needs Textual, which is not installed: pip install 'apikeyrouter-proxy[tui]'")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise CliError(
            "`top` draws in a terminal, and this is none. For scripts there are `apikeyrouter quota --json` and "
            "`apikeyrouter decisions list --json`.",
            USAGE,
        )
    service = connected(Where(url, None, env_file))
    from apikeyrouter_proxy.tui.app import TopApp

    TopApp(service).run()


def connected(where: Where) -> Remote:
    """The running proxy, after a first answer: a person is asked for a missing admin key while the terminal is still
    theirs. Raises CliError when none runs."""
    service = open_remote(where)
    service.get("/api/v1/keys?limit=1")
    return service


def _installed() -> bool:
    try:
        return importlib.util.find_spec("textual") is not None
    except ModuleNotFoundError:
        return False
