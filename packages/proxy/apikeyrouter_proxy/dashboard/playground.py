"""The playground's way to the token path: the endpoints under `/v1`, for a browser that is signed in.

Main entry: `play`. `/dashboard/v1/chat/completions` is `/v1/chat/completions` with the session's credential in place of
its cookie. It is a path of its own so that the token path never has to look for cookies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from apikeyrouter.domain.models.call import Wire
from apikeyrouter_proxy.wire.endpoints import PLAIN
from apikeyrouter_proxy.wire.errors import WireError

if TYPE_CHECKING:
    from apikeyrouter_proxy.bootstrap import Proxy

__all__ = ["PLAYGROUND", "play"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PLAYGROUND = "/dashboard/v1/"
_ROOT = "/dashboard"


async def play(proxy: Proxy, scope: Scope, receive: Receive, send: Send) -> None:
    """Serves one request of a signed-in browser through the data plane."""
    path = scope["path"].removeprefix(_ROOT)
    target = PLAIN.get(path)
    if target is None or scope["method"] != "POST":
        refused = WireError(404, f"The playground has no {scope['method']} {path}.", code="unknown_url")
        await _refuse(send, refused)
        return
    try:
        headers = proxy.sessions.admit(dict(scope["headers"]), scope["method"])
    except WireError as error:
        await _refuse(send, error)
        return
    inner = {**scope, "path": path, "raw_path": path.encode(), "headers": list(headers.items())}
    await proxy.data_plane(inner, receive, send, target)


async def _refuse(send: Send, error: WireError) -> None:
    body, content_type = error.written(Wire.Chat)
    told = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *error.headers]
    await send({"type": "http.response.start", "status": error.status, "headers": told})
    await send({"type": "http.response.body", "body": body})
