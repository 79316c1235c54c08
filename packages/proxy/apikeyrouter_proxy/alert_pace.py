"""How many alerts of one sort may be told: `AlertPace`.

Law: a flood of alerts cannot push other webhooks out, and whoever reads the next alert learns how many it replaced.
"""

from __future__ import annotations

from apikeyrouter.domain.interfaces.clock import Clock

__all__ = ["PER_MINUTE", "AlertPace"]

PER_MINUTE = 60
"""Alerts of one sort in a clock minute; more than anybody reads, and fewer than a queue of webhooks holds."""


class AlertPace:
    """Lets `PER_MINUTE` alerts of each clock minute through and counts the others."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
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

    def untold(self) -> dict[str, int]:
        """What the alert that is told now says of those before it: `alerts_not_sent`; nothing if all were told."""
        untold, self._untold = self._untold, 0
        return {"alerts_not_sent": untold} if untold else {}
