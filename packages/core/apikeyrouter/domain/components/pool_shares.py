"""What this worker lacks of its pools' shared limits: asks the store for it before anybody is told to wait or to go.

`PoolShares.help` runs after every key was refused. If one of them has room but for this worker's share of a limit
(`domain.quota.shared_limits`), the request waits until the store has handed over what is free: some milliseconds, a
quarter of a second when another worker has to give it back first. Where nothing is left, quota is waited for as ever.

Laws: a request that fits the shares at hand waits for nothing; nobody waits here for what other requests have in use,
places under way aside; an answer that is fresh is not asked for again, so that overload does not become load on the
store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apikeyrouter.domain.components.tenant_limits import ASK_FOR_PLACE_S, ASK_S, TenantLimits
from apikeyrouter.domain.interfaces.clock import Clock
from apikeyrouter.domain.ledger.accounts import Account
from apikeyrouter.domain.ledger.leases import Answer
from apikeyrouter.domain.ledger.shares import Share
from apikeyrouter.domain.quota.pools import PoolView
from apikeyrouter.domain.routing.candidates import Group
from apikeyrouter.domain.routing.demand import Demand
from apikeyrouter.domain.routing.explain import Rejection
from apikeyrouter.domain.routing.sift import HEADROOM, headroom_block

__all__ = ["Asking", "PoolShares"]

_TRIES_MAX = 50
"""How often one request looks again, whatever the answers are."""


@dataclass(slots=True)
class Asking:
    """One request's asking. `since_s`: when it began, monotonic; None before. `waited_s`: so far."""

    since_s: float | None = None
    waited_s: float = 0.0
    tries: int = 0


class _Option:
    """A pool that has room but for the shares. `lines`: what the request needs of each."""

    __slots__ = ("lines", "places_only", "shares")

    def __init__(self, lines: Sequence[tuple[Account, int]], shares: Sequence[Share]) -> None:
        self.lines = lines
        self.shares = shares
        short = [share for share, (_, need) in zip(shares, lines, strict=True) if share.free < need]
        self.places_only = bool(short) and all(not share.period_s for share in short)

    @property
    def fits(self) -> bool:
        """Whether it can be held now."""
        return all(share.free >= need for share, (_, need) in zip(self.shares, self.lines, strict=True))


class PoolShares:
    """One per router. `limits`: has the shares."""

    def __init__(self, limits: TenantLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock

    async def help(
        self, asking: Asking, group: Group, demand: Demand, rejections: Iterable[Rejection], *, deadline_s: float
    ) -> bool:
        """Whether to choose again: the store was asked, so that what is refused now is refused for good reason."""
        refused = {one.key_id for one in rejections if one.code == HEADROOM}
        if not refused:
            return False
        if not group.small and any(not one.parked for one in group.candidates):
            asking.tries += 1  # those that were refused have left the front: others may have room
            return asking.tries < _TRIES_MAX
        started_s = self._clock.monotonic_s()
        if asking.since_s is None:
            asking.since_s = started_s
        asking.tries += 1
        options = self._options(group, demand, refused, started_s)
        if not options or asking.tries > _TRIES_MAX:
            return False
        if any(one.fits for one in options):
            return True
        ask_s = ASK_FOR_PLACE_S if all(one.places_only for one in options) else ASK_S
        wait_s = min(deadline_s, asking.since_s + ask_s) - started_s
        if wait_s <= 0:
            return False
        try:
            # where nothing was left, it is the next look that says for how long
            if await self._ask(options, wait_s) is not Answer.Failed:
                return True
            for option in options:
                for share in option.shares:
                    share.go_on_alone()
            return any(one.fits for one in options)
        finally:
            asking.waited_s += self._clock.monotonic_s() - started_s

    async def _ask(self, options: Sequence[_Option], wait_s: float) -> Answer | None:
        """Waits for the one of which most is left; the same call tells how the others stand."""
        best = max(options, key=lambda one: min([share.left for share in one.shares]))
        for option in options:
            for share in option.shares:
                share.heard = share.heard and option is best
        return await self._limits.wait_for(best.lines, wait_s=wait_s, patient=False)

    def _options(self, group: Group, demand: Demand, refused: set[str], now_s: float) -> list[_Option]:
        """Pools of the refused keys that only shares stand in the way of, and may have more than was last heard."""
        found: dict[PoolView, _Option] = {}
        for candidate in group.candidates:
            quota = candidate.quota
            if not quota.shared or candidate.record.key_id not in refused or quota in found:
                continue
            needs = demand.needs(quota.dialect.charges)
            lines = [(one.account, needs[one.kind]) for one in quota.shared]
            shares = []
            for account, need in lines:
                share = self._limits.share_of(account)
                account.refresh(now_s)
                if share is not None and not share.is_full(need, now_s):
                    shares.append(share)
            if len(shares) == len(lines) and headroom_block(quota, needs, now_s) is None:
                found[quota] = _Option(lines, shares)
        return list(found.values())
