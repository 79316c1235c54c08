"""The mock upstream: an OpenAI-shaped server that costs next to nothing, so that what is measured is the gateway.

Entry: `python -m bench.upstream --port P` (pinned to the load's core by the harness). One uvloop, one
`asyncio.Protocol`, bytes made once.
POST /v1/chat/completions answers a completion of about 1 KB; with `"stream":true`, `EVENTS` events of about 230 bytes
as chunked SSE: back to back, one `write` each (model `gpt-4o-mini`), or one each `PACE_S` seconds (model
`gpt-4.1-mini`). GET /v1/models lists both.
Law: it never looks at keys and never refuses: limits and faults belong to the simulated provider, not to a cost
measurement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from typing import cast

import httptools
import uvloop

BURST_MODEL = "gpt-4o-mini"
PACED_MODEL = "gpt-4.1-mini"
EVENTS = int(os.environ.get("BENCH_EVENTS", "100"))
PACED_EVENTS = 20
PACE_S = float(os.environ.get("BENCH_PACE_S", "0.005"))
ANSWER = "Routing is the art of saying no to the wrong key and yes to the right one, early and cheaply. " * 7
DELTA = "tokens-here "

_HEADERS = (
    b"date: Sat, 21 Nov 2026 00:00:00 GMT\r\nserver: mock\r\nopenai-version: 2020-10-01\r\nopenai-processing-ms: 5\r\n"
    b"x-request-id: req_0123456789abcdef0123456789abcdef\r\nx-ratelimit-limit-requests: 100000000\r\n"
    b"x-ratelimit-remaining-requests: 99999999\r\nx-ratelimit-limit-tokens: 100000000000\r\n"
    b"x-ratelimit-remaining-tokens: 99999999000\r\nx-ratelimit-reset-requests: 1ms\r\nx-ratelimit-reset-tokens: 1ms\r\n"
)


def _reply(value: object) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        + _HEADERS
        + b"content-length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )


def _completion() -> object:
    return {
        "id": "chatcmpl-bench0123456789abcdef",
        "object": "chat.completion",
        "created": 1795219200,
        "model": BURST_MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 190,
            "completion_tokens": 120,
            "total_tokens": 310,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
        "system_fingerprint": "fp_bench",
    }


def _event(model: str, delta: dict[str, str], finish: str | None) -> bytes:
    value = {
        "id": "chatcmpl-bench0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1795219200,
        "model": model,
        "system_fingerprint": "fp_bench",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _usage_event(model: str, count: int) -> bytes:
    value = {
        "id": "chatcmpl-bench0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1795219200,
        "model": model,
        "choices": [],
        "usage": {"prompt_tokens": 190, "completion_tokens": count, "total_tokens": 190 + count},
    }
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _chunk(payload: bytes) -> bytes:
    return f"{len(payload):x}\r\n".encode() + payload + b"\r\n"


def _stream(model: str, count: int) -> tuple[list[bytes], bytes, bytes]:
    """The events as HTTP chunks, the optional usage chunk, and the terminator."""
    events = [_event(model, {"role": "assistant", "content": DELTA}, None)]
    events += [_event(model, {"content": DELTA}, None) for _ in range(count - 2)]
    events.append(_event(model, {}, "stop"))
    return [_chunk(e) for e in events], _chunk(_usage_event(model, count)), _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


JSON_REPLY = _reply(_completion())
MODELS_REPLY = _reply(
    {
        "object": "list",
        "data": [{"id": m, "object": "model", "created": 0, "owned_by": "mock"} for m in (BURST_MODEL, PACED_MODEL)],
    }
)
# `x-accel-buffering` tells nginx to pass events on as they come; other gateways ignore it.
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-accel-buffering: no\r\n" + _HEADERS + b"transfer-encoding: chunked\r\n\r\n"
)
BURST = _stream(BURST_MODEL, EVENTS)
PACED = _stream(PACED_MODEL, PACED_EVENTS)


class Upstream(asyncio.Protocol):
    """One client connection; keep-alive, one request at a time (no gateway pipelines)."""

    __slots__ = ("_body", "_fd", "_parser", "_transport", "_url")

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""
        self._url = b""
        self._fd = -1
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._fd = -1

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body = self._body + body if self._body else body

    def on_message_complete(self) -> None:
        body = self._body
        if self._url.endswith(b"/models"):
            self._transport.write(MODELS_REPLY)
        elif b'"stream":true' in body or b'"stream": true' in body:
            paced = PACED_MODEL.encode() in body
            self._stream(PACED if paced else BURST, b"include_usage" in body, paced=paced)
        else:
            self._transport.write(JSON_REPLY)

    def _stream(self, frames: tuple[list[bytes], bytes, bytes], usage: bool, *, paced: bool) -> None:
        events, usage_event, end = frames
        tail = usage_event + end if usage else end
        if paced:
            self._transport.write(STREAM_HEAD + events[0])
            self._paced(events, 1, tail)
            return
        queue = [STREAM_HEAD + events[0], *events[1:], tail]
        for position, piece in enumerate(queue):
            try:
                # Past the transport, which would join the events of one loop turn into one write.
                sent = os.write(self._fd, piece)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._transport.close()
                return
            if sent < len(piece):
                self._transport.write(piece[sent:] + b"".join(queue[position + 1 :]))
                return

    def _paced(self, events: list[bytes], position: int, tail: bytes) -> None:
        if self._transport.is_closing():
            return
        if position == len(events):
            self._transport.write(tail)
            return
        self._transport.write(events[position])
        asyncio.get_running_loop().call_later(PACE_S, self._paced, events, position + 1, tail)


async def serve(port: int) -> None:
    """Serves on loopback until the process ends."""
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.port))


if __name__ == "__main__":
    main()
