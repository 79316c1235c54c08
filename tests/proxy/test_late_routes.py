"""Routes are worked out when they are first called or described, and nothing about them is different for it."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import httpx2 as httpx
from fastapi import FastAPI, Query
from fastapi.routing import APIRoute

from apikeyrouter_proxy.app import create_app
from apikeyrouter_proxy.routes.late import LateRoute, late_router


def app_with_a_route() -> tuple[FastAPI, APIRoute]:
    router = late_router(prefix="/things", tags=["things"])

    @router.get("/{name}", summary="A thing")
    async def thing(name: str, size: Annotated[int, Query(ge=1)] = 1) -> dict[str, int]:
        return {name: size}

    app = FastAPI(openapi_url=None)
    app.router.routes.extend(router.routes)
    (route,) = router.routes
    assert isinstance(route, LateRoute)
    return app, route


async def test_a_route_is_worked_out_when_it_is_first_called() -> None:
    app, route = app_with_a_route()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/elsewhere")).status_code == 404
        assert (await client.post("/things/cup")).status_code == 405
        assert "dependant" not in vars(route)
        assert (await client.get("/things/cup?size=3")).json() == {"cup": 3}
        assert "dependant" in vars(route)
        assert (await client.get("/things/cup?size=0")).status_code == 422
        assert (await client.get("/things/cup")).json() == {"cup": 1}


def test_a_late_route_is_described_like_any_other() -> None:
    app, route = app_with_a_route()
    (path,) = app.openapi()["paths"].values()
    assert path["get"]["summary"] == "A thing"
    assert path["get"]["tags"] == ["things"]
    assert [one["name"] for one in path["get"]["parameters"]] == ["name", "size"]
    assert {"200", "4XX", "5XX"} == set(path["get"]["responses"])
    assert not hasattr(route, "no_such_thing")


def test_the_configuration_file_is_asked_before_every_route_of_ours() -> None:
    """Its law is a dependency of `late_router`: a router made otherwise would be without it."""
    ours = [route for route in create_app().routes if getattr(route, "path", "").startswith("/api/v1/")]
    late = [route for route in ours if isinstance(route, LateRoute)]
    assert len(late) > 50
    assert {getattr(route, "path", "") for route in ours if route not in late} == {"/api/v1/openapi.json"}
    asked = [{one.call.__name__ for one in route.dependant.dependencies if one.call is not None} for route in late]
    assert [found for found in asked if "refuse_changes" not in found] == []


def test_making_the_application_works_no_route_out() -> None:
    program = (
        "from apikeyrouter_proxy.app import create_app\n"
        "made = [route.path for route in create_app().routes if route.path.startswith('/api/v1/')"
        " and 'dependant' in vars(route)]\n"
        "raise SystemExit(f'worked out: {made}' if made else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
