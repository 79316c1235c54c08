"""The token path: `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings` as one plain ASGI endpoint.

It sits in front of FastAPI's routing, since parsing by dependency injection would cost more than the routing itself:
read the body, peek, serve, send. Reply bytes are the provider's own. A client that hangs up cancels the provider's work
and settles what it used; `ClientWatch` notices.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from apikeyrouter.domain.components.budget_book import BudgetBook, Standing
from apikeyrouter.domain.errors import RouterError, StateStoreError
from apikeyrouter.domain.models.call import Call, Operation, Tenant
from apikeyrouter.domain.routing.objectives import Objective
from apikeyrouter.meter import RESERVED_TAGS
from apikeyrouter.router import ApiKeyRouter
from apikeyrouter.sending import Reply
from apikeyrouter_proxy.access import Access, Principal
from apikeyrouter_proxy.wire.body import ClientGone, check, decoded, read_body
from apikeyrouter_proxy.wire.errors import WireError, of_router_error
from apikeyrouter_proxy.wire.headers import Headers, upstream_headers, upstream_reply_headers
from apikeyrouter_proxy.wire.limits import limit_headers

__all__ = ["OPERATIONS", "DataPlane"]

_log = logging.getLogger("apikeyrouter_proxy")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPERATIONS = {f"{prefix}/{operation.value}": operation for operation in Operation for prefix in ("/v1", "/openai/v1")}
_WATCH_AFTER_S = 0.02
_TAGS_MAX, _TAGS_LENGTH_MAX = 8, 512
_SESSION_HEADERS = (b"x-session-affinity", b"x-session-id", b"session-id", b"x-claude-code-session-id")
_SESSION_LENGTH_MAX = 128
_LASTING_MAX = 1024
_STORE_RETRY_S = 1.0
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")


class DataPlane:
    """Answers requests for `OPERATIONS`. One per application."""

    def __init__(self, router: ApiKeyRouter, access: Access, *, body_limit_bytes: int) -> None:
        self._router = router
        self._access = access
        self._limit = body_limit_bytes
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send, operation: Operation) -> None:
        """One request, from headers to last byte. Never raises but for cancellation."""
        self.in_flight += 1
        call: Call | None = None
        tenant: Tenant | None = None
        try:
            headers = dict(scope["headers"])
            principal = await self._access.admit(scope, headers)
            tenant = principal.tenant
            body = await read_body(receive, self._limit)
            encoding = headers.get(b"content-encoding")
            if encoding:
                body = decoded(body, encoding, self._limit)
            call = self._call(operation, body, scope["headers"], headers, principal)
            objective = self._objective(headers, principal)
            with ClientWatch(receive) as watch:
                reply = await self._router.serve(call, objective, _policy(headers))
                if reply.stream is None:
                    await _send_body(send, reply, self._explaining(call, reply))
                else:
                    watch.now()
                    await _send_stream(send, reply, self._explaining(call, reply))
        except WireError as error:
            await self._fail(send, error, call, tenant)
        except StateStoreError as error:
            _log.warning("A request was not served, since the store failed: %s", error.message)
            await self._fail(send, _store_down(), call, tenant, error)
        except RouterError as error:
            await self._fail(send, of_router_error(error), call, tenant, error)
        except ClientGone:
            return
        except Exception:  # noqa: BLE001
            # The last resort: a fault of ours is answered as one, and told in the log, whatever it is.
            _log.exception("A request failed by a fault of this proxy.")
            fault = WireError(500, "The proxy failed; its log says why.", code="internal_error")
            await self._fail(send, fault, call, tenant)
        finally:
            self.in_flight -= 1

    async def _fail(
        self, send: Send, error: WireError, call: Call | None, tenant: Tenant | None, cause: RouterError | None = None
    ) -> None:
        error.headers += self._limits(tenant)
        await send_error(send, error, call, cause)

    def _explaining(self, call: Call, reply: Reply) -> Headers:
        """Headers that say how the reply came about, and what is left to the caller."""
        return _explaining(call, reply, self._router.cost_controller.book) + self._limits(call.tenant)

    def _limits(self, tenant: Tenant | None) -> Headers:
        if tenant is None or not tenant.limited:
            return []
        return limit_headers(self._router.tenant_limits.standing(tenant))

    def _objective(self, headers: dict[bytes, bytes], principal: Principal) -> Objective:
        """`x-akr-objective` names one; `x-akr-keys` (ids or labels, comma-separated) and the caller's own scope narrow
        who may serve."""
        name = headers.get(b"x-akr-objective")
        objective = self._router.objective(name.decode("latin-1") if name else None)
        keys = headers.get(b"x-akr-keys")
        if keys:
            allowed = frozenset(part.strip() for part in keys.decode("latin-1").split(",") if part.strip())
            objective = dataclasses.replace(objective, allowed_keys=allowed)
        if principal.providers is not None:
            objective = dataclasses.replace(objective, allowed_providers=principal.providers)
        return objective

    def _call(
        self,
        operation: Operation,
        body: bytes,
        raw_headers: Headers,
        headers: dict[bytes, bytes],
        principal: Principal,
    ) -> Call:
        peeked = check(operation, body)
        given_id = headers.get(b"x-request-id") or headers.get(b"x-client-request-id")
        call = self._router.new_call(
            operation,
            body,
            peeked,
            headers=upstream_headers(raw_headers),
            request_id=given_id.decode() if given_id and _REQUEST_ID.fullmatch(given_id) else None,
            tags=_tags(headers, principal),
            session=_session(headers),
            tenant=principal.tenant,
        )
        principal.check_model(call.model)
        return call


def _tags(headers: dict[bytes, bytes], principal: Principal) -> Mapping[str, Any]:
    """Who asks, and `x-akr-tags` (name=value, comma-separated): what the caller says of itself never goes before what
    its key says."""
    given = headers.get(b"x-akr-tags")
    if not given:
        return principal.tags
    pairs = [part.partition("=") for part in given.decode("latin-1")[:_TAGS_LENGTH_MAX].split(",")]
    tags = {name.strip(): value.strip() for name, _, value in pairs if name.strip() and value.strip()}
    for name in RESERVED_TAGS:
        tags.pop(name, None)
    return {**dict(list(tags.items())[:_TAGS_MAX]), **principal.tags}


def _policy(headers: Mapping[bytes, bytes]) -> str | None:
    """`x-akr-policy` names one more policy for this request; it only ever narrows who may serve."""
    name = headers.get(b"x-akr-policy")
    return name.decode("latin-1").strip() or None if name else None


def _session(headers: Mapping[bytes, bytes]) -> str:
    """The client's own name for a conversation, by the headers that clients really send; "" without one."""
    for name in _SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return value[:_SESSION_LENGTH_MAX].decode("latin-1")
    return ""


def _store_down() -> WireError:
    """Says no more than a client of ours need know: where the store is, is the operator's business."""
    return WireError(
        503,
        "The store of this proxy does not answer, so the request was not sent. Try again in a moment.",
        code="store_unavailable",
        retry_after_s=_STORE_RETRY_S,
        retryable=True,
    )


class ClientWatch:
    """Cancels the running task when the client hangs up.

    Watching costs a task, so it starts only when the answer is not there within 20 ms, or when `now` is called. On
    leaving the block, a cancellation that this watch caused becomes `ClientGone`.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._gone = False

    def __enter__(self) -> ClientWatch:
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._watcher: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_S, self.now)
        return self

    def now(self) -> None:
        """Watches from now on."""
        self._timer.cancel()
        if self._watcher is None:
            self._watcher = asyncio.get_running_loop().create_task(self._watch(), name="client-watch")

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and kind is asyncio.CancelledError and self._task is not None:
            self._task.uncancel()
            raise ClientGone from None


async def _send_body(send: Send, reply: Reply, headers: Headers) -> None:
    headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def _send_stream(send: Send, reply: Reply, headers: Headers) -> None:
    stream = reply.stream
    if stream is None:
        raise TypeError("a reply without a stream was sent as one")
    headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        async for chunk in stream.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        stream.close()


def _explaining(call: Call, reply: Reply, budgets: BudgetBook) -> Headers:
    """The provider's headers that pass, and ours that say how the reply came about."""
    record = reply.record
    scored = reply.taken.scored
    label, provider = scored.label.encode("latin-1", "replace"), scored.provider_id.encode("latin-1", "replace")
    headers = upstream_reply_headers(reply.headers)
    headers += [
        (b"x-request-id", call.request_id.encode()),
        (b"x-akr-key", label),
        (b"x-akr-provider", provider),
        (b"x-akr-attempts", str(len(record.attempts)).encode()),
        (b"x-akr-decision", record.decision_id.encode()),
        (b"x-key-used", label),
        (b"x-provider-used", provider),
        (b"x-cost-estimated", b"%.9f" % scored.expected_usd),
    ]
    if record.cost_nano_usd is not None:
        headers.append((b"x-akr-cost", b"%.9f" % (record.cost_nano_usd / 1e9)))
    if record.clamp is not None:
        headers.append((b"x-akr-max-tokens", str(record.clamp[1]).encode()))
    if reply.taken.money_lines:
        headers += _budget_headers(budgets, reply)
    return headers


def _budget_headers(budgets: BudgetBook, reply: Reply) -> Headers:
    """The budget that has the least left: its id, limit and rest in US dollars, and the Unix second of its reset."""
    tightest = budgets.tightest([account for account, _ in reply.taken.money])
    if tightest is None:
        return []
    return [*_lasting(tightest), (b"x-budget-remaining", b"%.9f" % (tightest.left / 1e9))]


_lasting_headers: dict[tuple[object, ...], Headers] = {}


def _lasting(tightest: Standing) -> Headers:
    """The headers of a budget that stay while its window runs, made once."""
    key = (tightest.budget_id, tightest.limit, tightest.resets_utc_s)
    headers = _lasting_headers.get(key)
    if headers is None:
        if len(_lasting_headers) >= _LASTING_MAX:
            _lasting_headers.clear()
        headers = [
            (b"x-budget-id", tightest.budget_id.encode()),
            (b"x-budget-limit", b"%.9f" % (tightest.limit / 1e9)),
        ]
        if tightest.resets_utc_s is not None:
            headers.append((b"x-budget-reset", str(int(tightest.resets_utc_s)).encode()))
        _lasting_headers[key] = headers
    return headers


async def send_error(send: Send, error: WireError, call: Call | None, cause: RouterError | None = None) -> None:
    """Sends an error answer; `cause` may carry the decision, whose id is told."""
    headers = [
        (b"content-type", error.content_type),
        (b"content-length", str(len(error.body)).encode()),
        *error.headers,
    ]
    if call is not None:
        headers.append((b"x-request-id", call.request_id.encode()))
    decision = getattr(cause, "decision", None)
    if decision is not None:
        headers.append((b"x-akr-decision", decision.id.encode()))
        headers.append((b"x-akr-attempts", str(len(decision.attempts)).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.body})
