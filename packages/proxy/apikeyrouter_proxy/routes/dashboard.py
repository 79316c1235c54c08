"""The dashboard's document and files, and the sessions of browsers.

Reading these paths is open (`middleware.guard`): they tell nothing. What the page then shows comes from the management
API, which asks for a key, or for the session that `POST /api/v1/session` begins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

from fastapi import Request, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from apikeyrouter_proxy.dashboard.assets import HTML_HEADERS, Assets
from apikeyrouter_proxy.routes.common import Body, RunningProxy
from apikeyrouter_proxy.routes.errors import NotFoundError
from apikeyrouter_proxy.routes.late import late_router
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["router"]

router = late_router()
_assets = Assets()
_KEY_MAX = 512
_OF_BROWSERS = (b"host", b"origin", b"sec-fetch-site")


class SignIn(Body):
    """The admin key: the value of APIKEYROUTER_ADMIN_KEY, or a virtual key of role admin."""

    key: str = Field(min_length=1, max_length=_KEY_MAX, repr=False)


class SessionView(BaseModel):
    """Who the browser is. `signed_in`: whether the management API will answer it. `open_mode`: nobody needs a key, on
    this machine. `csrf`: to be repeated in `x-akr-csrf` with every write."""

    signed_in: bool
    open_mode: bool = False
    name: str | None = None
    csrf: str | None = None
    ends_at: datetime | None = None


@router.get("/dashboard", include_in_schema=False)
@router.head("/dashboard", include_in_schema=False)
@router.get("/dashboard/{page:path}", include_in_schema=False)
@router.head("/dashboard/{page:path}", include_in_schema=False)
async def show(page: str = "") -> Response:
    """The document, or one of its files."""
    if not page.startswith("static/"):
        return Response(
            _assets.document(page.partition("/")[0]), media_type="text/html; charset=utf-8", headers=HTML_HEADERS
        )
    _, version, name = (*page.split("/", 2), "", "")[:3]
    asset = _assets.find(version, name)
    if asset is None:
        raise NotFoundError(f"The dashboard has no file {name!r}.")
    return Response(asset.body, media_type=asset.content_type, headers={"cache-control": asset.cache_control})


@router.get("/api/v1/live", tags=["state"], summary="What happens, as it happens", response_class=StreamingResponse)
async def live(proxy: RunningProxy) -> StreamingResponse:
    """Server-sent events: `tick` each second, `decisions` (finished requests), `key`, `changed`."""
    events = proxy.live.stream(proxy.virtual_keys.name_of)
    first = await anext(events)

    async def rest() -> AsyncIterator[bytes]:
        yield first
        async for event in events:
            yield event

    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(rest(), media_type="text/event-stream", headers=headers)


@router.get("/api/v1/session", tags=["session"], summary="Who am I?")
async def show_session(proxy: RunningProxy, request: Request) -> SessionView:
    """Whether this browser, or the caller with this key, may use the management API. Never fails for want of a key."""
    headers = dict(request.scope["headers"])
    session = proxy.sessions.find(headers)
    try:
        who = await proxy.access.admit(request.scope, proxy.sessions.admit(headers, "GET"), management=True)
    except WireError as refused:
        if refused.status >= 500:
            raise
        return SessionView(signed_in=False)
    return SessionView(
        signed_in=True,
        open_mode=proxy.access.open_management,
        name=who.name,
        csrf=session.csrf if session else None,
        ends_at=datetime.fromtimestamp(session.ends_at_s, UTC) if session else None,
    )


@router.post("/api/v1/session", tags=["session"], summary="Sign in with an admin key")
async def sign_in(proxy: RunningProxy, request: Request, response: Response, body: SignIn) -> SessionView:
    """Begins a session of twelve hours. Its cookie is for browsers; programs send the key with each request."""
    key = body.key.strip()
    given = dict(request.scope["headers"])
    headers = {name: given[name] for name in _OF_BROWSERS if name in given}
    headers[b"authorization"] = b"Bearer " + key.encode()
    who = await proxy.access.admit(request.scope, headers, management=True)
    session, cookie = proxy.sessions.begin(key, secure=request.url.scheme == "https")
    response.headers["set-cookie"] = cookie
    response.headers["cache-control"] = "no-store"
    return SessionView(
        signed_in=True,
        open_mode=proxy.access.open_management,
        name=who.name,
        csrf=session.csrf,
        ends_at=datetime.fromtimestamp(session.ends_at_s, UTC),
    )


@router.delete("/api/v1/session", status_code=204, tags=["session"], summary="Sign out")
async def sign_out(proxy: RunningProxy, request: Request, response: Response) -> None:
    """Makes the browser forget its session. Revoking or changing the key ends all sessions that were begun with it."""
    response.headers["set-cookie"] = proxy.sessions.end(secure=request.url.scheme == "https")
