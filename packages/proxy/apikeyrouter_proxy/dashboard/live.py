"""What happens, told to open dashboards as it happens: one stream of server-sent events for each.

Main entry: `LiveHub.stream`. Twice a second the hub writes down what came together since the last time, once for all
listeners: a "tick" (every second), finished requests as "decisions", changes of keys as "key", edits as "changed".
Laws: while nobody listens the hub is no observer and has no task, so that it costs nothing; a listener that reads too
slowly misses events and is told how many ("missed"), never the other way round; however many requests end, one batch
names at most `_ROWS_MAX` of them, and says how many more there were.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.events import KeyMoved, Observer, RequestEnded
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["LISTENERS_MAX", "LiveHub"]

LISTENERS_MAX = 32
"""Open streams of one process: more would be a mistake, or somebody's script."""

_EVERY_S = 0.5
_TICKS = 2
_ROWS_MAX = 50
_BACKLOG_MAX = 60
"""Events that a slow listener may be behind: half a minute."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


class _Listener:
    def __init__(self) -> None:
        self.backlog: deque[bytes] = deque()
        self.missed = 0
        self.ready = asyncio.Event()

    def give(self, event: bytes) -> None:
        if len(self.backlog) >= _BACKLOG_MAX:
            self.backlog.popleft()
            self.missed += 1
        self.backlog.append(event)
        self.ready.set()

    def take(self) -> bytes:
        self.ready.clear()
        events = list(self.backlog)
        self.backlog.clear()
        if self.missed:
            events.insert(0, _event("missed", {"events": self.missed}))
            self.missed = 0
        return b"".join(events)


class _Sums:
    """What happened since the last tick."""

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_nano_usd = 0
        self.ttft_s: list[float] = []
        self.duration_s: list[float] = []

    def add(self, event: RequestEnded) -> None:
        self.requests += 1
        self.failures += event.outcome != "ok"
        self.input_tokens += event.input_tokens
        self.output_tokens += event.output_tokens
        self.cost_nano_usd += event.cost_nano_usd
        self.duration_s.append(event.duration_s)
        if event.ttft_s is not None:
            self.ttft_s.append(event.ttft_s)

    def told(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "failures": self.failures,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cost_usd": f"{self.cost_nano_usd / 1e9:.9f}",
            "ttft_s": _quantiles(self.ttft_s),
            "duration_s": _quantiles(self.duration_s),
        }


class LiveHub:
    """`observers`: the router's own list, joined while somebody listens. `levels`: what is under way now, by name.
    `ending`: whether the server is going down, which ends all streams."""

    def __init__(
        self,
        clock: Clock,
        observers: list[Observer],
        levels: Callable[[], dict[str, Any]],
        ending: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._observers = observers
        self._levels = levels
        self._ending = ending
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._sums = _Sums()
        self._rows: list[dict[str, Any]] = []
        self._more = 0
        self._keys: list[dict[str, Any]] = []
        self._changed: set[str] = set()

    @property
    def listeners(self) -> int:
        """Open streams."""
        return len(self._listeners)

    # What observers are told.

    def request_ended(self, event: RequestEnded) -> None:
        """See `Observer`."""
        self._sums.add(event)
        if len(self._rows) >= _ROWS_MAX:
            self._more += 1
            return
        self._rows.append(
            {
                "id": event.decision_id,
                "request_id": event.request_id,
                "at": self._clock.utc_now().isoformat(timespec="milliseconds"),
                "operation": event.operation,
                "model": event.model,
                "provider_id": event.provider_id,
                "key_label": event.key_label,
                "caller": event.caller,
                "outcome": event.outcome,
                "status": event.status,
                "stream": event.stream,
                "duration_s": round(event.duration_s, 6),
                "ttft_s": None if event.ttft_s is None else round(event.ttft_s, 6),
                "input_tokens": event.input_tokens,
                "output_tokens": event.output_tokens,
                "cost_usd": f"{event.cost_nano_usd / 1e9:.9f}",
                "attempts": len(event.attempts),
            }
        )

    def key_moved(self, event: KeyMoved) -> None:
        """See `Observer`."""
        self._keys.append(
            {
                "key_id": event.key_id,
                "label": event.label,
                "provider_id": event.provider_id,
                "from": event.from_state,
                "to": event.to_state,
                "cause": event.cause,
            }
        )

    def changed(self, what: str) -> None:
        """Something of this kind ("key", "budget", "policy" ...) was edited, here or by another process."""
        if self._listeners:
            self._changed.add(what)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Events for one listener, from now on, until it goes away or the server ends. Raises WireError 503."""
        if len(self._listeners) >= LISTENERS_MAX:
            raise WireError(
                503,
                f"{LISTENERS_MAX} dashboards listen already. Close one.",
                code="too_many_listeners",
                retry_after_s=5.0,
            )
        listener = _Listener()
        self._join(listener)
        try:
            yield b"retry: 1000\n\n" + _event("hello", {"every_s": _EVERY_S})
            while not self._ending():
                await listener.ready.wait()
                yield listener.take()
        finally:
            self._leave(listener)

    def _join(self, listener: _Listener) -> None:
        self._listeners.add(listener)
        if self._task is None:
            self._observers.append(self)
            self._task = asyncio.get_running_loop().create_task(self._tell(), name="apikeyrouter-live")

    def _leave(self, listener: _Listener) -> None:
        self._listeners.discard(listener)
        if not self._listeners and self._task is not None:
            self._task.cancel()
            self._task = None
            self._observers.remove(self)
            self._sums, self._rows, self._more = _Sums(), [], 0
            self._keys.clear()
            self._changed.clear()

    async def _tell(self) -> None:
        turn = 0
        while True:
            await self._clock.sleep(_EVERY_S)
            turn += 1
            events = self._told(tick=turn % _TICKS == 0)
            for listener in self._listeners:
                listener.give(events)

    def _told(self, *, tick: bool) -> bytes:
        """One write for everything that came together; a comment when nothing did, so that dead peers are noticed."""
        events = []
        if tick:
            now = self._clock.utc_now().isoformat(timespec="milliseconds")
            events.append(_event("tick", {"at": now, **self._sums.told(), **self._levels()}))
            self._sums = _Sums()
        if self._rows:
            events.append(_event("decisions", {"items": self._rows, "more": self._more}))
            self._rows, self._more = [], 0
        events += [_event("key", one) for one in self._keys]
        self._keys.clear()
        if self._changed:
            events.append(_event("changed", {"what": sorted(self._changed)}))
            self._changed.clear()
        return b"".join(events) or b": \n\n"


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _encode(data) + b"\n\n"


def _quantiles(values: list[float]) -> dict[str, float] | None:
    """Median and 95th percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return {
        name: round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 6)
        for name, q in (("p50", 0.5), ("p95", 0.95))
    }
