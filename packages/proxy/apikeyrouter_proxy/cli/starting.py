"""`serve` without its command line: from chosen options to a proxy that runs until it is told to stop.

Main entry: `start`. Law: nothing here needs the library that reads command lines (see `at_once`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apikeyrouter_proxy.cli.failures import CliError

if TYPE_CHECKING:
    from apikeyrouter_proxy.serving import Listening

__all__ = ["Start", "busy_message", "start"]


@dataclass(frozen=True, slots=True)
class Start:
    """What the command line chose; None: what the environment says. `port`: 0 takes a free one."""

    host: str | None = None
    port: int | None = None
    workers: int | None = None
    config: Path | None = None
    store: str | None = None
    log_level: str | None = None
    env_file: Path | None = None
    as_json: bool = False


def start(chosen: Start) -> None:
    """Serves until it is told to stop. Raises CliError, and what `serving.serve` and `serve_workers` raise."""
    from apikeyrouter_proxy.cli.environment import dotenv_path
    from apikeyrouter_proxy.serving import PortError
    from apikeyrouter_proxy.serving import serve as run
    from apikeyrouter_proxy.settings import ProxySettings, frozen_environ

    given = {
        "PROXY_HOST": chosen.host,
        "PROXY_PORT": None if chosen.port is None else str(chosen.port),
        "PROXY_WORKERS": None if chosen.workers is None else str(chosen.workers),
        "APIKEYROUTER_CONFIG": None if chosen.config is None else str(chosen.config),
        "APIKEYROUTER_STORE": chosen.store,
        "APIKEYROUTER_LOG_LEVEL": chosen.log_level,
    }
    set_here = {name: value for name, value in given.items() if value is not None}
    environ, dotenv = {**os.environ, **set_here}, dotenv_path(chosen.env_file)
    settings = ProxySettings.from_environ(environ, dotenv, arguments=set_here)
    tell = _tell_json if chosen.as_json else None
    try:
        if settings.workers == 1:
            run(settings, on_listening=tell)
        else:
            from apikeyrouter_proxy.supervisor import serve_workers

            serve_workers(settings, frozen_environ(environ, dotenv, set_here), on_listening=tell)
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
