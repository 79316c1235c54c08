"""The simulated provider as an ASGI application: who asks, what goes wrong, what the limits say, what the answer is.

Main entry: `SimulatedProvider`; `_answer` is the path of a request. No framework: a small request costs little, so that
benchmarks measure the router and not its upstream. Serve it with `apikeyrouter_proxy.sim_server`, which adds the hook
below HTTP that connection faults need.
Laws: a request is decided in one step of the event loop (fault drawn, limits charged), so order decides and not
chance; every visit ends, whatever happens to it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.infrastructure.clock import SystemClock
from apikeyrouter.simulation.accounts import Account, Accounts
from apikeyrouter.simulation.api_errors import ApiError, Headers, invalid, model_not_found
from apikeyrouter.simulation.catalog import listing, model_entry
from apikeyrouter.simulation.chat import answer_chat
from apikeyrouter.simulation.completions import answer_completion
from apikeyrouter.simulation.config import SimConfig
from apikeyrouter.simulation.connection import Connection, Receive, Scope, Send
from apikeyrouter.simulation.control import Control
from apikeyrouter.simulation.delivery import Reply, answer_instead, deliver, send_error
from apikeyrouter.simulation.embeddings import answer_embedding
from apikeyrouter.simulation.faults import FaultBook
from apikeyrouter.simulation.labels import key_label
from apikeyrouter.simulation.messages import rough_tokens
from apikeyrouter.simulation.recorder import Recorder, Visit
from apikeyrouter.simulation.requests import ChatRequest, CompletionRequest, EmbeddingRequest, decode
from apikeyrouter.simulation.sse import chat_events
from apikeyrouter.simulation.text import digest_of, estimate_tokens

__all__ = ["SimulatedProvider"]

_CONTROL = "/_sim"
_DAY_S = 86_400.0
_MODELS = "/v1/models"
_VERSION = (b"openai-version", b"2020-10-01")
_NOSNIFF = (b"x-content-type-options", b"nosniff")

_Handler = Callable[[Account, bytes, Headers], Reply]


class SimulatedProvider:
    """A provider in one process. `clock` None: the machine's."""

    def __init__(self, config: SimConfig | None = None, *, clock: Clock | None = None) -> None:
        self.config = config or SimConfig()
        self.clock: Clock = clock or SystemClock()
        self._open: set[Connection] = set()
        self._control = Control(self)
        self._handlers: dict[str, _Handler] = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embedding,
        }
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Back to the beginning: full limits, configured accounts and faults, empty records, first id of the seed."""
        if seed is not None:
            self.config = msgspec.structs.replace(self.config, seed=seed)
        now_s = self.clock.monotonic_s()
        self.accounts = Accounts(self.config, now_s, now_s - self._utc_s() % _DAY_S)
        self.faults = FaultBook(random.Random(self.config.seed))
        for fault in self.config.faults:
            self.faults.add(fault, now_s)
        self.recorder = Recorder(self.config.record_last)
        self._ids = itertools.count(1)

    def hang_up(self) -> None:
        """Breaks off every running request, for a server that stops."""
        for connection in list(self._open):
            connection.hang_up()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the simulated provider speaks HTTP only, not {scope['type']}")
        connection = Connection(scope, receive, send, self.clock)
        body = await connection.body()
        if body is None:
            return
        if scope["path"].startswith(_CONTROL):
            await self._control.serve(connection, body)
            return
        key = _credential(scope["headers"])
        label = key_label(key)
        visit = self.recorder.begin(label, scope, body, self._utc_s())
        self._open.add(connection)
        try:
            await self._answer(connection, visit, key, label, body)
        finally:
            if connection.gone and not connection.complete and not connection.broken:
                visit.counts.disconnected += 1
            visit.end()
            self._open.discard(connection)
            connection.release()

    async def _answer(self, connection: Connection, visit: Visit, key: str, label: str, body: bytes) -> None:
        """The path of a request: route, authenticate, suffer the faults, be admitted, be answered."""
        request_id = f"req_{self._new_id('req')}".encode()
        headers: Headers = [_VERSION, (b"x-request-id", request_id), _NOSNIFF]
        scope = connection.scope
        try:
            handler = self._handler(scope["method"], scope["path"])
            account = self.accounts.authenticate(key, self.clock.monotonic_s())
            headers.append((b"openai-organization", account.organization.encode()))
            plan = self.faults.draw(label, scope["path"], self.clock.monotonic_s())
            if plan.latency_s > 0 and not await connection.pause(plan.latency_s):
                return
            if plan.instead is not None:
                if self.config.failed_requests_count:
                    account.count_failed(self.clock.monotonic_s())
                await answer_instead(connection, visit, plan, key, headers)
                return
            account.check_standing()
            reply = handler(account, body, headers)
        except ApiError as error:
            await send_error(connection, visit, error, headers)
            return
        visit.used(reply.usage)
        account.spend(reply.usage.get("total_tokens", 0))
        await deliver(connection, visit, reply, plan, account.pace)

    def _handler(self, method: str, path: str) -> _Handler:
        handler = self._handlers.get(path)
        wanted = "POST"
        if handler is None:
            wanted = "GET"
            if path == _MODELS:
                return _models if method == wanted else _no_method(method, path)
            if path.startswith(_MODELS + "/"):
                model = path.removeprefix(_MODELS + "/")
                return _model(model) if method == wanted else _no_method(method, path)
            raise invalid(f"Invalid URL ({method} {path})", status=404)
        return handler if method == wanted else _no_method(method, path)

    def _chat(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = decode(body, ChatRequest)
        self._admit(account, request.model, rough_tokens(request, len(body)), headers)
        reply = answer_chat(request, self.config, f"chatcmpl-{self._new_id('chat')[:29]}", self._created())
        cached = account.cached_tokens(reply.prefix, reply.usage["prompt_tokens"])
        reply.usage["prompt_tokens_details"]["cached_tokens"] = cached
        if not request.stream:
            return Reply(headers, msgspec.json.encode(reply.whole()), usage=reply.usage)
        options: dict[str, Any] = request.stream_options or {}
        events = chat_events(
            reply,
            include_usage=bool(options.get("include_usage")),
            obfuscate=options.get("include_obfuscation") is not False,
        )
        return Reply(headers, events=events, usage=reply.usage)

    def _completion(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = decode(body, CompletionRequest)
        asked = request.max_tokens if isinstance(request.max_tokens, int) else 0
        self._admit(account, request.model, max(asked, estimate_tokens(len(body))), headers)
        reply = answer_completion(request, self.config, f"cmpl-{self._new_id('cmpl')[:29]}", self._created())
        if not request.stream:
            return Reply(headers, msgspec.json.encode(reply.whole()), usage=reply.usage)
        options: dict[str, Any] = request.stream_options or {}
        events = reply.events(include_usage=bool(options.get("include_usage")))
        return Reply(headers, events=events, usage=reply.usage)

    def _embedding(self, account: Account, body: bytes, headers: Headers) -> Reply:
        request = decode(body, EmbeddingRequest)
        self._admit(account, request.model, estimate_tokens(len(body)), headers)
        reply = answer_embedding(request, self.config)
        return Reply(headers, msgspec.json.encode(reply), usage=reply["usage"])

    def _admit(self, account: Account, model: str, tokens: int, headers: Headers) -> None:
        now_s = self.clock.monotonic_s()
        account.admit(model, tokens, now_s, count_refused=self.config.failed_requests_count)
        headers += account.headers()

    def _new_id(self, kind: str) -> str:
        return digest_of(self.config.seed, kind, b"%d" % next(self._ids)).hex()

    def _utc_s(self) -> float:
        return self.clock.utc_now().timestamp()

    def _created(self) -> int:
        return int(self._utc_s())


def _credential(headers: Headers) -> str:
    """The bearer of a request, or nothing."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, key = value.decode("latin-1").partition(" ")
            return key.strip() if scheme.lower() == "bearer" else ""
    return ""


def _models(_account: Account, _body: bytes, headers: Headers) -> Reply:
    return Reply(headers, msgspec.json.encode(listing()))


def _model(model: str) -> _Handler:
    def handler(_account: Account, _body: bytes, headers: Headers) -> Reply:
        if model.startswith("no-such"):
            raise model_not_found(model)
        return Reply(headers, msgspec.json.encode(model_entry(model)))

    return handler


def _no_method(method: str, path: str) -> _Handler:
    raise invalid(f"Not allowed to {method} on {path}.", status=405)
