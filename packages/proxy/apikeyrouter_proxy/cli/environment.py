"""What the command line reads from the environment, without building the proxy's settings: where a proxy would be.

Main entries: `read_environ` and `proxy_url`. Law: the process environment wins over the `.env` file, as it does for the
proxy itself.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from apikeyrouter_proxy.cli.failures import USAGE, CliError

__all__ = ["ADMIN_KEY_NAMES", "CLIENT_KEY_NAME", "URL_NAME", "dotenv_path", "proxy_url", "read_environ"]

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


def proxy_url(environ: Mapping[str, str]) -> str:
    """Where this user's own proxy would be: on this machine, at the port that it would take."""
    port = (environ.get("PROXY_PORT") or environ.get("PORT") or "").strip()
    host = environ.get("PROXY_HOST", "").strip().strip("[]")
    host = _ANYWHERE.get(host, host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port if port.isdecimal() and port != '0' else 8000}"
