"""The rest of OpenAI's API that needs no token path: `/v1/models`."""

from __future__ import annotations

import difflib
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["router"]

router = APIRouter(tags=["OpenAI"])


@router.get("/v1/models", summary="Models of every provider with a usable key")
@router.get("/openai/v1/models", include_in_schema=False)
async def list_models(request: Request) -> Response:
    """From a cache; providers are asked in the background."""
    proxy = request.app.state.proxy
    return _json({"object": "list", "data": [_model(m) for m in await proxy.models.all()]})


@router.get("/v1/models/{model:path}", summary="One model")
@router.get("/openai/v1/models/{model:path}", include_in_schema=False)
async def get_model(request: Request, model: str) -> Response:
    """404 with the nearest names when nobody lists it."""
    proxy = request.app.state.proxy
    found = await proxy.models.find(model)
    if found is None:
        names = [m["id"] for m in await proxy.models.all()]
        near = difflib.get_close_matches(model, names, n=3)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise WireError(404, f"The model {model!r} is not listed by any provider.{hint}", code="model_not_found")
    return _json(_model(found))


def _model(given: dict[str, Any]) -> dict[str, Any]:
    """With the members that SDKs require."""
    return {"object": "model", "created": 0, "owned_by": "provider", **given}


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
