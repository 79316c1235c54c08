"""How alerts are told, and how many of one sort: `Alerts`, which every observer that raises some has one of.

Laws: a flood of alerts cannot push other webhooks out, and whoever reads the next alert learns how many it replaced; an
alert that several processes raise in the same stretch of time carries one id, so that receivers drop its repeats.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StoreBatch, StoredEvent

__all__ = ["PER_MINUTE", "Alerts", "Send"]

Send = Callable[[str, dict[str, Any], str], object]
"""Queues a webhook by type, data and id."""

PER_MINUTE = 60
"""Alerts of one sort in a clock minute; more than anybody reads, and fewer than a queue of webhooks holds."""


class Alerts:
    """Tells `PER_MINUTE` alerts of each clock minute and counts the others. `write`: posts lines of the event log.
    `send`: None where no webhook is configured. `same_s`: how long a stretch is within which alerts are one."""

    def __init__(self, clock: Clock, write: Callable[[StoreBatch], None], send: Send | None, *, same_s: float) -> None:
        self._clock = clock
        self._write = write
        self._send = send
        self._same_s = same_s
        self._minute = -1.0
        self._told = 0
        self._untold = 0

    def admit(self) -> float | None:
        """The Unix time at which an alert may be told now, in seconds; None if it must be dropped, which is counted."""
        now_s = self._clock.utc_now().timestamp()
        minute = now_s // 60.0
        if minute != self._minute:
            self._minute, self._told = minute, 0
        if self._told >= PER_MINUTE:
            self._untold += 1
            return None
        self._told += 1
        return now_s

    def tell(
        self, now_s: float, kind: str, entity_id: str, data: dict[str, Any], *facts: str, log: bool = True
    ) -> None:
        """Tells an alert that was admitted at `now_s`. `facts`: what makes it another alert, beside kind and entity.
        `log`: whether the event log gets a line."""
        if self._untold:
            data["alerts_not_sent"], self._untold = self._untold, 0
        if log:
            self._write(StoreBatch(events=[StoredEvent(now_s, kind, entity_id, data)]))
        if self._send is not None:
            same = "\n".join((kind, entity_id, *facts, str(int(now_s // self._same_s))))
            self._send(kind, data, f"msg_{hashlib.sha256(same.encode()).hexdigest()[:32]}")
