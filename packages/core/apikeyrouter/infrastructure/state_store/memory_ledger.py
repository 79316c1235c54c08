"""The shared ledger in memory: slices, totals and entries of budgets.

Main entries: `MemoryLedger.lease` and `MemoryLedger.recover`. The rules are `domain.ledger.lease_rules`; this module
keeps their rows. Laws: no call waits, so each is one step among the tasks of an event loop; what is handed out is a
copy; entries are bounded, old ones are folded into one opening line per window, so sums stay.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from apikeyrouter.domain.interfaces.shared_ledger import (
    LeaseAsk,
    LeaseGrant,
    LeaseReply,
    LeaseRow,
    LeaseWorker,
    LedgerEntry,
    Legacy,
    WindowTotals,
    WorkerRow,
    rate_period_s,
)
from apikeyrouter.domain.ledger import lease_rules

__all__ = ["FENCE_S", "LEFT_KEPT_S", "WINDOWS_MAX", "MemoryLedger"]

FENCE_S = 7 * 86_400.0
"""An ended worker is remembered for so long: even one that was asleep over a weekend finds that it was given up."""

WINDOWS_MAX = 2_000
"""Windows that are kept per budget, many times what any rolling budget counts; a tenth more and the oldest go."""

LEFT_KEPT_S = 60.0
"""What a dead worker left of a rate is kept so long after it stopped to count, for workers whose clocks are behind."""

BudgetFacts = Callable[[str], tuple[int, bool] | None]
"""From a budget's id to (limit in nano-USD, whether it is hard), or None when there is no such active budget."""


@dataclass(slots=True)
class _Worker:
    """A worker that was not ended, and its slices by (budget id, window)."""

    host: str
    expires_at_s: float
    rows: dict[tuple[str, int], LeaseRow] = field(default_factory=dict)


@dataclass(slots=True)
class _Windows:
    """One budget's windows, and where they start in order."""

    by_start: dict[int, WindowTotals] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)

    def put(self, totals: WindowTotals) -> None:
        if totals.window not in self.by_start:
            bisect.insort(self.starts, totals.window)
        self.by_start[totals.window] = totals

    def remove(self, start: int) -> None:
        if self.by_start.pop(start, None) is not None:
            self.starts.remove(start)

    def between(self, oldest: int, newest: int | None = None) -> list[WindowTotals]:
        last = None if newest is None else bisect.bisect_right(self.starts, newest)
        return [self.by_start[start] for start in self.starts[bisect.bisect_left(self.starts, oldest) : last]]


class MemoryLedger:
    """Workers, window totals, entries. `publish` is told the ids of budgets whose workers must look at them."""

    __slots__ = ("_budget", "_ended", "_entries", "_left", "_publish", "_windows", "_workers")

    def __init__(self, entries_max: int, budget: BudgetFacts, publish: Callable[[str], None]) -> None:
        self._budget = budget
        self._publish = publish
        self._entries = _Entries(entries_max)
        self._workers: dict[str, _Worker] = {}
        self._ended: dict[str, float] = {}
        self._windows: dict[str, _Windows] = {}
        self._left: list[tuple[float, str, int]] = []

    def lease(self, worker: LeaseWorker, asks: Sequence[LeaseAsk], now_s: float) -> LeaseReply:
        """Renews the worker and answers its asks; see `StateStore.lease`."""
        worker_id = worker.worker_id
        if worker_id in self._ended:
            return LeaseReply(now_s, [], fenced=True, workers=self._alive(now_s))
        holder = self._workers.get(worker_id)
        if holder is None:
            holder = self._workers[worker_id] = _Worker(worker.host, now_s)
        holder.host, holder.expires_at_s = worker.host, now_s + worker.ttl_s
        while self._left and self._left[0][0] <= now_s:
            self._forget(*heapq.heappop(self._left)[1:])
        grants = [self._grant(worker_id, holder, ask, now_s) for ask in asks]
        return LeaseReply(now_s, grants, workers=self._alive(now_s))

    def _grant(self, worker_id: str, holder: _Worker, ask: LeaseAsk, now_s: float) -> LeaseGrant:
        budget_id, window = ask.budget_id, ask.window
        is_rate = ask.limit is not None
        facts = self._budget(budget_id) if ask.limit is None else (ask.limit, True)
        windows = self._windows.get(budget_id)
        totals = windows.by_start.get(window) if windows else None
        if facts is None:
            return LeaseGrant(budget_id, window, 0, _copy(totals or WindowTotals(budget_id, window)), gone=True)
        if totals is None:
            totals = WindowTotals(budget_id, window)
        limit, hard = facts
        counted = (0, 0)
        if ask.oldest != window and windows:
            others = [one for one in windows.between(ask.oldest) if one.window != window]
            counted = sum([one.spent for one in others]), sum([one.granted for one in others])
        before = holder.rows.get((budget_id, window))
        row, summed, grant = lease_rules.grant(
            ask, before, totals, worker_id=worker_id, limit=limit, hard=hard, counted=counted
        )
        if row is not before:
            holder.rows[budget_id, window] = row
            self._keep(summed)
            if not is_rate:
                self._add(now_s, worker_id, "spent", summed, summed.spent - totals.spent)
            elif not row.granted:  # what is in use is granted: there is nothing
                del holder.rows[budget_id, window]
                if not summed.granted:
                    self._forget(budget_id, window)
            if summed.calls > totals.calls:
                self._publish(budget_id)
        grant.totals = _copy(summed)
        return grant

    def _forget(self, budget_id: str, window: int) -> None:
        windows = self._windows.get(budget_id)
        if windows is not None:
            windows.remove(window)
            if not windows.starts:
                del self._windows[budget_id]

    def _alive(self, now_s: float) -> int:
        return sum([one.expires_at_s > now_s for one in self._workers.values()])

    def _keep(self, totals: WindowTotals) -> None:
        windows = self._windows.get(totals.budget_id)
        if windows is None:
            windows = self._windows[totals.budget_id] = _Windows()
        windows.put(totals)
        if len(windows.starts) > WINDOWS_MAX + WINDOWS_MAX // 10:
            dated = [start for start in windows.starts if start]
            old = dated[: len(windows.starts) - WINDOWS_MAX]
            for start in old:
                windows.starts.remove(start)
                del windows.by_start[start]
            gone = {(totals.budget_id, start) for start in old}
            self._entries.forget(gone)
            for worker in self._workers.values():
                worker.rows = {place: row for place, row in worker.rows.items() if place not in gone}

    def _add(self, now_s: float, worker_id: str, kind: str, totals: WindowTotals, amount: int) -> None:
        if amount:
            self._entries.add(LedgerEntry(now_s, totals.budget_id, totals.window, worker_id, kind, amount))

    def recover(self, worker_id: str, legacy: Mapping[tuple[str, int], Legacy] | None, now_s: float) -> int | None:
        """Ends a dead worker; see `StateStore.recover_worker`."""
        holder = self._workers.get(worker_id)
        if holder is None or (legacy is None and holder.expires_at_s > now_s):
            return None
        del self._workers[worker_id]
        self._ended = {one: at_s for one, at_s in self._ended.items() if at_s > now_s - FENCE_S}
        self._ended[worker_id] = now_s
        forgotten = [place for place in legacy or () if place not in holder.rows and self._budget(place[0]) is not None]
        slices = [*holder.rows.values(), *(LeaseRow(*place, worker_id) for place in forgotten)]
        charged = 0
        for row in slices:
            windows = self._windows.get(row.budget_id)
            totals = windows.by_start.get(row.window) if windows else None
            totals = totals or WindowTotals(row.budget_id, row.window)
            if (period_s := rate_period_s(row.budget_id)) is not None:
                self._end_share(row, totals, period_s, now_s)
                continue
            journal = legacy.get((row.budget_id, row.window)) if legacy else None
            summed, settled, presumed = lease_rules.recover(row, totals, journal)
            self._keep(summed)
            self._add(now_s, worker_id, "spent", summed, settled)
            self._add(now_s, worker_id, "presumed", summed, presumed)
            charged += presumed
        for budget_id in dict.fromkeys(row.budget_id for row in slices):
            self._publish(budget_id)
        return charged

    def _end_share(self, row: LeaseRow, totals: WindowTotals, period_s: int, now_s: float) -> None:
        """Ends a dead worker's share of a rate; what it may have used counts for one more period."""
        summed, left = lease_rules.recover_share(row, totals)
        if summed.granted:
            self._keep(summed)
        else:
            self._forget(row.budget_id, row.window)
        if left and period_s:
            start = math.ceil(now_s)
            windows = self._windows.get(row.budget_id)
            before = windows.by_start.get(start) if windows else None
            count = left + (before.granted if before else 0)
            self._keep(WindowTotals(row.budget_id, start, count, 0, count, presumed=count))
            heapq.heappush(self._left, (start + period_s + LEFT_KEPT_S, row.budget_id, start))

    def workers(self, now_s: float) -> list[WorkerRow]:
        """Workers that were not ended, oldest first."""
        return [
            WorkerRow(worker_id, one.host, one.expires_at_s, one.expires_at_s <= now_s)
            for worker_id, one in self._workers.items()
        ]

    def windows(self, wanted: Iterable[tuple[str, int, int]]) -> list[WindowTotals]:
        """Totals of (budget id, oldest, newest) windows that exist."""
        return [
            _copy(totals)
            for budget_id, oldest, newest in wanted
            if budget_id in self._windows
            for totals in self._windows[budget_id].between(oldest, newest)
        ]

    def entries(self, budget_id: str, window: int | None, limit: int) -> list[LedgerEntry]:
        """Lines of a budget, or of one window of it, newest first."""
        found = (one for one in reversed(self._entries.lines) if one.budget_id == budget_id)
        return [one for one in found if window is None or one.window == window][: max(0, limit)]


class _Entries:
    """The append-only lines, oldest first; at most `lines_max` of them and one more per window."""

    __slots__ = ("_fold_above", "_lines_max", "lines")

    def __init__(self, lines_max: int) -> None:
        self._lines_max = lines_max
        self._fold_above = lines_max
        self.lines: list[LedgerEntry] = []

    def add(self, line: LedgerEntry) -> None:
        self.lines.append(line)
        if len(self.lines) > self._fold_above:
            self._fold(len(self.lines) - self._lines_max + self._lines_max // 10)

    def _fold(self, count: int) -> None:
        old, self.lines = self.lines[:count], self.lines[count:]
        openings: dict[tuple[str, int], LedgerEntry] = {}
        for line in old:
            place = (line.budget_id, line.window)
            before = openings.pop(place, None)  # taken out and put in again: openings stay in the order of time
            amount = line.amount + (before.amount if before else 0)
            openings[place] = LedgerEntry(line.at_s, *place, "", "opening", amount)
        self.lines = [*openings.values(), *self.lines]
        # where every window has its one line, folding again at the next line would be work without effect
        self._fold_above = max(self._lines_max, len(self.lines) + self._lines_max // 10)

    def forget(self, places: set[tuple[str, int]]) -> None:
        self.lines = [line for line in self.lines if (line.budget_id, line.window) not in places]


def _copy(totals: WindowTotals) -> WindowTotals:
    return WindowTotals(
        totals.budget_id,
        totals.window,
        totals.spent,
        totals.held,
        totals.granted,
        totals.overrun,
        totals.presumed,
        totals.alerted,
        totals.calls,
        totals.since,
    )
