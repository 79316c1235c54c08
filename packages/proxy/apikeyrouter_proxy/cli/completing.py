"""What the shell offers after Tab where names are this user's own: keys, models, budgets, policies and so on.

Main entries: `key_names`, `model_names` and their kin, given to typer as `autocompletion`. Laws: a running proxy is
asked, for a moment (`WITHIN_S`); no store is opened, nobody is asked for anything, and whatever fails offers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

__all__ = [
    "WITHIN_S",
    "budget_names",
    "deployment_names",
    "key_names",
    "model_names",
    "objective_names",
    "policy_ids",
    "provider_ids",
    "virtual_key_names",
]

WITHIN_S = 1.0


def key_names(incomplete: str) -> list[str]:
    """Labels of keys."""
    return _beginning(incomplete, (key["label"] for key in _asked("/api/v1/keys")))


def model_names(incomplete: str) -> list[str]:
    """Names of models that may be asked for."""
    return _beginning(incomplete, (model["id"] for model in _asked("/v1/models")))


def budget_names(incomplete: str) -> list[str]:
    """Names of budgets; the id of one that has none."""
    return _beginning(incomplete, (one["name"] or one["id"] for one in _asked("/api/v1/budgets")))


def virtual_key_names(incomplete: str) -> list[str]:
    """Names of virtual keys that are in use."""
    return _beginning(incomplete, (one["name"] for one in _asked("/api/v1/virtual-keys") if one["active"]))


def deployment_names(incomplete: str) -> list[str]:
    """Names of deployments."""
    return _beginning(incomplete, (one["name"] for one in _asked("/api/v1/deployments")))


def policy_ids(incomplete: str) -> list[str]:
    """Ids of policies."""
    return _beginning(incomplete, (one["id"] for one in _asked("/api/v1/policies")))


def provider_ids(incomplete: str) -> list[str]:
    """Ids of registered providers."""
    return _beginning(incomplete, (one["id"] for one in _asked("/api/v1/providers")))


def objective_names(incomplete: str) -> list[str]:
    """What requests may be optimised for; known without a proxy."""
    from apikeyrouter.domain.models.routing_decision import ObjectiveType

    return _beginning(incomplete, ObjectiveType)


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
