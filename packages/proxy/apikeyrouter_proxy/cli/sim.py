"""`sim`: starts a simulated provider; `sim fault`, `sim clear` and `sim state` make it fail and look at it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional
from urllib.parse import quote

import typer

from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson

if TYPE_CHECKING:
    from apikeyrouter.simulation.config import SimConfig
    from apikeyrouter_proxy.sim_server import SimServer

__all__ = ["register"]

_PORT = 8010
_SimUrl = Annotated[str, typer.Option("--url", help="The simulated provider.")]
_DEFAULT_URL = f"http://127.0.0.1:{_PORT}"


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(start)
    group.command("fault")(fault)
    group.command("clear")(clear)
    group.command("state")(state)
    app.add_typer(group, name="sim")


def start(
    context: typer.Context,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65_535, help="0 takes a free one.")] = _PORT,
    seed: Annotated[Optional[int], typer.Option("--seed", help="Replays replies, ids and chances.")] = None,  # noqa: UP045
    rpm: Annotated[Optional[int], typer.Option("--rpm", min=1, help="Requests a minute of each account.")] = None,  # noqa: UP045
    tpm: Annotated[Optional[int], typer.Option("--tpm", min=1, help="Tokens a minute of each account.")] = None,  # noqa: UP045
    refill: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--refill", help="How limits come back: continuous, rolling (each after 60 s) or fixed (clock minute)."
        ),
    ] = None,
    burst_s: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--burst-s", help="No more at once than comes back in so many seconds, with a continuous refill."),
    ] = None,
    no_limits: Annotated[bool, typer.Option("--no-limits", help="No rate limits at all.")] = False,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--config", help="JSON file with accounts, limits, speeds and faults."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a simulated provider: OpenAI's wire format over real HTTP, with limits, keys and faults, free of charge."""
    if context.invoked_subcommand is not None:
        return
    from apikeyrouter_proxy.sim_server import serve_sim

    limits = {"rpm": rpm, "tpm": tpm, "refill": refill, "burst_s": burst_s}
    chosen = _configured(config, seed, limits, no_limits=no_limits)
    try:
        serve_sim(host, port, chosen, on_ready=_told(as_json=as_json))
    except OSError as problem:
        other = port + 1 if port < 65_535 else port - 1
        why = problem.strerror or type(problem).__name__
        raise CliError(
            f"Cannot listen on {host} port {port}: {why}. Choose another one: `apikeyrouter sim --port {other}` "
            "(0 takes a free one)."
        ) from None


def _configured(path: Path | None, seed: int | None, limits: dict[str, Any], *, no_limits: bool) -> SimConfig:
    import msgspec

    from apikeyrouter.simulation.config import Limits, SimConfig, load_config

    try:
        config = load_config(path) if path else SimConfig()
    except OSError as problem:
        raise CliError(f"{path} cannot be read: {problem.strerror or type(problem).__name__}.", USAGE) from None
    except ValueError as problem:
        raise CliError(f"The configuration is not usable: {problem}.", USAGE) from None
    changes: dict[str, Any] = {} if seed is None else {"seed": seed}
    if no_limits:
        changes["limits"] = "none"
    elif given := {name: value for name, value in limits.items() if value is not None}:
        known = config.limits if isinstance(config.limits, Limits) else Limits()
        try:
            changes["limits"] = msgspec.convert({**msgspec.to_builtins(known), **given}, Limits)
        except msgspec.ValidationError as problem:
            raise CliError(f"These limits are not usable: {problem}.", USAGE) from None
    return msgspec.structs.replace(config, **changes)


def _told(*, as_json: bool) -> Callable[[SimServer], None]:
    def tell(server: SimServer) -> None:
        if as_json:
            print(json.dumps(server.describe()), flush=True)
            return
        first = server.keys[0] if server.keys else "sim-key-1"
        url = server.base_url.removesuffix("/v1")
        elsewhere = "" if url == _DEFAULT_URL else f" --url {url}"
        print(
            f"Simulated provider at {server.base_url} (process {os.getpid()}; free of charge, made-up text)\n"
            f"Keys: {', '.join(server.keys)}\n\n"
            f"-- a proxy in front of it\n"
            f"OPENAI_BASE_URL={server.base_url} OPENAI_API_KEY={','.join(server.keys)} "
            f"apikeyrouter serve --store memory:\n\n"
            f"-- a request to it\n"
            f"curl {server.base_url}/chat/completions -H 'Authorization: Bearer {first}' \\\n"
            f'  -d \'{{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "Hello!"}}]}}\'\n\n'
            f"-- make it fail, in another terminal\n"
            f"apikeyrouter sim fault {first} rate_limited --retry-after 20{elsewhere}\n"
            f"apikeyrouter sim clear{elsewhere}\n",
            flush=True,
        )

    return tell


def fault(
    key: Annotated[str, typer.Argument(help="A simulated key, or 'all'.")],
    kind: Annotated[str, typer.Argument(help="rate_limited, revoked, billing, server_error, hang, cut_stream ...")],
    count: Annotated[Optional[int], typer.Option("--count", min=1, help="Ends after so many requests.")] = None,  # noqa: UP045
    retry_after: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--retry-after", min=0, help="Seconds, for rate_limited."),
    ] = None,
    delay: Annotated[Optional[float], typer.Option("--delay", min=0, help="Seconds, for the slow ones.")] = None,  # noqa: UP045
    status: Annotated[Optional[int], typer.Option("--status", help="For server_error and client_error.")] = None,  # noqa: UP045
    url: _SimUrl = _DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make a running simulated provider fail for one key, or for all."""
    given = {
        "key": None if key == "all" else key,
        "kind": kind,
        "count": count,
        "retry_after_s": retry_after,
        "delay_s": delay,
        "status": status,
    }
    body = {name: value for name, value in given.items() if value is not None}
    told = _control(url, "POST", "/faults", body)
    _show(told, f"From now on {'every key' if key == 'all' else key} fails: {kind}.", as_json=as_json)


def clear(
    key: Annotated[Optional[str], typer.Argument(help="A simulated key; default: all.")] = None,  # noqa: UP045
    url: _SimUrl = _DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """End faults of a running simulated provider."""
    told = _control(url, "DELETE", "/faults" + (f"?key={quote(key, safe='')}" if key else ""))
    _show(told, f"{told.get('ended', 0)} faults ended.", as_json=as_json)


def state(url: _SimUrl = _DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show what a running simulated provider has seen of each key, and the faults in force."""
    from apikeyrouter_proxy.cli.console import about, print_json, print_table, say

    told = _control(url, "GET", "/state")
    if as_json:
        print_json(told)
        return
    rows = [
        [
            label,
            about(seen.get("requests")),
            ", ".join(f"{n} x {code}" for code, n in seen.get("by_status", {}).items()),
        ]
        for label, seen in told.get("keys", {}).items()
    ]
    print_table(["key", "requests", "answers"], rows)
    for one in told.get("faults", []):
        say(f"Fault {one.get('id')}: {one.get('kind')} for {one.get('key') or 'every key'}")


def _control(url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    from apikeyrouter_proxy.cli import http

    try:
        encoded = None if body is None else json.dumps(body).encode()
        answer = http.ask(http.checked_origin(url), method, f"/_sim{path}", encoded, timeout_s=10.0)
    except http.Unreachable as problem:
        raise CliError(f"{problem.message} Start one with `apikeyrouter sim`, or give its --url.") from None
    told = answer.json()
    if not isinstance(told, dict):
        raise CliError(f"{url} is no simulated provider. Start one with `apikeyrouter sim`, or give its --url.")
    if answer.status >= 400:
        raise CliError(f"The simulated provider refused: {told.get('error', answer.status)}.")
    return told


def _show(told: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    from apikeyrouter_proxy.cli.console import print_json, say

    if as_json:
        print_json(told)
    else:
        say(sentence)
