"""The token path: every endpoint that clients call, as one plain ASGI endpoint.

It sits in front of FastAPI's routing, since parsing by dependency injection would cost more than the routing itself:
read the body, peek, serve, send. Reply bytes are the provider's own where it speaks the caller's format. A client that
hangs up cancels the provider's work and settles what it used; `ClientWatch` notices.
Laws: every answer, errors of any kind too, is in the format of whoever asks; nobody gets past `Access`.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from apikeyrouter.domain.errors import RouterError, StateStoreError
from apikeyrouter.domain.models.call import Call, Operation, Tenant, Wire
from apikeyrouter.pinning import Pins
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
from apikeyrouter_proxy.access import Access
from apikeyrouter_proxy.batch_watch import BatchWatch
from apikeyrouter_proxy.body_log import BodyLog
from apikeyrouter_proxy.incoming import Incoming, Intake, policy_of
from apikeyrouter_proxy.nearest import nearest
from apikeyrouter_proxy.owned import Owned
from apikeyrouter_proxy.replies import explaining, send_answer, send_body, send_error, send_stream
from apikeyrouter_proxy.special import Plan, Special
from apikeyrouter_proxy.threads import Threads
from apikeyrouter_proxy.watching import Watches
from apikeyrouter_proxy.wire.body import (
    MODERATION_MODEL,
    ClientGone,
    check,
    check_length,
    decoded,
    items_as_chat,
    read_body,
)
from apikeyrouter_proxy.wire.endpoints import PLAIN, Kind, Target
from apikeyrouter_proxy.wire.errors import Headers, WireError, of_router_error
from apikeyrouter_proxy.wire.forms import is_form
from apikeyrouter_proxy.wire.limits import limit_headers

__all__ = ["DataPlane"]

_log = logging.getLogger("apikeyrouter_proxy")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_STORE_RETRY_S = 1.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")


class DataPlane:
    """Answers requests for targets (`wire.endpoints`). One per application.

    `body_limit_bytes`: of a request; `upload_limit_bytes`: of a multipart form. `drop_params`: whether parameters that
    a provider does not know are left out for requests that do not say. `pins`: who made what. `batches`: sees to it
    that batches are charged. `bodies`: logs bodies, None when nobody wants them.
    """

    def __init__(
        self,
        router: ApiKeyRouter,
        access: Access,
        *,
        pins: Pins,
        batches: BatchWatch,
        body_limit_bytes: int,
        upload_limit_bytes: int | None = None,
        drop_params: bool = False,
    ) -> None:
        self._router = router
        self._access = access
        self._limit = body_limit_bytes
        self._upload_limit = upload_limit_bytes or body_limit_bytes
        self._intake = Intake(router, drop_params=drop_params)
        self._special = Special(router, self._intake)
        self._owned = Owned(router, self._intake, pins, batches)
        self._threads = Threads(router, pins)
        self._watches = Watches()
        self.bodies: BodyLog | None = None
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        """One request, from headers to last byte. Never raises but for cancellation."""
        self.in_flight += 1
        noted = None
        if self.bodies is not None and (noted := self.bodies.begin(scope, send)) is not None:
            send = noted.send
        headers: dict[bytes, bytes] = dict(scope["headers"])
        tenant: Tenant | None = None
        call: Call | None = None
        try:
            principal = await self._access.admit(scope, headers)
            tenant = principal.tenant
            _check_method(scope, target)
            body = await self._body(receive, headers, target)
            request = Incoming(target, scope, headers, principal, body)
            if noted is not None:
                noted.request = request
            plan: Plan | None = None
            if target.plain:
                call = self._plain(request)
                objective = self._intake.objective(headers, principal)
                if call.operation is Operation.Responses:
                    plan = await self._threads.plan(call, objective)
                    objective = plan.objective
            else:
                plan = await self._plan(request)
                call, objective = plan.call, plan.objective
                if plan.answer is not None:
                    told = plan.answer[1] + self._limits(tenant)
                    await send_answer(send, plan.answer[0], told, call.request_id.encode())
                    return
            with self._watches.watch(receive):
                reply = await self._router.serve(call, objective, policy_of(headers))
                if plan is not None and plan.learn is not None:
                    plan.learn(reply)
                if plan is not None and plan.charge is not None:
                    await plan.charge(reply)
                if reply.stream is None:
                    await send_body(scope, send, reply, self._explaining(call, reply, target.wire))
                else:
                    array = plan is not None and plan.array
                    explained = self._explaining(call, reply, target.wire)
                    await send_stream(scope, send, reply, explained, array=array)
        except ClientGone:
            return
        except Exception as fault:  # noqa: BLE001
            # The last resort too: a fault of ours is answered as one, and told in the log, whatever it is.
            error = _told(fault)
            error.headers += self._limits(tenant)
            request_id = call.request_id.encode() if call is not None else _request_id(headers)
            await send_error(send, error, request_id, target.wire, fault if isinstance(fault, RouterError) else None)
        finally:
            self.in_flight -= 1
            if noted is not None:
                noted.end(call)

    async def _body(self, receive: Receive, headers: Mapping[bytes, bytes], target: Target) -> bytes:
        limit = self._limit
        if target.kind is Kind.Raw or target.form:
            limit = self._upload_limit if is_form(headers.get(b"content-type", b"")) else limit
        check_length(headers, limit)
        body = await read_body(receive, limit)
        encoding = headers.get(b"content-encoding")
        return decoded(body, encoding, limit) if encoding else body

    def _plain(self, request: Incoming) -> Call:
        operation = request.target.operation
        peeked = check(operation, request.body)
        if operation is Operation.Chat and peeked.messages is None:
            body, dropped = items_as_chat(request.body, peeked)  # Cursor posts these, and reads chat completions
            return self._intake.call(request, operation, check(operation, body), body, dropped=dropped)
        if not peeked.model:
            return self._intake.call(request, operation, peeked, model=MODERATION_MODEL)
        return self._intake.call(request, operation, peeked)

    async def _plan(self, request: Incoming) -> Plan:
        if request.target.kind is Kind.Owned:
            return await self._owned.plan(request)
        plan = self._special.plan(request)
        if request.target.kind is Kind.Native:
            plan.objective = await self._threads.pinned(plan.call, plan.objective)
        return plan

    def _explaining(self, call: Call, reply: Reply, wire: Wire) -> Headers:
        """Headers that say how the reply came about, and what is left to the caller."""
        return explaining(call, reply, self._router.cost_controller.book, wire) + self._limits(call.tenant)

    def _limits(self, tenant: Tenant | None) -> Headers:
        if tenant is None or not tenant.limited:
            return []
        return limit_headers(self._router.tenant_limits.standing(tenant))


def _unknown(method: str, path: str) -> str:
    """What is said of an address that does not exist."""
    if path.rstrip("/") == "/v1":
        return (
            "/v1 is the base URL of the OpenAI-compatible API: give it to a client, which asks for addresses below it, "
            "such as POST /v1/chat/completions or GET /v1/models. The API is described at /docs."
        )
    like = nearest(path, (place for place in PLAIN if place.startswith("/v1/")))
    meant = f" Did you mean {like}?" if like else ""
    return (
        f"Unknown request URL: {method} {path}.{meant} The API is described at /docs; other paths of a provider are at "
        "/{provider}/..."
    )


def _check_method(scope: Scope, target: Target) -> None:
    """Raises WireError 404 for what does not exist, 405 for what is asked in another way."""
    if target.kind is Kind.Unknown:
        raise WireError(404, _unknown(scope["method"], scope["path"]), code="unknown_url")
    if scope["method"] not in target.methods:
        allowed = ", ".join(target.methods)
        error = WireError(
            405, f"{scope['method']} is not possible at {scope['path']}; allowed: {allowed}.", code="method_not_allowed"
        )
        error.headers.append((b"allow", allowed.encode()))
        raise error


def _told(fault: Exception) -> WireError:
    """The answer for whatever went wrong."""
    if isinstance(fault, WireError):
        return fault
    if isinstance(fault, StateStoreError):
        _log.warning("A request was not served, since the store failed: %s", fault.message)
        return _store_down()
    if isinstance(fault, RouterError):
        return of_router_error(fault)
    _log.error("A request failed by a fault of this proxy.", exc_info=fault)
    return WireError(500, "The proxy failed; its log says why.", code="internal_error")


def _request_id(headers: Mapping[bytes, bytes]) -> bytes:
    given = headers.get(b"x-request-id") or headers.get(b"x-client-request-id") or b""
    return given if _REQUEST_ID.fullmatch(given) else b"req_" + secrets.token_hex(12).encode()


def _store_down() -> WireError:
    """Says no more than a client of ours need know: where the store is, is the operator's business."""
    return WireError(
        503,
        "The store of this proxy does not answer, so the request was not sent. Try again in a moment.",
        code="store_unavailable",
        retry_after_s=_STORE_RETRY_S,
        retryable=True,
    )
