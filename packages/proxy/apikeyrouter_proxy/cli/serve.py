"""`serve` and `version`."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from apikeyrouter_proxy.cli.failures import CliError
from apikeyrouter_proxy.cli.options import AsJson, Config, EnvFile, Store

if TYPE_CHECKING:
    from apikeyrouter_proxy.serving import Listening

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
        typer.Option("--port", "-p", min=0, max=65_535, help="Default: PROXY_PORT, else 8000; 0 takes a free one."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            "--workers", "-w", min=1, max=64, help="Processes. Default: PROXY_WORKERS, else WEB_CONCURRENCY, else 1."
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
    from apikeyrouter_proxy.cli.environment import dotenv_path
    from apikeyrouter_proxy.serving import PortError
    from apikeyrouter_proxy.serving import serve as run
    from apikeyrouter_proxy.settings import ProxySettings, frozen_environ

    given = {
        "PROXY_HOST": host,
        "PROXY_PORT": None if port is None else str(port),
        "PROXY_WORKERS": None if workers is None else str(workers),
        "APIKEYROUTER_CONFIG": None if config is None else str(config),
        "APIKEYROUTER_STORE": store,
        "APIKEYROUTER_LOG_LEVEL": log_level,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    environ, dotenv = {**os.environ, **chosen}, dotenv_path(env_file)
    settings = ProxySettings.from_environ(environ, dotenv, arguments=chosen)
    tell = _tell_json if as_json else None
    try:
        if settings.workers == 1:
            run(settings, on_listening=tell)
        else:
            from apikeyrouter_proxy.supervisor import serve_workers

            serve_workers(settings, frozen_environ(environ, dotenv, chosen), on_listening=tell)
    except PortError as failure:
        if failure.busy:
            raise CliError(busy_message(settings.host, settings.port)) from None
        raise


def busy_message(host: str, port: int) -> str:
    """Who holds a port, and what to do about it."""
    from apikeyrouter_proxy.banner import origin_of
    from apikeyrouter_proxy.cli.http import Unreachable
    from apikeyrouter_proxy.cli.service import identify
    from apikeyrouter_proxy.serving import port_advice

    origin = origin_of(host, port)
    try:
        ours = identify(origin)
    except Unreachable:
        ours = None
    if ours is not None:
        return (
            f"Port {port} is taken: ApiKeyRouter already runs at {origin}. Use that one (`apikeyrouter keys list` "
            f"shows its keys), stop it, or start a second one beside it. {port_advice(port)}"
        )
    return f"Port {port} on {host} is taken: another program listens there. Stop it, or: {port_advice(port)}"


def _tell_json(listening: Listening) -> None:
    """One line, for programs that start a proxy."""
    from apikeyrouter_proxy.banner import origin_of

    origin = origin_of(listening.settings.host, listening.port)
    told = {"url": origin, "base_url": f"{origin}/v1", "pid": os.getpid(), "notes": list(listening.notes)}
    if listening.workers:
        told["workers"] = list(listening.workers)
    print(json.dumps(told), flush=True)


def version(as_json: AsJson = False) -> None:
    """Print the version."""
    import apikeyrouter
    from apikeyrouter_proxy.cli.console import print_json, say

    if as_json:
        print_json({"version": apikeyrouter.__version__, "python": platform.python_version()})
    else:
        say(f"apikeyrouter {apikeyrouter.__version__} (Python {platform.python_version()})")
