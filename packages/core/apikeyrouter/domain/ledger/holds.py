"""Holds: what a request may use, set aside before it is sent, and closed exactly once.

    reserved --dispatch--> dispatched --settle--> settled     the provider said what it used
       |                        |------presume--> presumed    it may have been billed: charge all of it
       '------release-----------'------release--> voided      not sent, or known not to be billed

A dispatched hold is released only with `unbilled=True`. These are two-phase transfers in TigerBeetle's sense: pending,
then post or void.
Laws: L2 a hold closes exactly once; a second close, or one out of order, raises LedgerError and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from apikeyrouter.domain.errors import RouterError
from apikeyrouter.domain.ledger.accounts import Account

if TYPE_CHECKING:
    from apikeyrouter.domain.ledger.ledger import Ledger

__all__ = ["Hold", "HoldState", "LedgerError", "Refused"]


class LedgerError(RouterError):
    """A hold was used out of order, or an amount makes no sense: a fault of the calling code. Nothing changed."""


class HoldState(StrEnum):
    """Where a hold stands; the last three are final."""

    Reserved = "reserved"
    Dispatched = "dispatched"
    Settled = "settled"
    Voided = "voided"
    Presumed = "presumed"


_RESERVED = HoldState.Reserved
_DISPATCHED = HoldState.Dispatched
_SETTLED = HoldState.Settled


class Refused:
    """A hold that was not taken, and the account that had no room (L5: used + held + need > limit at that moment).

    `free`: what the account had left. `available_at_s`: monotonic time when it would fit if nothing more were taken;
    None when it never fits or only other requests' settling helps.
    """

    __slots__ = ("account", "available_at_s", "free", "need")

    def __init__(self, account: Account, need: int, free: int, available_at_s: float | None) -> None:
        self.account = account
        self.need = need
        self.free = free
        self.available_at_s = available_at_s

    def __bool__(self) -> bool:
        """False, so that `if hold := ledger.try_hold(...)` reads as it should."""
        return False

    def __repr__(self) -> str:
        return f"<Refused {self.account.id}: {self.need} needed, {self.free} free>"


class Hold(Struct, eq=False):
    """Amounts set aside on several accounts. Made by `Ledger.try_hold` only.

    `lines`: (account, amount) as asked for. `warnings`: soft accounts whose limit this hold passes.
    """

    _ledger: Ledger
    lines: Sequence[tuple[Account, int]]
    _epochs: Sequence[int]
    warnings: tuple[Account, ...]
    state: HoldState = HoldState.Reserved

    @property
    def is_open(self) -> bool:
        """Whether it still has to be closed."""
        return self.state is _RESERVED or self.state is _DISPATCHED

    def dispatch(self) -> None:
        """Marks that bytes are about to leave (L3: before the first of them). Raises LedgerError unless reserved."""
        if self.state is not _RESERVED:
            raise LedgerError(f"a {self.state} hold cannot be dispatched: only a reserved one can")
        self.state = _DISPATCHED
        for account, need in self.lines:
            if account.cells is not None:
                account.sent += need
                account.cells[1] = account.sent

    def settle(self, actual: Sequence[int]) -> None:
        """Charges what was really used, one amount per line; more than was held is allowed and counted as an overrun.

        Raises LedgerError unless dispatched, or if an amount is missing or negative.
        """
        if self.state is not _DISPATCHED:
            raise LedgerError(f"a {self.state} hold cannot be settled: only a dispatched one can")
        if len(actual) != len(self.lines):
            raise LedgerError(f"settling needs {len(self.lines)} amounts, one per line, and got {len(actual)}")
        for amount in actual:
            if amount < 0:
                raise LedgerError(f"a settled amount must not be negative: {amount}")
        self.state = _SETTLED
        self._close(actual)

    def presume(self) -> None:
        """Charges everything held: the request was sent and nobody can tell what it cost. Raises LedgerError unless
        dispatched."""
        if self.state is not _DISPATCHED:
            raise LedgerError(f"a {self.state} hold cannot be presumed spent: only a dispatched one can")
        self.state = HoldState.Presumed
        for account, need in self.lines:
            account.presumed += need if account.charges else 0
        self._close([need for _, need in self.lines])

    def release(self, *, unbilled: bool = False) -> None:
        """Gives everything back. A dispatched hold only with `unbilled=True`: the caller knows that it was not billed.

        Raises LedgerError when closed, or dispatched without that word.
        """
        if self.state is not _RESERVED and not (unbilled and self.state is _DISPATCHED):
            why = "pass unbilled=True if it provably cost nothing" if self.state is _DISPATCHED else "it is closed"
            raise LedgerError(f"a {self.state} hold cannot be released: {why}")
        was_sent = self.state is _DISPATCHED
        self.state = HoldState.Voided
        self._ledger.open_holds -= 1
        for (account, need), epoch in zip(self.lines, self._epochs, strict=True):
            if epoch == account.epoch and account.ring is None:
                account.held -= need
            else:
                account.close_elsewhere(epoch, need, 0)
            if was_sent and account.cells is not None:
                account.sent -= need
                account.cells[1] = account.sent
        self._tell_waiters()

    def _close(self, actual: Sequence[int]) -> None:
        ledger, epochs = self._ledger, self._epochs
        ledger.open_holds -= 1
        crossed = waited_for = False
        for place, (account, need) in enumerate(self.lines):  # a strict `zip` costs as much as the loop
            epoch, amount = epochs[place], actual[place]
            if amount > need:
                account.overrun += amount - need
                ledger.overruns += 1
            charge = amount if account.charges else 0
            ring = account.ring
            if ring is None and epoch == account.epoch:
                account.held -= need
                account.used += charge
            elif ring is not None and (slot := ring.get(epoch)) is not None:  # as `close_elsewhere` has it
                slot[0] += charge
                slot[1] -= need
                account.used += charge
                account.held -= need
            else:
                account.late += charge
            if account.cells is not None:
                account.sent -= need
                account.cells[0] = account.used  # first: an end between the two charges too much, never too little
                account.cells[1] = account.sent
            if account.used >= account.watermark:
                crossed = True
            if account.on_free is not None:
                waited_for = True
        if crossed:
            self._tell_watchers()
            waited_for = True  # a watcher may have someone wait
        if waited_for:
            self._tell_waiters()

    def _tell_waiters(self) -> None:
        """After every line is closed: whoever waits for room on one of them may look again."""
        for account, _ in self.lines:
            if account.on_free is not None:
                account.on_free(account)

    def _tell_watchers(self) -> None:
        """After every line is closed, so that a watcher sees books that balance."""
        for account, _ in self.lines:
            if account.used >= account.watermark and account.watch is not None:
                account.watermark = account.watch(account)

    def __repr__(self) -> str:
        return f"<Hold {self.state} {[(account.id, need) for account, need in self.lines]}>"
