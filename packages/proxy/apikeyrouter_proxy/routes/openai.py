"""The lists of models, in the shape that the caller's SDK expects: OpenAI's, Anthropic's or Gemini's.

`/v1/models` is OpenAI's unless the request has Anthropic's version header or Google's key header; `/v1beta/models` is
Gemini's. Everything else that clients call is the data plane's.
"""

from __future__ import annotations

import difflib

from fastapi import Request, Response

from apikeyrouter.domain.models.call import Wire
from apikeyrouter_proxy.routes.late import late_router
from apikeyrouter_proxy.wire.endpoints import wire_of
from apikeyrouter_proxy.wire.errors import WireError
from apikeyrouter_proxy.wire.model_lists import listing, one_model

__all__ = ["router"]

router = late_router(tags=["OpenAI"])


@router.get("/v1/models", summary="Models of every provider with a usable key")
@router.get("/openai/v1/models", include_in_schema=False)
@router.get("/v1beta/models", include_in_schema=False)
@router.head("/v1/models", include_in_schema=False)
async def list_models(request: Request) -> Response:
    """From a cache; providers are asked in the background."""
    models = await request.app.state.proxy.models.all()
    return _json(listing(_wire(request), models, request.query_params))


@router.get("/v1/models/{model:path}", summary="One model")
@router.get("/openai/v1/models/{model:path}", include_in_schema=False)
@router.get("/v1beta/models/{model:path}", include_in_schema=False)
@router.head("/v1/models/{model:path}", include_in_schema=False)
async def get_model(request: Request, model: str) -> Response:
    """404 with the nearest names when nobody lists it."""
    wire = _wire(request)
    proxy = request.app.state.proxy
    found = await proxy.models.find(model)
    if found is not None:
        return _json(one_model(wire, found))
    names = [m["id"] for m in await proxy.models.all()]
    near = difflib.get_close_matches(model, names, n=3)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    error = WireError(404, f"The model {model!r} is not listed by any provider.{hint}", code="model_not_found")
    body, content_type = error.written(wire)
    return Response(body, 404, media_type=content_type.decode("latin-1"))


def _wire(request: Request) -> Wire:
    return wire_of(request.url.path, dict(request.scope["headers"]))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
