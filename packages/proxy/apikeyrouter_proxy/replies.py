"""Answers on their way out: bodies, streams and errors, with the headers that say how they came about.

Main entries: `send_body`, `send_stream`, `send_answer`, `send_error`, `explaining`. Law: of a
provider's headers only those on a list pass.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from apikeyrouter.domain.components.budget_book import BudgetBook, Standing
from apikeyrouter.domain.errors import RouterError
from apikeyrouter.domain.models.call import Call, Wire
from apikeyrouter.sending import Reply
from apikeyrouter.streaming import ReplyStream
from apikeyrouter_proxy.one_write import begin
from apikeyrouter_proxy.wire.errors import Headers, WireError
from apikeyrouter_proxy.wire.event_array import EventArray
from apikeyrouter_proxy.wire.headers import upstream_reply_headers

__all__ = ["explaining", "send_answer", "send_body", "send_error", "send_stream"]

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LASTING_MAX = 1024


async def send_body(scope: Scope, send: Send, reply: Reply, headers: Headers) -> None:
    """A whole reply."""
    if begin(scope, reply.status, headers, reply.body, whole=True):
        return
    headers.append((b"content-length", str(len(reply.body)).encode()))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


async def send_stream(scope: Scope, send: Send, reply: Reply, headers: Headers, *, array: bool = False) -> None:
    """A stream, up to its end or its error. `array`: as one JSON array instead of events."""
    stream = reply.stream
    if stream is None:
        raise TypeError("a reply without a stream was sent as one")
    chunks = stream.chunks()
    if array:
        headers = [one for one in headers if one[0] != b"content-type"] + [(b"content-type", b"application/json")]
        chunks = _as_array(stream)
    headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
    try:
        first = await anext(chunks, b"")
        if not begin(scope, reply.status, headers, first, whole=False):
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            await send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        stream.close()


async def _as_array(stream: ReplyStream) -> AsyncIterator[bytes]:
    array = EventArray()
    async for chunk in stream.chunks():
        out = array.feed(chunk)
        if out:
            yield out
    yield array.finish()


async def send_answer(send: Send, body: bytes, headers: Headers, request_id: bytes) -> None:
    """An answer of our own, which is no error."""
    told = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    told += [(b"x-request-id", request_id), (b"request-id", request_id)]
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": body})


def explaining(call: Call, reply: Reply, budgets: BudgetBook, wire: Wire) -> Headers:
    """The provider's headers that pass, and ours that say how the reply came about."""
    record = reply.record
    scored = reply.taken.scored
    label, provider = scored.label.encode("latin-1", "replace"), scored.provider_id.encode("latin-1", "replace")
    headers = upstream_reply_headers(reply.headers)
    request_id = call.request_id.encode()
    headers += [
        (b"x-request-id", request_id),
        (b"x-akr-key", label),
        (b"x-akr-provider", provider),
        (b"x-akr-attempts", str(len(record.attempts)).encode()),
        (b"x-akr-decision", record.decision_id.encode()),
        (b"x-key-used", label),
        (b"x-provider-used", provider),
        (b"x-cost-estimated", b"%.9f" % scored.expected_usd),
    ]
    if wire is Wire.Messages:  # where Anthropic's SDKs look for it
        headers.append((b"request-id", request_id))
    if record.cost_nano_usd is not None:
        headers.append((b"x-akr-cost", b"%.9f" % (record.cost_nano_usd / 1e9)))
    if record.choice is not None:
        headers += _of_choice(reply)
    if record.clamp is not None:
        headers.append((b"x-akr-max-tokens", str(record.clamp[1]).encode()))
    if reply.dropped or call.dropped:
        names = ",".join(dict.fromkeys((*call.dropped, *reply.dropped)))
        headers.append((b"x-akr-dropped", names.encode("latin-1", "replace")))
    if reply.taken.money_lines:
        headers += _budget_headers(budgets, reply)
    return headers


def _of_choice(reply: Reply) -> Headers:
    """Which model answers and by what strategy; of a cascade, how many answers it took. The decision tells the rest."""
    choice, candidate = reply.record.choice or {}, reply.taken.candidate
    model = f"{candidate.provider.provider_id}/{candidate.model}"
    headers = [(b"x-akr-model", model.encode("latin-1", "replace")), (b"x-akr-strategy", choice["strategy"].encode())]
    if choice.get("would"):
        headers.append((b"x-akr-would-choose", choice["would"].encode("latin-1", "replace")))
    legs = choice.get("legs")
    if legs:
        others = [leg for leg in legs if not leg["accepted"]]
        spent = sum(float(leg["cost_usd"] or 0.0) for leg in others)
        headers.append((b"x-akr-answers", str(len(others) + 1).encode()))
        headers.append((b"x-akr-cost-of-others", b"%.9f" % spent))
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


async def send_error(
    send: Send, error: WireError, request_id: bytes, wire: Wire, cause: RouterError | None = None
) -> None:
    """Sends an error answer in the caller's format; `cause` may carry the decision, whose id is told."""
    body, content_type = error.written(wire, request_id.decode("latin-1"))
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(body)),
        *error.headers,
        (b"x-request-id", request_id),
    ]
    if wire is Wire.Messages:
        headers.append((b"request-id", request_id))
    decision = getattr(cause, "decision", None)
    if decision is not None:
        headers.append((b"x-akr-decision", decision.id.encode()))
        headers.append((b"x-akr-attempts", str(len(decision.attempts)).encode()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
