"""Money for requests whose model is chosen here: whether budgets have room, and holds ahead of several answers.

Main entries: `Purse.affords` and `Purse.hold`. Only hard budgets count: soft ones refuse nothing. Law: what `hold`
took is held on the ledger until each part is freed, in the step in which its answer takes its own hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from apikeyrouter.domain.components.lessee import wait_for_lines
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.holds import Hold
from apikeyrouter.domain.ledger.leases import Answer, Lease
from apikeyrouter.domain.ledger.ledger import Ledger
from apikeyrouter.domain.models.call import Call
from apikeyrouter.muxer.options import Able

if TYPE_CHECKING:
    from apikeyrouter.router import ApiKeyRouter

__all__ = ["Held", "Purse"]

Line = tuple[Account, int]

_TRIES = 4
_ASK_S = 5.0
"""How long a store may take to widen this worker's slice of a budget that has room; as in `funding`."""


class Held:
    """Money for an answer that may follow: see `model_choice.Reserve`."""

    __slots__ = ("_hold", "_ledger", "_lines")

    def __init__(self, ledger: Ledger, lines: Sequence[Line]) -> None:
        self._ledger = ledger
        self._lines = lines
        self._hold: Hold | None = None

    @property
    def taken(self) -> bool:
        """Whether it is held, or there is nothing to hold."""
        return self._hold is not None or not self._lines

    def free(self) -> None:
        """Gives it back. Idempotent."""
        hold, self._hold = self._hold, None
        if hold is not None:
            hold.release()

    def retake(self) -> None:
        """Holds it, if it fits and is not held yet."""
        if self._hold is None and self._lines:
            held = self._ledger.try_hold(self._lines)
            self._hold = held if isinstance(held, Hold) else None


class Purse:
    """Budgets of one router, as model routing sees them."""

    def __init__(self, router: ApiKeyRouter, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    @property
    def any(self) -> bool:
        """Whether there is any budget."""
        return self._router.cost_controller.book.any

    def affords(self, call: Call, able: Able) -> bool:
        """Whether hard budgets have room for an answer of this model now, in this process's slices or in the store."""
        book = self._router.cost_controller.book
        for account, need in self._lines(call, able):
            lease = book.lease_of(account)
            if lease is not None and lease.left < need:
                return False
        return True

    async def hold(self, call: Call, answers: Sequence[Able]) -> list[Held] | None:
        """Holds for each of these answers; None when budgets have no room for all of them together.

        Raises StateStoreError never: a store that does not answer means no room here, and the answers that are sent
        all the same find out by themselves.
        """
        for _ in range(_TRIES):
            # anew each time: the slice of another window may have come in place of the one that was asked for
            made = [Held(self._router.ledger, self._lines(call, able)) for able in answers]
            if self._take(made):
                return made
            if not await self._widened(call, answers):
                return None
        return None

    def _take(self, made: Sequence[Held]) -> bool:
        for one in made:
            one.retake()
            if not one.taken:
                for other in made:
                    other.free()
                return False
        return True

    async def _widened(self, call: Call, answers: Sequence[Able]) -> bool:
        """Asks the store for as much of each budget as all answers need together, where that much is left."""
        book = self._router.cost_controller.book
        needs: dict[int, tuple[Lease, int]] = {}
        for able in answers:
            for account, need in self._lines(call, able):
                lease = book.lease_of(account)
                if lease is not None:
                    needs[id(lease)] = (lease, needs.get(id(lease), (lease, 0))[1] + need)
        lines = list(needs.values())
        if any(lease.left < need for lease, need in lines):
            return False
        return await wait_for_lines(book.lessee, self._clock, lines, wait_s=_ASK_S) is Answer.Room

    def _lines(self, call: Call, able: Able) -> list[Line]:
        """The hard budgets of an answer, and the most that it may cost."""
        price, record = able.price, able.candidate.record
        book = self._router.cost_controller.book
        if price is None or not book.any or able.demand.open_ends(price):
            return []
        accounts = book.accounts_for(
            record.provider_id, record.key_id, able.model, call.tags, now_s=self._clock.monotonic_s()
        )
        hard = [account for account in accounts if account.hard]
        return [(account, able.demand.most_nano_usd(price)) for account in hard]
