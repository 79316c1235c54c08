"""Errors of the management API, in the same shape as those of `/v1`: `{"error": {message, type, param, code}}`.

Main entry: `install`. Law: what a caller sent is never echoed: FastAPI's own answer to a malformed body repeats the
input, which may be key material; ours names the field and what is wrong with it, redacted.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from apikeyrouter.domain.errors import (
    BudgetDefinitionError,
    BudgetNotFoundError,
    ConfigurationError,
    InvalidStateTransitionError,
    KeyNotFoundError,
    KeyRegistrationError,
    ProviderRegistrationError,
    RouterError,
    StateStoreError,
    SystemError,
)
from apikeyrouter.domain.resilience.redact import redact
from apikeyrouter_proxy.config.file_law import DefinedInFileError
from apikeyrouter_proxy.names import UnknownNameError
from apikeyrouter_proxy.nearest import nearest
from apikeyrouter_proxy.virtual_keys import VirtualKeyNotFoundError
from apikeyrouter_proxy.wire.errors import WireError, error_body, of_router_error

__all__ = ["DESCRIBED", "ConflictError", "NotFoundError", "install"]

_FAULTS_MAX = 20
_JSON_KINDS = frozenset({"application/json"})
_SEND_JSON = "Add the header 'Content-Type: application/json' (curl: -H 'Content-Type: application/json', or --json)."


class NotFoundError(RouterError):
    """Nothing has this id."""


class ConflictError(RouterError):
    """The request contradicts what is there already."""


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="What happened, why, and what to do.")
    type: str = Field(description="The kind of error, in OpenAI's words.")
    param: str | None = Field(default=None, description="The member of the request that it is about.")
    code: str | None = Field(default=None, description="A short word for programs.")


class ErrorReply(BaseModel):
    """An error, in the shape of OpenAI's."""

    error: ErrorDetail


DESCRIBED: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request cannot be served as it is."},
    "5XX": {"model": ErrorReply, "description": "The proxy, its store or a provider cannot serve it now."},
}
"""How the description of the API tells of errors. FastAPI's own 422 never comes: see `install`."""

_STATUS: list[tuple[type[RouterError], int, str]] = [
    (KeyNotFoundError, 404, "key_not_found"),
    (BudgetNotFoundError, 404, "budget_not_found"),
    (VirtualKeyNotFoundError, 404, "virtual_key_not_found"),
    (UnknownNameError, 404, "not_found"),
    (NotFoundError, 404, "not_found"),
    (ConflictError, 409, "conflict"),
    (DefinedInFileError, 409, "defined_in_file"),
    (InvalidStateTransitionError, 409, "invalid_state"),
    (KeyRegistrationError, 400, "invalid_key"),
    (BudgetDefinitionError, 400, "invalid_budget"),
    (ProviderRegistrationError, 400, "invalid_provider"),
    (ConfigurationError, 400, "invalid_configuration"),
]


def install(app: FastAPI) -> None:
    """Gives the application its error answers."""
    app.add_exception_handler(RouterError, _router_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(WireError, _wire_error)
    app.add_exception_handler(Exception, _unexpected)


async def _router_error(_: Request, error: Exception) -> Response:
    if isinstance(error, SystemError | StateStoreError):
        return _of_wire(of_router_error(error))
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            message = "; ".join(error.faults) if isinstance(error, ConfigurationError) else error.message
            return _answer(status, message, code)
    return _answer(500, str(error), "internal_error")


async def _invalid_request(request: Request, error: Exception) -> Response:
    """Every fault at once, as "field: what is wrong"."""
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if faults and kind not in _JSON_KINDS and all(fault["loc"] == ("body",) for fault in faults):
        # Not read as JSON on purpose: a page of another site can send such a body without asking the browser first.
        said = f"says {kind}" if kind else "has no content type"
        return _answer(415, f"The body is not read as JSON, since the request {said}. {_SEND_JSON}", "not_json", "body")
    told = []
    for fault in faults[:_FAULTS_MAX]:
        where = ".".join(str(part) for part in fault["loc"] if part not in ("body", "query", "path")) or "body"
        told.append(f"{where}: {_in_words(fault['type'], fault['msg'])}")
    param = told[0].partition(":")[0] if len(told) == 1 else None
    return _answer(400, f"The request is not usable: {'; '.join(told)}.", "invalid_request", param)


def _in_words(kind: str, message: str) -> str:
    if kind == "json_invalid":
        return "is not valid JSON"
    if kind == "extra_forbidden":
        return "is not a known field"
    if kind == "missing":
        return "is required"
    return message[:1].lower() + message[1:]


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(getattr(error, "headers", None) or {})
    if status == 404:
        path = request.url.path
        like = nearest(path, _paths(request))
        meant = f" Did you mean {like}?" if like else ""
        message = f"Unknown request URL: {request.method} {path}.{meant} The API is described at /docs."
    elif status == 405:
        message = (
            f"{request.method} is not possible at {request.url.path}; allowed: {headers.get('Allow', 'see /docs')}."
        )
    else:
        message = str(getattr(error, "detail", "")) or "The request could not be handled."
    code = {404: "unknown_url", 405: "method_not_allowed", 413: "too_large"}.get(status, "invalid_request")
    answer = _answer(status, message, code)
    answer.headers.update(headers)
    return answer


async def _wire_error(_: Request, error: Exception) -> Response:
    return _of_wire(error) if isinstance(error, WireError) else _answer(500, "Unexpected error.", "internal_error")


async def _unexpected(_: Request, __: Exception) -> Response:
    return _answer(
        500, "The proxy failed to handle this request; its log has the details under the request id.", "internal_error"
    )


def _paths(request: Request) -> set[str]:
    """Where the management API is, places for names left as they are written."""
    return {str(getattr(route, "path", "")) for route in request.app.routes} - {"/", ""}


def _answer(status: int, message: str, code: str, param: str | None = None) -> Response:
    body = error_body(redact(message), status=status, code=code, param=redact(param) if param else None)
    return Response(body, status, media_type="application/json")


def _of_wire(error: WireError) -> Response:
    body, _ = error.written()
    answer = Response(redact(body.decode()), error.status, media_type="application/json")
    for name, value in error.headers:
        answer.headers.append(name.decode("latin-1"), value.decode("latin-1"))
    return answer
