"""What the command line reads from the environment, without building the proxy's settings: where a proxy would be.

Main entries: `read_environ` and `proxy_url`. Law: the process environment wins over the `.env` file, as it does for the
proxy itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from apikeyrouter_proxy.cli.failures import USAGE, CliError

__all__ = ["ADMIN_KEY_NAMES", "CLIENT_KEY_NAME", "URL_NAME", "dotenv_path", "proxy_url", "read_environ", "with_file"]

URL_NAME = "APIKEYROUTER_URL"
CLIENT_KEY_NAME = "APIKEYROUTER_KEY"
ADMIN_KEY_NAMES = ("APIKEYROUTER_ADMIN_KEY", "MANAGEMENT_API_KEY", "APIKEYROUTER_MANAGEMENT_API_KEY")
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  (compared, not bound)


def dotenv_path(env_file: Path | None) -> Path:
    """The file to read besides the environment. Raises CliError when one was named and is not there."""
    if env_file is None:
        return Path(".env")
    if not env_file.is_file():
        raise CliError(f"There is no file {str(env_file)!r}. Give --env-file the path of a .env file.", USAGE)
    return env_file


def read_environ(env_file: Path | None = None) -> dict[str, str]:
    """The environment over the `.env` file."""
    path = dotenv_path(env_file)
    read: dict[str, str] = {}
    if path.is_file():
        from dotenv import dotenv_values

        try:
            values = dotenv_values(path, interpolate=False)
        except (OSError, UnicodeDecodeError) as fault:
            raise CliError(f"{path} cannot be read ({type(fault).__name__}): make it a UTF-8 file of yours.") from None
        read = {name: value for name, value in values.items() if value is not None}
    return {**read, **os.environ}


def with_file(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the configuration file's address and admin key below it, so that commands find the proxy
    that the file configures. One that cannot be read is the business of `serve` and `config check`, and is none here.
    """
    path = Path(environ.get("APIKEYROUTER_CONFIG", "").strip() or "apikeyrouter.yaml").expanduser()
    if not path.is_file():
        return dict(environ)
    from apikeyrouter_proxy.config.faults import Faults
    from apikeyrouter_proxy.config.references import References
    from apikeyrouter_proxy.config.tree import read_yaml

    faults = Faults()
    try:
        tree = read_yaml(path.read_text(encoding="utf-8-sig"), str(path), faults)
    except (OSError, UnicodeDecodeError):
        return dict(environ)
    server = tree.get("server") if isinstance(tree, dict) else None
    found = dict(environ)
    names = {"port": ("PROXY_PORT", "PORT"), "host": ("PROXY_HOST",), "admin_key": ADMIN_KEY_NAMES}
    for member, variables in names.items():
        value = server.get(member) if isinstance(server, dict) else None
        if value is not None and not any(found.get(name, "").strip() for name in variables):
            found[variables[0]] = str(References(environ, faults).resolve(value, ("server", member)))
    return found


def proxy_url(environ: Mapping[str, str]) -> str:
    """Where this user's own proxy would be: on this machine, at the port that it would take."""
    port = (environ.get("PROXY_PORT") or environ.get("PORT") or "").strip()
    host = environ.get("PROXY_HOST", "").strip().strip("[]")
    host = _ANYWHERE.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port if port.isdecimal() and port != '0' else 8000}"
