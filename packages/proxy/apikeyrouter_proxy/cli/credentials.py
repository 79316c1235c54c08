"""`credentials`: keys that are access tokens, renewed by themselves: from a file, or by logging in with a browser.

`login` is OAuth's device flow (RFC 8628): this program shows an address and a code, and asks the provider until
somebody has entered it. Use it only where the provider's terms allow programs to act for you. Laws: secrets come from
files or providers, never from the command line; tokens are never printed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Optional
from urllib.parse import urlencode, urlsplit

import typer

from apikeyrouter_proxy.cli import http
from apikeyrouter_proxy.cli.console import print_json, say
from apikeyrouter_proxy.cli.failures import USAGE, CliError
from apikeyrouter_proxy.cli.options import AsJson, EnvFile, Store, Url
from apikeyrouter_proxy.cli.service import Where, open_service

__all__ = ["register"]

_PATH = "/api/v1/credentials"
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_INTERVAL_S, _SLOWER_BY_S = 5.0, 5.0
"""RFC 8628, 3.2 and 3.5."""

_LOGIN_MAX_S = 1800.0
_FILE_BYTES_MAX = 256 * 1024
_Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="The id of the provider that it belongs to.")]
_Label = Annotated[Optional[str], typer.Option("--label", "-l", help="A short name, safe to show.")]  # noqa: UP045


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Add credentials that are exchanged for access tokens."
    )
    group.command("add")(add)
    group.command("login")(login)
    app.add_typer(group, name="credentials")


def add(
    provider: _Provider,
    file: Annotated[Path, typer.Option("--file", "-f", help="JSON: a kind and its fields, or Google's own file.")],
    label: _Label = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a credential from a file. It is exchanged once at once, so that a mistake shows now."""
    _add(provider, _read(file), label, Where(url, store, env_file), as_json=as_json)


def login(
    provider: _Provider,
    device_url: Annotated[str, typer.Option("--device-url", help="The provider's device authorization endpoint.")],
    token_url: Annotated[str, typer.Option("--token-url", help="Its token endpoint.")],
    client_id: Annotated[str, typer.Option("--client-id", help="The id of your application there.")],
    scope: Annotated[str, typer.Option("--scope", help="What it shall be allowed.")] = "",
    label: _Label = None,
    url: Url = None,
    store: Store = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> None:
    """Log in with a browser on any machine. Only for providers whose terms allow it."""
    import asyncio  # slow to import: other verbs do without it

    where = Where(url, store, env_file)
    begun = _post(device_url, {"client_id": client_id, "scope": scope})
    if begun.get("error") or not begun.get("device_code") or not begun.get("user_code"):
        raise CliError(f"The login could not begin: the provider answered {begun.get('error') or 'no code'}.")
    address = begun.get("verification_uri_complete") or begun.get("verification_uri") or begun.get("verification_url")
    say(f"Open {address} and enter the code {begun['user_code']}. Waiting; Ctrl-C ends it.")
    form = {"grant_type": _DEVICE_GRANT, "device_code": begun["device_code"], "client_id": client_id}
    token = asyncio.run(_until_allowed(token_url, form, begun))
    if not token.get("refresh_token"):
        raise CliError("The provider gave no refresh token, so the login would end with its first access token.")
    credential = {
        "kind": "refresh_token",
        "token_url": token_url,
        "client_id": client_id,
        "refresh_token": token["refresh_token"],
        "scope": scope,
    }
    _add(provider, credential, label, where, as_json=as_json)


async def _until_allowed(token_url: str, form: dict[str, str], begun: dict[str, Any]) -> dict[str, Any]:
    """Asks until somebody has entered the code. Raises CliError when that is refused or takes too long."""
    from apikeyrouter.infrastructure.clock import SystemClock

    clock = SystemClock()
    every_s = _seconds(begun.get("interval"), _INTERVAL_S)
    end_s = clock.monotonic_s() + min(_seconds(begun.get("expires_in"), _LOGIN_MAX_S), _LOGIN_MAX_S)
    while clock.monotonic_s() < end_s:
        await clock.sleep(every_s)
        reply = _post(token_url, form)
        error = reply.get("error")
        if error is None:
            return reply
        if error == "slow_down":
            every_s += _SLOWER_BY_S
        elif error != "authorization_pending":
            raise CliError(f"The login ended: the provider says {error!s:.64}.")
    raise CliError("Nobody entered the code in time. Run the command again.")


def _seconds(told: object, otherwise_s: float) -> float:
    return float(told) if isinstance(told, int | float) and told >= 0 else otherwise_s


def _post(url: str, form: dict[str, str]) -> dict[str, Any]:
    parts = urlsplit(url)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise CliError("The provider's endpoints must be https addresses.", USAGE)
    body = urlencode({name: value for name, value in form.items() if value}).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    try:
        answer = http.ask(f"{parts.scheme}://{parts.netloc}", "POST", parts.path or "/", body, headers)
    except http.Unreachable as fault:
        raise CliError(fault.message) from None
    reply = answer.json()
    if not isinstance(reply, dict):
        raise CliError(f"The provider answered status {answer.status} without a JSON object.")
    if answer.status >= 400 and not reply.get("error"):
        reply["error"] = f"status {answer.status}"
    return reply


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_bytes()
        credential = json.loads(text) if len(text) <= _FILE_BYTES_MAX else None
    except (OSError, ValueError) as fault:
        raise CliError(f"{file} cannot be read as JSON ({type(fault).__name__}).", USAGE) from None
    if not isinstance(credential, dict):
        raise CliError(f"{file} holds no JSON object with a credential.", USAGE)
    return credential


def _add(provider: str, credential: dict[str, Any], label: str | None, where: Where, *, as_json: bool) -> None:
    body: dict[str, Any] = {"provider_id": provider, "credential": credential}
    if label:
        body["label"] = label
    with open_service(where) as service:
        key = service.send("POST", _PATH, body)
    if as_json:
        print_json(key)
    else:
        say(f"Added {key['label']} ({key['id']}) to {provider}; its token is renewed ahead of its end.")
