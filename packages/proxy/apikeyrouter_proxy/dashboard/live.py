"""What happens, told to open dashboards as it happens: one stream of server-sent events for each.

Main entry: `LiveHub.stream`. Twice a second the hub writes down what came together since the last time, once for all
listeners: a "tick" (every second), finished requests as "decisions", changes of keys as "key", edits as "changed".
Beside other workers it tells of theirs too: whoever has no listener sends what it counts to those that have (`Relay`).
Laws: while nobody listens, anywhere, the hub is no observer and has no task, so that it costs nothing; a listener that
reads too slowly misses events and is told how many ("missed"), never the other way round; however many requests end,
one batch names at most `ROWS_MAX` of them, and says how many more there were; `end` ends all streams at once.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec

from apikeyrouter.domain.components.deployment_keeper import SETTING as DEPLOYMENTS
from apikeyrouter.domain.components.policy_engine import SETTING as POLICIES
from apikeyrouter.domain.components.price_keeper import SETTING as PRICES
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.events import Observer
from apikeyrouter.feed import Told
from apikeyrouter_proxy.dashboard.relay import Relay
from apikeyrouter_proxy.dashboard.tally import Batch, Tally
from apikeyrouter_proxy.providers import SETTING as PROVIDERS
from apikeyrouter_proxy.recent_use import quantile
from apikeyrouter_proxy.wire.errors import WireError

__all__ = ["LISTENERS_MAX", "STREAM_LASTS_S", "LiveHub"]

LISTENERS_MAX = 32
"""Open streams of one process: more would be a mistake, or somebody's script."""

STREAM_LASTS_S = 900.0
"""A stream ends after so long and its listener asks again: with a key that was revoked it is then refused."""

_EVERY_S = 0.5
_TICKS = 2
_LEVELS_LAST_S = 2.0
"""What another worker said it has under way counts for so long."""

_BACKLOG_MAX = 60
"""Events that a slow listener may be behind: half a minute."""

_KINDS_OF_SETTINGS = {PRICES: "price", DEPLOYMENTS: "deployment", POLICIES: "policy", PROVIDERS: "provider"}

_CONFIG_APPLIED = re.compile(r"config\..*\.applied")

_encode = msgspec.json.Encoder(enc_hook=str).encode


def _nobody(_: str) -> None:
    return None


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


class LiveHub:
    """`observers`: the router's own list, joined while somebody listens. `levels`: what is under way now, by name.
    `relay`: the way to other workers; None when there are none."""

    def __init__(
        self,
        clock: Clock,
        observers: list[Observer],
        levels: Callable[[], dict[str, int]],
        relay: Relay | None = None,
    ) -> None:
        self._clock = clock
        self._observers = observers
        self._levels = levels
        self._relay = relay
        self._tally = Tally(clock)
        self._listeners: set[_Listener] = set()
        self._others_listen = False
        self._task: asyncio.Task[None] | None = None
        self._second = Batch()
        self._changed: set[str] = set()
        self._levels_of: dict[str, tuple[float, dict[str, int]]] = {}
        self._over = False
        self._name_of: Callable[[str], str | None] = _nobody

    @property
    def listeners(self) -> int:
        """Open streams."""
        return len(self._listeners)

    @property
    def working(self) -> bool:
        """Whether it observes: somebody listens, here or at another worker."""
        return self._task is not None

    def follow(self, subscribe: Callable[[str, Told], None]) -> None:
        """Hears by `subscribe` (of the store's feed) what other processes edit."""

        def hears(kind: str) -> Told:
            async def told(_ids: frozenset[str] | None) -> None:
                self.changed(kind)

            return told

        async def setting(names: frozenset[str] | None) -> None:
            for name, kind in _KINDS_OF_SETTINGS.items():
                if names is None or name in names:
                    self.changed(kind)
            if names is None or any(_CONFIG_APPLIED.fullmatch(name) for name in names):
                self.changed("config")

        for kind in ("key", "budget", "virtual_key"):
            subscribe(kind, hears(kind))
        subscribe("setting", setting)

    def changed(self, what: str) -> None:
        """Something of this kind ("key", "budget", "policy" ...) was edited, here or by another process."""
        if self._listeners:
            self._changed.add(what)

    def look(self) -> None:
        """Finds out whether somebody listens at another worker. To be called about once a second."""
        if self._relay is not None and not self._over:
            self._others_listen = bool(self._relay.others())
            self._work_or_rest()

    def end(self) -> None:
        """Ends all streams; none begins any more. An open dashboard must not keep a server from ending."""
        self._over = True
        for listener in self._listeners:
            listener.ready.set()

    async def stream(self, name_of: Callable[[str], str | None] = _nobody) -> AsyncGenerator[bytes, None]:
        """Events for one listener, from now on, until it goes away, the server ends or `STREAM_LASTS_S` are over.
        `name_of`: what the caller with an id is called. Raises WireError 503."""
        self._name_of = name_of
        if self._over or len(self._listeners) >= LISTENERS_MAX:
            raise WireError(
                503,
                "The proxy is ending." if self._over else f"{LISTENERS_MAX} dashboards listen already. Close one.",
                code="not_ready" if self._over else "too_many_listeners",
                retry_after_s=5.0,
            )
        listener = _Listener()
        self._listeners.add(listener)
        self._work_or_rest()
        try:
            until_s = self._clock.monotonic_s() + STREAM_LASTS_S
            yield b"retry: 1000\n\n" + _event("hello", {"every_s": _EVERY_S})
            while not self._over and self._clock.monotonic_s() < until_s:
                await listener.ready.wait()
                yield listener.take()
        finally:
            self._listeners.discard(listener)
            self._work_or_rest()

    def _work_or_rest(self) -> None:
        """Observes while anybody listens, here or elsewhere, and no longer."""
        if self._relay is not None:
            (self._relay.open if self._listeners else self._relay.close)()
        wanted = bool(self._listeners) or self._others_listen
        if wanted and self._task is None:
            self._observers.append(self._tally)
            self._task = asyncio.get_running_loop().create_task(self._tell(), name="apikeyrouter-live")
        elif not wanted and self._task is not None:
            self._task.cancel()
            self._task = None
            self._observers.remove(self._tally)
            self._tally.take()
        if not self._listeners:
            self._second = Batch()
            self._changed.clear()
            self._levels_of.clear()

    async def _tell(self) -> None:
        turn = 0
        while True:
            await self._clock.sleep(_EVERY_S)
            turn += 1
            batch = self._tally.take()
            if self._others_listen and self._relay is not None:
                batch.levels = self._levels()
                self._relay.send(batch, self._relay.others())
            if self._listeners:
                events = self._told(batch, tick=turn % _TICKS == 0)
                for listener in self._listeners:
                    listener.give(events)

    def _told(self, batch: Batch, *, tick: bool) -> bytes:
        """One write for everything that came together; a comment when nothing did, so that dead peers are noticed."""
        theirs = self._relay.received() if self._relay is not None else []
        for who, other in theirs:
            batch.add(other)
            self._levels_of[who] = (self._clock.monotonic_s(), other.levels)
        if theirs:
            batch.rows.sort(key=lambda row: str(row["at"]))
        self._second.add(batch)
        events = []
        if tick:
            events.append(_event("tick", self._tick(self._second)))
            self._second = Batch()
        if batch.rows:
            for row in batch.rows:
                row["caller_name"] = self._name_of(row["caller"])
            events.append(_event("decisions", {"items": batch.rows, "more": batch.more}))
        events += [_event("key", one) for one in batch.keys]
        if self._changed:
            events.append(_event("changed", {"what": sorted(self._changed)}))
            self._changed.clear()
        return b"".join(events) or b": \n\n"

    def _tick(self, second: Batch) -> dict[str, Any]:
        return {
            "at": self._clock.utc_now().isoformat(timespec="milliseconds"),
            "requests": second.requests,
            "failures": second.failures,
            "input_tokens": second.input_tokens,
            "output_tokens": second.output_tokens,
            "cost_usd": f"{second.cost_nano_usd / 1e9:.9f}",
            "ttft_s": _quantiles(second.ttft_s),
            "duration_s": _quantiles(second.duration_s),
            **self._all_levels(),
        }

    def _all_levels(self) -> dict[str, int]:
        sums = dict(self._levels())
        since_s = self._clock.monotonic_s() - _LEVELS_LAST_S
        for at_s, levels in self._levels_of.values():
            if at_s >= since_s:
                for name, value in levels.items():
                    sums[name] = sums.get(name, 0) + value
        return sums


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + _encode(data) + b"\n\n"


def _quantiles(values: list[float]) -> dict[str, float | None] | None:
    """Median and 95th percentile; None of nothing."""
    ordered = sorted(values)
    return {"p50": quantile(ordered, 0.5), "p95": quantile(ordered, 0.95)} if ordered else None
