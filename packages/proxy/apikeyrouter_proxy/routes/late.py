"""Routes of the management API that are worked out when they are first called or described.

Main entry: `late_router`, which every module of routes begins with. What FastAPI works out of a function's parameters
and models costs a millisecond and 35 KiB a route, and a proxy that serves for months may see few of its hundred routes
called.
Laws: a route that was never asked for costs its path only; nothing about it is different once it was.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.routing import compile_path, get_name

from apikeyrouter_proxy.config.file_law import refuse_changes
from apikeyrouter_proxy.routes.errors import DESCRIBED

__all__ = ["LateRoute", "late_router"]


def late_router(*, prefix: str = "", tags: list[str | Enum] | None = None) -> APIRouter:
    """A router of `LateRoute`s: what the configuration file says cannot be changed there, and errors are described."""
    return APIRouter(
        prefix=prefix,
        tags=tags,
        route_class=LateRoute,
        dependencies=[Depends(refuse_changes)],
        responses=DESCRIBED,
    )


class LateRoute(APIRoute):
    """A route that knows its path and methods; everything else it works out when somebody asks for it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **given: Any) -> None:
        self._given: dict[str, Any] | None = given
        self.path, self.endpoint = path, endpoint
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self.methods = {method.upper() for method in given.get("methods") or ["GET"]}
        self.name = given.get("name") or get_name(endpoint)

    def __getattr__(self, name: str) -> Any:
        # Python asks here only for what the route does not have: after working it out, that is nothing that it could.
        given = self.__dict__.get("_given")
        if given is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._given = None
        super().__init__(self.path, self.endpoint, **given)
        return getattr(self, name)
