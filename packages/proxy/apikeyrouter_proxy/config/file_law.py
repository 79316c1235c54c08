"""What stands in the configuration file is changed there, and nowhere else.

Main entry: `refuse_changes`, asked before every route of the management API. It refuses, with 409 and the place in the
file, whatever would change or remove an object of the file, or put one of the API's in its place. What an object's
state is, is not in the file: keys are enabled, disabled and tried through the API as ever.
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from apikeyrouter.domain.errors import RouterError
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.config.faults import Place
from apikeyrouter_proxy.config.layers import TEXT

__all__ = ["DefinedInFileError", "refuse_changes"]

_KINDS = ("keys", "budgets", "virtual-keys", "deployments", "policies", "prices", "providers")
_NAMES = ("key_id", "budget_id", "virtual_key_id", "name", "policy_id", "provider_id")
_STATE_VERBS = ("disable", "enable", "check")
_PREFIX = "/api/v1/"


class DefinedInFileError(RouterError):
    """The object stands in the configuration file, so it is changed there. `place`: where."""

    def __init__(self, kind: str, name: str, place: Place) -> None:
        what = {"policies": "policy"}.get(kind, kind.rstrip("s").replace("-", " "))
        advice = "disable it here if it must stop at once, and " if kind == "keys" else ""
        after = "start the proxy again" if place.file == TEXT else "`apikeyrouter config reload`"
        super().__init__(
            f"The {what} {name!r} stands in the configuration file at {place}: {advice}change it there, then {after}."
        )
        self.place = place


async def refuse_changes(request: Request) -> None:
    """Raises DefinedInFileError for a request that would change what the file says."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    kind, _, rest = request.url.path.removeprefix(_PREFIX).partition("/")
    name = _name(request, kind)
    proxy: Proxy = request.app.state.proxy
    if kind not in _KINDS or name is None or proxy.config.layered is None:
        return
    place = proxy.config.place_of(kind, name)
    if place is None or await _only_state(request, kind, rest):
        return
    raise DefinedInFileError(kind, name, place)


def _name(request: Request, kind: str) -> str | None:
    found = next((request.path_params[one] for one in _NAMES if one in request.path_params), None)
    if kind == "prices" and found is not None:
        return f"{found}/{request.path_params.get('model', '')}"
    return found


async def _only_state(request: Request, kind: str, rest: str) -> bool:
    """Whether a key's state is all that would change, or nothing at all."""
    if kind == "providers":
        return request.method == "POST" and rest.endswith("/look")
    if kind != "keys":
        return False
    if request.method == "POST":
        return rest.rpartition("/")[2] in _STATE_VERBS
    if request.method != "PATCH":
        return False
    try:
        body: Any = json.loads(await request.body() or b"{}")
    except ValueError:
        return True  # refused for what it is
    return isinstance(body, dict) and set(body) <= {"state"}
