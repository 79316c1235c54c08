"""Whether providers answer: what requests tell in passing, and what a cheap look tells when nobody asks.

Main entries: `HealthWatch.heard`, called with the outcome of every attempt; `start` and `stop` of the looks, one every
`every_s` seconds per provider (0: none); `states` for whoever wants to know. A look lists models with one key: it
generates nothing and costs nothing.
Laws: the word (healthy, down) changes only after three outcomes in a row that agree and that span at least two seconds,
so that a provider which flaps, or one bad second, does not make an alarm of each; observers are told of changes of the
word, once each; watching never fails a request. Which requests are let through is the breakers' decision, not this one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.models.events import Observer, ProviderHealthChanged
from apikeyrouter.domain.models.health_state import HealthStatus
from apikeyrouter.inspection import check_key

if TYPE_CHECKING:
    from apikeyrouter.router import ApiKeyRouter

from apikeyrouter.telling import tell_all

__all__ = ["HealthWatch", "Look", "ProviderHealth", "look_at"]

_log = logging.getLogger("apikeyrouter")

AGREE = 3
"""Outcomes in a row before the word changes."""
SPAN_S = 2.0
"""And the time that they span at least: three failures within one bad moment are one event."""
_UNTRIED = frozenset({KeyState.Disabled, KeyState.Retired, KeyState.Invalid})


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found. `detail`: in words, without key material."""

    ok: bool
    detail: str


@dataclass(slots=True)
class ProviderHealth:
    """What is known of one provider. Times are monotonic seconds, None: never.

    `status`: None until the first word; then Healthy or Down. `since_s`: since when. `looked_s`: the last look, and
    `look_latency_s`, how long it took. `heard_s`: the last outcome of a request. `detail`: why, in
    words, at the last change.
    """

    provider_id: str
    status: HealthStatus | None = None
    since_s: float | None = None
    looked_s: float | None = None
    look_latency_s: float | None = None
    heard_s: float | None = None
    detail: str = ""
    run_ok: bool = True
    run_length: int = 0
    run_from_s: float = 0.0


class HealthWatch:
    """The health of a router's providers. `look`: looks at one provider; None: it has no key to look with.

    `providers`: ids of those that are registered now. `observers`: told by their method `provider_health(event)`, if
    they have one. `every_s`: seconds between two looks; 0: only what requests tell.
    """

    def __init__(
        self,
        clock: Clock,
        look: Callable[[str], Awaitable[Look | None]],
        providers: Callable[[], Iterable[str]],
        *,
        observers: Sequence[Observer] = (),
        every_s: float = 0.0,
    ) -> None:
        self._clock = clock
        self._look = look
        self._providers = providers
        self._observers = observers
        self._every_s = every_s
        self._known: dict[str, ProviderHealth] = {}
        self._task: asyncio.Task[None] | None = None

    def state(self, provider_id: str) -> ProviderHealth:
        """What is known of this provider; nothing at first."""
        found = self._known.get(provider_id)
        if found is None:
            found = self._known[provider_id] = ProviderHealth(provider_id)
        return found

    def states(self) -> list[ProviderHealth]:
        """Of every provider that is registered now."""
        return [self.state(provider_id) for provider_id in self._providers()]

    def heard(self, provider_id: str, *, ok: bool, now_s: float, detail: str = "") -> None:
        """A request was answered (whatever the answer said of the key or the client), or failed for the provider's
        fault."""
        known = self.state(provider_id)
        known.heard_s = now_s
        if known.run_ok is ok and known.run_length >= AGREE and (known.status is HealthStatus.Healthy) is ok:
            return
        self._take(known, ok, now_s, detail)

    async def look(self, provider_id: str) -> ProviderHealth:
        """Looks now, and returns what is known after it."""
        began_s = self._clock.monotonic_s()
        found = await self._look(provider_id)
        known = self.state(provider_id)
        if found is not None:
            now_s = self._clock.monotonic_s()
            known.looked_s = now_s
            known.look_latency_s = now_s - began_s
            self._take(known, found.ok, now_s, found.detail)
        return known

    def start(self) -> None:
        """Begins to look, on the running loop; does nothing when `every_s` is 0."""
        if self._every_s > 0.0 and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run(), name="apikeyrouter-health")

    async def stop(self) -> None:
        """Ends looking."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            for provider_id in list(self._providers()):
                try:
                    await self.look(provider_id)
                except Exception:  # noqa: BLE001 - a fault of ours; the next look must come all the same
                    _log.exception("Looking at provider %s failed; it is tried again.", provider_id)
            await self._clock.sleep(self._every_s)

    def _take(self, known: ProviderHealth, ok: bool, now_s: float, detail: str) -> None:
        if known.run_length == 0 or known.run_ok is not ok:
            known.run_ok, known.run_length, known.run_from_s = ok, 0, now_s
        known.run_length += 1
        status = HealthStatus.Healthy if ok else HealthStatus.Down
        if known.status is status:
            return
        first_good = known.status is None and ok
        if not first_good and (known.run_length < AGREE or now_s - known.run_from_s < SPAN_S):
            return
        before, known.status, known.since_s, known.detail = known.status, status, now_s, detail
        if before is None and ok:
            return
        self._tell(
            ProviderHealthChanged(
                known.provider_id, before.value if before else "unknown", status.value, detail, known.look_latency_s
            )
        )

    def _tell(self, event: ProviderHealthChanged) -> None:
        _log.warning("Provider %s is %s (it was %s). %s", event.provider_id, event.after, event.before, event.detail)
        tell_all(self._observers, "provider_health", event)


async def look_at(router: ApiKeyRouter, provider_id: str) -> Look | None:
    """Lists models with one key of the provider, rather one that serves. None: it has no key that could be tried.

    A refusal of the key (4xx) is an answer: the provider lives.
    """
    records = [r for r in router.key_manager.records(provider_id) if r.state not in _UNTRIED]
    if not records:
        return None
    chosen = min(records, key=lambda r: (r.state is not KeyState.Available, r.last_used_s or 0.0))
    found = await check_key(router, chosen.key_id)
    return Look(found.ok or (found.status is not None and found.status < 500), found.detail)
