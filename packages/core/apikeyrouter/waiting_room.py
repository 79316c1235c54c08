"""Where requests wait when every key is refused only for want of headroom, or for a short cooldown.

Entry: `WaitingRoom`: `must_queue` before a request tries, `enter` for a place, `Place.turn` until it may try again,
`freed` when capacity came back, `expected_wait_s` for an honest Retry-After. One room per router, one line per group of
candidates; see `waiting_line` for the order and for who may overtake.
Laws: the room is bounded, and full for one tenant does not mean full for another; nobody enters who is not expected to
be served in time; waiting ends at the deadline or after `wait_s`, whichever is first; a place that is given up at any
moment, by cancellation too, passes its turn on; nothing is polled: whoever tries is woken by its time, by an event, or
by the one before it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.waiting_line import Line, Ticket

__all__ = ["Place", "WaitingRoom", "WaitingRules"]

_LINES_KEPT = 64
"""Empty lines whose speed and counters are remembered."""

_TIMER_S_MIN = 0.001
"""Some loops round timers to this, down too: what is due in less is not worth coming early for."""


@dataclass(frozen=True, slots=True)
class WaitingRules:
    """`wait_s`: the longest wait, >= 0; 0: nobody waits. `waiting_max`: places in all, >= 0.

    `credit_s`: a tenant that asked for little is served first for what it was entitled to in the last so many seconds,
    while others waited, and did not use, so that a burst of it is hardly slowed by those who ask all the time; 0:
    strict token counters. Measured (`python -m bench waiting`): beside a tenant that asks ten times as much, bursts
    waited 3.4 times as long as alone without it, and 1.04 times with 20 s. Its price: who always asks for more than
    its share may stand still so long.

    `doubt`: what part of the estimated time in line counts when it is judged whether a newcomer would be served in
    time. 1.1: who enters is served; less lets more in, some of whom wait in vain, where the speed of the last seconds
    says little about the next.
    """

    wait_s: float = 10.0
    waiting_max: int = 1000
    doubt: float = 1.1
    credit_s: float = 20.0


class Place(Ticket):
    """One request's place in a line; a context manager that leaves it.

    Ends with exactly one of `served` and `leave`; both do nothing afterwards. `look`: asked when its turn comes: None
    lets it try; else the time (monotonic; inf: events say) before which a try would be in vain: the next is asked.
    """

    __slots__ = ("_expiry", "_told", "key", "line", "look", "over", "room")

    def __init__(self, room: WaitingRoom, key: Hashable, line: Line, ticket: tuple[str, int, float]) -> None:
        super().__init__(*ticket)
        self.room = room
        self.key = key
        self.line = line
        self.over = False
        """Out of the line."""
        self.look: Callable[[], float | None] | None = None
        self._told: asyncio.Future[bool] | None = None
        self._expiry: asyncio.TimerHandle | None = None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def turn(self, try_at_s: float | None) -> bool:
        """Waits until this request shall try: it is next in line, and `try_at_s` (monotonic seconds; what is past, for
        one that has not tried yet: as soon as it is next; None: only events) has come, or an event says so.

        False: it will not be served in time, or others need the place more; it is out of the line. Not to be called
        again while it waits.
        """
        now_s = self.room.now_s()
        if not self._asks(try_at_s, now_s):
            return False
        if self.asking:
            loop = asyncio.get_running_loop()
            self._told = loop.create_future()
            if self._expiry is None:
                self._expiry = loop.call_later(self.limit_s - now_s, self._expire)
            try:
                if not await self._told:
                    return False
            except BaseException:
                self.leave()
                raise
            finally:
                self._told = None
        # what happens from here on is news to it; what happened before, its try will see
        self.epoch = self.line.epoch
        return True

    def _asks(self, try_at_s: float | None, now_s: float) -> bool:
        """False: it is out of the line, before or after whoever is next was asked."""
        if self.limit_s <= now_s or (try_at_s is not None and try_at_s > self.limit_s):
            self.leave()
        if not self.over:
            self.line.asks(self, try_at_s, now_s)
            self.room.advance(self.line)
        return not self.over

    def looks(self) -> float | None:
        """What `look` says. A fault in it is the request's own: it tries, and is told; whoever runs this is not."""
        try:
            return None if self.look is None else self.look()
        except Exception:  # noqa: BLE001 - see above
            return None

    def served(self) -> None:
        """It took what it came for; the next in line is told."""
        if not self.over:
            self.room.out(self, served=True)

    def leave(self) -> None:
        """It gives up; the next in line is told."""
        if not self.over:
            self.room.out(self, served=False)

    def tell(self, answer: bool) -> None:
        """Ends the wait in `turn`."""
        if self._told is not None and not self._told.done():
            self._told.set_result(answer)

    def end(self) -> None:
        """It is out of the line: nothing of it stays behind."""
        self.over = True
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self.tell(False)

    def _expire(self) -> None:
        self._expiry = None
        if self.asking:
            self.leave()


class WaitingRoom:
    """All lines of one router. Not thread-safe: for one event loop."""

    def __init__(self, clock: Clock, rules: WaitingRules | None = None) -> None:
        self.now_s = clock.monotonic_s
        self._rules = rules or WaitingRules()
        self._lines: dict[Hashable, Line] = {}
        self._busy: dict[Hashable, Line] = {}
        self._timers: dict[Line, tuple[float, asyncio.TimerHandle]] = {}
        self.waiting = 0
        """Requests in the room."""
        self.must_queue: Callable[[Hashable], bool] = self._busy.__contains__
        """Whether somebody waits in a line: then a newcomer enters and waits for its turn before it tries."""

    def enter(
        self,
        line: Hashable,
        *,
        tenant: str,
        weight: float,
        cost: int,
        deadline_s: float,
        feasible_at_s: float | None = None,
        again: bool = False,
    ) -> Place | None:
        """A place in `line`; None: the room is full, or the request would not be served in time.

        `cost`: weighed tokens (see `weighed_tokens`). `deadline_s` and `feasible_at_s` (when it could be served if it
        stood alone; None: unknown): monotonic. `again`: it had its turn, and the provider refused it: it stands before
        all others of its tenant. Raises ValueError for a weight that is not above 0.
        """
        now_s = self.now_s()
        patience_s = min(deadline_s - now_s, self._rules.wait_s)
        lead_s = 0.0 if feasible_at_s is None else max(0.0, feasible_at_s - now_s)
        if patience_s <= 0 or lead_s > patience_s:
            return None
        found = self._busy.get(line)
        if found is not None and not again:
            queue_s = found.wait_s(now_s, cost, feasible_at_s, tenant, weight) - lead_s
            if lead_s + self._rules.doubt * queue_s > patience_s:
                return None
        if self.waiting >= self._rules.waiting_max and not self._make_room(found, tenant, weight):
            return None
        if found is None or found.empty:
            found = self._open(line)
        place = Place(self, line, found, (tenant, max(1, cost), now_s + patience_s))
        try:
            found.enter(place, weight, now_s, first=again)
        except ValueError:
            self._close_if_empty(line, found)
            raise
        self.waiting += 1
        return place

    def expected_wait_s(
        self,
        line: Hashable,
        cost: int,
        feasible_at_s: float | None,
        *,
        tenant: str = "",
        weight: float = 1.0,
    ) -> float:
        """Seconds until such a request would be served if it came now and waited as long as it takes, for Retry-After:
        until it is feasible at all, and what stands ahead of it at the speed that the line was measured to have.
        0 where nothing is known."""
        found = self._lines.get(line)
        now_s = self.now_s()
        if found is None:
            return 0.0 if feasible_at_s is None else max(0.0, feasible_at_s - now_s)
        return found.wait_s(now_s, cost, feasible_at_s, tenant, weight)

    def freed(self, line: Hashable | None = None) -> None:
        """Capacity came back to a line, or (None) to any: a hold was settled below its estimate, a key recovered, a
        limit rose. Whoever is next tries; of several lines, first the one whose first request came first."""
        if not self._busy:
            return
        if line is not None:
            lines = [self._busy[line]] if line in self._busy else []
        else:
            lines = sorted(self._busy.values(), key=_head_since) if len(self._busy) > 1 else list(self._busy.values())
        for one in lines:
            one.epoch += 1
            self.advance(one)

    def correct(self, line: Hashable, *, tenant: str, weight: float, difference: int) -> None:
        """A request served from `line` cost `difference` weighed tokens more (less: negative) than was said."""
        found = self._lines.get(line)
        if found is not None and difference:
            found.counters.correct(tenant, difference, weight)

    def advance(self, line: Line) -> None:
        """Tells whoever is next to try, or sets the time at which somebody is."""
        now_s = self.now_s()
        place = line.next_to_try(now_s)
        while isinstance(place, Place):
            at_s = place.looks()
            if at_s is None:
                place.tell(True)
                return
            if math.inf > at_s > place.limit_s:
                if self._take_out(place, served=False):
                    return
                place = line.next_to_try(now_s)
            else:
                line.asks(place, at_s, now_s)
                place.epoch = line.epoch
                place = line.next_after(place, now_s)
        if line.trying is None:
            self._set_timer(line, line.wake_at_s)

    def out(self, place: Place, *, served: bool) -> None:
        """Takes a place out of its line."""
        if not self._take_out(place, served=served):
            self.advance(place.line)

    def _take_out(self, place: Place, *, served: bool) -> bool:
        """The same, and nobody is told yet. Whether the line is empty then."""
        line = place.line
        line.out(place, self.now_s(), served=served)
        self.waiting -= 1
        place.end()
        return self._close_if_empty(place.key, line)

    def _open(self, key: Hashable) -> Line:
        line = self._lines.pop(key, None)
        if line is None:
            line = Line(self._rules.credit_s)
            if len(self._lines) - len(self._busy) >= _LINES_KEPT:
                del self._lines[next(old for old in self._lines if old not in self._busy)]
        self._lines[key] = self._busy[key] = line
        return line

    def _close_if_empty(self, key: Hashable, line: Line) -> bool:
        if not line.empty:
            return False
        self._busy.pop(key, None)
        self._set_timer(line, math.inf)
        return True

    def _make_room(self, line: Line | None, tenant: str, weight: float) -> bool:
        """Full: whoever has most places for its weight loses its newest one, if the newcomer has not half as many."""
        places = 1 + (line.waiting_of(tenant) if line is not None else 0)
        found = [one for one in (other.longest() for other in self._busy.values()) if one is not None]
        if not found:
            return False
        most, newest = max(found, key=lambda one: one[0])
        if most < 2 * places / weight or not isinstance(newest, Place):
            return False
        newest.leave()
        return True

    def _set_timer(self, line: Line, at_s: float) -> None:
        known = self._timers.get(line)
        if known is not None:
            if known[0] <= at_s < math.inf:
                return  # one that comes early finds nobody and sets the next: cheaper than a new one at each event
            known[1].cancel()
            del self._timers[line]
        if at_s < math.inf:
            handle = asyncio.get_running_loop().call_later(max(_TIMER_S_MIN, at_s - self.now_s()), self._ring, line)
            self._timers[line] = (at_s, handle)

    def _ring(self, line: Line) -> None:
        self._timers.pop(line, None)
        self.advance(line)


def _head_since(line: Line) -> float:
    head = line.head()
    return head.limit_s if head is not None else math.inf
