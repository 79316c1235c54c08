"""Watches the production router while it runs in a world, and writes down every law that it breaks.

Main entries: `Watch` (an observer), `watch_ledger`. Checked: L1 no hold above a hard limit; L2 and L4 each hold closes
once, and at rest nothing is held; L3 nothing is sent without an open hold; L5 a refusal names an account that has no
room; L6 attempts are bounded and a client error reaches one key; L7 nothing is sent again after a reply broke off; L8
kept and rejected candidates add up, and terms add up to scores; keys only move as the table says; every request ends.
The numbers are those of docs/ARCHITECTURE.md. Unlike the provider side, this part knows the router's insides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apikeyrouter.domain.keys.states import TRANSITIONS
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold, Refused
from apikeyrouter.domain.ledger.ledger import Ledger, Line
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.models.events import KeyMoved, RequestEnded

if TYPE_CHECKING:
    from apikeyrouter.domain.models.routing_decision import RoutingDecision
    from apikeyrouter.router import ApiKeyRouter
    from apikeyrouter.simulation.world.run import Run

__all__ = ["SENDS_MAX", "Watch", "watch_ledger"]

SENDS_MAX = 12
"""As the pipeline's own bound."""

_watched: dict[int, tuple[list[str], set[Account]]] = {}
"""Complaints, and the accounts that were held on, by the id of the ledger: a ledger has no room for them."""


class _WatchedLedger(Ledger):
    """The ledger itself, each hold looked at."""

    __slots__ = ()

    def try_hold(self, lines: Sequence[Line]) -> Hold | Refused:
        """See `Ledger.try_hold`."""
        held = super().try_hold(lines)
        complaints, seen = _watched[id(self)]
        if isinstance(held, Refused):
            account = held.account
            limit = account.limit
            if limit is None or account.used + account.held + held.need <= limit:
                complaints.append(f"L5: refused {held.need} on {account!r}, which has room")
            return held
        for account, need in lines:
            seen.add(account)
            limit = account.limit
            if account.hard and limit is not None and need > 0 and account.used + account.held > limit:
                complaints.append(f"L1: {account!r} is above its limit after a hold of {need}")
        return held


def watch_ledger(router: ApiKeyRouter, complaints: list[str]) -> None:
    """Has every hold of this router checked from now on."""
    _watched[id(router.ledger)] = (complaints, set())
    router.ledger.__class__ = _WatchedLedger


class Watch:
    """An observer of one router in one run."""

    def __init__(self, router: ApiKeyRouter, run: Run) -> None:
        self._router = router
        self._run = run
        self._states: dict[str, str] = {}
        self._ended = 0
        self.under_way = 0
        self.broken: set[int] = set()
        self.at_fault: set[int] = set()
        watch_ledger(router, run.violations)
        router.journal.observers.append(self)

    def _complain(self, text: str) -> None:
        self._run.violations.append(text)

    def request_ended(self, event: RequestEnded) -> None:
        """See `Observer.request_ended`."""
        self._ended += 1
        if len(event.attempts) > SENDS_MAX:
            self._complain(f"L6: {event.request_id} was sent {len(event.attempts)} times")

    def key_moved(self, event: KeyMoved) -> None:
        """See `Observer.key_moved`."""
        before, after = KeyState(event.from_state), KeyState(event.to_state)
        known = self._states.get(event.key_id, event.from_state)
        if known != event.from_state:
            self._complain(f"key {event.label} was {known} and is said to move from {before}")
        if after is not before and after not in TRANSITIONS[before].values():
            self._complain(f"key {event.label} moved from {before} to {after}, which no event allows")
        self._states[event.key_id] = event.to_state

    def sending(self, request: int) -> None:
        """A send leaves the router."""
        self.under_way += 1
        if self._router.ledger.open_holds < self.under_way:
            self._complain(f"L3: request {request} is sent, and only {self._router.ledger.open_holds} holds are open")
        if request in self.at_fault:
            self._complain(f"L6: request {request} was answered 400 and is sent again")
        if request in self.broken:
            self._complain(f"L7: request {request} is sent again after its reply broke off")

    def decided(self, request: int, decision: RoutingDecision) -> None:
        """A decision as users read it."""
        shown = [(decision.score_usd, decision.terms_usd)] if decision.score_usd is not None else []
        shown += [(other.score_usd, other.terms_usd) for other in decision.alternatives_considered]
        for score, terms in shown:
            if terms and sum(terms.values()) != score:
                self._complain(f"L8: terms of request {request} add up to {sum(terms.values())}, not to {score}")
        kept = len(decision.alternatives_considered) + (decision.selected_key_id is not None)
        if kept + len(decision.rejections) > decision.considered or decision.considered > decision.candidates:
            self._complain(
                f"L8: request {request}: {kept} kept and {len(decision.rejections)} rejected of {decision.considered} "
                f"considered of {decision.candidates}"
            )

    def at_rest(self) -> None:
        """The run is over."""
        ledger, run = self._router.ledger, self._run
        _, accounts = _watched.pop(id(ledger))
        if ledger.open_holds:
            self._complain(f"L4: {ledger.open_holds} holds are open at rest")
        now_s = self._router.now_s()
        for account in accounts:
            account.refresh(now_s)
            if account.held:
                self._complain(f"L4: {account!r} holds {account.held} at rest")
        if run.open:
            stuck = [n for n, ended_s in enumerate(run.ended_s) if math.isnan(ended_s)][:5]
            self._complain(f"{run.open} requests never ended: {stuck}")
        if self._ended != len(run.traffic) - run.open:
            self._complain(f"observers were told of {self._ended} of {len(run.traffic)} requests")
