"""What the shell offers after Tab where names are this user's own: labels of keys and model names.

Main entries: `key_names` and `model_names`, given to typer as `autocompletion`. Laws: a running proxy is asked, for a
moment (`WITHIN_S`); no store is opened, nobody is asked for anything, and whatever fails offers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

__all__ = ["WITHIN_S", "key_names", "model_names"]

WITHIN_S = 1.0


def key_names(incomplete: str) -> list[str]:
    """Labels of keys."""
    return _beginning(incomplete, (key["label"] for key in _asked("/api/v1/keys")))


def model_names(incomplete: str) -> list[str]:
    """Names of models that may be asked for."""
    return _beginning(incomplete, (model["id"] for model in _asked("/v1/models")))


def _beginning(incomplete: str, names: Iterable[Any]) -> list[str]:
    return sorted({str(name) for name in names if str(name).startswith(incomplete)})


def _asked(path: str) -> list[dict[str, Any]]:
    """The rows of a list, from the proxy that runs; none where none does, or when it wants another key."""
    from apikeyrouter_proxy.cli import http
    from apikeyrouter_proxy.cli.environment import URL_NAME, proxy_url, read_environ, with_file
    from apikeyrouter_proxy.cli.failures import CliError
    from apikeyrouter_proxy.cli.service import Remote, identify

    try:
        environ = with_file(read_environ())
        origin = http.checked_origin(environ.get(URL_NAME, "").strip() or proxy_url(environ))
        if identify(origin) is None:  # keys are for an ApiKeyRouter only
            return []
        with Remote(origin, environ).listen(quote(path, safe="/"), within_s=WITHIN_S) as (answer, pieces):
            answer.body = b"".join(pieces)
    except (CliError, http.Unreachable):
        return []
    told = answer.json()
    return [one for one in told.get("data", []) if isinstance(one, dict)] if isinstance(told, dict) else []
