"""A request that has to wait for quota: its place in line, and the honest answer when waiting is in vain.

`Patience` stands between the pipeline and the `WaitingRoom`. A newcomer does not overtake those who wait for the same
model (`may_try`); a request that every key refused for want of headroom waits until the earliest of them could serve it
(`until`); whose tenant has had its share waits until there is room beside what is kept back for those who ask for less
(`kept_back.py`). Laws: a request that does not wait costs one look into a dictionary; whatever becomes of a request,
its place is given up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence

from msgspec import Struct

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.models.call import Call
from apikeyrouter.domain.quota.vtc import weighed_tokens
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.kept_back import KeptBack, Who
from apikeyrouter.waiting_room import Place, WaitingRoom

__all__ = [
    "WAITED_FOR",
    "WAITED_FOR_BY_OTHERS",
    "Look",
    "Patience",
    "Waiting",
    "spared_rejections",
    "waitable",
]

WAITED_FOR_BY_OTHERS = "requests before it in line wait for it"
_KEPT_BACK = "what is left is kept back for those who ask for less than their share"


_NOBODY: Mapping[Who, float] = {}

Look = Callable[[float], tuple[float, Who] | None]
"""Whether a try at that time (now) would be in vain: until when (monotonic), and who has room first; None: try."""

WAITED_FOR = frozenset({"headroom", "rate_limited", "throttled"})
"""Refusals that time mends: quota that flows back. An outage is told at once (fail fast)."""


class Waiting:
    """One request's waiting. `waited_s`: so far. `again`: it had its turn; should it have to wait once more, then not
    behind those who came after it. `charged`: what its tenant paid for that turn. `left_alone`: candidates that it
    leaves alone in the turn that it has, for what they keep back, and until when. `looked`: since its last try it had
    turns that it let pass, for a look showed that there was no room."""

    __slots__ = (
        "again", "call", "charged", "demand", "left_alone", "line", "looked", "place", "tenant", "waited_s", "weight",
    )  # fmt: skip

    def __init__(self, call: Call, demand: Demand) -> None:
        self.call = call
        self.demand = demand
        self.line: Hashable = (call.provider_id, call.model)
        tenant = call.tenant
        self.tenant = str(call.tags.get("virtual_key") or "") if tenant is None else tenant.tenant_id
        """Whose turn it takes."""
        self.weight = 1.0 if tenant is None else tenant.weight
        """Its tenant's share while requests wait."""
        self.place: Place | None = None
        self.waited_s = 0.0
        self.again = False
        self.charged = 0
        self.left_alone = _NOBODY
        self.looked = False

    @property
    def cost(self) -> int:
        """What it adds to its tenant's account while tenants compete."""
        return weighed_tokens(self.demand.input_expected, self.demand.output_expected)


class Patience:
    """One per router. `room`: where requests wait; `kept_back`: None keeps nothing back."""

    def __init__(self, room: WaitingRoom, clock: Clock, kept_back: KeptBack | None = None) -> None:
        self.room = room
        self._clock = clock
        self._kept_back = kept_back

    def must_wait(self, waiting: Waiting) -> bool:
        """Whether others wait, so that a newcomer has to wait for its turn (`may_try`) before it looks for a key."""
        return waiting.place is None and self.room.must_queue(waiting.line)

    async def may_try(self, waiting: Waiting, look: Look | None = None) -> bool:
        """Waits for its turn if others wait, and until `look` has hope. False: not in time."""
        if not self.must_wait(waiting):
            return True
        return self._enter(waiting, None) and await self._turn(waiting, self._clock.monotonic_s(), look)

    async def until(self, waiting: Waiting, at_s: float, wants: Who | None = None, *, look: Look | None = None) -> bool:
        """Waits until `at_s`, when that candidate is expected to have room, or until an event gives hope before, which
        `look` may deny. False: not in time."""
        if waiting.place is None and not self._enter(waiting, at_s):
            return False
        if waiting.place is not None:
            waiting.place.wants = wants
        return await self._turn(waiting, at_s, look)

    def spared(self, waiting: Waiting) -> Mapping[Who, float]:
        """Candidates that it leaves alone, and until when (monotonic): those that requests before this one wait for (it
        overtakes them, and would put them off if it took the same), and those of which all that is left is kept back.
        """
        place = waiting.place
        if place is None:
            return _NOBODY
        if not place.passed:
            return waiting.left_alone
        spared = dict(waiting.left_alone)
        for one in place.passed:
            if one.wants is not None:
                spared[one.wants] = one.try_at_s
        return spared

    def leaves_to_others(self, waiting: Waiting, tried: Collection[Who], candidates: int) -> Mapping[Who, float]:
        """Of so many candidates, those that a try does not ask besides the tried ones: the spared, if any other is
        left."""
        place = waiting.place
        if place is None or not (place.passed or waiting.left_alone):  # as `spared` has it, without asking
            return _NOBODY
        spared = self.spared(waiting)
        return spared if len(spared) + len(tried) < candidates else _NOBODY

    def retry_after_s(self, waiting: Waiting, at_s: float | None) -> float:
        """When such a request would be served if it came again, in seconds."""
        return self.room.expected_wait_s(waiting.line, waiting.cost, at_s, tenant=waiting.tenant, weight=waiting.weight)

    def served(self, waiting: Waiting) -> None:
        """It found a key: the next in line may try."""
        place, waiting.place = waiting.place, None
        waiting.again = True
        if place is not None:
            waiting.charged = place.cost
            place.served()

    def left(self, waiting: Waiting) -> None:
        """It is over, or waits for something else than quota. Harmless after `served`."""
        place, waiting.place = waiting.place, None
        if place is not None:
            place.leave()

    def _enter(self, waiting: Waiting, feasible_at_s: float | None) -> bool:
        self.room.correct(waiting.line, tenant=waiting.tenant, weight=waiting.weight, difference=-waiting.charged)
        waiting.charged = 0
        waiting.looked = False
        waiting.place = self.room.enter(
            waiting.line,
            tenant=waiting.tenant,
            weight=waiting.weight,
            cost=waiting.cost,
            deadline_s=waiting.call.deadline_s,
            feasible_at_s=feasible_at_s,
            again=waiting.again,
        )
        return waiting.place is not None

    async def _turn(self, waiting: Waiting, at_s: float, look: Look | None = None) -> bool:
        place = waiting.place
        if place is None:
            return False
        started_s = self._clock.monotonic_s()
        waiting.looked = False
        place.look = _Turn(waiting, place, look, self._clock, self._kept_back).look
        try:
            came = await place.turn(at_s)
        finally:
            waiting.waited_s += self._clock.monotonic_s() - started_s
        if not came:
            waiting.place = None
        return came


class _Turn(Struct, eq=False):
    """What a request's place asks when its turn is about to come. `sight`: whether a try would be in vain."""

    waiting: Waiting
    place: Place
    sight: Look | None
    clock: Clock
    kept_back: KeptBack | None

    def look(self) -> float | None:
        """None: it may try; else when there will be room."""
        waiting, place, kept_back = self.waiting, self.place, self.kept_back
        waiting.left_alone = _NOBODY
        now_s = self.clock.monotonic_s()
        if kept_back is not None and place.line.keeps_back(waiting.tenant, now_s):
            later_s = _later_s(kept_back, waiting, now_s)
            if later_s is not None:
                return later_s
        if self.sight is not None:
            full = self.sight(now_s)
            if full is not None:
                later_s, place.wants = full
                waiting.looked = True
                return later_s
        return None


def _later_s(kept_back: KeptBack, waiting: Waiting, now_s: float) -> float | None:
    """None: it may try now; else when there will be room beside what is kept back."""
    call = waiting.call
    left_alone, first_s = kept_back.look(call.provider_id, call.model, waiting.demand, now_s)
    if now_s < first_s < math.inf:
        return first_s
    if left_alone:
        waiting.left_alone = left_alone
    return None


def waitable(rejections: Sequence[Rejection]) -> tuple[float, Who] | None:
    """The earliest time (monotonic) at which one of the refused could serve, and which; None: waiting does not help."""
    found, least_s = None, math.inf
    for one in rejections:
        until_s = one.until_s
        if until_s is not None and until_s < least_s and one.code in WAITED_FOR:
            found, least_s = one, until_s
    return None if found is None else (least_s, found.who)


def spared_rejections(
    group: Group, waiting: Waiting, spared: Mapping[Who, float], tried: Collection[Who]
) -> list[Rejection]:
    """Why a request did not take what it leaves to others."""
    wanted = {one.wants for one in waiting.place.passed} if waiting.place is not None else ()
    left = [(one, one.record) for one in group.candidates if one.who in spared and one.who not in tried]
    return [
        Rejection(
            record.key_id,
            record.label,
            record.provider_id,
            "headroom",
            WAITED_FOR_BY_OTHERS if one.who in wanted else _KEPT_BACK,
            spared[one.who],
            one.model,
        )
        for one, record in left
    ]
