"""What processes tell a store about money, and what it answers: leases, windows, changes, usage.

A worker (one process with a router) borrows slices of budgets from the store and holds against them in memory. All of
its figures are cumulative per (budget, window): repeating a call whose answer was lost changes nothing. The rules
themselves are one pure function, `domain.ledger.lease_rules.grant`, that every store runs inside one transaction.

Amounts are whole nano-USD. A window is named by the Unix second at which it starts (0: a total without a start).
Rates (requests or tokens in any so many seconds, requests under way) are shared by the same calls: see `rate_id`.
Laws: for a hard budget, the sum of `granted` over every window that counts is never raised above its limit (I1);
`pending = granted - spent` is what workers may still spend; times are the store's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Change",
    "Changes",
    "LeaseAsk",
    "LeaseGrant",
    "LeaseReply",
    "LeaseRow",
    "LeaseWorker",
    "LedgerEntry",
    "Legacy",
    "UsageQuery",
    "UsageRow",
    "WindowTotals",
    "WorkerRow",
    "rate_id",
    "rate_period_s",
]

_RATE = "rate:"


def rate_id(name: str, period_s: int) -> str:
    """The id of a rate's line: what any `period_s` seconds may have of something; 0: what may be under way at once.

    A worker's slice of a rate is a *share*: it promises that it never has more in use than it was granted, in any
    `period_s` seconds as it counts them by itself. The shares add up to no more than the limit, so neither do the uses,
    whatever clocks say and wherever a minute begins. A share has one window, 0, without a start; `held` is what is in
    use, `spent` stays 0, no entries are written, and a share of nothing leaves no row. The limit comes with each ask
    (`LeaseAsk.limit`). A dead worker's share may have been used until it was found dead: it counts for `period_s` more,
    as a window of that second, and then is gone; what only counts while under way (`period_s` 0) is free at once.
    Raises ValueError for a negative period.
    """
    if period_s < 0:
        raise ValueError(f"period_s must not be negative: {period_s}")
    return f"{_RATE}{period_s}:{name}"


def rate_period_s(line_id: str) -> int | None:
    """The period of a rate's line; None for a budget's id."""
    if not line_id.startswith(_RATE):
        return None
    digits, colon, _ = line_id[len(_RATE) :].partition(":")
    return int(digits) if colon and digits.isascii() and digits.isdigit() else 0


@dataclass(frozen=True, slots=True)
class LeaseWorker:
    """Who asks. `worker_id`: random, new for every start of a process. `host`: where it runs, for people.

    `ttl_s`: after so many seconds without a call the store may give the worker's slices up (`recover_worker`).
    """

    worker_id: str
    host: str = ""
    ttl_s: float = 15.0


@dataclass(slots=True)
class LeaseAsk:
    """One worker's books for one window of one budget, and what it wants.

    `seq`: grows with every ask of this (budget, window); an older one that arrives late is ignored. `spent`: settled by
    this worker in this window so far. `held`: what its running requests may still spend. `granted`: how much it wants
    to have been granted in all, `spent` included (less than before: it returns the rest). `have`: what it knows to have
    been granted; a store that lost a write takes it back from here. `least`: unless `granted` can grow to this, all but
    `spent` and `held` goes back: near the limit two workers must not each sit on half of what a request needs (a worker
    that asks so uses nothing else until it is answered). `overrun`: what settled above its holds so far. `oldest`:
    windows that start at or after this second count against the limit too
    (calendar: `window` itself).
    `limit`: only for rates (`rate_id`): what the asker knows the limit to be; a rate's `oldest` is now - period by the
    store's clock. `since`: the Unix second at which it took the oldest of what it has in use; 0: nothing, or unknown.
    A slice that needs nothing asks for `granted == spent`; its row stays, so that repeating it is harmless.
    """

    budget_id: str
    window: int
    oldest: int
    seq: int
    spent: int = 0
    held: int = 0
    granted: int = 0
    have: int = 0
    overrun: int = 0
    least: int = 0
    limit: int | None = None
    since: int = 0


@dataclass(slots=True)
class LeaseRow:
    """What the store knows of one worker's slice of one window."""

    budget_id: str
    window: int
    worker_id: str
    seq: int = 0
    spent: int = 0
    held: int = 0
    granted: int = 0
    overrun: int = 0


@dataclass(slots=True)
class WindowTotals:
    """One window of one budget, all workers together.

    `spent`: posted. `granted`: what counts against the limit: spent, and what workers may still spend. `held`: what
    running requests hold, as last reported. `overrun`: part of `spent` that went above its holds. `presumed`: part of
    `spent` that was charged for workers that died. `alerted`: how many of the alert percentages were told. `calls`:
    grows when a worker found no room while others had idle money; whoever sees it grow returns what it does not need.
    `since`: of a rate: the Unix second from which on something is in use, as far as workers told; 0: unknown.
    """

    budget_id: str
    window: int
    spent: int = 0
    held: int = 0
    granted: int = 0
    overrun: int = 0
    presumed: int = 0
    alerted: int = 0
    calls: int = 0
    since: int = 0

    @property
    def idle(self) -> int:
        """What workers were granted and need for nothing, as last reported."""
        return max(0, self.granted - self.spent - self.held)


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a dead worker's journal says of one window: `spent` was settled, `sent` had left and was not settled."""

    spent: int
    sent: int


@dataclass(slots=True)
class LeaseGrant:
    """The answer to one ask.

    `granted`: what the worker has been granted in this window in all. `totals`: the window afterwards. `counted`: spend
    and grants of the earlier windows that count too (rolling budgets), as (spent, granted). `limit`: of the budget now;
    None for a budget that only counts (soft). `crossed`: alert percentages that this ask was the first to reach.
    `gone`: the budget does not exist any more.
    """

    budget_id: str
    window: int
    granted: int
    totals: WindowTotals
    counted: tuple[int, int] = (0, 0)
    limit: int | None = None
    crossed: tuple[int, ...] = ()
    gone: bool = False


@dataclass(slots=True)
class LeaseReply:
    """`now_utc_s`: the store's clock, Unix seconds. `fenced`: this worker was given up; nothing of the call was done,
    and it must go on under a new id. `workers`: how many workers are alive, this one included."""

    now_utc_s: float
    grants: list[LeaseGrant]
    fenced: bool = False
    workers: int = 1


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker that the store knows. `expires_at_s`: Unix seconds by the store's clock; `expired`: that is over."""

    worker_id: str
    host: str
    expires_at_s: float
    expired: bool


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One line of the append-only ledger. `kind`: "spent", "presumed", "refunded" or "opening"; `amount` is what it
    adds to the window's spend. Per window, amounts add up to `WindowTotals.spent`; old lines may be folded into one
    "opening" line."""

    at_s: float
    budget_id: str
    window: int
    worker_id: str
    kind: str
    amount: int


@dataclass(frozen=True, slots=True)
class Change:
    """Something that other processes must know. `kind`: "key", "budget", "virtual_key", "setting" or "lease"."""

    kind: str
    entity_id: str


@dataclass(frozen=True, slots=True)
class Changes:
    """`cursor`: pass it to the next call. `lost`: some changes were dropped before they were read: look at
    everything anew."""

    cursor: int
    changes: Sequence[Change] = ()
    lost: bool = False


@dataclass(slots=True)
class UsageRow:
    """Requests of one hour that have everything else in common; counters add up when rows are written.

    `hour_s`: Unix second at which the UTC hour starts. `requests`: callers' requests that ended at this key.
    `failures`: sends to it that failed, those that another key took over included. `tags`: JSON object text with sorted
    keys, "{}" for none.
    `cost_nano_usd`: charged, presumed charges included. Empty text: not known or not applicable.
    """

    hour_s: int
    provider_id: str
    key_id: str
    model: str
    virtual_key_id: str = ""
    team: str = ""
    tags: str = "{}"
    requests: int = 0
    failures: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    cost_nano_usd: int = 0
    presumed_nano_usd: int = 0


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which hours to sum up: [since_s, until_s), None for open. `by`: the fields to group by ("key_id", "model", "tags"
    ..., "hour_s"); the other text fields of the answer are empty and its `hour_s` is 0 unless grouped by. The rest
    filters."""

    since_s: float | None = None
    until_s: float | None = None
    by: tuple[str, ...] = ()
    provider_id: str | None = None
    key_id: str | None = None
    model: str | None = None
    virtual_key_id: str | None = None
    team: str | None = None
