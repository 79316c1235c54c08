"""One limit of a quota pool: an account of the ledger, and what is believed about it.

`QuotaWindow.observe` corrects the account by what a provider said. The provider counted a request when it let it in;
so what was taken after that request was sent is subtracted from its `remaining`, and what flowed back since is added.
Lower values are taken at once, higher ones by 0.3 per observation: too low costs idle capacity, too high refusals.

How capacity comes back (`Refill`) is assumed to be the strictest kind, rolling, until the provider's `reset` shows that
it is a token bucket: one that has C - R of C out is full again after (C - R)/C of its period, a window is not.
What others take from the same pool shows as observations that are lower than our own books: `foreign_per_s`.
Source: design notes 2.1 (header correction, asymmetric; foreign load).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from apikeyrouter.domain.ledger.accounts import Account, Unit, Window
from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.quota.bursts import SHORT_RATIO, CapacityWatch
from apikeyrouter.domain.quota.capacity import CapacityTracker
from apikeyrouter.domain.quota.charging import Asked, Charging
from apikeyrouter.domain.quota.exhaustion import Exhaustion
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, MONTH_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.forecast import DemandForecast
from apikeyrouter.domain.quota.margins import Margin, Others, corrected
from apikeyrouter.domain.quota.refills import shown_refill
from apikeyrouter.domain.quota.windows import Anchored, Concurrent, Rolling

__all__ = ["KINDS", "LIKELY", "QuotaWindow", "period_name"]

KINDS: Mapping[Dimension, int] = {dimension: place for place, dimension in enumerate(Dimension)}
"""The place of a dimension in a tuple of needs, where output counts as the provider says that it charges it."""

LIKELY: Mapping[Dimension, int] = {Dimension.Tokens: len(KINDS), Dimension.OutputTokens: len(KINDS) + 1}
"""The places behind them, where output counts as it will probably be."""

UNITS: Mapping[Dimension, Unit] = {
    Dimension.Requests: "requests",
    Dimension.InputTokens: "tokens",
    Dimension.OutputTokens: "tokens",
    Dimension.Tokens: "tokens",
    Dimension.Concurrency: "slots",
    Dimension.Spend: "spend",
}
CONFIDENCE: Mapping[Source, float] = {
    Source.Header: 0.99,
    Source.ErrorBody: 0.95,
    Source.Configured: 0.9,
    Source.Tier: 0.6,
    Source.Learned: 0.5,
}
"""How far a value is trusted, 0..1; for people and for the order of sources, no formula rests on it."""

RAISE_RATIO, _RAISE_RATIO_SHORT, _SHORT_S = 0.3, 0.6, 3.0
"""How much of a better word is believed, and how much where a bucket holds less than so many seconds' worth: what is
idle there is soon lost (bursts of 1 s, code trace at 60 % load: 52.5 % served with 0.3, 56.8 % with 0.6; bursts of 6 s:
57.5 and 56.9 %)."""

_PARTS = 60
_HEADER, _CONTINUOUS, _FIXED, _CALENDAR = Source.Header, Refill.Continuous, Refill.Fixed, Refill.Calendar


def period_name(period_s: float) -> str:
    """ "minute", "day", "10 s" ..."""
    names = {1.0: "second", MINUTE_S: "minute", 3600.0: "hour", DAY_S: "day", MONTH_S: "month"}
    return names.get(period_s) or f"{period_s:g} s"


class QuotaWindow:
    """One limit. `kind`: index into needs (`KINDS`, `LIKELY`). `period_s`: 0 for concurrency. `models`: as in a fact.
    `limit`: as told or configured, None while unknown: then it only counts. `corrected`: whether a request's charge
    becomes its true use. `counted`: whether a reply to this process said what is left. `lent`: whether what was
    taken before the limit was known is in its share (`domain.quota.shared_limits`). `observed_at_s`: last word of the
    provider, None for none. `reset_at_s`: when everything is back, as told; monotonic. `forecast`, `tracker`,
    `exhaustion`: what is foreseen, where `Foresight` watches it. `usual_need`: units of a usual request. `lost`: units
    that went beyond what was held here, in all. `burst`: what fits at once, where that is less than the limit (see
    `domain.quota.bursts`). `hidden`: how much of what is told to remain can therefore not be taken. `others`: what
    others take; `unseen`: some, and only refusals tell. `margin`: how sure a request must be to fit beside them.
    `doubted_at_s`: see `domain.quota.doubts`. `told_mark`: `account.taken` of the last request whose reply said what is
    left: those taken before it are in that."""

    __slots__ = (
        "_against", "_by_hint", "_share", "_shown", "_told_most", "_watch",
        "account", "burst", "charging", "corrected", "counted", "dimension", "doubted_at_s", "exhaustion",
        "forecast", "hidden", "kind", "lent", "limit", "lost", "margin", "models", "name", "observed_at_s", "others",
        "period_s", "refill", "reset_at_s", "source", "told_mark", "tracker", "unseen", "usual_need",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        dimension: Dimension,
        period_s: float,
        *,
        limit: int | None,
        source: Source,
        models: str = "*",
        corrected: bool = True,
        now_s: float,
    ) -> None:
        self.name = name
        self.dimension = dimension
        self.kind = KINDS[dimension] if source is not Source.Configured else LIKELY.get(dimension, KINDS[dimension])
        self.charging = Charging() if dimension in LIKELY else None
        self.period_s = period_s
        self.limit = limit
        self.source = source
        self.models = models
        self.corrected = corrected
        self.counted = self.lent = self.unseen = False
        self.refill = Refill.Rolling
        self.observed_at_s: float | None = None
        self.reset_at_s: float | None = None
        self.forecast: DemandForecast | None = None
        self.tracker: CapacityTracker | None = None
        self.exhaustion: Exhaustion | None = None
        self.usual_need = 1.0
        self.lost = 0.0
        self.burst: int | None = None
        self.hidden = self._against = self._told_most = 0
        self.margin = Margin()
        self._watch: CapacityWatch | None = None
        self._by_hint = False
        self.doubted_at_s = -math.inf
        self.told_mark = -1
        self._shown: Refill | None = None
        self._share = 1.0
        self.others = Others(now_s)
        self.account = Account(name, UNITS[dimension], limit, _window_of(self, now_s), now_s=now_s)

    # -- reading ----------------------------------------------------------------------------------------------------

    def headroom(self, now_s: float) -> int | None:
        """Units that may be taken now; None without a limit."""
        return self.account.free(now_s)

    @property
    def label(self) -> str:
        """What is limited, for people: "requests per minute"."""
        if not self.period_s:
            return "requests under way"
        return f"{self.dimension.replace('_', ' ')} per {period_name(self.period_s)}"

    @property
    def rate_per_s(self) -> float:
        """Units that come back a second, in the long run; 0.0 without a limit or a period."""
        return 0.0 if self.limit is None or not self.period_s else self.limit / self.period_s

    @property
    def foreign_per_s(self) -> float:
        """See `others`."""
        return self.others.per_s

    @property
    def capacity(self) -> int | None:
        """Units that can be there at once; None without a limit."""
        return self.limit if self.burst is None else self.burst

    @property
    def confidence(self) -> float:
        """0..1."""
        return 0.0 if self.limit is None else CONFIDENCE[self.source]

    # -- what is told -----------------------------------------------------------------------------------------------

    def set_limit(self, limit: int, source: Source, now_s: float) -> None:
        """The limit is known, or another one from now on."""
        self.source = source
        if limit == self.limit:
            return
        account = self.account
        account.refresh(now_s)
        if self.limit:
            self._told_most = math.ceil(self._told_most * limit / self.limit)
        if self.burst is not None:
            self.burst = max(1, int(self._share * limit + 1e-6))
            self.hidden = max(0, limit - self.burst) if self.hidden else 0
        self.limit = limit
        account.limit = self.capacity
        if isinstance(account, Bucket):
            account.rate_per_s = self.rate_per_s

    def make_room(self, need: int, now_s: float) -> bool:
        """A request needs more than the whole limit. Where that was learned it was too low, and is raised, so that the
        request is tried when nothing else is in the window. Whether it was; a limit that was told is not."""
        if self.source is not Source.Learned:
            return False
        self.set_limit(need, Source.Learned, now_s)
        return True

    def observe(self, fact: LimitFact, *, mark: int | None, sent_at_s: float, now_s: float, uncounted: int = 0) -> None:
        """Takes in what a reply said. `mark`: `account.taken` just after its own request was held, None when that was
        held elsewhere; `sent_at_s`: when it was sent, about the time to which `fact.remaining` belongs. `uncounted`:
        what its request holds here, if it was refused; it settles at nothing, in a bucket at what it holds."""
        limit, told, by_header = fact.limit, fact.remaining, fact.source is _HEADER
        if limit is None and told is not None:
            limit = max(self.limit or 0, told) or None  # that nothing is left says nothing of a limit
        if limit is not None:
            if limit == self.limit:
                self.source = fact.source
            else:
                self.set_limit(limit, fact.source, now_s)
        limit, period_s = self.limit, self.period_s
        if limit is None:
            return
        if fact.reset_s is not None:
            self.reset_at_s = now_s + fact.reset_s
        self._learn_refill(fact, now_s)
        if told is None or not period_s or (mark is not None and mark < self.told_mark):
            return  # of requests under way, our own are all that will surely end
        self.counted = True
        account, capacity, rate_per_s = self.account, self.burst or limit, limit / period_s if period_s else 0.0
        remaining = self.left_of(told)
        if by_header and told > self._told_most:
            self._told_most = told
        if now_s >= account.rolls_at_s:
            account.roll(now_s)
        # without a mark, what runs now is the best word on what was taken since
        ahead, uncounted = account.held, min(uncounted, account.held)
        if mark is not None:
            ahead = account.taken - mark if account.taken > mark else 0
            self.told_mark = mark
        # what a sentence says of its limit is exact, and rare
        raised = _RAISE_RATIO_SHORT if capacity < _SHORT_S * rate_per_s else RAISE_RATIO
        if not by_header and fact.source is Source.ErrorBody:
            raised = 1.0
        observed: float = remaining - ahead
        bucket = account if isinstance(account, Bucket) else None
        if bucket is not None:
            age_s = now_s - sent_at_s
            fraction = self._fraction(fact, remaining, capacity, rate_per_s) if by_header else fact.fraction
            observed += fraction + age_s * rate_per_s
            observed = (observed if observed > 0.0 else 0.0) if observed < capacity else capacity  # noqa: FURB136
            bucket.lump, bucket.steps = round(self.usual_need) or 1, self.margin.steps()
            gap = corrected(bucket, observed, raised=raised, since_s=age_s, now_s=now_s, uncounted=uncounted)
        else:
            gap = max(0, capacity - account.used - account.held + uncounted) - max(0, min(observed, capacity))
            gap = gap if gap >= 0 or raised == 1.0 else min(-1, int(gap * raised))
            account.adjust_used(int(gap), now_s)
        charging = self.charging
        if charging is not None and by_header and self.refill is _CONTINUOUS:
            likely = charging.observe(remaining, capacity, rate_per_s, sent_at_s)
            if likely is not None:
                self._charged(charging, likely=likely)
        if self.observed_at_s is not None:
            self.lost += gap
            full_at_s = bucket.full_at_s if bucket is not None else -math.inf
            folded = period_s and self.others.fold(gap, rate_per_s, now_s, full_at_s=full_at_s)
            if folded and bucket is not None:
                self.unseen = not self._told_most and self.foreign_per_s > 0.0
                bucket.others_per_s = self.foreign_per_s
        else:
            self.others.begin(now_s)
        self.observed_at_s = now_s

    def left_of(self, remaining: int) -> int:
        """What can be taken when `remaining` is told: what is more than fits at once speaks of the whole limit."""
        hidden, burst = self.hidden, self.burst
        if burst is not None and not hidden and remaining > burst + 1:
            hidden = (self.limit or 0) - burst
        return remaining - hidden if remaining > hidden else 0

    def hold_at_once(self, capacity: int | None, now_s: float, *, hidden: bool | None = None) -> None:
        """A bucket that flows back at the limit's rate holds only `capacity` units; None: the whole limit. `hidden`:
        what is told to remain counts as if it held the limit; None: by what was told before."""
        limit = self.limit
        if limit is None:
            return
        burst = None if capacity is None or capacity >= limit else max(1, capacity)
        by_use = hidden is None and not self._told_most
        if hidden is None:
            hidden = burst is not None and self._told_most > burst + 1
        before, self.hidden = self.hidden, limit - burst if hidden and burst is not None else 0
        if burst == self.burst:
            return
        account = self.account
        account.refresh(now_s)
        # what was thought to be free rested on what was told; where only refusals tell, that is what is used
        capacity = self.capacity or 0
        gone = capacity - (burst or limit) if by_use else self.hidden - before
        free = max(0, capacity - account.used - account.held - max(0, gone))
        self.burst, self._share = burst, (burst or limit) / limit
        if self.refill is not Refill.Continuous:
            self._become(Refill.Continuous, now_s)
        account = self.account
        account.limit = self.capacity
        account.adjust_used((self.capacity or 0) - min(free, self.capacity or 0) - account.used - account.held, now_s)

    def bucket_seen(self, now_s: float, *, agrees: bool) -> None:
        """A refusal asked for the wait of a bucket, or for another one. Where nothing else tells, one that agrees is
        believed, and two in a row that do not."""
        self._against = 0 if agrees else self._against + 1
        if agrees and self.refill is Refill.Rolling:
            self._become(Refill.Continuous, now_s)
            self._by_hint = True
        elif self._by_hint and self._against >= 2 and self.refill is Refill.Continuous:
            self._become(Refill.Rolling, now_s)
            self._by_hint = False

    def _fraction(self, fact: LimitFact, remaining: int, capacity: int, rate_per_s: float) -> float:
        """What `remaining`, of a header, leaves out, being whole: the reset is exact."""
        reset_s, watch = fact.reset_s, self._watch
        if reset_s is None or fact.reset_means != "full" or watch is None:
            return 0.0
        if self.burst is not None and not self.hidden:
            level = watch.level(reset_s, self.limit or 1, self.period_s)
        else:
            level = capacity - reset_s * rate_per_s
        left_out = level - remaining
        return (left_out if left_out > 0.0 else 0.0) if left_out < 0.999 else 0.999  # noqa: FURB136 - as above

    def _charged(self, charging: Charging, *, likely: bool) -> None:
        charging.proven = True
        self.kind = (LIKELY if likely else KINDS)[self.dimension]

    def asked(self, requested: int, needs: Sequence[int], evidence: Asked) -> None:
        """A refusal said how much its request asks for; `needs`: what was thought; `evidence`: what others said."""
        if self.charging is not None and self.source is not Source.Configured:
            cap, probable = needs[KINDS[self.dimension]], needs[LIKELY[self.dimension]]
            likely = evidence.weigh(requested, cap, probable)
            if likely is not None:
                self._charged(self.charging, likely=likely)

    def bucket_assumed(self, now_s: float) -> None:
        """Other pools of the provider are buckets: so is this one, until it shows otherwise."""
        if self.refill is Refill.Rolling and self._shown is None and self.source is not Source.Configured:
            self._become(Refill.Continuous, now_s)
            self._by_hint = True

    def _learn_capacity(self, remaining: int, reset_s: float, now_s: float) -> None:
        """Whether the bucket holds less than its limit, by what the reset says."""
        watch = self._watch
        if watch is None:
            watch = self._watch = CapacityWatch()
        limit = self.limit or 1
        capacity = watch.observe(remaining, reset_s, limit, self.period_s, now_s)
        if capacity is not None and capacity < SHORT_RATIO * limit:
            self.hold_at_once(capacity, now_s, hidden=False)
        elif capacity is not None and self.burst is not None and not self.hidden:
            self.hold_at_once(None, now_s, hidden=False)

    def _learn_refill(self, fact: LimitFact, now_s: float) -> None:
        """Token bucket or window, by what the reset says."""
        told, reset_s, remaining, means = fact.refill, fact.reset_s, fact.remaining, fact.reset_means
        if told is None and means == "window" and reset_s is not None:
            told = _FIXED
        if means == "full" and reset_s is not None and remaining is not None and self.period_s:
            exact = fact.source is _HEADER
            if exact:
                self._shown = shown_refill(
                    self._shown,
                    limit=self.limit or 1,
                    remaining=remaining,
                    period_s=self.period_s,
                    reset_s=reset_s,
                    bucket=told is _CONTINUOUS,
                )
            told = self._shown or told
            if exact and (told is None or told is _CONTINUOUS):
                self._learn_capacity(remaining, reset_s, now_s)
        refill = self.refill
        if told is not None and told is not refill:
            self._become(told, now_s)
            refill = told
        if reset_s is not None and (refill is _FIXED or refill is _CALENDAR):
            window = self.account.window
            if isinstance(window, Anchored):
                self.account.refresh(now_s)
                window.anchor(now_s + reset_s)
                self.account.rolls_at_s = now_s + reset_s

    def _become(self, refill: Refill, now_s: float) -> None:
        """Another kind of account takes over; what runs stays charged here, and settles in the old one unseen."""
        old = self.account
        old.refresh(now_s)
        taken = old.used + old.held
        self.refill = refill
        if refill is not Refill.Continuous:
            self.burst, self.hidden = None, 0
        if refill is Refill.Continuous:
            self.account = Bucket(self.name, old.unit, self.capacity, self.rate_per_s, now_s=now_s)
        else:
            self.account = Account(self.name, old.unit, self.limit, _window_of(self, now_s), now_s=now_s)
        self.account.taken = old.taken
        self.account.adjust_used(taken, now_s)

    def __repr__(self) -> str:
        return f"<QuotaWindow {self.account!r} {self.refill} {self.source}>"


def _window_of(limit: QuotaWindow, now_s: float) -> Window:
    period_s = limit.period_s
    if not period_s:
        return Concurrent()
    if limit.refill in (Refill.Fixed, Refill.Calendar):
        return Anchored(period_s, limit.reset_at_s or now_s + period_s)
    return Rolling(period_s, _PARTS)
