"""The application in this process, without a socket: how commands work on a store that no proxy has open.

Main entry: `open_local`. It builds the same application that `serve` would serve, from the same settings, with an admin
key that lives as long as the command, and calls it as an ASGI server would, on one event loop that runs whenever
somebody waits for an answer. Law: nothing listens, and standard output stays the command's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apikeyrouter_proxy.cli.console import note
from apikeyrouter_proxy.cli.http import Answer
from apikeyrouter_proxy.cli.service import Verbs, encoded

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Local", "open_local"]


@contextmanager
def open_local(environ: Mapping[str, str], dotenv: Path, store: str | None) -> Iterator[Local]:
    """The application on the store that the settings name, or on `store`. Raises RouterError when it does not open."""
    from apikeyrouter.domain.keys.secret import Secret
    from apikeyrouter_proxy.app import create_app
    from apikeyrouter_proxy.settings import ProxySettings

    changed = {**environ, "APIKEYROUTER_STORE": store} if store else environ
    settings = ProxySettings.from_environ(changed, dotenv)
    data_key = _data_key_file(settings.store_url)
    had_data_key = data_key is not None and data_key.exists()
    admin_key = secrets.token_hex(24)
    settings = replace(
        settings, host="127.0.0.1", require_auth=True, admin_key=Secret(admin_key), log_level="ERROR", visiting=True
    )
    with asyncio.Runner() as runner:
        # Logs go where standard output is when the application opens; a command's output is not for them.
        with contextlib.redirect_stdout(sys.stderr):
            app = create_app(settings)
            life = app.router.lifespan_context(app)
            runner.run(life.__aenter__())
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        if data_key is not None and not had_data_key and data_key.exists():
            note(f"An encryption key was made: {data_key}. Keep it: without it the stored keys cannot be opened.")
        try:
            yield Local(app, runner, admin_key, f"the store {settings.store_url}")
        finally:
            runner.run(life.__aexit__(None, None, None))


def _data_key_file(store_url: str) -> Path | None:
    """Where a store in a file keeps its encryption key when the environment has none."""
    from apikeyrouter.infrastructure.state_store import open_store

    path = getattr(open_store(store_url), "path", None)
    return None if path is None else Path(f"{path}.key")


class Local(Verbs):
    """See `Service`."""

    def __init__(self, app: FastAPI, runner: asyncio.Runner, admin_key: str, place: str) -> None:
        self._app = app
        self._runner = runner
        self._authorization = b"Bearer " + admin_key.encode()
        self.place = place
        self.origin: str | None = None

    def ask(self, method: str, path: str, body: Any = None, *, prompt: bool = True) -> Answer:  # noqa: ARG002
        """See `Service.ask`."""
        with self._exchange(method, path, body, None) as (answer, pieces):
            answer.body = b"".join(pieces)
        return answer

    @contextmanager
    def stream(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        """See `Service.stream`."""
        with self._exchange("POST", path, body, headers) as exchange:
            yield exchange

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None
    ) -> Iterator[tuple[Answer, Iterator[bytes]]]:
        call = _Call(self._app, self._scope(method, path, headers), encoded(body) or b"")
        try:
            yield self._runner.run(call.head()), self._pieces(call)
        finally:
            self._runner.run(call.end())

    def _pieces(self, call: _Call) -> Iterator[bytes]:
        while (piece := self._runner.run(call.piece())) is not None:
            if piece:
                yield piece

    def _scope(self, method: str, path: str, headers: Mapping[str, str] | None) -> dict[str, Any]:
        bare, _, query = path.partition("?")
        raw = [
            (b"host", b"127.0.0.1"),
            (b"content-type", b"application/json"),
            (b"authorization", self._authorization),
            *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in (headers or {}).items()),
        ]
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": bare,
            "raw_path": bare.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": raw,
            "client": ("127.0.0.1", 0),
            "server": ("127.0.0.1", 80),
        }


class _Call:
    """One request inside the event loop: a task that runs the application, and a queue of what it sends."""

    def __init__(self, app: FastAPI, scope: dict[str, Any], body: bytes) -> None:
        self._app = app
        self._scope = scope
        self._body: bytes | None = body
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._complete = False

    async def head(self) -> Answer:
        """Starts the application; the answer's status and headers."""
        self._task = asyncio.create_task(self._run())
        start = await self._next()
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], headers)

    async def piece(self) -> bytes | None:
        """The next part of the body; None after the last."""
        if self._complete:
            return None
        message = await self._next()
        self._complete = not message.get("more_body")
        part: bytes = message.get("body", b"")
        return part

    async def end(self) -> None:
        """The caller wants no more."""
        self._over.set()
        if self._task is not None:
            if not self._complete:
                self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._sent.put)
        except BaseException as fault:
            await self._sent.put(fault)
            raise

    async def _next(self) -> Any:
        message = await self._sent.get()
        if isinstance(message, BaseException):
            raise message
        return message

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}
