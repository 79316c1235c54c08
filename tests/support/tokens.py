"""A token endpoint (RFC 6749) on loopback: what it is asked is checked, what it issues is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

__all__ = ["TokenServer", "token_server"]


@dataclass
class TokenServer:
    """A device login is allowed after `pending` further questions. Issues `prefix-1`, `prefix-2` ... that count for
    `life_s` seconds. `refuse`: answers every request with this error. `one_time`: each refresh token may be used
    once, and its successor comes with the reply."""

    url: str = ""
    prefix: str = "sim-key-token"
    life_s: float = 3600.0
    refuse: str = ""
    one_time: str = ""
    pending: int = 0
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        self.asked.append(form)
        if form.get("grant_type", "").endswith("device_code") and self.pending:
            self.pending -= 1
            return 400, {"error": "authorization_pending"}
        if self.refuse:
            return 400, {"error": self.refuse, "error_description": "by the test"}
        reply: dict[str, Any] = {
            "access_token": f"{self.prefix}-{len(self.asked)}",
            "token_type": "Bearer",
            "expires_in": self.life_s,
        }
        if form.get("grant_type", "").endswith("device_code"):
            reply["refresh_token"] = self.one_time
        elif self.one_time:
            if form.get("refresh_token") != self.one_time:
                return 400, {"error": "invalid_grant"}
            self.one_time += "+"
            reply["refresh_token"] = self.one_time
        return 200, reply


@asynccontextmanager
async def token_server(**details: Any) -> AsyncIterator[TokenServer]:
    """Runs one for the block."""
    told = TokenServer(**details)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        size = next(int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length"))
        form = dict(parse_qsl((await reader.readexactly(size)).decode()))
        status, reply = told.answer(form)
        if head.startswith("POST /device"):
            told.asked.pop()
            status, reply = 200, {"device_code": "d-1", "user_code": "WORD-7", "interval": 0, "expires_in": 60}
            reply["verification_uri"] = "https://login.example/device"
        body = json.dumps(reply).encode()
        writer.write(b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\nconnection: close\r\n" % status)
        writer.write(b"content-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
    try:
        yield told
    finally:
        server.close()
        await server.wait_closed()
