"""How replies reach the client: at what pace, and spoilt in which way.

Main entries: `deliver` for a reply and `answer_instead` for faults that leave no reply to deliver. Laws: a stream that
a fault cuts or ends with an error never carries its end mark; when the client leaves, nothing more is made or sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime
from typing import Any, NoReturn, Protocol

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.simulation.api_errors import ApiError, Headers, error_body, incorrect_key, insufficient_quota, invalid
from apikeyrouter.simulation.config import Pace
from apikeyrouter.simulation.connection import Connection
from apikeyrouter.simulation.faults import Fault, FaultKind, Plan, RetryAfterForm
from apikeyrouter.simulation.limits import go_duration
from apikeyrouter.simulation.recorder import Visit

__all__ = ["EVENT_STREAM", "JSON", "Closing", "Reply", "answer_instead", "deliver", "send_error"]

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_PAGE = b"<html><head><title>Bad gateway</title></head><body><center><h1>Bad gateway</h1></center></body></html>"
_HUGE_PIECE = b" " * 65_536
_DEFAULT_RATE_LIMIT = 500
_SERVER_WORDS = {
    500: ("The server had an error while processing your request. Sorry about that!", "server_error", None),
    503: ("The server is overloaded or not ready yet.", "server_error", "server_is_overloaded"),
    529: ("Overloaded", "overloaded_error", None),
}


@dataclass(slots=True)
class Reply:
    """A reply ready to go: a body, or events. `usage`: in OpenAI's names, whatever the format. `tokens`: completion
    tokens, which pace a whole reply. `stream_type`: the content type of a stream."""

    headers: Headers
    body: bytes = b""
    events: Iterator[bytes] | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    stream_type: tuple[bytes, bytes] = EVENT_STREAM

    @property
    def tokens(self) -> int:
        """Completion tokens."""
        return int(self.usage.get("completion_tokens", 0))


class Closing(Protocol):
    """What of a format decides how a spoilt reply looks; see `formats.Format`."""

    def error_event(self, error: ApiError) -> bytes:
        """An error inside a stream."""
        ...

    def is_end(self, event: bytes) -> bool:
        """Whether an event is the one that ends a stream."""
        ...

    def huge_frame(self, *, streams: bool) -> tuple[bytes, bytes]:
        """What stands before and after the padding of a huge reply."""
        ...


async def send_error(connection: Connection, visit: Visit, status: int, headers: Headers, body: bytes) -> None:
    """Sends an error reply."""
    visit.answered(status)
    await _whole(connection, status, [*headers, JSON], body)


async def deliver(connection: Connection, visit: Visit, reply: Reply, plan: Plan, pace: Pace, form: Closing) -> None:
    """Sends a reply at its pace, spoilt as the plan says."""
    first_s, token_s = pace.first_token_s + plan.first_token_s, pace.token_s + plan.token_s
    shape = plan.shape
    if shape is not None and shape.kind in (FaultKind.Huge, FaultKind.WrongContentType):
        visit.answered(200)
        await _foreign(connection, shape, reply, form)
    elif reply.events is not None:
        await _stream(connection, visit, reply, plan, (first_s, token_s), form)
    else:
        delay_s = first_s + token_s * max(0, reply.tokens - 1)
        if delay_s > 0 and not await connection.pause(delay_s):
            return
        visit.answered(200)
        if shape is not None and shape.kind is FaultKind.CutStream:
            visit.counts.cut += 1
            await connection.start(200, [*reply.headers, JSON, _length(reply.body)])
            await connection.write(reply.body[: len(reply.body) // 2])
            await connection.break_off(rst=shape.rst)
            return
        broken = shape is not None and shape.kind is FaultKind.BadJson
        body = reply.body[: len(reply.body) // 2] if broken else reply.body
        await _whole(connection, 200, [*reply.headers, JSON], body)


async def answer_instead(connection: Connection, visit: Visit, plan: Plan, key: str, headers: Headers) -> None:
    """Acts a fault that leaves no reply. Raises ApiError when it is an error reply of the usual form."""
    fault = plan.instead
    if fault is None:
        return
    match fault.kind:
        case FaultKind.Hang:
            visit.answered("hang")
            await connection.hang()
        case FaultKind.Reset | FaultKind.Close:
            visit.answered(fault.kind.value)
            await connection.break_off(rst=fault.kind is FaultKind.Reset)
        case FaultKind.ServerError if fault.body != "json":
            status = fault.status or 500
            visit.answered(status)
            page = _PAGE if fault.body == "html" else b""
            await _whole(connection, status, [*headers, (b"content-type", b"text/html")], page)
        case _:
            _raise_error(fault, plan, key, connection.clock)


def _raise_error(fault: Fault, plan: Plan, key: str, clock: Clock) -> NoReturn:
    match fault.kind:
        case FaultKind.Revoked if fault.code not in (None, "invalid_api_key"):
            raise invalid(fault.message or "This API key can no longer be used.", code=fault.code, status=401)
        case FaultKind.Revoked:
            raise incorrect_key(key)
        case FaultKind.Billing:
            raise insufficient_quota()
        case FaultKind.RateLimited:
            raise _rate_limited(fault, plan, clock)
        case FaultKind.ServerError:
            status = fault.status or 500
            message, kind, code = _SERVER_WORDS.get(status, _SERVER_WORDS[500])
            raise ApiError(status, error_body(fault.message or message, kind, code=fault.code or code))
        case _:
            message = fault.message or "The request was refused by a fault set for it."
            raise invalid(message, fault.param, fault.code, status=fault.status or 400)


def _rate_limited(fault: Fault, plan: Plan, clock: Clock) -> ApiError:
    wait_s = plan.remaining_s if fault.retry_after_s is None else fault.retry_after_s
    message = fault.message or "Rate limit reached for requests."
    headers: Headers = []
    if wait_s is not None and fault.retry_after_form is not RetryAfterForm.NoHint:
        match fault.retry_after_form:
            case RetryAfterForm.Seconds:
                headers.append((b"retry-after", f"{wait_s:g}".encode()))
            case RetryAfterForm.HttpDate:
                at = clock.utc_now() + timedelta(seconds=wait_s)
                headers.append((b"retry-after", format_datetime(at, usegmt=True).encode()))
            case RetryAfterForm.Milliseconds:
                headers.append((b"retry-after-ms", b"%d" % round(wait_s * 1000)))
            case _:
                message += f" Please try again in {go_duration(wait_s)}."
        headers += [
            (b"x-ratelimit-limit-requests", b"%d" % _DEFAULT_RATE_LIMIT),
            (b"x-ratelimit-remaining-requests", b"0"),
            (b"x-ratelimit-reset-requests", go_duration(wait_s).encode()),
        ]
    return ApiError(429, error_body(message, "requests", code=fault.code or "rate_limit_exceeded"), headers)


async def _whole(connection: Connection, status: int, headers: Headers, body: bytes) -> None:
    headers.append(_length(body))
    await connection.start(status, headers)
    await connection.finish(body)


def _length(body: bytes) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % len(body))


async def _stream(
    connection: Connection, visit: Visit, reply: Reply, plan: Plan, delays_s: tuple[float, float], form: Closing
) -> None:
    shape = plan.shape
    connection.watch()
    visit.answered(200)
    await connection.start(200, [*reply.headers, reply.stream_type, (b"cache-control", b"no-cache")])
    for number, event in enumerate(reply.events or ()):
        delay_s = delays_s[1] if number else delays_s[0]
        if delay_s > 0:
            await connection.pause(delay_s)
        else:
            await connection.clock.sleep(0)  # lets the others work, and a departure be noticed
        if connection.gone:
            return
        if shape is not None and (number >= shape.after_chunks or form.is_end(event)):
            await _spoil(connection, visit, shape, event, form)
            if shape.kind is not FaultKind.BadJson:
                return
            shape = None
        else:
            await connection.write(event)
    await connection.finish()


async def _spoil(connection: Connection, visit: Visit, shape: Fault, event: bytes, form: Closing) -> None:
    match shape.kind:
        case FaultKind.CutStream:
            visit.counts.cut += 1
            await connection.break_off(rst=shape.rst)
        case FaultKind.StreamError:
            message = shape.message or _SERVER_WORDS[500][0]
            error = ApiError(shape.status or 500, error_body(message, "server_error", shape.param, shape.code))
            await connection.finish(form.error_event(error))
        case _:
            await connection.write(event.rstrip()[: len(event) // 2] + b"\n\n")


async def _foreign(connection: Connection, shape: Fault, reply: Reply, form: Closing) -> None:
    """Replies that are not what the content type or common sense promises."""
    if shape.kind is FaultKind.WrongContentType:
        html = shape.body == "html"
        body = _PAGE if html else reply.body or b"".join(reply.events or ())
        await _whole(
            connection, 200, [*reply.headers, (b"content-type", b"text/html" if html else b"text/plain")], body
        )
        return
    connection.watch()
    head, tail = form.huge_frame(streams=reply.events is not None)
    await connection.start(200, [*reply.headers, JSON if reply.events is None else reply.stream_type])
    await connection.write(head)
    for _ in range(shape.size_bytes // len(_HUGE_PIECE)):
        await connection.clock.sleep(0)
        if connection.gone:
            return
        await connection.write(_HUGE_PIECE)
    await connection.write(b" " * (shape.size_bytes % len(_HUGE_PIECE)))
    await connection.finish(tail)
