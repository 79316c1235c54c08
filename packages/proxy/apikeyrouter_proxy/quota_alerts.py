"""Quota alerts: told before a pool is dry, as webhooks and in the event log.

`QuotaAlerts` is an observer; its `quota_changed` passes on what `Foresight` calls an alert: "runs_dry", "dry" and
"all_clear", each latched there. Laws: an alert that several processes raise carries one id, so that receivers drop its
repeats; thousands of pools that go dry together cannot push other webhooks out: `PER_MINUTE` are told, and the next one
says how many were not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StoreBatch, StoredEvent
from apikeyrouter.domain.models.events import KeyMoved, QuotaChanged, RequestEnded

__all__ = ["PER_MINUTE", "QUOTA_KINDS", "QuotaAlerts"]

QUOTA_KINDS = ("quota.runs_dry", "quota.dry", "quota.all_clear")
"""Types of webhooks, and kinds of lines in the event log."""

PER_MINUTE = 60
_SAME_S = 300.0
"""Alerts of one limit within so many seconds are one: none repeats before an all-clear, which takes as long."""

_LABELS_MAX = 20


class QuotaAlerts:
    """`write`: posts lines of the event log. `labels_of`: labels of a pool's keys. `send`: queues a webhook by type,
    data and id; None where no webhook is configured."""

    def __init__(
        self,
        clock: Clock,
        write: Callable[[StoreBatch], None],
        labels_of: Callable[[str], Sequence[str]],
        send: Callable[[str, dict[str, Any], str], object] | None,
    ) -> None:
        self._clock = clock
        self._write = write
        self._labels_of = labels_of
        self._send = send
        self._minute = 0.0
        self._told = 0
        self._untold = 0

    def request_ended(self, event: RequestEnded) -> None:
        """Requests cause no alert."""

    def key_moved(self, event: KeyMoved) -> None:
        """Keys cause no alert."""

    def quota_changed(self, event: QuotaChanged) -> None:
        """Tells of an alert; changes of state alone are for the metrics."""
        if event.alert is None:
            return
        now_s = self._clock.utc_now().timestamp()
        if not self._may_tell(now_s):
            self._untold += 1
            return
        kind = f"quota.{event.alert}"
        data = self._data(event, now_s)
        self._write(StoreBatch(events=[StoredEvent(now_s, kind, event.pool_id, data)]))
        if self._send is not None:
            facts = "\n".join((event.pool_id, event.models, event.window, event.alert, str(int(now_s // _SAME_S))))
            self._send(kind, data, f"msg_{hashlib.sha256(facts.encode()).hexdigest()[:32]}")

    def _may_tell(self, now_s: float) -> bool:
        minute = now_s // 60.0
        if minute != self._minute:
            self._minute, self._told = minute, 0
        self._told += 1
        return self._told <= PER_MINUTE

    def _data(self, event: QuotaChanged, now_s: float) -> dict[str, Any]:
        labels = self._labels_of(event.pool_id)
        untold, self._untold = self._untold, 0
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
            **({"alerts_not_sent": untold} if untold else {}),
        }


def _at(now_s: float, in_s: float | None) -> str | None:
    """A time from now, as ISO 8601 in UTC."""
    if in_s is None:
        return None
    return datetime.fromtimestamp(now_s + in_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
