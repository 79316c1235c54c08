"""`serve` and `version`."""

from __future__ import annotations

import platform
from typing import Annotated, Optional

import typer

from apikeyrouter_proxy.cli.at_once import PORT_MAX, WORKERS_MAX
from apikeyrouter_proxy.cli.options import AsJson, Config, EnvFile, Store
from apikeyrouter_proxy.cli.starting import Start, start

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the verbs."""
    app.command("serve")(serve)
    app.command("version")(version)


def serve(
    host: Annotated[
        Optional[str], typer.Option("--host", help="Address to listen on. Default: PROXY_HOST, else 127.0.0.1.")  # noqa: UP045
    ] = None,
    port: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--port", "-p", min=0, max=PORT_MAX, help="Default: PROXY_PORT, else 8000; 0 takes a free one."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--workers",
            "-w",
            min=1,
            max=WORKERS_MAX,
            help="Processes. Default: PROXY_WORKERS, else WEB_CONCURRENCY, else 1.",
        ),
    ] = None,
    config: Config = None,
    store: Store = None,
    log_level: Annotated[
        Optional[str], typer.Option("--log-level", help="DEBUG, INFO, WARNING, ERROR or CRITICAL. Default: LOG_LEVEL.")  # noqa: UP045
    ] = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Start the proxy. Without any provider key the simulated provider answers."""
    start(Start(host, port, workers, config, store, log_level, env_file, as_json))


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    import apikeyrouter
    from apikeyrouter_proxy.cli.console import print_json, say

    if as_json:
        print_json({"version": apikeyrouter.__version__, "python": platform.python_version()})
    else:
        say(f"apikeyrouter {apikeyrouter.__version__} (Python {platform.python_version()})")
