"""What tenants that ask for less than their share find at once, though others ask for more than there is.

Entry: `KeptBack.look`: which keys a request of a tenant that has had its share leaves alone now, and when the first has
room for it beside what is kept back. Who has had its share, and whether anybody asks for less, knows the line
(`waiting_line.Line.keeps_back`). A limit keeps back what flows into it within `KEPT_S`: once that is there, as much
flows out as in, so it costs that much once and no capacity for good.
Laws: a limit keeps back no more than `KEPT_SHARE_MAX` of what it holds at once, and never so much that the request
would not fit at all; a key that may not serve now neither counts nor is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.demand import Demand

__all__ = ["KEPT_S", "KEPT_SHARE_MAX", "KeptBack", "Who", "has_room_at_s"]

Who = tuple[str, str]
"""A candidate by key id and model."""

KEPT_S = 0.5
"""A limit keeps back so many seconds of its flow. Measured: `scenarios.aggressor`, seeds 1 to 4 together, the modest
tenant's first byte at the 99th percentile, 1.00 s alone: 2.16 s with nothing kept back, 1.69 s with 0.3, 1.56 s with
0.5. With 1.0 (1.87 s) it takes longest until it is there, in the seconds in which the others' rush begins."""

KEPT_SHARE_MAX = 0.125
"""Where a limit is counted over seconds, a burst may still take seven eighths of what it holds."""


class KeptBack:
    """One per router. `groups`: the candidates of a model, as `Directory.group_for`."""

    __slots__ = ("_groups",)

    def __init__(self, groups: Callable[[str | None, str], Group]) -> None:
        self._groups = groups

    def look(self, provider_id: str | None, model: str, demand: Demand, now_s: float) -> tuple[dict[Who, float], float]:
        """(keys that the request leaves alone, each with the time when it has room for both; the first such time of
        all keys): monotonic. Nothing and `now_s` for groups of which a decision looks at a part only: what is kept back
        of hundreds of pools is not worth asking each."""
        group = self._groups(provider_id, model)
        left_alone: dict[Who, float] = {}
        first_s = math.inf
        if group.small:
            for candidate in group.candidates:
                if candidate.record.state is KeyState.Available:
                    quota = candidate.quota
                    at_s = has_room_at_s(quota, demand.of(candidate.model).needs(quota.dialect.charges), now_s)
                    first_s = min(first_s, at_s)
                    if at_s > now_s:
                        left_alone[candidate.who] = at_s
        return left_alone, first_s if left_alone else now_s


def has_room_at_s(view: PoolView, needs: Sequence[int], now_s: float) -> float:
    """When a pool has room for `needs` (by `KINDS`) beside what it keeps back, if nothing more is taken: `now_s` or
    later. Limits of requests under way keep nothing back (nothing flows into them), nor do those that only ends of
    requests make room in."""
    latest_s = now_s
    for window in view.windows:
        account, need = window.account, needs[window.kind]
        limit = account.limit
        if limit is not None:
            kept = int(min(KEPT_S * window.rate_per_s, KEPT_SHARE_MAX * limit, limit - need))
            if kept > 0:
                at_s = account.free_at_s(need + kept, now_s)
                if at_s is not None and at_s > latest_s:
                    latest_s = at_s
    return latest_s
