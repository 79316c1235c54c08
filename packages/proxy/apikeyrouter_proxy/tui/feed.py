"""Brings what the terminal dashboard shows: one thread hears the live stream, another asks for keys and quota.

Main entry: `Feed`. What comes is handed to `tell(kind, data)` from these threads: the kinds of the stream ("tick",
"decisions", "key", "changed", "missed"), and "keys", "pools", "link". Laws: a connection that breaks, or is silent for
`SILENT_S`, is opened again, at first after a second, then ever less often; whoever reads is told ("link"); `stop` does
not wait for the network.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from apikeyrouter_proxy.cli.failures import CliError
from apikeyrouter_proxy.cli.service import Remote, message_of

__all__ = ["EVERY_S", "Feed", "ask", "events_of"]

EVERY_S = 2.0
"""Keys and quota are asked for this often, and at once after a key changed."""

SILENT_S = 15.0
"""The stream says something twice a second; silence for so long means that nobody is there."""

_WAIT_FIRST_S, _WAIT_MAX_S = 1.0, 8.0
_LIVE = "/api/v1/live"
_PAGE = 500

Tell = Callable[[str, Any], object]


class Feed:
    """`tell`: called from other threads than the one that made this."""

    def __init__(self, service: Remote, tell: Tell) -> None:
        self._service = service
        self._tell = tell
        self._over = threading.Event()
        self._news = threading.Event()

    def start(self) -> None:
        """Begins."""
        for name, work in (("live", self._listen), ("poll", self._poll)):
            threading.Thread(target=work, name=f"apikeyrouter-top-{name}", daemon=True).start()

    def stop(self) -> None:
        """Ends; what is under way is left to itself."""
        self._over.set()
        self._news.set()

    def refresh(self) -> None:
        """Asks for keys and quota now."""
        self._news.set()

    def _listen(self) -> None:
        wait_s = _WAIT_FIRST_S
        while not self._over.is_set():
            try:
                for kind, data in self._events():
                    if self._over.is_set():
                        return
                    if kind == "hello":
                        wait_s = _WAIT_FIRST_S
                        self._catch_up()
                        self._say("link", "")
                    else:
                        self._say(kind, data)
                    if kind in ("key", "changed"):
                        self.refresh()
                self._say("link", "The proxy ended the stream.")
            except CliError as failure:
                self._say("link", failure.message)
            self._over.wait(wait_s)
            wait_s = min(2 * wait_s, _WAIT_MAX_S)

    def _events(self) -> Iterator[tuple[str, Any]]:
        with self._service.listen(_LIVE, within_s=SILENT_S) as (answer, pieces):
            if answer.status != 200:
                answer.body = b"".join(pieces)
                raise CliError(message_of(answer, _LIVE))
            yield from events_of(pieces)

    def _catch_up(self) -> None:
        """What was decided before, and while nobody listened."""
        rows = ask(self._service, "GET", "/api/v1/requests?limit=100")["data"]
        self._say("decisions", {"items": rows[::-1], "more": 0})

    def _poll(self) -> None:
        while not self._over.is_set():
            self._news.clear()
            try:
                self._say("keys", ask(self._service, "GET", "/api/v1/keys")["data"])
                self._say("pools", self._pools())
            except CliError:
                pass  # the stream says what is wrong
            self._news.wait(EVERY_S)

    def _pools(self) -> list[Any]:
        pools: list[Any] = []
        while True:
            page = ask(self._service, "GET", f"/api/v1/quota?limit={_PAGE}&offset={len(pools)}")
            pools += page["data"]
            if not page["data"] or len(pools) >= page["total"]:
                return pools

    def _say(self, kind: str, data: Any) -> None:
        if not self._over.is_set():
            self._tell(kind, data)


def ask(service: Remote, method: str, path: str, body: Any = None) -> Any:
    """One request's JSON. Nobody is asked for a key: the terminal is taken. Raises CliError."""
    answer = service.ask(method, path, body, prompt=False)
    if answer.status >= 400:
        raise CliError(message_of(answer, path))
    return answer.json()


def events_of(pieces: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    """Server-sent events as (kind, data). Comments and what is no JSON are left out.

    https://html.spec.whatwg.org/multipage/server-sent-events.html (2026-11-21), as far as this API uses it.
    """
    rest = b""
    for piece in pieces:
        *blocks, rest = (rest + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in blocks:
            kind, data = "message", []
            for line in block.decode("utf-8", "replace").split("\n"):
                name, _, value = line.partition(":")
                if name == "event":
                    kind = value.strip()
                elif name == "data":
                    data.append(value.removeprefix(" "))
            if data:
                try:
                    yield kind, json.loads("\n".join(data))
                except ValueError:
                    continue
