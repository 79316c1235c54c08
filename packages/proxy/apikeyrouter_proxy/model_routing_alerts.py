"""Alerts of model routing: a group's prompts are not what they were, or its answers score below its target; as webhooks
and in the event log.

`ModelRoutingAlerts` is an observer; `RouteBook.alerts` latches each alert, so it comes once when it begins and once
when it is over. Laws: an alert that several processes raise in the same hour carries one id, so that receivers drop its
repeats; more than `Alerts` lets through are counted, not told.
"""

from __future__ import annotations

from collections.abc import Callable

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.models.events import KeyMoved, RequestEnded
from apikeyrouter.muxer.guard import RouteAlert
from apikeyrouter_proxy.alert_pace import Alerts, Send

__all__ = ["MODEL_ROUTING_KINDS", "ModelRoutingAlerts"]

_KINDS = {
    ("drift", False): "model_routing.drift",
    ("drift", True): "model_routing.drift_over",
    ("quality", False): "model_routing.quality_low",
    ("quality", True): "model_routing.quality_back",
}
MODEL_ROUTING_KINDS = tuple(_KINDS.values())
"""Types of webhooks, and kinds of lines in the event log."""

_SAME_S = 3_600.0
"""Alerts of one group within so many seconds are one. Workers share a group's requests, so each comes to see the same
change, but at its own time: some hundred requests earlier or later."""


class ModelRoutingAlerts:
    """`write`, `send`: see `Alerts`."""

    def __init__(self, clock: Clock, write: Callable[[StoreBatch], None], send: Send | None) -> None:
        self._alerts = Alerts(clock, write, send, same_s=_SAME_S)

    def request_ended(self, event: RequestEnded) -> None:
        """Requests cause no alert."""

    def key_moved(self, event: KeyMoved) -> None:
        """Keys cause no alert."""

    def model_routing_alert(self, event: RouteAlert) -> None:
        """Tells of it."""
        now_s = self._alerts.admit()
        if now_s is None:
            return
        kind = _KINDS[(event.kind, event.over)]
        data = {
            "group": event.group,
            "value": round(event.value, 4),
            "bound": event.bound,
            "message": event.message,
        }
        self._alerts.tell(now_s, kind, event.group, data)
