"""An upstream whose streams break off where they are told to, and that remembers what it generated.

Entry: `python -m bench.cut_upstream --port P`. A request says in `metadata` which stream it wants (`Recipe`): how many
tokens, and after how many bytes the connection ends, by a reset or in order. The model names the dialect (`DIALECTS`):
where usage stands, line ends, a forgotten `[DONE]`, several tokens in a piece. `GET /_records` tells what was
generated for whom, and forgets it.
Laws: tokens count once their event was written whole; a client that leaves stops its stream at the next token; only the
first send of a stream breaks off, so another key may still serve what was cut before its first event.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import httptools
import uvloop

__all__ = ["DIALECTS", "Dialect", "Event", "Recipe", "prompt_tokens", "stream_events"]

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"x-request-id: req_%d\r\ntransfer-encoding: chunked\r\n\r\n"
)
HEAD_UNTIL_CLOSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-request-id: req_%d\r\nconnection: close\r\n\r\n"
)
_RESET_AFTER_S = 0.01  # what was written must leave before an RST throws the send buffer away
_LINGER_ZERO = struct.pack("ii", 1, 0)
_WORDS = ("river ", "bridge ", "an ", "old ", "stone ", "“quoted” ", "fine\\n", "x", "délta ", "1,234 ", '{"a": 1} ')


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a provider streams. `usage`: "last" (an event of its own), "every" chunk, "groq" (in the last chunk, under
    x_groq) or "none". `pieces`: least and most tokens in one event. `until_close`: the body ends with the connection.
    """

    usage: str = "last"
    pieces: tuple[int, int] = (1, 1)
    newline: bytes = b"\n"
    says_done: bool = True
    until_close: bool = False


DIALECTS = {
    "cut-plain": Dialect(),
    "cut-every": Dialect(usage="every"),
    "cut-groq": Dialect(usage="groq"),
    "cut-silent": Dialect(usage="none"),
    "cut-crlf": Dialect(newline=b"\r\n"),
    "cut-undone": Dialect(says_done=False),
    "cut-several": Dialect(pieces=(1, 6)),
    "cut-close": Dialect(until_close=True),
}
"""By the name of the model."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One stream. `cut_at`: bytes after which it breaks off, head included, None: never; `reset`: with an RST.
    `pace_s`: seconds between events."""

    stream: int
    model: str
    tokens: int
    cut_at: int | None = None
    reset: bool = False
    pace_s: float = 0.01


@dataclass(frozen=True, slots=True)
class Event:
    """Bytes as they go on the wire, and the tokens that they carry."""

    data: bytes
    tokens: int


@dataclass(slots=True)
class Record:
    """What became of one request. `tokens`: in events that were written whole; `whole`: the stream came to its end;
    `left_s`: monotonic time at which the client's leaving was noticed before that."""

    stream: int
    model: str
    tokens: int = 0
    events: int = 0
    prompt_tokens: int = 0
    whole: bool = False
    left_s: float | None = None
    asked: int = 0


@dataclass(slots=True)
class _Run:
    """A stream under way."""

    recipe: Recipe
    record: Record
    events: list[Event]
    position: int = 0
    written: int = 0
    timer: asyncio.TimerHandle | None = field(default=None)


def prompt_tokens(messages: list[dict[str, Any]]) -> int:
    """As OpenAI's cookbook frames them, a quarter of the characters each."""
    return 3 + sum(4 + len(str(one["content"])) // 4 for one in messages)


def stream_events(recipe: Recipe, prompt: int) -> list[Event]:
    """The head and all events, the same ones for the same recipe."""
    dialect, rng = DIALECTS[recipe.model], random.Random(recipe.stream)
    frame = _Frame(recipe, dialect, prompt)
    head = HEAD_UNTIL_CLOSE if dialect.until_close else HEAD
    events = [Event(head % recipe.stream, 0), frame.chunk({"role": "assistant", "content": ""}, 0)]
    left = recipe.tokens
    while left:
        tokens = min(left, rng.randint(*dialect.pieces))
        left -= tokens
        events.append(frame.chunk({"content": "".join(rng.choice(_WORDS) for _ in range(tokens))}, tokens))
    events.append(frame.chunk({}, 0, finish="stop"))
    if dialect.usage == "last":
        events.append(frame.event({**frame.base, "choices": [], "usage": frame.usage()}, 0))
    if dialect.says_done:
        events.append(frame.framed(b"[DONE]", 0))
    if not dialect.until_close:
        events.append(Event(b"0\r\n\r\n", 0))
    return events


class _Frame:
    """Makes events of one stream, and counts."""

    def __init__(self, recipe: Recipe, dialect: Dialect, prompt: int) -> None:
        self._dialect = dialect
        self._prompt = prompt
        self._told = 0
        self.base = {
            "id": f"chatcmpl-{recipe.stream}", "object": "chat.completion.chunk", "created": 1795219200,
            "model": recipe.model,
        }  # fmt: skip

    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._prompt,
            "completion_tokens": self._told,
            "total_tokens": self._prompt + self._told,
        }

    def chunk(self, delta: dict[str, str], tokens: int, *, finish: str | None = None) -> Event:
        self._told += tokens
        value: dict[str, Any] = {**self.base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        if self._dialect.usage == "every":
            value["usage"] = self.usage()
        if self._dialect.usage == "groq" and finish:
            value["x_groq"] = {"id": "req_1", "usage": self.usage()}
        return self.event(value, tokens)

    def event(self, value: dict[str, Any], tokens: int) -> Event:
        return self.framed(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), tokens)

    def framed(self, payload: bytes, tokens: int) -> Event:
        data = b"data: " + payload + 2 * self._dialect.newline
        if not self._dialect.until_close:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        return Event(data, tokens)


class CutUpstream(asyncio.Protocol):
    """One connection; keep-alive, one request at a time."""

    def __init__(self, records: list[Record], cut: set[int]) -> None:
        self._records = records
        self._cut = cut
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = bytearray()
        self._run: _Run | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        run, self._run = self._run, None
        if run is not None:
            run.record.left_s = time.monotonic()
            if run.timer is not None:
                run.timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        self._body.clear()

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._url == b"/_records":
            self._answer([asdict(record) for record in self._records])
            self._records.clear()
        elif self._url.endswith(b"/models"):
            self._answer({"object": "list", "data": [{"id": name, "object": "model"} for name in DIALECTS]})
        else:
            self._begin(json.loads(self._body))

    def _answer(self, value: object) -> None:
        body = json.dumps(value).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )

    def _begin(self, asked: dict[str, Any]) -> None:
        recipe = Recipe(model=asked["model"], **json.loads(asked["metadata"]["recipe"]))
        if recipe.stream in self._cut:
            recipe = replace(recipe, cut_at=None)
        self._cut.add(recipe.stream)
        prompt = prompt_tokens(asked["messages"])
        record = Record(recipe.stream, recipe.model, prompt_tokens=prompt, asked=recipe.tokens)
        self._records.append(record)
        self._run = _Run(recipe, record, stream_events(recipe, prompt))
        self._next(self._run)

    def _next(self, run: _Run) -> None:
        """Writes the next event; the head goes with the first."""
        for _ in range(2 if run.position == 0 else 1):
            if not self._write(run):
                return
        if run.position == len(run.events):
            run.record.whole = True
            self._run = None
            if DIALECTS[run.recipe.model].until_close:
                self._transport.close()
            return
        delay_s = run.recipe.pace_s if run.events[run.position].tokens else 0.0
        run.timer = asyncio.get_running_loop().call_later(delay_s, self._next, run)

    def _write(self, run: _Run) -> bool:
        """One event, or what is left of it before the cut; whether the stream goes on."""
        event = run.events[run.position]
        left = None if run.recipe.cut_at is None else run.recipe.cut_at - run.written
        if left is not None and left < len(event.data):
            self._transport.write(event.data[:left])
            self._break_off(run.recipe)
            return False
        self._transport.write(event.data)
        run.position += 1
        run.written += len(event.data)
        run.record.tokens += event.tokens
        run.record.events += run.position > 1
        return True

    def _break_off(self, recipe: Recipe) -> None:
        self._run = None  # whoever leaves now, leaves because of us
        if recipe.reset:
            asyncio.get_running_loop().call_later(_RESET_AFTER_S, self._reset)
        else:
            self._transport.close()

    def _reset(self) -> None:
        if self._transport.is_closing():
            return
        handle = self._transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(handle.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()


async def serve(port: int) -> None:
    """Serves on loopback until the process ends."""
    records: list[Record] = []
    cut: set[int] = set()
    make: Callable[[], asyncio.Protocol] = lambda: CutUpstream(records, cut)  # noqa: E731
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(arguments.port))


if __name__ == "__main__":
    main()
