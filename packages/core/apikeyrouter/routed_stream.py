"""`RoutedStream`: what `router.route_stream` returns: an async iterator of `StreamChunk`s."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from apikeyrouter.domain.components.policy_engine import Given
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.models.request_intent import RequestIntent
from apikeyrouter.domain.models.routing_decision import RoutingObjective
from apikeyrouter.domain.models.system_response import SystemResponse
from apikeyrouter.intents import call_of
from apikeyrouter.responses import StreamChunk, build_response, stream_events
from apikeyrouter.sending import Reply

if TYPE_CHECKING:
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["RoutedStream"]


class RoutedStream:
    """Iterate it once. `response`: the whole reply with usage, cost and decision, once the stream has ended; None
    before.

    Leaving early (`break`, `aclose`, cancellation) stops the provider and settles what was used so far. Also an async
    context manager that closes itself.
    """

    def __init__(
        self,
        router: ApiKeyRouter,
        intent: RequestIntent | Mapping[str, Any],
        objective: RoutingObjective | str | None,
        metadata: Mapping[str, Any] | None,
        policy: Given | None = None,
    ) -> None:
        self._router = router
        self._ask = (intent, objective, metadata, policy)
        self._reply: Reply | None = None
        self._events = self._run()
        self.response: SystemResponse | None = None

    def __aiter__(self) -> RoutedStream:
        return self

    async def __anext__(self) -> StreamChunk:
        return await anext(self._events)

    async def __aenter__(self) -> RoutedStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends it now. Idempotent."""
        if self._reply is not None and self._reply.stream is not None:
            self._reply.stream.close()
        await self._events.aclose()  # type: ignore[attr-defined]  # an async generator behind the iterator's type

    def __del__(self) -> None:
        """A stream that is dropped half read (`break`) must not leave its hold open until the collector gets to it."""
        if self._reply is not None and self._reply.stream is not None:
            self._reply.stream.close()

    async def _run(self) -> AsyncIterator[StreamChunk]:
        router = self._router
        intent, objective, metadata, policy = self._ask
        await router.start()
        call = call_of(router, intent, stream=True, tags=metadata)
        self._reply = reply = await router.serve(call, router.objective(objective), policy)
        if reply.stream is None:
            self.response = self._finish(call, reply, _object(reply.body))
            yield StreamChunk(self.response.content, self.response.raw, self.response)
            return
        whole = _Whole()
        try:
            held: StreamChunk | None = None
            async for event in stream_events(reply.stream.chunks()):
                if held is not None:
                    yield held
                held = StreamChunk(whole.add(event), event)
            self.response = self._finish(call, reply, whole.as_reply())
            last = held if held is not None else StreamChunk("", {})
            last.response = self.response
            yield last
        finally:
            reply.stream.close()

    def _finish(self, call: Call, reply: Reply, raw: dict[str, Any]) -> SystemResponse:
        usage = reply.stream.usage if reply.stream is not None else reply.usage
        journal = self._router.journal
        return build_response(call, reply, raw, usage, decision=journal.render(reply.record), now=journal.utc_now())


class _Whole:
    """Puts the deltas of the first choice together again."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._tools: dict[int, dict[str, Any]] = {}
        self._last: dict[str, Any] = {}
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None

    def add(self, event: dict[str, Any]) -> str:
        """Takes one chunk; returns its text."""
        self._last = event
        self._usage = event.get("usage") or self._usage
        choices = event.get("choices") or []
        first = next((c for c in choices if isinstance(c, dict) and c.get("index", 0) == 0), None)
        if first is None:
            return ""
        self._finish = first.get("finish_reason") or self._finish
        delta = first.get("delta") or {}
        for call in delta.get("tool_calls") or []:
            self._add_tool(call)
        text = delta.get("content") or first.get("text") or ""
        if text:
            self._text.append(text)
        return str(text)

    def _add_tool(self, call: dict[str, Any]) -> None:
        known = self._tools.setdefault(call.get("index", 0), {"type": "function", "function": {"arguments": ""}})
        for name in ("id", "type"):
            if call.get(name):
                known[name] = call[name]
        function = call.get("function") or {}
        if function.get("name"):
            known["function"]["name"] = function["name"]
        known["function"]["arguments"] += function.get("arguments") or ""

    def as_reply(self) -> dict[str, Any]:
        """A chat completion object, as if it had not been streamed."""
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text) or None}
        if self._tools:
            message["tool_calls"] = [self._tools[i] for i in sorted(self._tools)]
        return {
            "id": self._last.get("id"),
            "object": "chat.completion",
            "created": self._last.get("created"),
            "model": self._last.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": self._finish}],
            "usage": self._usage,
        }


def _object(body: bytes) -> dict[str, Any]:
    return msgspec.json.decode(body, type=dict[str, Any])
