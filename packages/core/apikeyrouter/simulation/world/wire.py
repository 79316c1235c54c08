"""What a simulated provider puts on the wire: OpenAI's status, limit headers, bodies and errors.

Main entry: `reply_of`. Remaining amounts are those after this request was judged; a reset is the time until the limit
is full again, in Go's notation (`6m0s`, `120ms`), as OpenAI has it. Laws: nothing is told that the world says is not.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from functools import lru_cache

from msgspec import Struct

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.transport import Headers, SendPhase, TransportError
from apikeyrouter.simulation.world.loop import WorldLoop, settle
from apikeyrouter.simulation.world.pool import Pool
from apikeyrouter.simulation.world.provider import Answer
from apikeyrouter.simulation.world.spec import World

__all__ = ["WorldReply", "go_duration", "reply_body", "reply_headers", "request_body"]

MODEL = "sim-chat"
_JSON = (b"content-type", b"application/json")
_LIMITS = (
    ("requests", b"requests"),
    ("tokens", b"tokens"),
    ("input_tokens", b"input-tokens"),
    ("output_tokens", b"output-tokens"),
)
_NAMES = {
    name: (b"x-ratelimit-limit-" + word, b"x-ratelimit-remaining-" + word, b"x-ratelimit-reset-" + word)
    for name, word in _LIMITS
}
_WORDS = {
    "requests": ("requests per min (RPM)", "requests"),
    "tokens": ("tokens per min (TPM)", "tokens"),
    "input_tokens": ("input tokens per min (ITPM)", "tokens"),
    "output_tokens": ("output tokens per min (OTPM)", "tokens"),
    "concurrency": ("concurrent requests", "requests"),
}


class WorldReply(Struct, eq=False):
    """An `HttpReply` whose body comes when virtual time has come to its end."""

    _loop: WorldLoop
    status: int
    headers: Headers
    _body: bytes
    _end_s: float
    _breaks: bool

    def header(self, name: bytes) -> bytes | None:
        """See `HttpReply.header`."""
        return next((value for found, value in self.headers if found == name), None)

    async def read(self) -> bytes:
        """See `HttpReply.read`."""
        if self._end_s > self._loop.clock.monotonic_s():
            done = self._loop.create_future()
            self._loop.at(self._end_s, settle, done)
            await done
        if self._breaks:
            raise TransportError("reset", SendPhase.MidReply, "the connection broke off while the reply was read")
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        """See `HttpReply.chunks`: all of it at once."""
        yield await self.read()

    def aclose(self) -> None:
        """See `HttpReply.aclose`."""


def reply_headers(world: World, answer: Answer, now_s: float, clock: Clock) -> Headers:
    """The headers of a reply, as of the moment when its request was judged."""
    headers: Headers = [_JSON]
    if world.headers and answer.status in (200, 429):
        _add_limits(headers, answer.pool, now_s, told=world.horizon_told)
    if answer.retry_after_s is not None:
        headers.append((b"retry-after-ms", b"%d" % math.ceil(answer.retry_after_s * 1000)))
        headers.append((b"retry-after", b"%d" % math.ceil(answer.retry_after_s)))
    if world.skew_s:
        date = clock.utc_now() + timedelta(seconds=world.skew_s)
        headers.append((b"date", format_datetime(date, usegmt=True).encode()))
    return headers


def _add_limits(headers: Headers, pool: Pool, now_s: float, *, told: bool) -> None:
    for name, limiter in pool.limits.items():
        _, remaining, reset = _NAMES[name]
        # A bucket over a shorter stretch owes as much as one over the minute: both refill alike.
        left = limiter.free(now_s) + (0.0 if told else limiter.limit - limiter.capacity) + 1e-6
        headers += (
            _limit_header(name, limiter.limit),
            (remaining, b"%d" % left if left > 0.0 else b"0"),
            (reset, go_duration(limiter.full_in_s(now_s))),
        )


@lru_cache(maxsize=1024)
def _limit_header(name: str, limit: float) -> tuple[bytes, bytes]:
    """What every reply says again."""
    return _NAMES[name][0], b"%d" % limit


def go_duration(seconds: float) -> bytes:
    """Seconds as Go writes them: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return b"%dms" % math.ceil(seconds * 1000)
    minutes, rest = divmod(seconds, 60.0) if seconds >= 60.0 else (0, seconds)
    text = (b"%.3f" % rest).rstrip(b"0").rstrip(b".")
    return b"%dm%bs" % (minutes, text) if minutes else text + b"s"


def reply_body(world: World, answer: Answer, input_tokens: int, output_tokens: int, cap: int, now_s: float) -> bytes:
    """The JSON of a reply, or of an error."""
    status = answer.status
    if status == 200:
        return (
            b'{"id":"chatcmpl-sim","object":"chat.completion","created":1767225600,"model":"sim-chat","choices":[{"index":0,'
            b'"message":{"role":"assistant","content":"."},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,'
            b'"completion_tokens":%d,"total_tokens":%d}}' % (input_tokens, output_tokens, input_tokens + output_tokens)
        )
    if status == 429:
        return _refusal(world, answer, input_tokens, output_tokens, cap, now_s)
    return _ERRORS.get(status, _ERRORS[500])


_ERRORS = {
    400: b'{"error":{"message":"Invalid request.","type":"invalid_request_error","param":null,"code":"invalid_value"}}',
    401: b'{"error":{"message":"Incorrect API key provided.","type":"invalid_request_error","param":null,'
    b'"code":"invalid_api_key"}}',
    500: b'{"error":{"message":"The server had an error.","type":"server_error","param":null,"code":null}}',
    503: b'{"error":{"message":"Service unavailable.","type":"server_error","param":null,"code":null}}',
}


def _refusal(world: World, answer: Answer, input_tokens: int, output_tokens: int, cap: int, now_s: float) -> bytes:
    words, kind = _WORDS[answer.short]
    said = f"Rate limit reached for {MODEL} on {words}."
    limiter = answer.pool.limits.get(answer.short)
    if world.error_text and limiter is not None:
        needs = answer.pool.needs(input_tokens, output_tokens, cap)
        requested = needs[("requests", "input_tokens", "output_tokens", "tokens").index(answer.short)]
        used = max(0.0, limiter.capacity - limiter.free(now_s))
        said = f"{said[:-1]}: Limit {int(limiter.limit)}, Used {used:.0f}, Requested {requested}."
    if answer.retry_after_s is not None:
        said += f" Please try again in {go_duration(answer.retry_after_s).decode()}."
    return (f'{{"error":{{"message":"{said}","type":"{kind}","param":null,"code":"rate_limit_exceeded"}}}}').encode()


@lru_cache(maxsize=4096)
def request_body(content_bytes: int, cap: int) -> bytes:
    """A chat request whose content is so long; equal ones share their bytes."""
    limit = f'"max_tokens":{cap},' if cap else ""
    return f'{{"model":"{MODEL}",{limit}"messages":[{{"role":"user","content":"{"a" * content_bytes}"}}]}}'.encode()
