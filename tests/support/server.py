"""Any ASGI application on a free port, served by uvicorn in a thread of its own, and plain HTTP requests to it.

Main entries: `run_app(app)`, a context manager that yields a `Served`; `run_proxy(...)`, the same for a proxy of ours;
and `Served.ask`. Law: when the block ends, the server has stopped, its thread is gone, and logging and garbage
collection are as they were.
"""

from __future__ import annotations

import gc
import http.client
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from apikeyrouter.domain.keys.secret import Secret
from apikeyrouter_proxy.app import create_app
from apikeyrouter_proxy.bootstrap import Proxy
from apikeyrouter_proxy.env_keys import EnvKey
from apikeyrouter_proxy.one_write import OneWriteProtocol
from apikeyrouter_proxy.settings import ProxySettings

__all__ = ["Answer", "Served", "run_app", "run_proxy"]

_START_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply. `headers` in lower case; `json` is the decoded body, or its text."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError:
            return self.body.decode("utf-8", "replace")

    @property
    def code(self) -> str | None:
        """The error's code."""
        code: str | None = self.json["error"]["code"]
        return code


class Served:
    """Where the application listens."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own. `body`: JSON-able, or bytes. `headers` may replace Host."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, data, sent)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        return self.ask("POST", path, {} if body is None else body, headers)


class _Server(uvicorn.Server):
    """Says when it listens, or that it never will."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.decided = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.decided.set()


@contextmanager
def run_app(app: Any) -> Iterator[Served]:
    """Serves the application with the protocol of `apikeyrouter serve`, lifespan included. Raises AssertionError when
    it does not start."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, loop="asyncio", http=OneWriteProtocol, ws="none", lifespan="on", log_config=None,
        access_log=False,
    )  # fmt: skip
    server = _Server(config)
    thread = threading.Thread(target=server.run, name="served application", daemon=True)
    kept = _process_state()
    thread.start()
    try:
        assert server.decided.wait(_START_WITHIN_S), "the application did not start in time"
        assert server.started, "the application refused to start; its log says why"
        yield Served(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(_START_WITHIN_S)
        _restore(*kept)
        assert not thread.is_alive(), "the server did not stop"


@contextmanager
def run_proxy(base_url: str | None = None, keys: Sequence[str] = (), **settings: Any) -> Iterator[tuple[Served, Proxy]]:
    """A proxy with these settings, and what runs inside it (for looking only). `keys`: as if from the environment."""
    found = tuple(EnvKey(f"OPENAI_API_KEY_{i}", "openai", Secret(key)) for i, key in enumerate(keys, start=1))
    if base_url is not None:
        settings["openai_base_url"] = base_url
    app = create_app(ProxySettings(env_keys=found, **{"log_level": "WARNING", **settings}))
    with run_app(app) as served:
        yield served, app.state.proxy


_LOGGERS = ("apikeyrouter", "apikeyrouter_proxy", "uvicorn", "uvicorn.error", "uvicorn.access")


def _process_state() -> tuple[Any, ...]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    states = [(one, list(one.handlers), one.propagate, one.level, list(one.filters), one.disabled) for one in loggers]
    return states, gc.get_threshold()


def _restore(states: Any, thresholds: tuple[int, int, int]) -> None:
    for one, handlers, propagate, level, filters, disabled in states:
        one.handlers, one.propagate, one.filters, one.disabled = handlers, propagate, filters, disabled
        one.setLevel(level)
    gc.unfreeze()
    gc.set_threshold(*thresholds)
