"""Alerts about what is ill: a provider refuses a key, a breaker opens or closes; as webhooks and in the event log.

`HealthAlerts` is an observer for keys; breakers are looked at once a second with `look`, since they open for moments
only, but stay off `closed` for at least the 3 s of their ramp: a look each second misses none, and
requests pay nothing.
Laws: a breaker that flaps is one alert, for it counts as closed only after `CALM_S` without trouble; alerts
that several processes raise in the same stretch of time carry one id, so that receivers drop repeats, while of one
process no two alerts about a breaker do; more than `Alerts` lets through are counted, not told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.models.events import KeyMoved, RequestEnded
from apikeyrouter.domain.resilience.breaker import RAMP_S, Breaker, Phase
from apikeyrouter.domain.routing.provider import Provider
from apikeyrouter_proxy.alert_pace import Alerts, Send

__all__ = ["CALM_S", "HEALTH_KINDS", "BreakerGauge", "HealthAlerts", "breaker_gauges", "is_open"]

HEALTH_KINDS = ("key.invalid", "breaker.opened", "breaker.closed")
"""Types of webhooks; those of breakers are kinds of lines in the event log too (a key's changes are there already)."""

CALM_S = 60.0
"""A breaker counts as closed after so many seconds without trouble."""

GAUGES_MAX = 200
_LABEL_LENGTH_MAX = 128


@dataclass(frozen=True, slots=True)
class BreakerGauge:
    """A breaker at the time of a scrape."""

    provider_id: str
    model: str
    is_open: bool


@dataclass(slots=True)
class _Trouble:
    """A breaker that was told as open. Times are monotonic seconds."""

    since_s: float
    ill_s: float
    trips: int


def is_open(breaker: Breaker, now_s: float) -> bool:
    """Whether it holds requests back: open, probing, or letting a part of them through."""
    phase = breaker.phase
    if phase is Phase.Ramping:
        return now_s - breaker.since_s < RAMP_S  # it becomes closed with the next attempt, whenever that comes
    return phase is not Phase.Closed


def breaker_gauges(providers: Iterable[Provider], now_s: float) -> list[BreakerGauge]:
    """The breakers that exist, open ones first, `GAUGES_MAX` at most: callers choose model names."""
    found = [
        BreakerGauge(provider.provider_id, model[:_LABEL_LENGTH_MAX], is_open(breaker, now_s))
        for provider in providers
        for model, breaker in provider.breakers.items()
    ]
    found.sort(key=lambda one: (not one.is_open, one.provider_id, one.model))
    return list({(one.provider_id, one.model): one for one in reversed(found)}.values())[::-1][:GAUGES_MAX]


class HealthAlerts:
    """`write`, `send`: see `Alerts`."""

    def __init__(self, clock: Clock, write: Callable[[StoreBatch], None], send: Send | None) -> None:
        self._clock = clock
        self._troubles: dict[tuple[str, str], _Trouble] = {}
        self._alerts = Alerts(clock, write, send, same_s=CALM_S)

    def request_ended(self, event: RequestEnded) -> None:
        """Requests cause no alert."""

    def key_moved(self, event: KeyMoved) -> None:
        """Tells of a key that its provider refuses from now on."""
        if event.to_state != "invalid" or event.from_state == "invalid":
            return
        data = {
            "key_id": event.key_id,
            "label": event.label,
            "provider_id": event.provider_id,
            "state": event.to_state,
            "before": event.from_state,
            "cause": event.cause,
        }
        self._tell("key.invalid", event.key_id, data, log=False)

    def look(self, providers: Iterable[Provider]) -> None:
        """Looks at every breaker, and tells of those that opened or have closed for good."""
        now_s = self._clock.monotonic_s()
        unseen = dict(self._troubles)
        for provider, model, breaker in _ill(providers, now_s):
            place = (provider, model)
            trouble = self._troubles.get(place)
            unseen.pop(place, None)
            if trouble is None:
                self._troubles[place] = _Trouble(now_s, now_s, breaker.trips)
                self._breaker("breaker.opened", place, {"phase": breaker.phase.value, "trips": breaker.trips})
            else:
                trouble.ill_s, trouble.trips = now_s, max(trouble.trips, breaker.trips)
        for place, trouble in unseen.items():
            if now_s - trouble.ill_s >= CALM_S:
                del self._troubles[place]
                facts = {
                    "phase": "closed",
                    "trips": trouble.trips,
                    "lasted_s": round(trouble.ill_s - trouble.since_s, 1),
                }
                self._breaker("breaker.closed", place, facts)

    def _breaker(self, kind: str, place: tuple[str, str], facts: dict[str, Any]) -> None:
        provider_id, model = place
        self._tell(kind, f"{provider_id}/{model}", {"provider_id": provider_id, "model": model, **facts}, log=True)

    def _tell(self, kind: str, entity_id: str, data: dict[str, Any], *, log: bool) -> None:
        now_s = self._alerts.admit()
        if now_s is not None:
            self._alerts.tell(now_s, kind, entity_id, data, log=log)


def _ill(providers: Iterable[Provider], now_s: float) -> Iterator[tuple[str, str, Breaker]]:
    for provider in providers:
        for model, breaker in provider.breakers.items():
            if breaker.phase is not Phase.Closed and is_open(breaker, now_s):
                yield provider.provider_id, model, breaker
