"""The rules of the shared ledger, as one pure function that every store runs inside one transaction.

Main entry: `grant`, one ask against one window; `recover`, what becomes of a dead worker's slice; `recover_share`, the
same for a rate. A store reads the rows, calls the function, and writes the rows back; nothing here knows how.
Laws (checked by tests/property and by the conformance suite on every store): a hard budget's grants never rise above
its limit, overruns and restored grants aside, which are facts and not admissions; the same ask twice changes nothing;
an older ask that arrives late changes nothing; totals stay the sums of their rows.
"""

from __future__ import annotations

from dataclasses import replace

from apikeyrouter.domain.interfaces.shared_ledger import (
    LeaseAsk,
    LeaseGrant,
    LeaseRow,
    Legacy,
    WindowTotals,
    rate_period_s,
)

__all__ = ["ALERT_PERCENTS", "grant", "recover", "recover_share"]

ALERT_PERCENTS = (50, 80, 95, 100)
"""Posted spend, in percent of the limit, at which a budget says so, once each per window."""


def grant(
    ask: LeaseAsk,
    row: LeaseRow | None,
    totals: WindowTotals,
    *,
    worker_id: str,
    limit: int,
    hard: bool,
    counted: tuple[int, int] = (0, 0),
) -> tuple[LeaseRow, WindowTotals, LeaseGrant]:
    """One ask. Returns row and totals as they shall be stored, and the answer.

    `row`: None when the store has none for this worker. `totals`: of the asked window. `counted`: (spent, granted), in
    sum, of the other windows that count against the limit: for `ask.oldest < ask.window` (rolling budgets) every other
    one that starts at `oldest` or later, later than `window` too, since an ask may arrive after one for the next
    window; else (calendar) none. Of a rate: what workers left behind that died since `oldest`. `limit` is read for soft
    budgets too (alerts).
    """
    before = row or LeaseRow(ask.budget_id, ask.window, worker_id)
    if row is not None and ask.seq <= row.seq:
        return row, totals, _answer(ask, row.granted, totals, counted, limit if hard else None, ())
    after = replace(
        before,
        seq=ask.seq,
        spent=max(before.spent, ask.spent),
        held=ask.held,
        overrun=max(before.overrun, ask.overrun),
    )
    known = max(before.granted, ask.have)  # a store that lost its last writes is told by whoever holds the slice
    wanted = max(ask.granted, after.spent)
    calls = totals.calls
    if hard:
        ceiling = limit - counted[1] - (totals.granted - before.granted)  # what others leave of the limit
        # after the limit was lowered a slice keeps what running requests hold, and no more than the limit leaves
        kept = min(known, max(ceiling, after.spent + after.held))
        after.granted = min(wanted, kept)
        if wanted > kept:
            most = max(kept, min(wanted, ceiling))
            # what it has is too little for what it needs: others may need it meanwhile
            after.granted = most if most >= min(ask.least, wanted) else min(kept, after.spent + after.held)
        others_idle = totals.idle - max(0, before.granted - before.spent - before.held)
        if rate_period_s(ask.budget_id) == 0:  # what is under way ends at any moment: it may be idle by now
            others_idle = totals.granted - before.granted
        if after.granted < wanted and others_idle > 0:
            calls += 1
    else:
        after.granted = wanted
    # an overrun happened: it is spend, whatever was granted; and what is in use of a rate is so too
    after.granted = max(after.granted, after.spent if ask.limit is None else after.held)
    summed = replace(
        totals,
        spent=totals.spent + after.spent - before.spent,
        held=totals.held + after.held - before.held,
        granted=totals.granted + after.granted - before.granted,
        overrun=totals.overrun + after.overrun - before.overrun,
        calls=calls,
    )
    if ask.limit is not None:
        summed.since = _earlier(totals.since, ask)
        return after, summed, _answer(ask, after.granted, summed, counted, limit, ())
    told = totals.alerted
    if ask.oldest != ask.window:  # rolling: what earlier windows brought about was told in them
        told = max(told, _reached(totals.spent + counted[0], limit))
    summed.alerted = max(told, _reached(summed.spent + counted[0], limit))
    crossed = ALERT_PERCENTS[told : summed.alerted]
    answer = _answer(ask, after.granted, summed, counted, limit if hard else None, crossed)
    return after, summed, answer


def _earlier(since: int, ask: LeaseAsk) -> int:
    """From when on something of a rate is in use: what was known, unless that has left, or what the asker says."""
    if since < ask.oldest or not since:
        return ask.since
    return min(since, ask.since) if ask.since else since


def _reached(spent: int, limit: int) -> int:
    """How many of the alert percentages `spent` has reached."""
    return sum([spent * 100 >= limit * percent for percent in ALERT_PERCENTS])


def recover(row: LeaseRow, totals: WindowTotals, legacy: Legacy | None) -> tuple[WindowTotals, int, int]:
    """Ends the slice of a dead worker; its row is to be deleted. Returns the totals, and what is charged beyond what it
    had reported: (settled, presumed).

    `legacy`: what its journal says. Without one, all that it was granted may have been spent, and is presumed.
    """
    if legacy is None:
        settled, presumed = 0, max(0, row.granted - row.spent)
    else:
        settled, presumed = max(0, legacy.spent - row.spent), legacy.sent
    charged = row.spent + settled + presumed
    summed = replace(
        totals,
        spent=totals.spent + settled + presumed,
        held=totals.held - row.held,
        granted=totals.granted + charged - row.granted,
        presumed=totals.presumed + presumed,
    )
    return summed, settled, presumed


def recover_share(row: LeaseRow, totals: WindowTotals) -> tuple[WindowTotals, int]:
    """Ends a dead worker's share of a rate; its row is to be deleted. Returns the totals of window 0, and what counts
    for one more period from now on: all of the share, since it may have been used to the last moment."""
    summed = replace(totals, held=totals.held - row.held, granted=totals.granted - row.granted)
    return summed, row.granted


def _answer(
    ask: LeaseAsk,
    granted: int,
    totals: WindowTotals,
    counted: tuple[int, int],
    limit: int | None,
    crossed: tuple[int, ...],
) -> LeaseGrant:
    return LeaseGrant(ask.budget_id, ask.window, granted, totals, counted, limit, crossed)
