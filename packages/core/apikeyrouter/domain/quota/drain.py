"""How fast a line of waiting requests moves, measured only while somebody waits.

Entry: `Drain`: `busy` when the line fills, `served` for each one served, `idle` when it is empty again; `cost_per_s`
and `level_per_s` tell the speed.
Laws: time in which nobody waits says nothing about capacity and is not counted; older evidence fades over
some seconds of waiting; without evidence the speed is None, never a guess.
"""

from __future__ import annotations

import math

__all__ = ["Drain"]

_MEMORY_S = 10.0
"""Evidence of cost weighs 1/e after so much waiting: some hundred requests at usual rates, and a change shows in
seconds."""

_LEVEL_MEMORY_S = 30.0
"""The level rises in steps, one when every tenant had its turn: its speed is seen only over several."""


class Drain:
    """Served cost, and the rise of the counters' level (see `TokenCounters.level`), per second of waiting."""

    __slots__ = ("_cost", "_cost_time_s", "_level", "_level_time_s", "_mark_s")

    def __init__(self) -> None:
        self._cost = 0.0
        self._level = 0.0
        self._cost_time_s = 0.0
        self._level_time_s = 0.0
        self._mark_s: float | None = None

    def busy(self, now_s: float) -> None:
        """Somebody waits from now on."""
        if self._mark_s is None:
            self._mark_s = now_s

    def served(self, now_s: float, cost: float, level_rise: float) -> None:
        """One that waited was served; the level rose by `level_rise`."""
        self._pass_time(now_s)
        self._cost += cost
        self._level += level_rise

    def idle(self, now_s: float) -> None:
        """Nobody waits any more."""
        self._pass_time(now_s)
        self._mark_s = None

    def cost_per_s(self, now_s: float, promised_s: float = math.inf) -> float | None:
        """Cost served per second. `promised_s`: when the next is expected to be served: no standstill before that
        counts, for the capacity may come in lumps; beyond it, it does."""
        return self._per_s(self._cost, self._cost_time_s, now_s, promised_s)

    def level_per_s(self, now_s: float, promised_s: float = math.inf) -> float | None:
        """Rise of the level per second: how fast a tenant that stays in line moves forward."""
        return self._per_s(self._level, self._level_time_s, now_s, promised_s)

    def _per_s(self, amount: float, time_s: float, now_s: float, promised_s: float) -> float | None:
        if self._mark_s is not None:
            time_s += max(0.0, now_s - max(self._mark_s, promised_s))
        return amount / time_s if time_s > 0 and amount > 0 else None

    def _pass_time(self, now_s: float) -> None:
        passed_s = 0.0 if self._mark_s is None else max(0.0, now_s - self._mark_s)
        if passed_s > 0:
            # amount and time fade alike, so that a steady speed is told exactly
            fade = math.exp(-passed_s / _MEMORY_S)
            self._cost *= fade
            self._cost_time_s = self._cost_time_s * fade + passed_s
            fade = math.exp(-passed_s / _LEVEL_MEMORY_S)
            self._level *= fade
            self._level_time_s = self._level_time_s * fade + passed_s
        self._mark_s = now_s
