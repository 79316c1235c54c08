"""A provider that plays back what was recorded: each exchange at its provider's own path, in one of several framings.

Main entry: `ReplayServer`, on loopback. A request's path begins with the number of an exchange and of a framing
(`/17/4/v1/messages`); what follows must be the recorded path, else the answer is 418 and `strangers` has it.
Laws: the bytes of a recorded body are only framed anew where the protocol says that it means the same (line ends,
comments, pieces, compression, white space in front of JSON).
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any
from urllib.parse import unquote

__all__ = ["Framing", "ReplayServer"]

_PASSED_ON = re.compile(r"content-type|retry-after|x-ratelimit|anthropic-ratelimit|x-request-id|request-id|apim-|x-ms-")
_DATA = re.compile(rb"^(data|event): ", re.MULTILINE)


class Framing(IntEnum):
    """How a body is sent. `Recorded`: as it is; the others apply to streams, and `Gzip` and `Spaces` to JSON. `Ids`:
    with a byte order mark and members of events that nobody needs, which OpenAI's SDK takes for events: so only where
    the stream is written anew."""

    Recorded = 0
    Crlf = 1
    NoSpace = 2
    Comments = 3
    Gzip = 4
    Pieces = 5
    Spaces = 6
    Ids = 7


class ReplayServer:
    """Serves exchanges by their number in `exchanges`. `strangers`: paths that were asked for and never recorded."""

    def __init__(self, exchanges: Sequence[Mapping[str, Any]]) -> None:
        self._exchanges = exchanges
        self._server: asyncio.Server | None = None
        self.strangers: list[str] = []
        self.port = 0

    async def __aenter__(self) -> ReplayServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**24)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    def origin(self, number: int, framing: Framing) -> str:
        """What stands in for `https://HOST` of an exchange."""
        return f"http://127.0.0.1:{self.port}/{number}/{framing.value}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                await reader.readexactly(int(length.group(1)) if length else 0)
                await self._answer(head.split(b" ", 2)[1].decode(), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, target: str, writer: asyncio.StreamWriter) -> None:
        _, number, framing, rest = target.split("/", 3)
        exchange = self._exchanges[int(number)]
        asked = unquote(rest.partition("?")[0])
        status, content = exchange["status"], body_of(exchange)
        headers = {name: value for name, value in exchange["response_headers"].items() if _PASSED_ON.match(name)}
        if asked != unquote(exchange["path"]).lstrip("/"):
            self.strangers.append(f"{exchange['host']}: {asked} instead of {exchange['path']}")
            status, content, headers = 418, b'{"error":{"message":"this path was not recorded"}}', {}
        content, extra = framed(content, Framing(int(framing)), is_stream=is_stream(exchange))
        lines = [f"HTTP/1.1 {status} Recorded", *(f"{name}: {value}" for name, value in (headers | extra).items())]
        writer.write("\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode())
        for piece in _pieces(content, int(framing), int(number)):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


def body_of(exchange: Mapping[str, Any]) -> bytes:
    """The recorded body."""
    told = exchange.get("response_json")
    text = exchange.get("response_text") or ""
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "surrogatepass") if told is not None else text.encode()


def is_stream(exchange: Mapping[str, Any]) -> bool:
    """Whether the reply is a stream of server-sent events."""
    return exchange.get("response_json") is None and "event-stream" in exchange["response_headers"].get(
        "content-type", ""
    )


def framed(body: bytes, framing: Framing, *, is_stream: bool) -> tuple[bytes, dict[str, str]]:
    """The body in that framing, and the headers that go with it."""
    if framing is Framing.Gzip:
        return gzip.compress(body, 1), {"content-encoding": "gzip"}
    if not is_stream:
        return (b" \n\n  \n" * 20 + body if framing is Framing.Spaces and body[:1] in (b"{", b"[") else body), {}
    plain = body.replace(b"\r\n", b"\n")
    match framing:
        case Framing.Crlf:
            return plain.replace(b"\n", b"\r\n"), {}
        case Framing.NoSpace:
            return _DATA.sub(rb"\1:", plain), {}
        case Framing.Comments:
            return b": ping\n\n" + plain.replace(b"\n\n", b"\n\n: keep-alive\n\n"), {}
        case Framing.Ids:
            return b"\xef\xbb\xbfretry: 3000\n\n" + plain.replace(b"\n\n", b"\n\nid: 7\n\n"), {}
        case _:
            return body, {}


def _pieces(content: bytes, framing: int, seed: int) -> list[bytes]:
    """The chunks in which it goes out: small ones of chance lengths for `Pieces`, else of 4 KB."""
    chance = random.Random(seed)
    most = 40 if framing == Framing.Pieces and len(content) < 60_000 else 4_096
    found, at = [], 0
    while at < len(content):
        size = chance.randint(1, most) if most == 40 else most
        found.append(content[at : at + size])
        at += size
    return found
