"""Accounts: lines of the ledger that have a limit, be it a quota window or a budget.

An account counts what was settled (`used`) and what running requests may still use (`held`), both of the window that
runs now. What was taken in a window settles into that window: when it ends, its use and its holds leave together.
Amounts are whole numbers; nothing here reads a clock, waits or does I/O. Holds are taken by `domain.ledger.ledger`.

Laws (for hard accounts with a limit): used + held <= limit whenever a hold has just been taken (L1); used and held are
never negative; `held` is the sum of the open holds of live windows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal, Protocol

__all__ = ["Account", "Cells", "Unit", "Window"]

Unit = Literal["requests", "tokens", "nano_usd", "slots", "spend"]

NEVER = sys.maxsize
"""A watermark that no amount reaches."""


class Window(Protocol):
    """When what was taken stops counting. Implementations: `domain.quota.windows`.

    `charges`: False when settled use counts for nothing (concurrency). `buckets`: how many epochs count, the running
    one included.
    """

    @property
    def charges(self) -> bool:
        """Whether settling adds to `used`."""
        ...

    @property
    def buckets(self) -> int:
        """How many epochs count."""
        ...

    def at(self, now_s: float, /) -> tuple[int, float]:
        """The number of the running epoch, and the monotonic time when to ask again."""
        ...

    def leaves_at_s(self, epoch: int, now_s: float, /) -> float | None:
        """The monotonic time when what was taken in `epoch` stops counting; None: never, or nobody knows."""
        ...


class Cells(Protocol):
    """Two integers that outlive the process: [0] used, [1] sent. A memoryview of a mapped file is one."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Writes one of them."""
        ...


class Account:
    """A limit and what is taken of it.

    `limit`: None only counts. `hard`: refuse what does not fit; a soft account lets it pass with a warning. `overrun`:
    sum of what holds settled above what they had held. `late`: what settled into windows that had ended by then. Set
    `limit` at any time; a lower one refuses new holds and leaves running ones alone.

    `watch` is called with the account when `used` reaches `watermark`, and when a new window begins; it returns the
    next watermark. Reads of `used` and `held` are as of the last hold: call `refresh(now_s)` first to be exact.

    `sent`: the part of `held` whose requests have left, kept only where `cells` is given: two integers outside this
    process's memory, (used, sent), that survive its end (`infrastructure/black_box.py`). They are written in an order
    that never shows less than what may have been spent. `presumed`: part of `used` that nobody could tell to be spent.
    `on_free` is called with the account after a hold on it was closed; None while nobody waits for room.
    `taken`: the sum of all that was ever held here, for whoever must know what was taken after some moment.
    """

    __slots__ = (
        "cells",
        "charges",
        "epoch",
        "hard",
        "held",
        "id",
        "late",
        "limit",
        "on_free",
        "overrun",
        "presumed",
        "ring",
        "rolls_at_s",
        "sent",
        "taken",
        "unit",
        "used",
        "watch",
        "watermark",
        "window",
    )

    def __init__(
        self, account_id: str, unit: Unit, limit: int | None, window: Window, *, hard: bool = True, now_s: float
    ) -> None:
        if limit is not None and limit < 0:
            raise ValueError(f"the limit of account {account_id!r} must not be negative: {limit}")
        self.id = account_id
        self.unit: Unit = unit
        self.limit = limit
        self.hard = hard
        self.window = window
        self.charges = window.charges
        self.used = 0
        self.held = 0
        self.overrun = 0
        self.late = 0
        self.sent = 0
        self.presumed = 0
        self.taken = 0
        self.cells: Cells | None = None
        self.on_free: Callable[[Account], None] | None = None
        self.watermark = NEVER
        self.watch: Callable[[Account], int] | None = None
        self.epoch, self.rolls_at_s = window.at(now_s)
        # [used, held] per live epoch, only where several of them count; plain windows need just the two totals
        self.ring: dict[int, list[int]] | None = {self.epoch: [0, 0]} if window.buckets > 1 else None

    def refresh(self, now_s: float) -> None:
        """Lets go of windows that have ended by `now_s`."""
        if now_s >= self.rolls_at_s:
            self.roll(now_s)

    def free(self, now_s: float) -> int | None:
        """limit - used - held at `now_s`, never below zero; None without a limit. More is better."""
        if now_s >= self.rolls_at_s:
            self.roll(now_s)
        return None if self.limit is None else max(0, self.limit - self.used - self.held)

    def free_at_s(self, need: int, now_s: float) -> float | None:
        """The monotonic time when `need` would fit if nothing more were taken; None: never, or when others settle.

        An upper bound: holds that settle below their amount make room sooner.
        """
        self.refresh(now_s)
        if self.limit is None or self.used + self.held + need <= self.limit:
            return now_s
        if need > self.limit:
            return None
        if self.ring is None:
            return self.window.leaves_at_s(self.epoch, now_s)
        excess = self.used + self.held + need - self.limit
        for epoch, (used, held) in self.ring.items():  # oldest first: epochs are inserted as they begin
            excess -= used + held
            if excess <= 0:
                return self.window.leaves_at_s(epoch, now_s)
        return None

    def adjust_used(self, delta: int, now_s: float) -> None:
        """Corrects `used` from outside knowledge (a provider's headers, a restart): never below zero.

        In a rolling window more use counts as taken now, and less is taken off the oldest first: what others counted
        differently has most likely expired there.
        """
        self.refresh(now_s)
        delta = max(delta, -self.used)
        self.used += delta
        if self.ring is not None:
            if delta > 0:
                self.ring[self.epoch][0] += delta
            for slot in self.ring.values():
                if delta >= 0:
                    break
                taken = min(slot[0], -delta)
                slot[0] -= taken
                delta += taken
        if self.watch is not None and self.used >= self.watermark:
            self.watermark = self.watch(self)

    def roll(self, now_s: float) -> None:
        """Moves on to the epoch that `now_s` lies in. Called when `now_s >= rolls_at_s`."""
        epoch, self.rolls_at_s = self.window.at(now_s)
        if epoch <= self.epoch:
            return  # the same one still runs, or the wall clock went back: a past window is never reopened
        self.epoch = epoch
        if self.ring is None:
            self.used = self.held = 0
        else:
            ring, oldest = self.ring, epoch - self.window.buckets + 1
            while ring and (gone := next(iter(ring))) < oldest:  # epochs are inserted as they begin
                used, held = ring.pop(gone)
                self.used -= used
                self.held -= held
            ring[epoch] = [0, 0]
        if self.watch is not None:
            self.watermark = self.watch(self)

    def close_elsewhere(self, epoch: int, need: int, actual: int) -> None:
        """Closes a hold where plain totals do not do: taken in another epoch than the running one, or a ring.

        Used by `Hold`; `actual` is what it settles to, 0 for a release.
        """
        if self.ring is None:
            self.late += actual
            return
        slot = self.ring.get(epoch)
        if slot is None:
            self.late += actual
            return
        slot[0] += actual
        slot[1] -= need
        self.used += actual
        self.held -= need

    def __repr__(self) -> str:
        limit = "-" if self.limit is None else self.limit
        return f"<Account {self.id} {self.used}+{self.held}/{limit} {self.unit}>"
