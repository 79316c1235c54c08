"""Quota alerts: told before a pool is dry, as webhooks and in the event log.

`QuotaAlerts` is an observer; its `quota_changed` passes on what `Foresight` calls an alert: "runs_dry", "dry" and
"all_clear", each latched there. Laws: an alert that several processes raise carries one id, so that receivers drop its
repeats; thousands of pools that go dry together cannot push other webhooks out, see `Alerts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StoreBatch
from apikeyrouter.domain.models.events import KeyMoved, QuotaChanged, RequestEnded
from apikeyrouter_proxy.alert_pace import Alerts, Send

__all__ = ["QUOTA_KINDS", "QuotaAlerts"]

QUOTA_KINDS = ("quota.runs_dry", "quota.dry", "quota.all_clear")
"""Types of webhooks, and kinds of lines in the event log."""

_SAME_S = 300.0
"""Alerts of one limit within so many seconds are one: none repeats before an all-clear, which takes as long."""

_LABELS_MAX = 20


class QuotaAlerts:
    """`write`, `send`: see `Alerts`. `labels_of`: labels of a pool's keys."""

    def __init__(
        self,
        clock: Clock,
        write: Callable[[StoreBatch], None],
        labels_of: Callable[[str], Sequence[str]],
        send: Send | None,
    ) -> None:
        self._labels_of = labels_of
        self._alerts = Alerts(clock, write, send, same_s=_SAME_S)

    def request_ended(self, event: RequestEnded) -> None:
        """Requests cause no alert."""

    def key_moved(self, event: KeyMoved) -> None:
        """Keys cause no alert."""

    def quota_changed(self, event: QuotaChanged) -> None:
        """Tells of an alert; changes of state alone are for the metrics."""
        if event.alert is None:
            return
        now_s = self._alerts.admit()
        if now_s is not None:
            data = self._data(event, now_s)
            self._alerts.tell(now_s, f"quota.{event.alert}", event.pool_id, data, event.models, event.window)

    def _data(self, event: QuotaChanged, now_s: float) -> dict[str, Any]:
        labels = self._labels_of(event.pool_id)
        return {
            "pool_id": event.pool_id,
            "provider_id": event.pool_id.partition("/")[0],
            "keys": list(labels[:_LABELS_MAX]),
            "keys_total": len(labels),
            "models": event.models,
            "limit_name": event.window,
            "limit": event.limit,
            "remaining": event.remaining,
            "state": event.after,
            "outlook": event.outlook,
            "runs_dry_at": _at(now_s, event.runs_dry_in_s),
            "resets_at": _at(now_s, event.resets_in_s),
        }


def _at(now_s: float, in_s: float | None) -> str | None:
    """A time from now, as ISO 8601 in UTC."""
    if in_s is None:
        return None
    return datetime.fromtimestamp(now_s + in_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
