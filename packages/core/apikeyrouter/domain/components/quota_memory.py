"""What was learned of limits, kept over restarts: limits that providers told or refusals taught, and what was taken.

`QuotaMemory` writes one blob among the store's settings, every `SAVE_EVERY_S` seconds and at the end, of the pools that
were used since; at the start it reads the blob, and each pool that is made from then on begins with what is remembered.
Laws: a word of the provider, and what the operator configured, always win over memory; what was taken longer ago than
a limit's period counts no more; the blob is bounded: the `POOLS_MAX` newest pools, each with its newest groups of
models. A store that fails costs the memory, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import msgspec

from apikeyrouter.domain.errors import StateStoreError
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.interfaces.state_store import StateStore
from apikeyrouter.domain.ledger.bucket import Bucket
from apikeyrouter.domain.quota.facts import DAY_S, Dimension, LimitFact, Refill, Source
from apikeyrouter.domain.quota.limits import QuotaWindow
from apikeyrouter.domain.quota.pools import Pools, PoolView, QuotaPool

__all__ = ["POOLS_MAX", "SAVE_EVERY_S", "SETTING", "QuotaMemory"]

_log = logging.getLogger("apikeyrouter")
SETTING = "quota.memory"
SAVE_EVERY_S = 30.0
POOLS_MAX = 1_000
"""About 500 bytes each."""

_POOLS_PER_SAVE = 300
"""Some 20 us each, on the loop that serves requests; the rest is written next time, or at the end."""

_GROUPS_MAX = 20
_FORGOTTEN_AFTER_S = 30 * DAY_S
_PARTS = 12
"""So finely is remembered when something was taken."""

_TOLD = (Source.Header, Source.ErrorBody)
_FIXED = (Refill.Fixed, Refill.Calendar)


class _Limit(msgspec.Struct, array_like=True, frozen=True):
    """A window. Times are Unix seconds. `taken`: (when, units), oldest first."""

    dimension: Dimension
    period_s: float
    limit: int
    source: Source
    refill: Refill
    observed_at_s: float | None
    resets_at_s: float | None
    taken: tuple[tuple[float, int], ...]


class _Group(msgspec.Struct, frozen=True):
    """What is known of a group of models."""

    models: str
    dialect: str
    own: tuple[_Limit, ...] = ()
    searched: tuple[_Limit, ...] = ()
    burst_horizon_s: float = 60.0


class _Entry(msgspec.Struct, frozen=True):
    """A pool as of `at_s`, Unix seconds."""

    pool_id: str
    at_s: float
    shared: tuple[_Limit, ...] = ()
    groups: tuple[_Group, ...] = ()


_decode = msgspec.json.Decoder(list[_Entry]).decode
_encode = msgspec.json.Encoder().encode


class QuotaMemory:
    """Remembers `pools`. Reads and writes nothing where the store does not outlive the process."""

    def __init__(self, pools: Pools, store: StateStore, clock: Clock) -> None:
        self._pools = pools
        self._store = store
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._saved_at_s: dict[str, float] = {}
        self._due_s = clock.monotonic_s() + SAVE_EVERY_S
        self._failing = False
        pools.recall = self.recall

    async def open(self) -> None:
        """Reads what is remembered. Raises StateStoreError."""
        if self._store.persistent:
            self._entries = self._read(await self._store.get_setting(SETTING))

    def due(self, now_s: float) -> bool:
        """Whether `tick` has something to do."""
        return now_s >= self._due_s and self._store.persistent

    async def tick(self) -> None:
        """Writes what is new when it is time to."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._due_s:
            self._due_s = now_s + SAVE_EVERY_S
            await self.save(_POOLS_PER_SAVE)

    async def save(self, most: int = POOLS_MAX) -> None:
        """Writes up to `most` pools that were used since they were written last, the newest first."""
        if not self._store.persistent:
            return
        new = self.snapshot(most)
        if not new:
            return
        try:
            stored = self._read(await self._store.get_setting(SETTING))
            for pool_id, entry in stored.items():  # other processes write here too
                if pool_id not in self._entries or entry.at_s > self._entries[pool_id].at_s:
                    self._entries[pool_id] = entry
            newest = sorted(self._entries.values(), key=lambda entry: -entry.at_s)[:POOLS_MAX]
            oldest_s = self._utc_s() - _FORGOTTEN_AFTER_S
            self._entries = {entry.pool_id: entry for entry in newest if entry.at_s >= oldest_s}
            await self._store.put_setting(SETTING, _encode(list(self._entries.values())))
        except StateStoreError as error:
            if not self._failing:
                _log.warning("What was learned of quota limits could not be kept: %s", error.message)
            self._failing = True
            return
        self._failing = False

    def snapshot(self, most: int = POOLS_MAX) -> list[str]:
        """Takes in how the pools stand now; the ids of those that were used since the last time."""
        now_s = self._clock.monotonic_s()
        used: dict[str, tuple[float, QuotaPool]] = {}
        for pool in self._pools.all():
            at_s = max((view.admitted_at_s for view in pool.views.values()), default=float("-inf"))
            if at_s > self._saved_at_s.get(pool.pool_id, float("-inf")):
                used[pool.pool_id] = (at_s, pool)
        newest = sorted(used, key=lambda pool_id: -used[pool_id][0])[:most]
        for pool_id in newest:
            self._entries[pool_id] = self._entry(used[pool_id][1], now_s)
            self._saved_at_s[pool_id] = now_s
        return newest

    def recall(self, pool: QuotaPool) -> None:
        """For a pool that was just made: gives it what is remembered of it."""
        entry = self._entries.get(pool.pool_id)
        if entry is None:
            return
        for group in entry.groups:
            view = self._pools.remembered(pool, group.models, group.dialect)
            self._recall_limits(view, group.own, view.own, "")
            view.learner.recall(
                group.burst_horizon_s,
                {(one.dimension, one.period_s): one.limit for one in group.searched},
                view.own,
                self._clock.monotonic_s(),
            )
            for one in group.searched:
                window = view.learner.searched.get((one.dimension, one.period_s))
                if window is not None:
                    self._retake(window, one)
            self._recall_limits(view, entry.shared, pool.shared, "*")
        pool.rebuild()

    def _recall_limits(
        self,
        view: PoolView,
        limits: Iterable[_Limit],
        windows: dict[tuple[Dimension, float], QuotaWindow],
        models: str,
    ) -> None:
        """Levels of every window that is there; limits only of those that nobody has set."""
        now_s, utc_s = self._clock.monotonic_s(), self._utc_s()
        for one in limits:
            spot = (one.dimension, one.period_s)
            window = windows.get(spot)
            if window is not None and window.observed_at_s is not None:
                continue  # recalled already, with another group
            if one.source in _TOLD and (window is None or window.limit is None):
                reset_s = None if one.resets_at_s is None else one.resets_at_s - utc_s
                fact = LimitFact(
                    one.dimension,
                    one.period_s,
                    one.limit,
                    reset_s=reset_s if reset_s is not None and reset_s > 0 else None,
                    reset_means="window" if one.refill in _FIXED else "full",
                    models=models,
                    refill=one.refill,
                    source=one.source,
                )
                view.told([fact], (), sent_at_s=now_s, now_s=now_s)
                window = windows[spot]
                if one.observed_at_s is not None:
                    window.observed_at_s = now_s - (utc_s - one.observed_at_s)
            if window is not None and not window.account.used:
                self._retake(window, one)

    def _retake(self, window: QuotaWindow, one: _Limit) -> None:
        """What was taken before counts as far as it still does."""
        now_s, utc_s = self._clock.monotonic_s(), self._utc_s()
        account = window.account
        account.refresh(now_s)
        if isinstance(account, Bucket):
            came_back = sum((utc_s - at_s) * window.rate_per_s for at_s, _ in one.taken[-1:])
            account.adjust_used(max(0, int(sum(units for _, units in one.taken) - came_back)), now_s)
        elif account.ring is None:
            if one.resets_at_s is not None and one.resets_at_s > utc_s:
                account.adjust_used(sum(units for _, units in one.taken), now_s)
        else:
            ring = account.ring
            for at_s, units in one.taken:
                epoch, _ = account.window.at(now_s - max(0.0, utc_s - at_s))
                if epoch > account.epoch - account.window.buckets:
                    ring.setdefault(epoch, [0, 0])[0] += units
                    account.used += units
            in_order = sorted(ring.items())
            ring.clear()
            ring.update(in_order)

    def _entry(self, pool: QuotaPool, now_s: float) -> _Entry:
        views = sorted(pool.views.values(), key=lambda view: -view.admitted_at_s)[:_GROUPS_MAX]
        return _Entry(
            pool.pool_id,
            self._utc_s(),
            self._limits(pool.shared.values(), now_s),
            tuple(
                _Group(
                    view.models,
                    view.dialect_name,
                    self._limits(view.own.values(), now_s),
                    self._limits(view.learner.searched.values(), now_s),
                    view.learner.burst_horizon_s,
                )
                for view in views
            ),
        )

    def _limits(self, windows: Iterable[QuotaWindow], now_s: float) -> tuple[_Limit, ...]:
        epoch_s = self._utc_s() - now_s
        return tuple(
            _Limit(
                window.dimension,
                window.period_s,
                window.limit,
                window.source,
                window.refill,
                None if window.observed_at_s is None else epoch_s + window.observed_at_s,
                None if window.reset_at_s is None else epoch_s + window.reset_at_s,
                _taken(window, now_s, epoch_s),
            )
            for window in windows
            if window.limit is not None and window.period_s
        )

    def _read(self, blob: bytes | None) -> dict[str, _Entry]:
        """Nothing, when another version wrote something else."""
        try:
            return {entry.pool_id: entry for entry in _decode(blob or b"[]")}
        except msgspec.MsgspecError:
            _log.info("What the store has in %s is of another version and is not used.", SETTING)
            return {}

    def _utc_s(self) -> float:
        return self._clock.utc_now().timestamp()


def _taken(window: QuotaWindow, now_s: float, epoch_s: float) -> tuple[tuple[float, int], ...]:
    """What counts now, with when it was taken, in at most `_PARTS` and two parts; held units are given up as taken."""
    account = window.account
    account.refresh(now_s)
    ring = account.ring
    if ring is None:
        total = account.used + account.held
        return ((round(epoch_s + now_s, 1), total),) if total > 0 else ()
    width_s = window.period_s / (account.window.buckets - 1)
    per_part = max(1, account.window.buckets // _PARTS)
    parts: dict[int, Sequence[float]] = {}
    for epoch, (used, held) in ring.items():
        if used + held > 0:
            _, before = parts.get(epoch // per_part, (0.0, 0))
            parts[epoch // per_part] = ((epoch + 0.5) * width_s, before + used + held)
    return tuple((round(epoch_s + min(at_s, now_s), 1), int(units)) for at_s, units in parts.values())
