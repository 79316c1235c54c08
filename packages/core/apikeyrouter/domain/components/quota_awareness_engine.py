"""The quota engine as users meet it: what a key's pool has left.

Counts come from the ledger: what this router settled and holds in the running minute, against configured limits. Limits
learned from providers and forecasts build on the same accounts.
"""

from __future__ import annotations

from apikeyrouter.domain.components.key_manager import KeyManager
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.keys.eligibility import blocked
from apikeyrouter.domain.keys.record import KeyRecord
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.models.api_key import KeyState
from apikeyrouter.domain.models.quota_state import CapacityEstimate, CapacityState, QuotaState, TimeWindow
from apikeyrouter.domain.quota.facts import MINUTE_S, Dimension
from apikeyrouter.domain.quota.pools import Pools

__all__ = ["QuotaAwarenessEngine"]

# Shares of the limit that are left, from the states' definition in the reference notes.
_CONSTRAINED_BELOW_RATIO = 0.5
_CRITICAL_BELOW_RATIO = 0.2


class QuotaAwarenessEngine:
    """Reads quota states. `get_quota_state` raises KeyNotFoundError for an unknown key."""

    def __init__(self, keys: KeyManager, pools: Pools, clock: Clock) -> None:
        self._keys = keys
        self._pools = pools
        self._clock = clock

    async def get_quota_state(self, key_id: str, time_window: TimeWindow | None = None) -> QuotaState:
        """The pool behind one key, now. Only the running minute is accounted; another `time_window` is a ValueError."""
        if time_window is not None and time_window is not TimeWindow.Minute:
            raise ValueError(f"quota is accounted per minute; {time_window.value!r} is not available for {key_id!r}")
        record = self._keys.get(key_id)
        now_s = self._clock.monotonic_s()
        requests, tokens = self._minute(record)
        free_requests, free_tokens = requests.free(now_s), tokens.free(now_s)
        resting = record.state in (KeyState.Throttled, KeyState.Exhausted) and blocked(record, None, now_s) is not None
        return QuotaState(
            key_id=key_id,
            pool_id=record.pool_id,
            capacity_state=CapacityState.Exhausted if resting else _state(requests, tokens, now_s),
            remaining_capacity=CapacityEstimate(
                value=free_requests,
                confidence=0.0 if free_requests is None else 1.0,
                source="unknown" if free_requests is None else "configuration",
            ),
            total_capacity=requests.limit,
            remaining_tokens=free_tokens,
            total_tokens=tokens.limit,
            used_requests=requests.used,
            used_tokens=tokens.used,
            in_flight=record.in_flight,
            updated_at=self._clock.utc_now(),
        )

    async def update_capacity(self, key_id: str, used_tokens: int, time_window: TimeWindow | None = None) -> QuotaState:
        """Counts tokens that somebody else spent from this key's pool; returns the state after it."""
        if used_tokens < 0:
            raise ValueError("used_tokens must not be negative")
        record = self._keys.get(key_id)
        self._minute(record)[1].adjust_used(used_tokens, self._clock.monotonic_s())
        return await self.get_quota_state(key_id, time_window)

    def _minute(self, record: KeyRecord) -> tuple[Account, Account]:
        shared = self._pools.pool(record).shared
        return shared[Dimension.Requests, MINUTE_S].account, shared[Dimension.Tokens, MINUTE_S].account


def _state(requests: Account, tokens: Account, now_s: float) -> CapacityState:
    """The tighter of the two accounts decides; without any limit nothing is known."""
    shares = []
    for account in (requests, tokens):
        free = account.free(now_s)
        if account.limit and free is not None:
            shares.append(free / account.limit)
    if not shares:
        return CapacityState.Unknown
    share = min(shares)
    if share <= 0:
        return CapacityState.Exhausted
    if share < _CRITICAL_BELOW_RATIO:
        return CapacityState.Critical
    return CapacityState.Constrained if share < _CONSTRAINED_BELOW_RATIO else CapacityState.Abundant
