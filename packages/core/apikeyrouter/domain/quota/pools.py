"""Quota pools: where a provider's limits live. A key belongs to one pool; several keys may share one.

`Pools.view` gives what limits a key for a model: a `PoolView`, the windows of its pool that count for the model's limit
group. Every pool counts requests and tokens of the last minute, with the limits that the operator configured (`rpm`,
`tpm` and others in key metadata) or none. What providers tell or refusals teach adds windows to the model's group.
Ten keys of one organisation are one pool, not ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.models.quota_state import CapacityState
from apikeyrouter.domain.quota.exhaustion import Exhaustion
from apikeyrouter.domain.quota.facts import DAY_S, MINUTE_S, Dimension, LimitDialect, LimitFact, Source
from apikeyrouter.domain.quota.habits import Habits
from apikeyrouter.domain.quota.hints import explains, learn_from_hint, sharpened, uncounted
from apikeyrouter.domain.quota.learning import RefusalLearner
from apikeyrouter.domain.quota.limits import KINDS, LIKELY, QuotaWindow, period_name
from apikeyrouter.domain.quota.shared_limits import Lend, SharedLimit, shared_of
from apikeyrouter.domain.resilience.durations import LimitFacts

__all__ = ["CONFIGURABLE", "PoolView", "Pools", "QuotaPool"]

CONFIGURABLE: Mapping[str, tuple[Dimension, float]] = {
    "rpm": (Dimension.Requests, MINUTE_S),
    "tpm": (Dimension.Tokens, MINUTE_S),
    "rpd": (Dimension.Requests, DAY_S),
    "tpd": (Dimension.Tokens, DAY_S),
    "itpm": (Dimension.InputTokens, MINUTE_S),
    "otpm": (Dimension.OutputTokens, MINUTE_S),
    "concurrency": (Dimension.Concurrency, 0.0),
}
"""Metadata of a key that limits its pool."""

TELL_EVERY_S, TELL_ROOMY_S = 0.005, 0.05
"""A view takes in at most 200 replies a second, with plenty of room 20."""

PLENTY_ROOM, LOOK_AGAIN_S = 0.5, 0.02
"""With half of its tightest limit left, a pool is not looked at again for so long, but by requests that are large."""

_ANY = 2**62

_SPEND = Dimension.Spend

_ALWAYS = ((Dimension.Requests, MINUTE_S), (Dimension.Tokens, MINUTE_S))


class PoolView:
    """One pool as a group of models meets it.

    `windows`: what every request of the group counts in; replaced as a whole when limits become known. `state` and
    `pressure` (0: plenty; 1: it lasts exactly until it comes back; more: it will not) are renewed about once a second.
    `recalled`: made from memory, and nobody asked for it yet. `shared`: this worker's shares of limits that workers
    keep together; `held`: `windows` and `shared`, the lines of a hold.
    """

    __slots__ = (
        "_told_at_s",
        "admitted_at_s",
        "dialect",
        "dialect_name",
        "exhaustion",
        "held",
        "learner",
        "models",
        "own",
        "pool",
        "pressure",
        "recalled",
        "refreshed_at_s",
        "room",
        "roomy_tokens",
        "roomy_until_s",
        "shared",
        "state",
        "windows",
    )

    def __init__(self, pool: QuotaPool, models: str, dialect: LimitDialect, dialect_name: str = "") -> None:
        self.pool = pool
        self.models = models
        self.dialect = dialect
        self.dialect_name = dialect_name
        self.recalled = False
        self.own: dict[tuple[Dimension, float], QuotaWindow] = {}
        self.learner = RefusalLearner(f"{pool.pool_id} {models}")
        self.windows: tuple[QuotaWindow, ...] = ()
        self.shared: tuple[SharedLimit, ...] = ()
        self.held: tuple[QuotaWindow | SharedLimit, ...] = ()
        self.state = CapacityState.Unknown
        self.pressure = 0.0
        self.refreshed_at_s = float("-inf")
        self.room = 1.0
        self.roomy_tokens = 0
        self.roomy_until_s = float("-inf")
        self.exhaustion: Exhaustion | None = None
        self.admitted_at_s = float("-inf")
        self._told_at_s = float("-inf")
        self.rebuild()

    @property
    def habits(self) -> Habits:
        """How the pool's provider counts."""
        return self.pool.habits

    @property
    def moves(self) -> int:
        """Another number after anything was taken of the pool, came back to it or was told of it."""
        return self.pool.moves + self.windows[-1].account.taken

    def rebuild(self) -> None:
        """Which windows count: the pool's and the group's own. Where a group's own says as much, the pool's only
        counts: it knows less about how capacity comes back."""
        alone = len(self.pool.views) <= 1
        for spot, window in self.pool.shared.items():
            covered = alone and _covered(window, self.own.get(spot))
            window.account.limit = None if covered else window.limit
        self.pool.moves += 1
        learned = self.learner
        for (dimension, _), window in self.own.items():
            burst = learned.bursts.get(dimension)
            if burst is not None:
                burst.kind = window.kind
        self.windows = (
            *self.own.values(),
            *learned.searched.values(),
            *learned.bursts.values(),
            *self.pool.shared.values(),
        )
        lend = self.pool.lend
        self.shared = () if lend is None else shared_of(self.pool.shared, self.own, lend)
        self.held = (*self.windows, *self.shared)

    def lines(self, needs: Sequence[int]) -> list[tuple[Account, int]]:
        """What a request holds here; `needs` by dimension (`KINDS`)."""
        return [(window.account, needs[window.kind]) for window in self.held]

    def looked(self, room: float, now_s: float) -> None:
        """Remembers for a moment that there is plenty: `room`, the share of its tightest limit that is left. Holds are
        exact whatever this says."""
        self.room = room
        if room >= PLENTY_ROOM:
            tokens = [w.account.limit for w in self.windows if w.account.limit and w.account.unit == "tokens"]
            self.roomy_tokens = min(tokens, default=_ANY) // 16
            self.roomy_until_s = now_s + LOOK_AGAIN_S

    def headroom_ratio(self, needs: Sequence[int], now_s: float) -> float:
        """The least share of a limit that is left after `needs`: 1.0 without limits, below zero if it does not fit."""
        least = 1.0
        for window in self.windows:
            limit = window.account.limit
            if limit:
                account = window.account
                account.refresh(now_s)
                left = (limit - account.used - account.held - needs[window.kind]) / limit
                least = min(least, left)
        return least

    def admitted(self, windows: Sequence[QuotaWindow | SharedLimit], needs: Sequence[int], now_s: float) -> None:
        """A request was taken in: what is foreseen goes by it."""
        self.admitted_at_s = now_s
        self.pool.moves += 1
        self.pool.active[self] = None
        for window in windows:
            if window.charging is not None:
                window.charging.admitted(needs[KINDS[window.dimension]], needs[LIKELY[window.dimension]])
            forecast = window.forecast
            if forecast is not None:
                need = needs[window.kind]
                forecast.add(need, now_s)
                usual = window.usual_need
                window.usual_need = usual + 0.05 * (need - usual)
            if isinstance(window, QuotaWindow) and window.unseen and isinstance(window.account, Bucket):
                window.margin.let_in(window.account, now_s)

    def listens(self, now_s: float) -> bool:
        """Whether another reply's headers are worth reading: at thousands a second, most say nothing new."""
        return now_s - self._told_at_s >= (TELL_EVERY_S if now_s >= self.roomy_until_s else TELL_ROOMY_S)

    def told(
        self,
        facts: Iterable[LimitFact],
        held: Iterable[tuple[Account, int]],
        *,
        sent_at_s: float,
        now_s: float,
        missed: Sequence[int] | None = None,
    ) -> None:
        """Takes in what a reply said. `held`: the accounts on which its request was held, each with its `taken` just
        after that. `missed`: of one that was refused: what it needed."""
        self._told_at_s = now_s
        self.pool.moves += 1
        marks = dict(held)
        added = False
        for fact in facts:
            dimension = fact.dimension
            if dimension is _SPEND and fact.limit is None:
                continue  # a spent account rests by its keys' state; without a limit there is nothing to count
            spot = (dimension, fact.period_s)
            target = self.pool.shared if fact.models == "*" else self.own
            window = target.get(spot)
            if window is None:
                window = target[spot] = self._new_window(spot, fact, now_s)
                self.learner.forget(spot)
                added = True
                twin = self.pool.shared.get(spot)
                if twin is not None and twin is not window:
                    # what runs was held on the twin, so its mark tells what came after
                    window.account.taken = twin.account.taken
                    window.observe(fact, mark=marks.get(twin.account), sent_at_s=sent_at_s, now_s=now_s)
                    continue
            account, kind, limit, counted = window.account, window.kind, window.limit, window.counted
            refill, need = window.refill, None if missed is None else missed[kind]
            left = 0.0 if fact.remaining is None else window.left_of(fact.remaining) + fact.fraction
            if isinstance(account, Bucket) and fact.remaining is not None:
                window.margin.heard(account, left, need, sent_at_s, now_s, unseen=window.unseen)
            own = uncounted(kind, need, left, self.dialect.charges) if account in marks else 0
            window.observe(fact, mark=marks.get(account), sent_at_s=sent_at_s, now_s=now_s, uncounted=own)
            if kind != window.kind or refill is not window.refill:
                self.pool.habits.learned(window, now_s)
                added = True
            elif limit != window.limit or counted is not window.counted:
                added = True
        if added:
            self.pool.rebuild()

    def refused(
        self,
        facts: Sequence[LimitFact],
        held: Sequence[tuple[Account, int]],
        needs: tuple[int, ...],
        *,
        sent_at_s: float,
        now_s: float,
        numbers: LimitFacts | None = None,
        retry_s: float | None = None,
    ) -> None:
        """The provider refused for a rate: takes in what it said, and learns when that does not explain it. `numbers`:
        those of its sentence; `retry_s`: its hint."""
        facts = sharpened(self.own, facts, numbers, retry_s)
        self.told(facts, held, sent_at_s=sent_at_s, now_s=now_s, missed=needs)
        if retry_s and learn_from_hint(self, facts, needs, numbers, retry_s, now_s):
            return
        # a limit that was only named, its size unknown, explains nothing that could be kept to
        sized = [fact for fact in facts if (window := self.own.get((fact.dimension, fact.period_s))) and window.limit]
        explained = any(explains(fact, needs) for fact in sized) or any(
            window.limit is not None and (window.account.free(now_s) or 0) < needs[window.kind]
            for window in self.windows
            if window.source is not Source.Configured
        )
        if explained:
            return
        named = [(fact.dimension, fact.period_s) for fact in facts if fact.source is Source.ErrorBody]
        if self.learner.refused(self.own, self.pool.shared, needs, now_s, named=named, retry_s=retry_s):
            self.rebuild()

    def served(self, now_s: float) -> None:
        """A request was let in: what is being learned may grow."""
        self.pool.moves += 1
        learner = self.learner
        if learner.horizon_s is not None:
            learner.widen(self.own, now_s)
        if learner.searched or learner.bursts:
            before = len(learner.bursts)
            learner.succeeded(now_s)
            if len(learner.bursts) != before:
                self.rebuild()

    def _new_window(self, spot: tuple[Dimension, float], fact: LimitFact, now_s: float) -> QuotaWindow:
        dimension, period_s = spot
        window = QuotaWindow(
            f"{self.pool.pool_id} {self.models} {dimension} per {period_name(period_s)}",
            dimension,
            period_s,
            limit=fact.limit,
            source=fact.source,
            models=self.models if fact.models != "*" else "*",
            corrected=self.dialect.charges.corrected,
            now_s=now_s,
        )
        self.pool.habits.join(window, self.pool.rebuild, now_s)
        return window


class QuotaPool:
    """`pool_id`: "provider/pool". `shared`: windows that count whatever the model. `views`: by group of models.
    `active`: views in use, of all pools. `suspected_same`: pools that seem to be this one under another name. `lend`:
    see `Pools`. `moves`: grows with whatever was told of it or came back to it (`PoolView.moves`)."""

    __slots__ = ("active", "habits", "lend", "moves", "pool_id", "provider_id", "shared", "suspected_same", "views")

    def __init__(
        self,
        pool_id: str,
        provider_id: str,
        now_s: float,
        active: dict[PoolView, None] | None = None,
        lend: Lend | None = None,
        habits: Habits | None = None,
    ) -> None:
        self.lend = lend
        self.moves = 0
        self.habits = habits or Habits()
        self.active = {} if active is None else active
        self.suspected_same: set[str] = set()
        self.pool_id = pool_id
        self.provider_id = provider_id
        self.views: dict[str, PoolView] = {}
        self.shared: dict[tuple[Dimension, float], QuotaWindow] = {}
        for spot in _ALWAYS:
            self.limit_all(spot, None, Source.Configured, now_s)

    def limit_all(self, spot: tuple[Dimension, float], limit: int | None, source: Source, now_s: float) -> None:
        """A limit over every model; the tightest that was given holds."""
        window = self.shared.get(spot)
        if window is None:
            dimension, period_s = spot
            name = f"{self.pool_id} {dimension} per {period_name(period_s)}"
            self.shared[spot] = QuotaWindow(name, dimension, period_s, limit=limit, source=source, now_s=now_s)
            self.rebuild()
        elif limit is not None and (window.limit is None or limit < window.limit):
            window.set_limit(limit, source, now_s)
            self.rebuild()

    def rebuild(self) -> None:
        """Windows came or changed."""
        for view in self.views.values():
            view.rebuild()


class Pools:
    """Pools and views, made on first use. `active`: views that requests use. Set before: `recall` fills each new pool
    with what is remembered of it; `lend` gives this worker's shares of limits, None where it is alone."""

    def __init__(self, clock: Clock, dialects: Callable[[str], LimitDialect]) -> None:
        self._clock = clock
        self._dialects = dialects
        self._pools: dict[str, QuotaPool] = {}
        self._habits: dict[str, Habits] = {}
        self.active: dict[PoolView, None] = {}
        self.recall: Callable[[QuotaPool], None] = lambda _: None
        self.lend: Lend | None = None

    def all(self) -> Iterable[QuotaPool]:
        """Every pool that was ever asked for."""
        return self._pools.values()

    def pool(self, record: KeyRecord) -> QuotaPool:
        """The key's pool, with what its metadata says about limits."""
        pool_id = f"{record.provider_id}/{record.pool_id}"
        pool = self._pools.get(pool_id)
        now_s = self._clock.monotonic_s()
        new = pool is None
        if pool is None:
            habits = self._habits.setdefault(record.provider_id, Habits())
            pool = QuotaPool(pool_id, record.provider_id, now_s, self.active, self.lend, habits)
            self._pools[pool_id] = pool
        for name, spot in CONFIGURABLE.items():
            value = record.metadata.get(name)
            if value is not None:
                pool.limit_all(spot, int(str(value)), Source.Configured, now_s)
        if new:
            self.recall(pool)
        return pool

    def remembered(self, pool: QuotaPool, models: str, dialect_name: str) -> PoolView:
        """A view that an earlier process used."""
        view = pool.views[models] = PoolView(pool, models, self._dialects(dialect_name), dialect_name)
        view.recalled = True
        return view

    def view(self, record: KeyRecord, dialect_name: str, model: str) -> PoolView:
        """What limits this key for this model."""
        pool = self.pool(record)
        dialect = self._dialects(dialect_name)
        models = dialect.models_sharing(model)
        view = pool.views.get(models)
        if view is None or view.recalled:
            if view is None:
                view = pool.views[models] = PoolView(pool, models, dialect, dialect_name)
            view.recalled = False
            tier = record.metadata.get("tier")
            if tier is not None:
                now_s = self._clock.monotonic_s()
                facts = [f for f in dialect.of_tier(str(tier), model) if (f.dimension, f.period_s) not in view.own]
                view.told(facts, (), sent_at_s=now_s, now_s=now_s)
            pool.rebuild()
        return view


def _covered(shared: QuotaWindow, own: QuotaWindow | None) -> bool:
    """Whether a group's own window makes the pool's redundant: it counts the same, and its limit is no looser."""
    if own is None or own.limit is None:
        return False
    return shared.limit is None or own.limit <= shared.limit
